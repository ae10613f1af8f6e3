"""The one exception for everything a user can get wrong."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, configuration or environment, in one line: what, where, and the remedy.

    Commands print it as `error: ...` and exit with code 2; they never show its traceback.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.split()))


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint ` (did you mean 'x'?)` for a misspelt name, or an empty string.

    >>> nearest("germn", ["german", "spanish"])
    " (did you mean 'german'?)"
    """
    folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""
