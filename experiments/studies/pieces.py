"""Studies: measurements in pieces that are stored as they finish, and tables of their records."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from remid_jax.files import open_workdir, write_atomically
from remid_jax.messages import log
from remid_jax.progress import progress
from remid_jax.provenance import git_revision, provenance
from remid_jax.report.results_file import write_results
from remid_jax.report.tables import new_table, print_whole

Piece = Callable[[], Any]  # returns what JSON can hold
Records = list[dict[str, Any]]


class Study(NamedTuple):
    """A measurement, repeated for every combination of its arguments.

    Attributes:
      name: of a piece, with its arguments, as "coverage N={n}".
      measure: (config, **arguments) -> what the record of a piece holds beside the arguments.
      arguments: config -> values of each argument.
      show: prints the records of all pieces.
    """

    name: str
    measure: Callable[..., dict[str, Any]]
    arguments: Callable[[ConfigDict], Mapping[str, Iterable[Any]]]
    show: Callable[[Records], None]

    def pieces(self, config: ConfigDict) -> dict[str, Piece]:
        """Name -> measurement for one combination of arguments."""
        given = self.arguments(config)
        each = [dict(zip(given, v, strict=True)) for v in itertools.product(*given.values())]
        return {self.name.format(**a): functools.partial(self._record, config, a) for a in each}

    def _record(self, config: ConfigDict, arguments: dict[str, Any]) -> dict[str, Any]:
        return {**arguments, **self.measure(config, **arguments)}


def run_studies(
    studies: Mapping[str, Study], config: ConfigDict, folder: Path
) -> dict[str, Records]:
    """Measures what is not stored yet, writes `folder/results.json`, and prints all tables."""
    origin = provenance(config)
    pieces = {name: study.pieces(config) for name, study in studies.items()}
    every = {name: piece for named in pieces.values() for name, piece in named.items()}
    found = run_pieces(config.experiment, every, config, folder)
    results = {name: [found[piece] for piece in named] for name, named in pieces.items()}
    write_results(folder, {"provenance": origin, **results})
    for name, study in studies.items():
        study.show(results[name])
    return results


def run_pieces(title: str, pieces: Mapping[str, Piece], config: ConfigDict, folder: Path) -> dict:
    """Name -> result of each piece; those that the folder holds for these settings are read.

    A note on stderr names those that were measured by another revision of the code.
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
                made = {"revision": revision, "result": piece()}
                text = json.dumps(made, allow_nan=False, default=float)
                write_atomically(path, [text.encode()])
            stored = json.loads(path.read_text())
            if stored["revision"] != revision:
                log.warning("note: %s was measured at %s", name, stored["revision"])
            results[name] = stored["result"]
            advance(1)
    return results


def print_records(
    title: str, columns: Sequence[tuple[str, str]], records: Iterable[Any], left: Any = None
) -> None:
    """Prints a table with one row a record; a cell whose value it lacks is empty.

    Args:
      title, left: see `new_table`.
      columns: (heading, template of its cells), as ("bias", "{bias:.3f}").
      records: mappings that fill the templates.
    """
    rows = [[_cell(template, record) for _, template in columns] for record in records]
    print_whole(new_table(title, [heading for heading, _ in columns], rows, left))


def _cell(template: str, record: Mapping[str, Any]) -> str:
    try:
        return template.format_map(record)
    except (KeyError, TypeError):  # not there, or None
        return ""
