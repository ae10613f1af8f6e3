"""What all commands share: one line of error, Ctrl-C at any moment, output that nobody reads.

Little is imported before `run_command` hears of signals: until then Ctrl-C is Python's traceback.
"""

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TextIO

SIGNALLED = 128  # exit code of a stopped command, to which the signal's number is added
GRACE = 5.0  # seconds that a stopped command has to end by itself


def run_command(
    body: Callable[[], int | None], stopped: str = "stopped", program: bool = False
) -> int:
    """Runs a command and says in one line what went wrong; returns the exit code.

    A `UserError` is the line `error: ...` and 2. Ctrl-C (SIGINT) and SIGTERM are the line `stopped`
    and 130 or 143: within `GRACE` seconds even where the work does not notice, at once when they
    come again. Output that cannot be written, since its reader has gone or the disk is full, does
    not end the work.

    Args:
      body: parses, imports what is heavy, works, and returns the exit code, by default 0.
      stopped: said when the command is stopped.
      program: whether the process ends with the command, so that a signal after it ends that too.
    """
    with _Signals(stopped, program) as signals, _LastingStreams() as streams:
        try:
            signals.working = True
            code = _attempt(body, signals)
            signals.working = False
        except KeyboardInterrupt:
            code = signals.say()
    if signals.received and program:
        os._exit(code)  # threads that still compile could end the interpreter's end by a crash
    return streams.code(code)


def _attempt(body: Callable[[], int | None], signals: "_Signals") -> int:
    from remid_jax.errors import UserError

    try:
        return body() or 0
    except Exception as e:
        if signals.received:  # what was interrupted has made another exception of it
            raise KeyboardInterrupt from None
        if isinstance(e, UserError):
            return _failed(str(e))
        if not _is_of_devices(e):
            raise
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = str(e) or "it is not on this machine"
        said = f"JAX cannot use its device, JAX_PLATFORMS being {platforms!r}: {reason}"
        return _failed(str(UserError(said)))


def _failed(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 2


def _is_of_devices(error: Exception) -> bool:
    """Whether JAX does not find the device that it was told to use."""
    jax = sys.modules.get("jax")
    if not jax or not isinstance(error, (RuntimeError, AssertionError)):
        return False
    if "Unable to initialize backend" in str(error):
        return True
    if not os.environ.get("JAX_PLATFORMS"):
        return False
    try:  # where the plugin of a GPU is missing the error has no text
        jax.devices()
    except (RuntimeError, AssertionError):
        return True
    return False


class _Signals:
    """Ends the command at a signal, also where the exception that it raises gets lost."""

    def __init__(self, line: str, program: bool):
        self._line, self._program, self._told = line, program, False
        self._kept: dict[int, Any] = {}
        self.working = False
        self.received = 0

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():  # no other can have handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # as nohup wants it
                    self._kept[number] = signal.signal(number, self._hear)
            import socket

            self._hook, sys.unraisablehook = sys.unraisablehook, self._lose
            self._ours, self._theirs = socket.socketpair()
            self._theirs.setblocking(False)
            self._fd = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept and not self._program:
            for number, handler in self._kept.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._fd)
            sys.unraisablehook = self._hook
            self._theirs.close()

    def say(self) -> int:
        """Says, once, that the command was stopped; the exit code."""
        if not self._told:
            self._told = True
            print(self._line, file=sys.stderr)
        return SIGNALLED + (self.received or signal.SIGINT)

    def _end(self) -> None:
        """Ends the process, whoever holds the streams at this moment."""
        if not self._told:
            shown = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides the cursor
            with contextlib.suppress(OSError):
                os.write(2, f"{shown}{self._line}\n".encode())
        os._exit(SIGNALLED + self.received)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        again, self.received = self.received, number
        if again or not self.working or _imports(frame):
            self._end()
        raise KeyboardInterrupt

    def _lose(self, lost: Any) -> None:
        """Hears of exceptions that Python cannot raise, as in the callbacks of JAX."""
        if self.received and issubclass(lost.exc_type, KeyboardInterrupt):
            self._end()
        self._hook(lost)

    def _watch(self) -> None:
        """Beside the work, which may be where it does not come to hear of a signal."""
        from select import select

        with self._ours as heard:
            while (number := heard.recv(1)) and number[0] not in self._kept:
                pass
            again = number and (not select([heard], [], [], GRACE)[0] or heard.recv(1))
        if again:
            self.received = number[0]
            self._end()


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported: those written in C may crash at an exception."""
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


class _Lasting(io.FileIO):
    """A standard stream that takes whatever it is given."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        from select import select

        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and self.failure is None:
            try:
                written = super().write(left)
                if written is None:  # a terminal that does not block is full
                    select([], [self], [])
                left = left[written or 0 :]
            except OSError as e:
                self.failure = e
        return size


class _LastingStreams:
    """Standard streams whose writing never fails."""

    def __enter__(self) -> "_LastingStreams":
        self._kept = sys.stdout, sys.stderr
        self._raw: list[_Lasting | None] = []
        sys.stdout, sys.stderr = (self._lasting(s) for s in self._kept)
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = self._kept

    def _lasting(self, stream: TextIO | None) -> TextIO:
        self._raw.append(None)
        if stream is None:  # it was closed before the command began
            return open(os.devnull, "w", encoding="utf-8")
        buffer = getattr(stream, "buffer", None)
        if type(getattr(buffer, "raw", buffer)) is not io.FileIO:  # no stream of the system's
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            return stream
        stream.flush()
        self._raw[-1] = raw = _Lasting(stream.fileno(), "w", closefd=False)
        return io.TextIOWrapper(
            raw if stream.write_through else io.BufferedWriter(raw), stream.encoding,
            "backslashreplace", line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )  # fmt: skip

    def code(self, code: int) -> int:
        """The exit code, which tells whether what was printed has arrived."""
        failure = self._raw[0] and self._raw[0].failure
        if failure is None or failure.errno in (errno.EPIPE, errno.EINVAL):  # `| head -1`
            return code
        return code or _failed(f"standard output cannot be written: {failure.strerror}")
