"""Prompts out to any chat server, responses back in: the batch files of OpenAI's API and of vLLM.

python -m remid_jax.data.export --model NAME --out DIR
python -m remid_jax.data.export --collect BATCH_OUTPUT.jsonl --policy NAME --out FILE.jsonl
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from remid_jax.arguments import Parser
from remid_jax.cli import run_command
from remid_jax.data import shifts
from remid_jax.data.contexts import absent_subsets, choose_contexts
from remid_jax.data.options import add_subset_options, load_with_options
from remid_jax.data.prompts import FULL, VIEWS, Messages, reply_messages
from remid_jax.data.reading import BUNDLED
from remid_jax.data.responses import (
    DETAILS,
    RESPONSE,
    Collected,
    count_lines,
    counts_of,
    read_answer,
    response_records,
)
from remid_jax.data.samples import Sample, read_name
from remid_jax.errors import UserError, visible
from remid_jax.files import path_of, write_atomically
from remid_jax.json_files import LINES, read_json_lines

PROMPTS, BATCH = "prompts.jsonl", "openai_batch.jsonl"
CHAT_URL = "/v1/chat/completions"
DEFAULT_MODEL = "model"

Record = dict[str, Any]


def prompt_record(sample: Sample, view: str = FULL) -> Record:
    """What the evaluated model reads for one sample, as a line of `prompts.jsonl`."""
    messages = reply_messages(sample, view)
    return {"sample_ID": sample.sample_id, "subset_tag": sample.tag, "messages": messages}


def batch_request(
    sample_id: str,
    messages: Messages,
    model: str = DEFAULT_MODEL,
    max_tokens: int = 256,
    max_tokens_key: str = "max_tokens",
    temperature: float | None = 0,
) -> Record:
    """One chat completion as a line of an OpenAI batch file, greedy unless told otherwise.

    Args:
      sample_id: becomes the custom_id.
      messages: what the model reads.
      model: its name on the server.
      max_tokens: of the answer, at most.
      max_tokens_key: the server's name for it; reasoning models ask for `max_completion_tokens`.
      temperature: None leaves it out, for servers that take none.

    >>> batch_request("IDTest_01", [{"role": "user", "content": "Hi"}], "qwen", 64)["body"]
    {'model': 'qwen', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 64,
     'temperature': 0}
    """
    body = {"model": model, "messages": messages, max_tokens_key: max_tokens}
    if temperature is not None:
        body["temperature"] = temperature
    return {"custom_id": sample_id, "method": "POST", "url": CHAT_URL, "body": body}


def batch_answer(row: Mapping[str, Any], sample: Sample | None = None) -> Collected:
    """The answer in one line of a batch output file.

    Args:
      row: `{"custom_id", "response": {"status_code", "body"}, "error"}`.
      sample: its context, where that is known.
    """
    response = row.get("response")
    response = response if isinstance(response, dict) else {}
    status, body = (
        response.get("status_code", 200 if "body" in response else None),
        response.get("body"),
    )
    if row.get("error") or str(status) != "200":
        reason = _reason(row.get("error")) or _reason(body) or f"status code {status}"
        return Collected(failure=f"the request failed: {reason}")
    if not (drawn := _drawn(body)):
        return Collected(failure="the request failed: its body has no choices[0].message")
    answers = [_of_choice(choice, sample) for choice in drawn]
    used = next((a for a in answers if not a.failure), answers[0])
    return dataclasses.replace(used, unused=len(answers) - 1)


def _drawn(body: Any) -> list[Mapping[str, Any]]:
    """The choices of a body that hold a message (or, of plain completions, a text), in order."""
    choices = body.get("choices") if isinstance(body, dict) else None
    found = [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
    found = [c for c in found if isinstance(c.get("message"), dict) or "text" in c]
    indices = [c.get("index", 0) for c in found]
    return sorted(found, key=lambda c: c.get("index", 0)) if _all_ints(indices) else found


def _all_ints(values: Iterable[Any]) -> bool:
    return all(isinstance(v, int) for v in values)


def _of_choice(choice: Mapping[str, Any], sample: Sample | None) -> Collected:
    message = choice.get("message") or {"content": choice.get("text")}
    finish = choice.get("finish_reason")
    answer = read_answer(message.get("content"), sample, finish if isinstance(finish, str) else "")
    if answer.failure and (why := _why_none(message)):
        return dataclasses.replace(answer, failure=why)
    return answer


def _why_none(message: Mapping[str, Any]) -> str:
    """What else a message without answer says of itself."""
    parts = message.get("content")
    parts = [p for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []
    refusal = message.get("refusal") or next((p["refusal"] for p in parts if p.get("refusal")), "")
    if isinstance(refusal, str) and refusal.strip():
        return f"the model refused: {refusal.strip()}"
    if any(message.get(key) for key in ("reasoning_content", "reasoning")):
        return "the model reasoned and gave no answer"
    return "the model called a tool and gave no answer" if message.get("tool_calls") else ""


def _reason(error: Any) -> str:
    if isinstance(error, dict):
        return next(filter(None, (_reason(error.get(k)) for k in ("error", "message", "code"))), "")
    return error if isinstance(error, str) else ""


def collect_responses(
    rows: Iterable[tuple[str, Record]], samples: Mapping[str, Sample]
) -> dict[str, Collected]:
    """The answers of a batch output file, those that failed among them.

    Args:
      rows: (file and line for messages, decoded line).
      samples: sample id -> sample, as far as they are known.

    Returns:
      custom_id -> answer in file order.

    Raises:
      UserError: a missing custom_id, two answers to one, no line, or no line with an answer.
    """
    found: dict[str, Collected] = {}
    for where, row in rows:
        if row.get("custom_id") is None:
            raise UserError(f"{where}: needs a text 'custom_id'; is this a batch OUTPUT file?")
        name = read_name(row["custom_id"], f"{where}: 'custom_id'")
        if "response" not in row and "error" not in row:
            raise UserError(f"{where}: has no 'response'; is this a batch OUTPUT file?")
        answer = batch_answer(row, samples.get(name))
        earlier = found.get(name)
        if earlier and answer != earlier and not (answer.failure or earlier.failure):
            raise UserError(f"{where}: another answer to the custom_id {name!r} of an earlier line")
        if earlier is None or earlier.failure:  # a retry takes the place of a failure
            found[name] = answer
    if not found:
        raise UserError("the batch output file holds no responses")
    if all(a.failure for a in found.values()):
        name, answer = next(iter(found.items()))
        raise UserError(
            f"none of the {len(found)} requests has an answer; {name!r}: {answer.failure}"
        )
    return found


def merge_policy(
    records: Mapping[str, Record], policy: str, answers: Mapping[str, Collected]
) -> dict[str, Record]:
    """Adds a policy's answers to response records, known samples first.

    Args:
      records: sample id -> `{"sample_ID", "model_response": {policy: text}}`.
      policy: name of the evaluated model.
      answers: sample id -> its answer; one that failed never takes the place of a text.

    Raises:
      UserError: the records hold another text of that policy already.
    """
    merged = {name: dict(record) for name, record in records.items()}
    for name, answer in answers.items():
        record = merged.setdefault(name, {"sample_ID": name, RESPONSE: {}})
        texts = record[RESPONSE]
        if answer.failure and policy in texts:
            continue
        if not answer.failure and texts.get(policy, answer.text) != answer.text:
            raise UserError(
                f"the file given by --out holds another response of {policy!r} to {name!r}; "
                "choose another --policy or --out"
            )
        if not answer.failure:
            record[RESPONSE] = {**texts, policy: answer.text}
        details = {k: v for k, v in record.get(DETAILS, {}).items() if k != policy}
        own = {"failed": answer.failure, "finish_reason": answer.finish}
        if own := {k: v for k, v in own.items() if v and v != "stop"}:
            details[policy] = own
        record.pop(DETAILS, None)
        if details:
            record[DETAILS] = details
    return merged


def _numbered(file: Path, what: str) -> Iterable[tuple[str, Record]]:
    return ((f"{what} file {file}: line {n}", row) for n, row in read_json_lines(file, what))


def write_jsonl(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line; a file that stands under the name was written to its end.

    Raises:
      UserError: the folder or the file cannot be written.
    """
    lines = ((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)
    write_atomically(file, lines)


def export(args: argparse.Namespace) -> str:
    """Writes the prompts; returns the lines to print."""
    names = [name.strip() for name in args.shifts.split(",") if name.strip()]
    benchmark = load_with_options(args.benchmark, args)
    chosen = choose_contexts(benchmark, names, args.contexts)
    folder = path_of(args.out, "--out")
    rows = [prompt_record(s, args.view) for samples in chosen.values() for s in samples]
    model = args.model or args.policy or DEFAULT_MODEL
    drawn = (args.max_tokens, args.max_tokens_key, args.temperature)
    write_jsonl(folder / PROMPTS, rows)
    write_jsonl(
        folder / BATCH,
        (batch_request(r["sample_ID"], r["messages"], model, *drawn) for r in rows),
    )
    counts = ", ".join(f"{tag} {len(samples)}" for tag, samples in chosen.items())
    lines = [f"{len(rows)} prompts ({counts}) in {folder / PROMPTS} and {folder / BATCH}"]
    if absent := absent_subsets(benchmark, names):
        lines.append(f"not in the benchmark: {', '.join(absent)}")
    if not args.model:
        lines.append(f"the requests name the model {model!r}; --model sets your server's name")
    return "\n".join(lines)


def collect(args: argparse.Namespace) -> str:
    """Turns a batch output into a response file; returns the lines to print."""
    out = path_of(args.out, "--out")
    if out.suffix.lower() not in LINES:
        raise UserError(f"--out {out}: a response file must be named *.jsonl")
    samples = {s.sample_id: s for s in load_with_options(args.benchmark, args)}
    answers = collect_responses(
        _numbered(path_of(args.collect, "--collect"), "batch output"), samples
    )
    records = dict(response_records(out)) if out.exists() else {}
    merged = merge_policy(records, args.policy, answers)
    write_jsonl(out, (_tidy(record) for record in merged.values()))
    return "\n".join(map(visible, _collected_lines(args, answers, merged, samples)))


def _tidy(record: Record) -> Record:
    """The record without the empty objects that reading added."""
    return {k: v for k, v in record.items() if k != DETAILS or v}


def _collected_lines(
    args: argparse.Namespace,
    answers: Mapping[str, Collected],
    merged: Mapping[str, Record],
    samples: Mapping[str, Sample],
) -> Iterator[str]:
    """What was collected, what was cut from it, and what failed."""
    policy = args.policy
    good = {name: a for name, a in answers.items() if not a.failure}
    yield f"{len(good)} responses of {policy!r} in {args.out}"
    lacking = [i for i, row in merged.items() if policy not in row[RESPONSE]]
    if lacking:
        yield f"{len(lacking)} samples there lack {policy!r}, first {lacking[0]!r}"
    for name, answer in answers.items():
        if answer.failure:
            yield f"excluded: {policy}, {name}: {answer.failure}"
    yield from count_lines(policy, counts_of(good.values()))
    if unknown := [name for name in answers if name not in samples]:
        yield (
            f"warning: {len(unknown)} of {len(answers)} ids are not in the benchmark "
            f"{args.benchmark}, first {unknown[0]!r}; name its file in --benchmark"
        )


_OTHER_KEYS = ("model", "messages", "temperature")  # of a request


def _temperature(text: str) -> float | None:
    if text.lower() == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'none' nor a number of at least 0")
    return int(value) if value.is_integer() else value


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m remid_jax.data.export",
        description="Writes the prompts for evaluated models, or collects their responses.",
    )
    add = parser.add_argument
    add("--benchmark", default=BUNDLED, help="'bundled', or a file of samples (JSON, JSONL)")
    add("--shifts", default=",".join(shifts.SHIFTS), help="shifts or subset tags, comma-separated")
    add("--view", default=FULL, choices=VIEWS, help="what the evaluated model sees")
    add("--contexts", type=int, default=0, help="per subset, as config.limits.contexts; 0: all")
    add("--policy", help="name of the evaluated model in the response file")
    add("--model", help="name of the model on the server (default: --policy)")
    add("--max-tokens", type=int, default=256, help="tokens of a response, at most")
    add("--max-tokens-key", default="max_tokens", metavar="KEY",
        help="the server's name for it; reasoning models: max_completion_tokens")  # fmt: skip
    add("--temperature", type=_temperature, default=0,
        help="of the draws (default 0), or 'none' to leave it to the server")  # fmt: skip
    add_subset_options(parser)
    add("--collect", metavar="BATCH_OUTPUT", help="batch output file to turn into responses")
    add("--out", required=True, help="folder for the prompts, or with --collect a *.jsonl file")
    args = parser.parse_args(argv)
    if args.contexts < 0:
        raise UserError(f"--contexts is {args.contexts}; it must be at least 0 (all)")
    if args.max_tokens < 1:
        raise UserError(f"--max-tokens is {args.max_tokens}; it must be at least 1")
    if args.policy is not None:
        read_name(args.policy, "--policy")
    if not args.max_tokens_key.isidentifier() or args.max_tokens_key in _OTHER_KEYS:
        raise UserError(f"--max-tokens-key is {args.max_tokens_key!r}; give the name of a JSON key")
    if args.collect is not None and args.policy is None:
        raise UserError("--collect needs --policy, the name that the responses get")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for what a user can get wrong."""

    def body() -> None:
        args = _parse(argv)
        print(export(args) if args.collect is None else collect(args))

    return run_command(body, program=argv is None)


if __name__ == "__main__":
    sys.exit(main())
