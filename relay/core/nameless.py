"""Somebody else's words without the identity they may repeat."""

import html
import re
from urllib.parse import unquote

MASK = "***"
WITHHELD = "(withheld: it names the identity)"


def nameless(words: str, identity: str) -> str:
    """*words* with *** for *identity*; withheld as a whole where they have it in another writing.

    Other writings are another case or other white space, and the escapes of JSON, URLs and HTML.
    """
    who = _plain(identity)
    if not who:
        return words
    masked = words.replace(identity, MASK)
    return WITHHELD if who in _plain(masked) else masked


def _plain(text: str) -> str:
    """What is the same for all writings of one text."""
    for undone in (_without_backslashes, unquote, html.unescape):
        text = undone(text)
    return "".join(character for character in text.casefold() if character.isprintable() and not character.isspace())


def _without_backslashes(text: str) -> str:
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    text = re.sub(r"\\(.)", r"\1", text)
    # An escape is half of a character beyond the first 65,536.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
