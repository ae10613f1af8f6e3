"""Readers: the bundled benchmark, any RPGBench JSON file, and files of collected responses."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from remid_jax.benchmark import shifts
from remid_jax.benchmark.samples import Sample, is_unicode
from remid_jax.errors import UserError, nearest

BUNDLED = "bundled"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Samples by subset tag.

    Attributes:
      name: where it came from, for reports.
      subsets: tag -> samples in file order; only the tags that the file has.
    """

    name: str
    subsets: Mapping[str, tuple[Sample, ...]]

    @property
    def missing(self) -> tuple[str, ...]:
        """Test subsets that the file does not have."""
        return tuple(tag for tag in shifts.TEST_TAGS if tag not in self.subsets)

    def __iter__(self) -> Iterator[Sample]:
        for samples in self.subsets.values():
            yield from samples


def bundled_path() -> Path:
    """Path of the benchmark that ships with the package."""
    return Path(str(resources.files("remid_jax.benchmark") / "data" / "role_play_mini.json"))


def load_benchmark(path: str | Path = BUNDLED) -> Benchmark:
    """Reads an RPGBench JSON file.

    Args:
      path: a file, or `bundled` for the benchmark that ships with the package.

    Returns:
      The samples by subset tag; extra keys of a record are kept in `Sample.extra`.

    Raises:
      UserError: missing or broken file, wrong schema, unknown tag, duplicate id, or a sample under
        a top-level key that is not its tag's.
    """
    bundled = str(path) == BUNDLED
    file = bundled_path() if bundled else Path(path)
    data = read_json(file, "benchmark")
    if not isinstance(data, dict):
        raise UserError(f"{file}: a benchmark file must be an object of splits ({_splits()})")
    known = set(_splits())
    if not known & set(data):
        raise UserError(f"{file}: holds none of the splits {', '.join(_splits())}")
    subsets: dict[str, list[Sample]] = {}
    seen: set[str] = set()
    for split in _splits():
        records = data.pop(split, [])
        if not isinstance(records, list):
            raise UserError(f"{file}: split {split!r} must be a list of samples")
        for i, record in enumerate(records):
            where = f"{file}: {split}[{i}]"
            sample = Sample.from_record(record, where)
            records[i] = None  # frees the raw record, so that a large file is not held twice
            if shifts.split_of(sample.tag) != split:
                raise UserError(f"{where}: tag {sample.tag!r} does not belong to split {split!r}")
            if sample.sample_id in seen:
                raise UserError(f"{where}: duplicate sample_ID {sample.sample_id!r}")
            seen.add(sample.sample_id)
            subsets.setdefault(sample.tag, []).append(sample)
    for key, value in data.items():  # a misspelt split must not be passed over in silence
        if isinstance(value, list):
            raise UserError(f"{file}: unknown split {key!r}{nearest(key, _splits())}")
    if not subsets:
        raise UserError(f"{file}: has no samples")
    ordered = {t: tuple(subsets[t]) for t in shifts.ALL_TAGS if t in subsets}
    return Benchmark(name=BUNDLED if bundled else str(file), subsets=ordered)


def _splits() -> tuple[str, ...]:
    return (shifts.ID_TRAIN, shifts.ID_TEST, *shifts.SPLITS.values())


class _DuplicateKey(Exception):
    def __init__(self, key: str):
        super().__init__(key)
        self.key = key


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as a dict; Python's decoder would keep the last of two equal keys in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return found


def read_json(file: Path, what: str) -> Any:
    """Decodes a JSON file; a missing, unreadable or broken one is a `UserError` naming the line."""
    try:
        with open(file, encoding="utf-8") as f:
            return json.load(f, object_pairs_hook=_unique_keys)
    except FileNotFoundError:
        raise UserError(f"{what} file not found: {file}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{what} file {file} cannot be read: {e}") from None
    except _DuplicateKey as e:
        raise UserError(
            f"{what} file {file}: the key {e.key!r} stands twice in one object"
        ) from None
    except json.JSONDecodeError as e:
        raise UserError(
            f"{what} file {file} is no valid JSON: {e.msg} at line {e.lineno}, column {e.colno}"
        ) from None


def load_responses(path: str | Path, samples: Iterable[Sample]) -> dict[str, dict[str, str]]:
    """Reads collected responses of evaluated models for the given samples.

    Two forms: a JSON object `{sample_ID: {..., "model_response": {policy: text}}}`, or JSONL with
    one `{"sample_ID": ..., "model_response": {policy: text}}` a line.

    Args:
      path: the response file.
      samples: the samples that must all be answered by every policy in the file.

    Returns:
      policy -> sample id -> response text, policies in order of first appearance.

    Raises:
      UserError: missing or broken file, a missing sample, an empty or non-text response.
    """
    file = Path(path)
    records = dict(_response_records(file))
    wanted = [s.sample_id for s in samples]
    absent = [i for i in wanted if i not in records]
    if absent:
        raise UserError(
            f"response file {file} lacks {len(absent)} of {len(wanted)} samples, first "
            f"{absent[0]!r}; export the prompts again with the same benchmark and limits"
        )
    policies = {name: None for i in wanted for name in records[i]}
    if not policies:
        raise UserError(f"response file {file}: 'model_response' names no policy")
    table: dict[str, dict[str, str]] = {name: {} for name in policies}
    for i in wanted:
        for name, column in table.items():
            if name not in records[i]:
                raise UserError(f"response file {file}: sample {i!r} has no response of {name!r}")
            text = records[i][name]
            if not isinstance(text, str) or not text.strip():
                raise UserError(
                    f"response file {file}: sample {i!r}: response of {name!r} is empty"
                )
            if not is_unicode(text):
                raise UserError(
                    f"response file {file}: sample {i!r}: response of {name!r} holds a \\ud8.. "
                    "escape without its other half"
                )
            column[i] = text
    return table


def _response_records(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.suffix == ".jsonl":
        rows = list(read_jsonl(file, "response"))
        named = [(f"{file}: line {n}", row.get("sample_ID"), row) for n, row in rows]
    else:
        data = read_json(file, "response")
        if not isinstance(data, dict):
            raise UserError(f"response file {file} must be an object keyed by sample_ID")
        named = [(f"{file}: {key!r}", key, row) for key, row in data.items()]
    seen = set()
    for where, sample_id, row in named:
        response = row.get("model_response") if isinstance(row, dict) else None
        if not isinstance(sample_id, str) or not isinstance(response, dict):
            raise UserError(f"{where}: needs 'sample_ID' and an object 'model_response'")
        if sample_id in seen:
            raise UserError(f"{where}: duplicate sample_ID {sample_id!r}")
        seen.add(sample_id)
        yield sample_id, response


def read_jsonl(file: Path, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, object) of a JSONL file; what is wrong with it is a `UserError`."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")  # not splitlines: texts hold U+2028
    except FileNotFoundError:
        raise UserError(f"{what} file not found: {file}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{what} file {file} cannot be read: {e}") from None
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{what} file {file}: line {n}"
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys)
        except _DuplicateKey as e:
            raise UserError(f"{where}: the key {e.key!r} stands twice in one object") from None
        except json.JSONDecodeError as e:
            raise UserError(f"{where} is no valid JSON: {e.msg}") from None
        if not isinstance(row, dict):
            raise UserError(f"{where} must be an object")
        yield n, row
