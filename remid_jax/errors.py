"""The one exception for what a user can get wrong, and what messages are made of."""

import difflib
import unicodedata
from collections.abc import Iterable

_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder lines


class UserError(Exception):
    """Bad input, configuration or environment, in one line: what, where, and the remedy."""

    def __init__(self, message: str):
        super().__init__(visible(" ".join(message.split())))


def visible(text: str) -> str:
    """A text for a terminal: what would steer it, or cannot be written, stands as an escape.

    >>> print(visible("boom\\x1b[31m"))
    boom\\x1b[31m
    """
    steers = (c in _BIDI or unicodedata.category(c) in ("Cc", "Cs") for c in text)
    return "".join(repr(c)[1:-1] if s else c for c, s in zip(text, steers, strict=True))


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A hint ` (did you mean 'x'?)` for a misspelt name, or an empty string.

    `likeness` is the least similarity, in (0, 1], of what is hinted at.

    >>> nearest("germn", ["german", "spanish"])
    " (did you mean 'german'?)"
    """
    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=likeness)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
