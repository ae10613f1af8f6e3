"""Prompts out to any chat server, responses back in: the batch files of OpenAI's API and of vLLM.

python -m remid_jax.data.export --model NAME --out DIR
python -m remid_jax.data.export --collect BATCH_OUTPUT.jsonl --rpm NAME --out FILE.jsonl
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from remid_jax.arguments import Parser
from remid_jax.cli import run_command
from remid_jax.data import shifts
from remid_jax.data.contexts import absent_subsets, choose_contexts
from remid_jax.data.options import add_subset_options, load_with_options
from remid_jax.data.prompts import FULL, VIEWS, reply_messages
from remid_jax.data.reading import BUNDLED
from remid_jax.data.responses import (
    DETAILS,
    RESPONSE,
    Answer,
    count_lines,
    counts_of,
    join_draws,
    read_choice,
    response_records,
)
from remid_jax.data.samples import Sample, read_name
from remid_jax.errors import UserError, visible
from remid_jax.files import path_of
from remid_jax.json_files import LINES, part_of, read_json_lines, write_json_lines

PROMPTS, BATCH = "prompts.jsonl", "openai_batch.jsonl"
_TAKEN = ("model", "messages", "temperature")  # keys of a request

Record = dict[str, Any]


def export(args: argparse.Namespace) -> Iterator[str]:
    """Writes the prompts; yields the lines to print."""
    names = [name.strip() for name in args.shifts.split(",") if name.strip()]
    benchmark = load_with_options(args.benchmark, args)
    chosen = choose_contexts(benchmark, names, args.contexts)
    folder = path_of(args.out, "--out")
    samples = [s for subset in chosen.values() for s in subset]
    prompts = [
        {"sample_ID": s.sample_id, "subset_tag": s.tag, "messages": reply_messages(s, args.view)}
        for s in samples
    ]
    write_json_lines(folder / PROMPTS, prompts)
    write_json_lines(folder / BATCH, (_request(prompt, args) for prompt in prompts))
    counts = ", ".join(f"{tag} {len(subset)}" for tag, subset in chosen.items())
    yield f"{len(samples)} prompts ({counts}) in {folder / PROMPTS} and {folder / BATCH}"
    if absent := absent_subsets(benchmark, names):
        yield f"not in the benchmark: {', '.join(absent)}"
    if not args.model:
        yield f"the requests name the model {_model(args)!r}; --model sets your server's name"


def _model(args: argparse.Namespace) -> str:
    return args.model or args.rpm or "model"


def _request(prompt: Record, args: argparse.Namespace) -> Record:
    """One chat completion as a line of an OpenAI batch file."""
    body = {"model": _model(args), "messages": prompt["messages"]}
    body[args.max_tokens_key] = args.max_tokens
    if args.temperature is not None:
        body["temperature"] = args.temperature
    request = {"custom_id": prompt["sample_ID"], "method": "POST", "url": "/v1/chat/completions"}
    return {**request, "body": body}


def collect(args: argparse.Namespace) -> Iterator[str]:
    """Turns a batch output into a response file; yields the lines to print."""
    out, rpm = path_of(args.out, "--out"), args.rpm
    if out.suffix.lower() not in LINES:
        raise UserError(f"--out {out}: a response file must be named *.jsonl")
    samples = {s.sample_id: s for s in load_with_options(args.benchmark, args)}
    batch = path_of(args.collect, "--collect")
    rows = read_json_lines(batch, "batch output")
    numbered = ((f"batch output file {batch}: line {n}", row) for n, row in rows)
    answers = collect_responses(numbered, samples)
    records = response_records(out) if out.exists() else {}
    for name, answer in answers.items():
        records.setdefault(name, {"sample_ID": name, RESPONSE: {}, DETAILS: {}})
        _add_answer(records[name], name, rpm, answer)
    kept = ({k: v for k, v in r.items() if k != DETAILS or v} for r in records.values())
    write_json_lines(out, kept)
    good = [a for a in answers.values() if not a.failure]
    yield f"{len(good)} responses of {rpm!r} in {args.out}"
    if lacking := [name for name, record in records.items() if rpm not in record[RESPONSE]]:
        yield f"{len(lacking)} samples there lack {rpm!r}, first {lacking[0]!r}"
    for name, answer in answers.items():
        if answer.failure:
            yield f"excluded: {rpm}, {name}: {answer.failure}"
    yield from count_lines(rpm, counts_of(good))
    if unknown := [name for name in answers if name not in samples]:
        yield (
            f"warning: {len(unknown)} of {len(answers)} ids are not in the benchmark "
            f"{args.benchmark}, first {unknown[0]!r}; name its file in --benchmark"
        )


def collect_responses(
    rows: Iterable[tuple[str, Record]], samples: Mapping[str, Sample]
) -> dict[str, Answer]:
    """custom_id -> answer of a batch output file, those that failed among them.

    Args:
      rows: (file and line for messages, decoded line).
      samples: sample id -> sample, as far as they are known.

    Raises:
      UserError: a missing custom_id, two answers to one, no line, or no line with an answer.
    """
    found: dict[str, Answer] = {}
    for where, row in rows:
        if row.get("custom_id") is None:
            raise UserError(f"{where}: needs a text 'custom_id'; is this a batch OUTPUT file?")
        name = read_name(row["custom_id"], f"{where}: 'custom_id'")
        if "response" not in row and "error" not in row:
            raise UserError(f"{where}: has no 'response'; is this a batch OUTPUT file?")
        answer, earlier = _batch_answer(row, samples.get(name)), found.get(name)
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


def _batch_answer(row: Record, sample: Sample | None) -> Answer:
    """The answer in one line of a batch output file, with all of its draws that have text."""
    response = part_of(row, "response", dict)
    body = response.get("body")
    status = response.get("status_code", 200 if "body" in response else None)
    if row.get("error") or str(status) != "200":
        reason = _reason(row.get("error")) or _reason(body) or f"status code {status}"
        return Answer(failure=f"the request failed: {reason}")
    answers = [read_choice(choice, sample) for choice in _choices(body)]
    if not answers:
        return Answer(failure="the request failed: its body has no choices[0].message")
    return join_draws(answers)


def _reason(error: Any) -> str:
    if isinstance(error, dict):
        return next(filter(None, (_reason(error.get(k)) for k in ("error", "message", "code"))), "")
    return error if isinstance(error, str) else ""


def _choices(body: Any) -> list[Mapping[str, Any]]:
    """The choices of a body that hold a message (or, of plain completions, a text), in order."""
    choices = [c for c in part_of(body, "choices", list) if isinstance(c, dict)]
    found = [c for c in choices if isinstance(c.get("message"), dict) or "text" in c]
    if all(isinstance(c.get("index", 0), int) for c in found):
        found.sort(key=lambda c: c.get("index", 0))
    return found


def _add_answer(record: Record, name: str, rpm: str, answer: Answer) -> None:
    """Adds a model's answer to a sample's record; one that failed never replaces a text."""
    texts = record[RESPONSE]
    if answer.failure and rpm in texts:
        return
    if not answer.failure and texts.setdefault(rpm, answer.content) != answer.content:
        raise UserError(
            f"the file given by --out holds another response of {rpm!r} to {name!r}; choose "
            "another --rpm or --out"
        )
    record[DETAILS].pop(rpm, None)
    if details := answer.details():
        record[DETAILS][rpm] = details


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
    add("--rpm", help="name of the evaluated model in the response file")
    add("--model", help="name of the model on the server (default: --rpm)")
    add("--max-tokens", type=int, default=256, help="tokens of a response, at most")
    add("--max-tokens-key", default="max_tokens", metavar="KEY",
        help="the server's name for it; reasoning models: max_completion_tokens")  # fmt: skip
    add("--temperature", type=_temperature, default=0,
        help="of the draws (default 0), or 'none' to leave it to the server")  # fmt: skip
    add_subset_options(parser)
    add("--collect", metavar="BATCH_OUTPUT", help="batch output file to turn into responses")
    add("--out", required=True, help="folder for the prompts, or with --collect a *.jsonl file")
    parser.replaced("--policy", "--rpm NAME")
    args = parser.parse_args(argv)
    if args.contexts < 0:
        raise UserError(f"--contexts is {args.contexts}; it must be at least 0 (all)")
    if args.max_tokens < 1:
        raise UserError(f"--max-tokens is {args.max_tokens}; it must be at least 1")
    if args.rpm is not None:
        read_name(args.rpm, "--rpm")
    if not args.max_tokens_key.isidentifier() or args.max_tokens_key in _TAKEN:
        raise UserError(f"--max-tokens-key is {args.max_tokens_key!r}; give the name of a JSON key")
    if args.collect is not None and args.rpm is None:
        raise UserError("--collect needs --rpm, the name that the responses get")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""

    def body() -> None:
        args = _parse(argv)
        lines = list(export(args) if args.collect is None else collect(args))
        print("\n".join(map(visible, lines)))

    return run_command(body, program=argv is None)


if __name__ == "__main__":
    sys.exit(main())
