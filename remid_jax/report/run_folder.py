"""A finished run as its folder holds it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from remid_jax.errors import UserError, visible
from remid_jax.files import path_of
from remid_jax.json_files import kind_of, read_json_lines, read_json_object
from remid_jax.report.text import Row

PAGE = "report.html"  # which a run's last lines name first
Check = Callable[[Mapping[str, Any], Sequence[Row], Sequence[Row]], None]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a report is made of.

    Attributes:
      folder: of the run.
      results: the content of results.json.
      contributions: the records of contributions.jsonl.
      examples: the content of examples.json, or None where there is none.
    """

    folder: Path
    results: Mapping[str, Any]
    contributions: Sequence[Row]
    examples: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The folder, as it may be printed."""
        return visible(str(self.folder))


def read_run(folder: str | Path, version: int, check: Check) -> Run:
    """Reads a finished run.

    Args:
      folder: its work folder.
      version: of the keys of results.json that is read here.
      check: raises a ValueError for other keys than those of that version in results, in
        contributions and in examples.

    Raises:
      UserError: no run, one that did not finish, results of another version, or damaged files.
    """
    folder = path_of(folder, "run folder")
    if not folder.is_dir():
        hint = f"; name its folder {folder.parent}" if folder.is_file() else ""
        raise UserError(f"run folder not found: {folder}{hint}")
    file = folder / "results.json"
    if not file.exists():
        began = (folder / "cache").exists()
        what = "the run did not finish; run its command again, which goes on where it ended"
        raise UserError(
            f"{folder} holds no results.json: {what if began else 'it is no folder of a run'}"
        )
    results = read_json_object(file, "results")
    _check_version(results, version, file)
    try:
        contributions, examples = _contributions(folder, results), _examples(folder, results)
        check(results, contributions, (examples or {}).get("examples", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise UserError(f"{folder} holds what was changed since it was written: {e}") from None
    return Run(folder, results, contributions, examples)


def _check_version(results: Mapping[str, Any], version: int, file: Path) -> None:
    found = results.get("schema")
    if found == version:
        return
    if not isinstance(found, int):
        raise UserError(f"{file} is no results file of a diagnosis: its schema is {found!r}")
    if found > version:
        raise UserError(
            f"{file} has schema {found}, newer than {version}: update remid_jax to read it"
        )
    raise UserError(
        f"{file} has schema {found}, older than {version}: run its command again in the same "
        "folder, which reuses what is in its cache"
    )


def _contributions(folder: Path, results: Mapping[str, Any]) -> list[Row]:
    if results.get("contributions") is None:
        return []
    file = folder / str(results["contributions"])
    rows = [row for _, row in read_json_lines(file, "contributions")]
    if not rows:
        raise UserError(f"contributions file {file} is empty: run the command of the run again")
    return rows


def _examples(folder: Path, results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """None also where the file was taken away: a page goes without texts that are nobody else's."""
    if results.get("examples") is None or not (folder / str(results["examples"])).exists():
        return None
    file = folder / str(results["examples"])
    found = read_json_object(file, "examples")
    if not isinstance(found.get("examples"), list):
        kind = kind_of(found.get("examples"))
        raise UserError(f"examples file {file} must hold a list 'examples', not {kind}")
    return found
