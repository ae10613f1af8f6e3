"""Logged dialogues: files of samples whose records hold the answers that were given."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from remid_jax.data.reading import sample_records
from remid_jax.data.responses import DETAILS, RESPONSE, by_rpm
from remid_jax.data.samples import Sample, is_unicode
from remid_jax.errors import UserError
from remid_jax.files import path_of
from remid_jax.json_files import kind_of

NO_COUNTERPART = ("pair_id", "shift")  # keys that speak of other files than the log
BROKEN = "the answer holds a \\ud8.. escape without its other half"


class Log(NamedTuple):
    """A log: its records with an answer, and the number of those without, which are left out."""

    records: list[dict[str, Any]]
    silent: int


def is_log(path: str | Path) -> bool:
    """Whether a file looks like a log: its records have no subset's tag, and some have answers.

    Raises:
      UserError: missing or broken file, or one of another layout.
    """
    records = (record for *_, record in sample_records(Path(path)))
    first = next(records, None)
    if not isinstance(first, dict) or "subset_tag" in first:
        return False
    rest = (r for r in records if isinstance(r, dict) and "subset_tag" not in r)
    return any(RESPONSE in r for r in (first, *rest))


def is_silent(path: str | Path) -> bool:
    """Whether a file that is no log would be one if its dialogues had answers.

    Raises:
      UserError: missing or broken file, or one of another layout.
    """
    _, _, record = next(sample_records(Path(path)), ("", "", None))
    if not isinstance(record, dict) or record.keys() & {"sample_ID", "subset_tag", RESPONSE}:
        return False
    return "dialogue_context" in record


def read_log(path: str | Path, tag: str) -> Log:
    """The dialogues of a log, as records of one subset.

    A file of samples (RPGBench JSON, a JSON list or JSONL), each with `model_response`, an object
    of answers by model. Ids become `tag/ID`; a record without one gets its number in the file.
    `subset_tag` and `pair_id` are not read.

    Args:
      path: the file.
      tag: of the subset.

    Raises:
      UserError: missing or broken file, a record that is no sample, an id that stands twice, or no
        record with an answer.
    """
    file = path_of(path, f"log file {tag!r}")
    records: dict[str, dict[str, Any]] = {}
    silent = 0
    for number, (where, _, record) in enumerate(sample_records(file), 1):
        if not isinstance(record, dict):
            raise UserError(f"{where}: a sample must be a JSON object, not {kind_of(record)}")
        if not record.get(RESPONSE):
            silent += 1
            continue
        made = _record(record, where, tag, number)
        if records.setdefault(made["sample_ID"], made) is not made:
            raise UserError(
                f"{where}: sample_ID {made['sample_ID'][len(tag) + 1 :]!r} stands twice"
            )
    if not records:
        raise UserError(
            f"{file}: no record holds an answer; give each a key {RESPONSE!r}, as "
            '{"my_rpm": "It took my kettle."}'
        )
    return Log(list(records.values()), silent)


def _record(record: Mapping[str, Any], where: str, tag: str, number: int) -> dict[str, Any]:
    answers, details = (dict(by_rpm(record, key, where)) for key in (RESPONSE, DETAILS))
    for name in [name for name, answer in answers.items() if not is_unicode(answer)]:
        del answers[name]
        details[name] = {"failed": BROKEN}
    plain = {k: v for k, v in record.items() if k not in (RESPONSE, DETAILS, *NO_COUNTERPART)}
    sample = Sample.from_record({"sample_ID": number, **plain, "subset_tag": tag}, where)
    found = {**sample.to_record(), "sample_ID": f"{tag}/{sample.sample_id}", RESPONSE: answers}
    return {**found, DETAILS: details} if details and is_unicode(details) else found


def names_in(records: list[dict[str, Any]]) -> dict[str, int]:
    """Model -> records of a log that it answered, in the order of their first answers."""
    found: dict[str, int] = {}
    for name in (name for record in records for name in _names(record)):
        found[name] = found.get(name, 0) + 1
    return found


def _names(record: Mapping[str, Any]) -> Iterator[str]:
    yield from dict.fromkeys((*record[RESPONSE], *record.get(DETAILS, {})))


def answers_of(record: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """A record of a log with the answers of these models alone."""
    kept = {
        key: {name: record[key][name] for name in names if name in record[key]}
        for key in (RESPONSE, DETAILS)
        if key in record
    }
    return {**record, **kept}
