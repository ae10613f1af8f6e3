"""Files that are never half written, and the folder of a run."""

import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from remid_jax.errors import UserError

_TOKEN = secrets.token_hex(4)  # processes of other machines may have the same number


def write_atomically(path: Path, parts: Iterable[bytes]) -> None:
    """Writes a file that is as before or whole, whenever the process is killed.

    Args:
      path: the file; its folder is made where it is missing.
      parts: the content, piece by piece.

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
      UserError: it cannot, or is an address and no path.
    """
    if re.match(r"\w{2,}:/", str(workdir)):  # Path leaves one slash
        raise UserError(f"work folder {workdir} is no path; mount the bucket, and name a folder")
    folder = Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # a process of another machine may have the same number
    except OSError as e:
        raise UserError(f"work folder {folder} is not writable: {e.strerror or e}") from None
    return folder
