"""The tokenizers library, with errors that say what and where."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import tokenizers

from remid_jax.errors import UserError
from remid_jax.json_files import kind_of

T = TypeVar("T")


def token_ids(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    """Ids of a text with no token added; a `UserError` where it is no Unicode or cannot be."""
    try:
        text.encode()
        return backend.encode(text, add_special_tokens=False).ids
    except UnicodeEncodeError:
        raise UserError("a text holds half of a surrogate pair, which is no character") from None
    except BaseException as e:
        raise _explained(e, "the tokenizer cannot encode a text") from None


def guarded(run: Callable[[], T], what: str) -> T:
    """Runs what builds a tokenizer; where the library fails, a `UserError` that begins with `what`.

    The trace that it prints where it panics is held back.
    """
    with _held_stderr():
        try:
            return run()
        except BaseException as e:
            raise _explained(e, what) from None


def _explained(error: BaseException, what: str) -> BaseException:
    """What to raise for an error of the library, whose panics are no `Exception`."""
    is_its_own = isinstance(error, Exception) or type(error).__name__ == "PanicException"
    return UserError(f"{what} ({error})") if is_its_own else error


@contextlib.contextmanager
def _held_stderr() -> Iterator[None]:
    """Holds back what is written to stderr; it is shown if all goes well."""
    try:
        shown = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with tempfile.TemporaryFile() as held:
        try:
            os.dup2(held.fileno(), 2)
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
        held.seek(0)
        with contextlib.suppress(OSError):  # whoever reads it has gone, or the disk is full
            os.write(2, held.read())


def checked_id(value: Any, name: str, backend: tokenizers.Tokenizer) -> int:
    """An id that a file names, or a `UserError` where the tokenizer has none such."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{name} must be the id of a token, not {kind_of(value)}")
    if not 0 <= value < 2**31 or backend.id_to_token(value) is None:
        raise UserError(f"{name} is {value}, which is no id of the tokenizer")
    return value
