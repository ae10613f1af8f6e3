"""Several processes on one work folder: each piece of work is made by one of them.

A process claims a piece by creating a file, and shows by touching it that it is alive. The claim of
a dead process is void. Should two ever make the same piece, nothing is lost: pieces are named by
their inputs, and both write the same content.
"""

import contextlib
import errno
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from remid_jax.errors import UserError

T = TypeVar("T")
LEASE = 60.0  # seconds without a sign of life after which a claim is void
BEATS = 6  # signs of life in that time
POLL = 0.5  # seconds between looks at what others make
TRIES = 3  # times that a piece is made, where what was stored cannot be read again


class Claims:
    """The pieces that this process is making, in a folder that all processes see.

    Attributes:
      folder: of the claims.
    """

    def __init__(self, folder: Path, lease: float = LEASE):
        """Takes no claim yet.

        Args:
          folder: of the claims.
          lease: seconds without a sign of life after which a claim is void.
        """
        self.folder, self._lease = folder, lease
        self._token = secrets.token_hex(4)
        self._held: set[Path] = set()
        self._lock = threading.Lock()
        self._beating = False

    def take(self, name: str) -> bool:
        """Claims a piece; False where another living process has it.

        Raises:
          UserError: the folder cannot be written.
        """
        path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            while not self._created(path):
                with _others_were_faster():  # gone: whoever creates it first has it
                    if not self._is_void(path):
                        return False
                    aside = path.with_name(f"{name}.{self._token}")
                    os.rename(path, aside)  # one of several movers succeeds
                    if not self._is_void(aside):  # another's, who took it after we had looked
                        os.rename(aside, path)
                        return False
                    aside.unlink()
        except OSError as e:
            raise UserError(f"cannot write {path}: {e.strerror or e}") from None
        with self._lock:
            self._held.add(path)
            if not self._beating:
                self._beating = True
                threading.Thread(target=self._beat, daemon=True).start()
        return True

    @contextlib.contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Waits for a piece that others hold for moments only, and gives it back at the end.

        Raises:
          UserError: the folder cannot be written.
        """
        while not self.take(name):
            time.sleep(POLL / 50)
        try:
            yield
        finally:
            self.drop(name)

    def drop(self, name: str) -> None:
        """Gives a piece back, made or not."""
        path = self.folder / name
        with self._lock:
            self._held.discard(path)
        with _others_were_faster():
            path.unlink()

    def _created(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as f:
            f.write(f"{os.getpid()} {_HERE}")
        return True

    def _is_void(self, path: Path) -> bool:
        """Whether who made a claim is dead, or silent for too long."""
        pid, _, host = path.read_text(encoding="utf-8").partition(" ")
        age = self._now() - path.stat().st_mtime
        dead = host == _HERE and pid.isdigit() and not _is_alive(int(pid))
        return dead or age > self._lease

    def _now(self) -> float:
        """The time by the clock that dates the claims: that of the file system."""
        clock = self.folder / f".clock.{self._token}"
        clock.write_bytes(b"")
        now = clock.stat().st_mtime
        clock.unlink()
        return now

    def _beat(self) -> None:
        while True:
            time.sleep(self._lease / BEATS)
            with self._lock:
                if not self._held:
                    self._beating = False
                    return
                for path in self._held:
                    with contextlib.suppress(OSError):  # taken from us: the work is done twice
                        os.utime(path)


@contextlib.contextmanager
def _others_were_faster() -> Iterator[None]:
    """Ends quietly where a file is gone; ESTALE is how network file systems may say so."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ESTALE):
            raise


def _place() -> str:
    """Names what process ids belong to: a boot of a machine, and there a container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


_HERE = _place()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def shared(
    pieces: Sequence[T],
    claims: Claims,
    name_of: Callable[[T], str],
    is_made: Callable[[T], bool],
    make: Callable[[T], None],
) -> Iterator[T]:
    """Goes through pieces of work together with other processes, until all are made.

    Args:
      pieces: the same in every process, in whatever order.
      claims: of this process.
      name_of: a piece's name, a file name. Pieces of one name are never made at once.
      is_made: whether a piece is in the store; reads it, if it is.
      make: makes a piece and stores it; called with the piece claimed.

    Yields:
      Each piece once, when `is_made` has said that it is there.

    Raises:
      UserError: what was stored cannot be read again.
    """
    left, tries = list(pieces), Counter[str]()
    while left:
        waiting, busy = [], False
        for piece in left:
            there = is_made(piece)
            if not there and claims.take(name := name_of(piece)):
                busy = True
                try:
                    there = is_made(piece)  # it may have been finished meanwhile
                    if not there:
                        make(piece)
                        tries[name] += 1
                        there = is_made(piece)
                finally:
                    claims.drop(name)
                if not there and tries[name] == TRIES:
                    raise UserError(
                        f"what was stored in {claims.folder.parent} cannot be read again; look at "
                        "its disk and permissions, and run again: finished work is kept"
                    )
            if there:
                yield piece
            else:
                waiting.append(piece)
        left = waiting
        if left and not busy:
            time.sleep(POLL)
