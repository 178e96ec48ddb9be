"""Where the outbox of a broken file is."""

from pathlib import Path

import pytest

from relay.config.salvage import own_files

FOLDER = Path("/etc/relay")
DEFAULT = FOLDER / "data" / "outbox.db"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("listen: {prot: 1}", [DEFAULT]),
        ("outbox:\nlisten: {prot: 1}", [DEFAULT]),
        ("outbox: {url: sqlite:////var/lib/relay/a.db, max_byte: 1}", [Path("/var/lib/relay/a.db")]),
        ("outbox: {url: 'sqlite:///${NAME}.db'}\nlisten: 1", [FOLDER / "b.db"]),
        ("outbox: {url: memory://}\nlisten: 1", []),
        ("outbox: {url: 'redis://${HOST}', spool: sqlite:///s.db}\nlisten: 1", [FOLDER / "s.db"]),
        ("outbox: {url: redis://h}\nlisten: 1", []),
        ("listen: {{\noutbox: {url: sqlite:////var/lib/relay/a.db}", [Path("/var/lib/relay/a.db"), DEFAULT]),
        ('listen: "\noutbox:\n  url: "sqlite:///c.db"\n', [FOLDER / "c.db", DEFAULT]),
        ("outbox: {url: '${NOT_SET}'}", [DEFAULT]),
        ("outbox: {url: [sqlite:///d.db]}", [FOLDER / "d.db", DEFAULT]),
        ("- sqlite:///d/\n- sqlite:///d.db", [FOLDER / "d.db", DEFAULT]),
        ("", [DEFAULT]),
        ("\xff\0", [DEFAULT]),
    ],
)
def test_it_is_where_the_setting_says_else_where_the_text_does_else_at_the_default(
    text: str, found: list[Path]
) -> None:
    assert list(own_files(FOLDER / "relay.yaml", {"NAME": "b", "HOST": "h"}, text.encode("latin-1"))) == found
