"""Files of samples and of answers, and the bundled benchmark."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from remid_jax.data import shifts
from remid_jax.data.responses import read_responses
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of
from remid_jax.json_files import LINES, kind_of, read_json, read_json_lines

BUNDLED = "bundled"
_SPLITS = (shifts.ID_TRAIN, shifts.ID_TEST, *shifts.SPLITS.values())


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Samples by subset tag.

    Attributes:
      name: where it came from, for reports.
      subsets: tag -> samples in file order, the paper's tags first and in its order.
      in_distribution: tag of the subset that all others are compared with.
      own_shifts: shifted tag -> its shift where that is not the paper's.
      has_splits: whether samples stand under RPGBench's splits.
    """

    name: str
    subsets: Mapping[str, tuple[Sample, ...]]
    in_distribution: str = shifts.ID_TEST
    own_shifts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_splits: bool = True

    @property
    def shift_of(self) -> dict[str, str]:
        """Shifted tag -> its shift; with the paper's absent ones where any of them is there."""
        paper = shifts.SHIFT_OF if any(tag in self.subsets for tag in shifts.SHIFT_OF) else {}
        known = {**paper, **self.own_shifts}
        return {tag: shift for tag, shift in known.items() if tag != self.in_distribution}

    def __iter__(self) -> Iterator[Sample]:
        for samples in self.subsets.values():
            yield from samples


def bundled_path() -> Path:
    """Path of the benchmark that ships with the package."""
    return Path(str(resources.files("remid_jax.data") / "bundled" / "role_play_mini.json"))


def load_benchmark(
    path: str | Path = BUNDLED,
    in_distribution: str = shifts.ID_TEST,
    subset_shifts: Iterable[str] = (),
) -> Benchmark:
    """Reads a file of samples: RPGBench JSON, a JSON list, or JSONL with a sample a line.

    Args:
      path: a file, or `bundled` for the benchmark that ships with the package.
      in_distribution: tag of the subset that all others are compared with.
      subset_shifts: `tag=shift` pairs; they go before what records and the paper say.

    Raises:
      UserError: missing or broken file, wrong schema, a tag without a shift or with two, duplicate
        id, or a sample under a split that is not its tag's.
    """
    bundled = str(path) == BUNDLED
    file = bundled_path() if bundled else path_of(path, "benchmark file")
    given = shifts.parse_subset_shifts(subset_shifts)
    subsets: dict[str, list[Sample]] = {}
    own: dict[str, str] = {}
    seen: set[str] = set()
    for where, split, record in sample_records(file):
        sample = Sample.from_record(record, where)
        tag = sample.tag
        # Tags that are not the paper's may stand under any split.
        if split and tag in shifts.ALL_TAGS and shifts.split_of(tag) != split:
            raise UserError(f"{where}: tag {tag!r} does not belong to split {split!r}")
        if sample.sample_id in seen:
            raise UserError(f"{where}: duplicate sample_ID {sample.sample_id!r}")
        seen.add(sample.sample_id)
        if tag not in (in_distribution, shifts.ID_TRAIN):
            _add_shift(own, tag, given.get(tag) or sample.shift, in_distribution, where)
        subsets.setdefault(tag, []).append(sample)
    if not subsets:
        raise UserError(f"{file}: has no samples")
    if unused := [tag for tag in given if tag not in subsets]:
        hint = nearest(unused[0], subsets)
        raise UserError(f"{file}: has no subset {unused[0]!r}{hint}, which subset_shifts names")
    order = [t for t in dict.fromkeys((*shifts.ALL_TAGS, *subsets)) if t in subsets]
    return Benchmark(
        name=BUNDLED if bundled else str(file),
        subsets={t: tuple(subsets[t]) for t in order},
        in_distribution=in_distribution,
        own_shifts={t: s for t, s in own.items() if shifts.SHIFT_OF.get(t) != s},
        has_splits=bool(split),  # of the last record, as of all
    )


def _add_shift(own: dict[str, str], tag: str, shift: str | None, home: str, where: str) -> None:
    """Notes the shift of a sample's tag; refuses a tag without one, or with two."""
    if shift is None and tag != shifts.ID_TEST:
        hint = nearest(tag, (*shifts.ALL_TAGS, home))
        raise UserError(
            f"{where}: unknown subset_tag {tag!r}{hint}; for one of your own give the record a key "
            f"'shift' or set subset_shifts=('{tag}=SHIFT',); where it is not shifted, set "
            f"in_distribution={tag!r}"
        )
    if shift is not None and own.setdefault(tag, shift) != shift:
        raise UserError(
            f"{where}: subset {tag!r} has the shift {own[tag]!r} in earlier records, and {shift!r} "
            "here"
        )


def sample_records(file: Path) -> Iterator[tuple[str, str, Any]]:
    """(file and place, split, record) of each sample, decoded but not checked.

    The split is empty where the file has none.

    Raises:
      UserError: missing or broken file, or one of another layout.
    """
    if file.suffix.lower() in LINES:
        for n, row in read_json_lines(file, "benchmark"):
            yield f"{file}: line {n}", "", row
        return
    data = read_json(file, "benchmark")
    if isinstance(data, list):
        parts = {"": data}
    elif isinstance(data, dict):
        _check_keys(data, file)
        parts = {split: data[split] for split in _SPLITS if split in data}
    else:
        raise UserError(
            f"{file}: a benchmark file must be an object of splits ({', '.join(_SPLITS)}) or a "
            f"list of samples, not {kind_of(data)}"
        )
    for split, records in parts.items():
        for i in range(len(records)):
            record, records[i] = records[i], None  # so that a large file is not held twice
            yield f"{file}: {split}[{i}]" if split else f"{file}[{i}]", split, record


def _check_keys(data: Mapping[str, Any], file: Path) -> None:
    """Refuses keys beside the splits that hold samples or look like a split's name."""
    if not set(_SPLITS) & set(data):
        raise UserError(f"{file}: holds none of the splits {', '.join(_SPLITS)}")
    for key, value in data.items():
        hint = nearest(key, _SPLITS)
        if key not in _SPLITS and (isinstance(value, list) or hint):
            raise UserError(f"{file}: unknown split {key!r}{hint}")
        if key in _SPLITS and not isinstance(value, list):
            kind = kind_of(value)
            raise UserError(f"{file}: split {key!r} must be a list of samples, not {kind}")


def load_responses(path: str | Path, samples: Iterable[Sample]) -> dict[str, dict[str, str]]:
    """Reads what evaluated models answered: rpm -> sample id -> what was spoken.

    Of several draws for one context that is the first with text.

    Args:
      path: a JSON object `{sample_ID: {"model_response": {rpm: text}}}`, or JSONL with one
        `{"sample_ID": ..., "model_response": {rpm: text}}` a line.
      samples: which must all be answered by every evaluated model in the file.

    Raises:
      UserError: missing or broken file, a missing sample, an empty or non-text response.
    """
    table = read_responses(path, samples, complete=True)
    for rpm, column in table.items():
        for i, answer in column.items():
            if answer.failure:
                raise UserError(
                    f"response file {path}: sample {i!r} has no response of {rpm!r}: "
                    f"{answer.failure}"
                )
    return {rpm: {i: answer.text for i, answer in column.items()} for rpm, column in table.items()}
