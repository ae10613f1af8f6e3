"""What a text holds that can be read: rules that all readers share."""

import re
import unicodedata

# Characters without a glyph that Unicode counts as letters, marks or symbols.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u180b\u180c\u180d\u180e\u180f")
_LINE = "\n\r\t"
_PLACEHOLDER = re.compile(r"\{\{\s*(char|user)\s*\}\}|<(BOT|USER)>", re.IGNORECASE)


def is_blank(character: str) -> bool:
    """Whether nothing is seen where a character stands."""
    if character.isspace() or character in _BLANK:
        return True
    selector = 0xFE00 <= ord(character) <= 0xFE0F or 0xE0100 <= ord(character) <= 0xE01EF
    return selector or unicodedata.category(character) in ("Cc", "Cf")


def has_text(text: str) -> bool:
    """Whether a text holds anything that can be seen.

    >>> has_text(" \\u200b\\u2060\\n"), has_text("\\u200bAye")
    (False, True)
    """
    return not all(map(is_blank, text))


def strip_edges(text: str, start: int, end: int) -> tuple[int, int]:
    """The part of text[start:end] that begins and ends with white space or blanks no more.

    A selector after a sign, as of an emoji, belongs to the sign and stays.
    """
    while start < end and is_blank(text[start]):
        start += 1
    while start < end and is_blank(text[end - 1]) and not unicodedata.combining(text[end - 1]):
        if 0xFE00 <= ord(text[end - 1]) <= 0xFE0F:
            break
        end -= 1
    return start, end


def control_characters(text: str) -> list[str]:
    """The characters that steer a terminal or a program, line ends and tabs apart, each once.

    >>> control_characters("a\\x1b[31mb\\x00\\n")
    ['U+001B', 'U+0000']
    """
    found = dict.fromkeys(
        c for c in text if c not in _LINE and unicodedata.category(c) in ("Cc", "Cs")
    )
    return [f"U+{ord(c):04X}" for c in found]


def fill_placeholders(text: str, character: str, user: str) -> str:
    """The text with the names in the place of `{{char}}` and `{{user}}`, as far as they are known.

    >>> fill_placeholders("{{char}} knows {{user}}.", "Ann", "")
    'Ann knows {{user}}.'
    """
    names = {"char": character, "bot": character, "user": user}

    def name(match: re.Match[str]) -> str:
        return names[(match[1] or match[2]).lower()] or match[0]

    return _PLACEHOLDER.sub(name, text)


def placeholders(text: str) -> list[str]:
    """The placeholders that stand in a text, each once."""
    return list(dict.fromkeys(m[0] for m in _PLACEHOLDER.finditer(text)))
