"""Long measurements in pieces that are stored as they finish."""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from rich import box
from rich.table import Table

from remid_jax.diagnosis.report import git_revision, write_results
from remid_jax.diagnosis.store import open_workdir
from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.progress import progress

Piece = Callable[[], Any]


def check_at_least(config: ConfigDict, lowest: Mapping[str, float]) -> None:
    """Checks numbers, or tuples of numbers, before any work.

    Args:
      config: of the study.
      lowest: key with its group, as `coverage.contexts` -> smallest value; a whole smallest value
        asks for whole numbers, 0.0 for any finite one.

    Raises:
      UserError: naming the key, its value and what it must be; or a key that is missing.
    """
    for key, low in lowest.items():
        group, _, name = key.rpartition(".")
        try:
            value = (config[group] if group else config)[name]
        except KeyError:
            raise UserError(f"config key {key} is missing; is this the right experiment?") from None
        values = value if isinstance(value, (tuple, list)) else (value,)
        if not values or not all(_fits(v, low) for v in values):
            kind = "whole and" if isinstance(low, int) else "finite and"
            raise UserError(f"config.{key} is {value!r}; it must be {kind} at least {low:g}")


def _fits(value: Any, low: float) -> bool:
    kinds = int if isinstance(low, int) else (int, float)
    number = isinstance(value, kinds) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= low


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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of texts and numbers, aligned to the right after the first column."""
    made = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for k, column in enumerate(columns):
        made.add_column(column, justify="right" if k else "left", overflow="fold")
    for row in rows:
        made.add_row(*(str(cell) for cell in row))
    return made


def finish(folder: Path, results: Mapping[str, Any]) -> None:
    """Writes results.json and says where."""
    print(f"results: {write_results(folder, results)}")
