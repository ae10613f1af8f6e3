"""Answers of evaluated models, and files of them."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from remid_jax.data.samples import Sample, is_unicode, read_name
from remid_jax.data.speech import CUTS, find_speech, speech_of
from remid_jax.data.texts import has_text
from remid_jax.errors import UserError
from remid_jax.files import path_of
from remid_jax.json_files import LINES, kind_of, part_of, read_json, read_json_lines

RESPONSE, DETAILS = "model_response", "response_details"
FURTHER = "further"  # key of a list within the details: those of the second draw, the third, ...
ENDED = ("stop", "STOP", "")  # finish reasons that need no mention
_AGAIN = "export the prompts again with the same benchmark and limits"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered, collected or drawn.

    Attributes:
      text: what was spoken; empty where there is nothing to score.
      tokens: ids of the text, where they are known.
      tokenizer: fingerprint of the tokenizer that the ids belong to.
      stopped: whether it ended by itself rather than at the limit.
      log_prob: log p_θ of its tokens in nats, the end of turn not counted; None where it came as
        text, was drawn from another law than the model's own (see `is_own_law`), or begins after
        other tokens that are not scored.
      failure: why there is nothing to score, or an empty text.
      cuts: what was cut from the text, see `speech.CUTS`.
      finish: a server's reason to end the answer, or an empty text.
      unused: further draws for the same context that hold nothing to score.
      further: those that do.
    """

    text: str = ""
    tokens: tuple[int, ...] = ()
    tokenizer: str = ""
    stopped: bool = True
    log_prob: float | None = None
    failure: str = ""
    cuts: tuple[str, ...] = ()
    finish: str = ""
    unused: int = 0
    further: tuple["Answer", ...] = ()

    def __post_init__(self):
        for field in ("failure", "finish"):  # a server's words, which may hold half a character
            plain = getattr(self, field).encode("utf-8", "backslashreplace").decode()
            object.__setattr__(self, field, plain)

    @property
    def draws(self) -> tuple["Answer", ...]:
        """All answers to the context that can be used, this one first."""
        return (dataclasses.replace(self, further=()), *self.further)

    @property
    def content(self) -> str | list[str]:
        """What a response file holds: a text, or a list where there are several draws."""
        return [a.text for a in self.draws] if self.further else self.text

    def each(self, change: Callable[["Answer"], "Answer"]) -> "Answer":
        """The same draws, each of them changed."""
        return join_draws([change(a) for a in self.draws])

    def details(self) -> dict[str, Any]:
        """What a response file says of the answer under `DETAILS`, and of further draws in it."""
        further = [a.details() for a in self.further]
        parts = {
            "tokens": list(self.tokens),
            "tokenizer": self.tokenizer,
            "failed": self.failure,
            "finish_reason": self.finish if self.finish not in ENDED else "",
            FURTHER: further if any(further) else [],
        }
        return {key: value for key, value in parts.items() if value}


Answers = Mapping[str, Mapping[str, Answer]]  # rpm -> sample id -> answer


def join_draws(draws: Sequence[Answer]) -> Answer:
    """Answers to one context as one: the first that can be used, with the others that can.

    Args:
      draws: at least one.
    """
    usable = [a for a in draws if a.text]
    first, *further = usable or draws[:1]
    unused = sum(a.unused for a in draws) + len(draws) - 1 - len(further)
    return dataclasses.replace(first, further=tuple(further), unused=unused)


def read_answer(content: Any, sample: Sample | None = None, finish: str = "") -> Answer:
    """What was spoken in an answer as a server or a file gives it.

    Args:
      content: a text; a message, or parts of one (`[{"type": "text", "text": ...}, ...]`), of which
        the texts count; or several texts, draws for one context.
      sample: the context, where it is known: labels with the character's name are cut.
      finish: the server's reason to end the answer.
    """
    return join_draws([_read_draw(draw, sample, finish) for draw in _draws(content)])


def read_choice(choice: Mapping[str, Any], sample: Sample | None = None) -> Answer:
    """`read_answer` of a choice of a chat completion, or what else it says of itself."""
    message = part_of(choice, "message", dict) or {"content": choice.get("text")}
    answer = read_answer(message.get("content"), sample, part_of(choice, "finish_reason", str))
    if answer.failure and (why := _why_none(message)):
        return dataclasses.replace(answer, failure=why)
    return answer


def _why_none(message: Mapping[str, Any]) -> str:
    """What else a message without answer says of itself."""
    parts = [p for p in part_of(message, "content", list) if isinstance(p, dict)]
    refusal = next((p["refusal"] for p in (message, *parts) if p.get("refusal")), "")
    if isinstance(refusal, str) and refusal.strip():
        return f"the model refused: {refusal.strip()}"
    if message.get("reasoning_content") or message.get("reasoning"):
        return "the model reasoned and gave no answer"
    return "the model called a tool and gave no answer" if message.get("tool_calls") else ""


def _read_draw(text: Any, sample: Sample | None, finish: str) -> Answer:
    if not isinstance(text, str):
        held = "nothing" if text in (None, []) else kind_of(text)
        return Answer(failure=f"the answer holds {held} where a text is due", finish=finish)
    if not is_unicode(text):
        problem = "the answer holds a \\ud8.. escape without its other half"
        return Answer(failure=problem, finish=finish)
    found = find_speech(text, *(sample.speakers if sample else ()))
    spoken = speech_of(text, found)
    said = {"text": spoken} if has_text(spoken) else {"failure": why_silent(text, found.cuts)}
    return Answer(**said, cuts=found.cuts, finish=finish)


def _draws(content: Any) -> Sequence[Any]:
    """The draws that a content holds; itself where it holds none."""
    if isinstance(content, dict) and "content" in content:  # a message
        return _draws(content["content"])
    parts = [content] if isinstance(content, dict) else content
    if not isinstance(parts, list) or not parts:
        return [content]
    if any(isinstance(part, dict) for part in parts):
        texts = [part if isinstance(part, str) else _text_of(part) for part in parts]
        return ["".join(texts)] if any(texts) else [content]
    return parts


def _text_of(part: Any) -> str:
    """The text of a part of a message, where it belongs to the answer."""
    spoken = isinstance(part, dict) and part.get("type", "text") in ("text", "output_text")
    return part_of(part, "text", str) if spoken else ""


def why_silent(text: str, cuts: Sequence[str]) -> str:
    """Why nothing of an answer was spoken."""
    if not has_text(text):
        return "the answer is empty"
    return f"nothing of the answer was spoken ({', '.join(cuts).replace('_', ' ')} alone)"


def read_responses(
    path: str | Path, samples: Iterable[Sample], complete: bool = False
) -> dict[str, dict[str, Answer]]:
    """Reads collected responses, those that failed or are missing among them.

    Args:
      path: a response file, see `remid_jax.load_responses`.
      samples: whose answers are wanted.
      complete: whether the file must have a record of every sample.

    Raises:
      UserError: missing or broken file, or one that names no model for these samples.
    """
    file = path_of(path, "response file")
    records, samples = response_records(file), list(samples)
    known = [records[s.sample_id] for s in samples if s.sample_id in records]
    absent = [s.sample_id for s in samples if s.sample_id not in records]
    if not known or (absent and complete):
        raise UserError(
            f"response file {file} lacks {len(absent)} of {len(samples)} samples, first "
            f"{absent[0]!r}; {_AGAIN}"
        )
    rpms = dict.fromkeys(name for row in known for name in (*row[RESPONSE], *row[DETAILS]))
    if not rpms:
        raise UserError(f"response file {file}: 'model_response' names no model")
    return {r: {s.sample_id: _of_record(records, s, r) for s in samples} for r in rpms}


def _of_record(records: Mapping[str, Any], sample: Sample, rpm: str) -> Answer:
    record = records.get(sample.sample_id)
    if record is None:
        return Answer(failure=f"the response file does not have the sample; {_AGAIN}")
    details = record[DETAILS].get(rpm, {})
    finish = str(details.get("finish_reason") or "")
    if rpm not in record[RESPONSE]:
        if details.get("failed"):
            return Answer(failure=str(details["failed"]), finish=finish)
        return Answer(failure="the response file has no answer of it")
    further = details.get(FURTHER)
    known = further if isinstance(further, list) else []
    parts = itertools.chain([details, *known], itertools.repeat({}))
    drawn = zip(_draws(record[RESPONSE][rpm]), parts, strict=False)
    return join_draws([_detailed(_read_draw(x, sample, ""), part) for x, part in drawn])


def _detailed(answer: Answer, details: Any) -> Answer:
    """A draw with what its file says of it."""
    details = details if isinstance(details, dict) else {}
    answer = dataclasses.replace(answer, finish=str(details.get("finish_reason") or ""))
    ids = details.get("tokens", [])
    if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < 2**31 for i in ids):
        return answer  # nobody's ids; the text is there
    tokenizer = str(details.get("tokenizer") or "")
    return dataclasses.replace(answer, tokens=tuple(ids), tokenizer=tokenizer)


def response_records(file: Path) -> dict[str, dict[str, Any]]:
    """Sample id -> record of a response file, both of whose objects by model are there.

    Raises:
      UserError: missing or broken file, a record without id or responses, a model's name that is
        empty or holds control characters, a sample that stands twice.
    """
    records: dict[str, dict[str, Any]] = {}
    for place, given, row in _rows(file):
        where = f"response file {file}: {place}"
        if not isinstance(row, dict) or given is None or RESPONSE not in row:
            raise UserError(f"{where}: needs 'sample_ID' and an object 'model_response'")
        sample_id = read_name(given, f"{where}: 'sample_ID'")
        if sample_id in records:
            raise UserError(f"{where}: duplicate sample_ID {sample_id!r}")
        found = {key: by_rpm(row, key, where) for key in (RESPONSE, DETAILS)}
        records[sample_id] = {**row, **found}
    return records


def _rows(file: Path) -> Iterator[tuple[str, Any, Any]]:
    """(place in the file, sample id, record), not checked yet."""
    if file.suffix.lower() in LINES:
        rows = read_json_lines(file, "response")
        return ((f"line {n}", row.get("sample_ID"), row) for n, row in rows)
    data = read_json(file, "response")
    if isinstance(data, dict):
        return ((repr(key), key, row) for key, row in data.items())
    if isinstance(data, list):
        ids = (row.get("sample_ID") if isinstance(row, dict) else None for row in data)
        return ((f"[{n}]", i, row) for n, (i, row) in enumerate(zip(ids, data, strict=True)))
    raise UserError(f"response file {file} must be an object keyed by sample_ID, or a list")


def by_rpm(row: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """What a record holds under `RESPONSE` or `DETAILS`: model -> answer or details.

    Raises:
      UserError: naming the place `where`: no object, or a model's name that is none.
    """
    value = {} if row.get(key) is None else row[key]
    if not isinstance(value, dict):
        raise UserError(f"{where}: {key!r} must be an object by model, not {kind_of(value)}")
    for name, details in value.items():
        read_name(name, f"{where}: the name of a model in {key!r}")
        if key == DETAILS and not isinstance(details, dict):
            raise UserError(f"{where}: {key!r} of {name!r} must be an object")
    return value


def counts_of(answers: Iterable[Answer]) -> dict[str, Any]:
    """`cut` and `finish_reasons` (kind -> number of answers), and the number of `unused_draws`."""
    answers = [draw for a in answers for draw in a.draws]
    cut = Counter(kind for a in answers for kind in a.cuts)
    ended = [a for a in answers if a.stopped]  # others are counted as unfinished
    return {
        "cut": {k: cut[k] for k in CUTS if k in cut},
        "finish_reasons": dict(Counter(a.finish for a in ended if a.finish not in ENDED)),
        "unused_draws": sum(a.unused for a in answers),
    }


def count_lines(rpm: str, counts: Mapping[str, Any]) -> Iterator[str]:
    """The `counts_of` a model's answers, a line a kind."""
    if cut := counts["cut"]:
        parts = ", ".join(f"{CUTS[kind]} ({n})" for kind, n in cut.items())
        yield f"cut from answers of {rpm}: {parts}"
    if finish := counts["finish_reasons"]:
        parts = ", ".join(f"{name} ({n})" for name, n in sorted(finish.items()))
        yield f"answers of {rpm} with another finish_reason than stop: {parts}"
    if unused := counts["unused_draws"]:
        yield f"further draws of {rpm} that hold nothing to score: {unused}"
