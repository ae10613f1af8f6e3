"""What is said on standard error: the logger `remid_jax`, whose lines stand above a progress bar.

Each message is a line as it is. `logging.getLogger("remid_jax")` takes another level, or handlers
of an application, as any logger does; at the level WARNING no progress is shown either.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

log = logging.getLogger("remid_jax")


class _Handler(logging.Handler):
    """Writes lines to standard error as it is at that moment."""

    above: Callable[[str], None] | None = None  # prints above the progress bar that is shown

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self.above is not None:
                self.above(text)
            elif sys.stderr is not None:
                print(text, file=sys.stderr, flush=True)
        except Exception:  # as every handler does: a message ends no work
            self.handleError(record)


HANDLER = _Handler()
log.addHandler(HANDLER)
log.propagate = False  # what an application logs of its own would say all of it twice
if log.level == logging.NOTSET:
    log.setLevel(logging.INFO)


def is_quiet() -> bool:
    """Whether nothing but warnings and errors is said."""
    return not log.isEnabledFor(logging.INFO)


@contextlib.contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Says nothing but warnings and errors, and shows no progress, where that is `wanted`."""
    before = log.level
    if wanted:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)
