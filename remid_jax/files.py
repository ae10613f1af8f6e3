"""Paths as users give them, files that are never half written, and the folder of a run."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from remid_jax.errors import UserError

_TOKEN = secrets.token_hex(4)  # processes of other machines may have the same number


def path_of(text: str | Path, what: str) -> Path:
    """A path as a user gave it, `~` expanded.

    Args:
      text: the path.
      what: whose it is, for messages: `--workdir`, `config.benchmark` ...

    Raises:
      UserError: empty, too long, not UTF-8, with a NUL, or in an unknown home.
    """
    name = str(text)
    if not name.strip():
        raise UserError(f"{what} is empty; name a path")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{what} {name!r} is no UTF-8; rename it") from None
    if "\0" in name:
        raise UserError(f"{what} {name!r} holds a NUL character")
    try:
        path = Path(name).expanduser()
        os.stat(path)
    except RuntimeError:
        raise UserError(f"{what} {name}: there is no such home folder") from None
    except OSError as e:
        if e.errno == errno.ENAMETOOLONG:
            raise UserError(f"{what} {name[:40]}... is too long for a path") from None
    return path


def read_text(path: str | Path, what: str) -> str:
    """The content of a text file, without a byte order mark.

    Args:
      path: the file, `~` expanded.
      what: its kind, for messages: `benchmark` file ...

    Raises:
      UserError: a missing or unreadable file, or one that is not UTF-8.
    """
    file = path_of(path, f"{what} file")
    try:
        # Line ends as they are: a text's own may stand in the file.
        with open(file, encoding="utf-8-sig", newline="") as f:
            return f.read()
    except FileNotFoundError:
        raise UserError(f"{what} file not found: {file}") from None
    except UnicodeDecodeError as e:
        reason = f"it is not UTF-8 (byte {e.start}: {e.reason})"
    except OSError as e:
        reason = e.strerror or str(e)
    raise UserError(f"{what} file {file} cannot be read: {reason}")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content, which is never held in memory as a whole."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def write_atomically(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file, and its folder; it is as before or whole, whenever the process is killed.

    Raises:
      UserError: the folder or the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{_TOKEN}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as f:
                f.writelines(parts)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as e:
        raise UserError(f"cannot write {path}: {e.strerror or e}") from None


def open_workdir(workdir: str | Path) -> Path:
    """Creates the work folder and checks that it can be written.

    Raises:
      UserError: it cannot, is an address and no path, or see `path_of`.
    """
    if re.match(r"\w{2,}:/", str(workdir)):  # Path leaves one slash
        raise UserError(f"work folder {workdir} is no path; mount the bucket, and name a folder")
    folder = path_of(workdir, "--workdir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # a process of another machine may have the same number
    except OSError as e:
        raise UserError(f"work folder {folder} is not writable: {e.strerror or e}") from None
    return folder
