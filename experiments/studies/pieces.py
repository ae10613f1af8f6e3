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
from remid_jax.provenance import git_revision, provenance
from remid_jax.report.results_file import write_results

Piece = Callable[[], Any]  # returns what JSON can hold


def run_studies(
    studies: Mapping[str, Mapping[str, Piece]], config: ConfigDict, folder: Path
) -> dict[str, list[Any]]:
    """Measures what is not stored yet, and writes `results.json` to the folder.

    Args:
      studies: study -> name of a piece -> the piece.
      config: all settings; a piece stored under other settings is computed anew.
      folder: of the results, and of the stored pieces.

    Returns:
      Study -> results of its pieces.

    Raises:
      UserError: the folder cannot be used.
    """
    origin = provenance(config)
    pieces = {name: piece for study in studies.values() for name, piece in study.items()}
    found = run_pieces(config.experiment, pieces, config, folder)
    results = {study: [found[name] for name in parts] for study, parts in studies.items()}
    write_results(folder, {"provenance": origin, **results})
    return results


def run_pieces(title: str, pieces: Mapping[str, Piece], config: ConfigDict, folder: Path) -> dict:
    """Name -> result of each piece; one stored by another revision of the code is taken, and said.

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
            file = "".join(c if c.isalnum() else "_" for c in name)
            path = folder / "pieces" / f"{file}-{digest}.json"
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
