"""What of a text can be read, and the placeholders for names in it."""

import re
import unicodedata

# Characters without a glyph that Unicode counts as letters, marks or symbols.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180b\u180c\u180d\u180e\u180f")
_PLACEHOLDER = re.compile(r"\{\{\s*(char|user)\s*\}\}|<(BOT|USER)>", re.IGNORECASE)


def _is_blank(c: str) -> bool:
    """Whether nothing is seen where a character stands."""
    if c.isspace() or c in _BLANK or "\ufe00" <= c <= "\ufe0f":
        return True
    return "\U000e0100" <= c <= "\U000e01ef" or unicodedata.category(c) in ("Cc", "Cf")


def has_text(text: str) -> bool:
    """Whether a text holds anything that can be seen.

    >>> has_text(" \\u200b\\u2060\\n"), has_text("\\u200bAye")
    (False, True)
    """
    return not all(map(_is_blank, text))


def strip_edges(text: str, start: int, end: int) -> tuple[int, int]:
    """Start and end of text[start:end] without the blank characters at its edges.

    A selector after a sign, as of an emoji, belongs to the sign and stays.
    """
    while start < end and _is_blank(text[start]):
        start += 1
    while start < end and _is_blank(text[end - 1]) and not unicodedata.combining(text[end - 1]):
        if "\ufe00" <= text[end - 1] <= "\ufe0f":
            break
        end -= 1
    return start, end


def control_characters(text: str) -> list[str]:
    """The characters that steer a terminal or a program, line ends and tabs apart, each once.

    >>> control_characters("a\\x1b[31mb\\x00\\n")
    ['U+001B', 'U+0000']
    """
    found = (c for c in text if c not in "\n\r\t" and unicodedata.category(c) in ("Cc", "Cs"))
    return [f"U+{ord(c):04X}" for c in dict.fromkeys(found)]


def fill_placeholders(text: str, character: str, user: str) -> str:
    """The text with names in the place of `{{char}}` and `{{user}}`, where they are known.

    >>> fill_placeholders("{{char}} knows {{user}}.", "Ann", "")
    'Ann knows {{user}}.'
    """
    names = {"char": character, "bot": character, "user": user}
    return _PLACEHOLDER.sub(lambda m: names[(m[1] or m[2]).lower()] or m[0], text)


def placeholders(text: str) -> list[str]:
    """The placeholders in a text, each once."""
    return list(dict.fromkeys(m[0] for m in _PLACEHOLDER.finditer(text)))
