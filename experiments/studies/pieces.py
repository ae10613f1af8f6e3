"""Long measurements in pieces that are stored as they finish."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.files import open_workdir, write_atomically
from remid_jax.progress import progress
from remid_jax.provenance import git_revision

Piece = Callable[[], Any]


def run_pieces(title: str, pieces: Mapping[str, Piece], config: ConfigDict, folder: Path) -> dict:
    """Computes the pieces that are not stored yet, one after the other.

    Args:
      title: shown with the progress.
      pieces: name -> function of nothing that returns what JSON can hold.
      config: all settings; a piece stored under other settings is computed anew.
      folder: of the stored pieces.

    Returns:
      name -> result. A stored piece of another revision of the code is taken, and said.

    Raises:
      UserError: the folder cannot be used.
    """
    open_workdir(folder)
    revision = git_revision()
    settings = json.dumps(config.to_dict(), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    results = {}
    with progress(title, len(pieces)) as advance:
        for name, piece in pieces.items():
            path = folder / "pieces" / f"{_file_name(name)}-{digest}.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                made = {"revision": revision, "result": piece()}
                text = json.dumps(made, allow_nan=False, default=float)
                write_atomically(path, [text.encode()])
            stored = json.loads(path.read_text())
            if stored["revision"] != revision:
                print(f"note: {name} was measured at {stored['revision']}", file=sys.stderr)
            results[name] = stored["result"]
            advance(1)
    return results


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
