"""What a file may be: anything, and never a traceback."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.config import examine, load
from relay.errors import ConfigError
from tests.config.conftest import ENVIRON, ENVIRONMENT, Yaml

EXAMPLE = Path("config.example.yaml").read_text()


def test_load_raises_all_mistakes_one_per_line(yaml: Yaml) -> None:
    yaml.path.write_text("listen: {port: x}\nadmin: {port: y}\n")

    with pytest.raises(ConfigError) as raised:
        load(yaml.path, {})

    first, second = str(raised.value).splitlines()
    assert first.startswith(f"{yaml.path}:1: listen.port: 'x' ")
    assert second.startswith(f"{yaml.path}:2: admin.port: 'y' ")


def test_load_gives_the_config_and_its_reminder(yaml: Yaml) -> None:
    yaml.path.write_text(ENVIRONMENT)

    loaded = load(yaml.path, {})

    assert [each.name for each in loaded.config.environments] == ["production"]
    assert loaded.reminder


def test_a_missing_file_is_told_by_its_name(tmp_path: Path) -> None:
    (mistake,) = examine(tmp_path / "none.yaml", {}).mistakes

    assert str(mistake) == f"{tmp_path}/none.yaml: there is no such file; give the YAML's path with -c"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (mistake,) = examine(tmp_path, {}).mistakes

    assert "cannot be read (Is a directory)" in str(mistake)


def test_a_link_to_itself_is_no_file(tmp_path: Path) -> None:
    link = tmp_path / "relay.yaml"
    link.symlink_to(link)

    (mistake,) = examine(link, {}).mistakes

    assert str(mistake) == (
        f"{link}: the file cannot be read (Too many levels of symbolic links); give the path of a readable YAML with -c"
    )


@pytest.mark.parametrize("name", ["/dev/full", "/dev/zero"])
def test_a_device_without_an_end_is_not_read_for_ever(name: str) -> None:
    (mistake,) = examine(Path(name), {}).mistakes

    assert "larger than 1 MiB" in mistake.text


def test_a_path_that_cannot_exist_is_a_mistake() -> None:
    (mistake,) = examine(Path("a\0b"), {}).mistakes

    assert "no usable file name" in mistake.text


def test_a_file_above_1_mib_is_not_read_further(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(b"#" * (2**20 + 1))

    assert "larger than 1 MiB" in mistake


def test_a_file_that_is_not_utf_8_is_told_with_its_line(yaml: Yaml) -> None:
    (mistake,) = yaml.mistakes(b"log:\n  level: inf\xf6\n")

    assert mistake == "relay.yaml: the file is not UTF-8 (line 2); save it as UTF-8"


def test_a_byte_order_mark_is_no_mistake(yaml: Yaml) -> None:
    assert yaml.mistakes(b"\xef\xbb\xbf" + ENVIRONMENT.encode()) == []


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "~\n"])
def test_an_empty_file_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(text)

    assert mistake.startswith("relay.yaml:1: the file is empty; write at least")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "[]", '"{}"'])
def test_anything_but_a_mapping_at_the_top_is_a_mistake(yaml: Yaml, text: str) -> None:
    (mistake,) = yaml.mistakes(text)

    assert "the file is not a mapping" in mistake


def test_an_empty_mapping_is_all_defaults(yaml: Yaml) -> None:
    config = yaml.config("{}")

    assert config.listen.port == 18080
    assert config.environments == ()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The example with pieces removed, doubled, or replaced by what YAML finds special."""
    text = EXAMPLE
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        special = st.sampled_from(
            [":", "- ", "&a ", "*a", "<<: ", "!!", "${", "${A}", "[", "{", "'", '"', "\t", "~", "|"]
        )
        piece = draw(st.one_of(special, st.just(text[start:end] * 2), st.text(max_size=10), st.just("")))
        text = text[:start] + piece + text[end:]
    return text.encode(errors="surrogatepass")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(mutated(), mutated(), st.binary(max_size=200)))
def test_no_content_leads_to_a_traceback(yaml: Yaml, content: bytes) -> None:
    findings = yaml.examine(content, {**ENVIRON, "A": "a"})

    assert bool(findings.mistakes) != bool(findings.config)
    for line in (*findings.mistakes, *findings.warnings):
        assert str(line).isprintable(), str(line)
