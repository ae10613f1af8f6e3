"""Untrusted texts in a document: what would hide or reorder them stands as a visible escape."""

import unicodedata
from collections.abc import Iterator

from markupsafe import Markup, escape

HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories that have no picture of their own
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")  # others without one
LAYOUT = frozenset("\n\t")  # in texts of several lines


def plain(text: str, kept: frozenset[str] = frozenset()) -> str:
    """A text in which hidden characters but those `kept` are escapes; legal in XML.

    >>> print(plain("a\\u200bb\\u202ec"))
    a\\u200bb\\u202ec
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if c not in kept and _is_hidden(c) else c for c in text)


def inert(text: str) -> Markup:
    """HTML of a text of several lines; escapes are set apart from a text that spells one out."""
    return Markup("".join(_marked(text)))


def _marked(text: str) -> Iterator[str]:
    for c in text.replace("\r\n", "\n"):
        if c in LAYOUT or not _is_hidden(c):
            yield str(escape(c))
        else:
            yield f'<span class="esc">{_escape(c)}</span>'


def _is_hidden(c: str) -> bool:
    if c < "\x7f":
        return c < " "
    code = ord(c)
    lacking = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF  # stand for no character
    return lacking or c in BLANK or unicodedata.category(c) in HIDDEN


def _escape(c: str) -> str:
    code = ord(c)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
