"""Prompts out to any chat server, responses back in: the batch files of OpenAI's API and of vLLM.

python -m remid_jax.benchmark.export --model NAME --out DIR
python -m remid_jax.benchmark.export --collect BATCH_OUTPUT.jsonl --policy NAME --out FILE.jsonl
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from remid_jax.benchmark import shifts
from remid_jax.benchmark.contexts import choose_contexts
from remid_jax.benchmark.prompts import FULL, VIEWS, Messages, reply_messages
from remid_jax.benchmark.reading import BUNDLED, load_benchmark, read_jsonl
from remid_jax.benchmark.samples import Sample, is_unicode
from remid_jax.errors import UserError
from remid_jax.files import write_atomically

PROMPTS, BATCH = "prompts.jsonl", "openai_batch.jsonl"
CHAT_URL = "/v1/chat/completions"
DEFAULT_MODEL = "model"

Record = dict[str, Any]


def prompt_record(sample: Sample, view: str = FULL) -> Record:
    """What the evaluated model reads for one sample, as a line of `prompts.jsonl`."""
    messages = reply_messages(sample, view)
    return {"sample_ID": sample.sample_id, "subset_tag": sample.tag, "messages": messages}


def batch_request(
    sample_id: str, messages: Messages, model: str = DEFAULT_MODEL, max_tokens: int = 256
) -> Record:
    """One greedy chat completion as a line of an OpenAI batch file.

    >>> batch_request("IDTest_01", [{"role": "user", "content": "Hi"}], "qwen", 64)["body"]
    {'model': 'qwen', 'messages': [{'role': 'user', 'content': 'Hi'}], 'max_tokens': 64,
     'temperature': 0}
    """
    body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    return {"custom_id": sample_id, "method": "POST", "url": CHAT_URL, "body": body}


def batch_response(row: Mapping[str, Any]) -> tuple[str, str | None, bool]:
    """The answer in one line of a batch output file.

    Args:
      row: `{"custom_id", "response": {"status_code", "body"}, "error"}`.

    Returns:
      (text, None, whether it ended at max_tokens), or ("", why the request failed, False).
    """
    response = row.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    body = response.get("body") if isinstance(response, dict) else None
    if row.get("error") or status != 200:
        reason = _reason(row.get("error")) or _reason(body) or f"status code {status}"
        return "", reason, False
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return "", "its body has no choices[0].message.content", False
    if not isinstance(text, str) or not text.strip():
        return "", "its message content is empty", False
    if not is_unicode(text):
        return "", "its message content holds a \\ud8.. escape without its other half", False
    return text, None, choice.get("finish_reason") == "length"


def _reason(error: Any) -> str:
    if isinstance(error, dict):
        return _reason(error.get("error")) or _reason(error.get("message"))
    return error if isinstance(error, str) else ""


def collect_responses(rows: Iterable[tuple[str, Record]]) -> tuple[dict[str, str], list[str]]:
    """The texts of a batch output file.

    Args:
      rows: (file and line for messages, decoded line).

    Returns:
      custom_id -> text in file order, and the ids whose answer ended at max_tokens.

    Raises:
      UserError: failed requests (naming the first), a repeated or missing custom_id, no line.
    """
    texts: dict[str, str] = {}
    failed: list[str] = []
    cut: list[str] = []
    for where, row in rows:
        name = row.get("custom_id")
        if not isinstance(name, str) or not name:
            raise UserError(f"{where}: needs a text 'custom_id'; is this a batch OUTPUT file?")
        if name in texts:
            raise UserError(f"{where}: duplicate custom_id {name!r}")
        if "response" not in row and "error" not in row:
            raise UserError(f"{where}: has no 'response'; is this a batch OUTPUT file?")
        texts[name], problem, ended = batch_response(row)
        if problem is not None:
            failed.append(f"{where}: request {name!r} failed: {problem}")
        if ended:
            cut.append(name)
    if failed:
        more = f" ({len(failed)} of {len(texts)} requests failed)" if len(failed) > 1 else ""
        raise UserError(f"{failed[0]}{more}")
    if not texts:
        raise UserError("the batch output file holds no responses")
    return texts, cut


def merge_policy(
    records: Mapping[str, Record], policy: str, texts: Mapping[str, str]
) -> dict[str, Record]:
    """Adds a policy's texts to response records, known samples first.

    Args:
      records: sample id -> `{"sample_ID", "model_response": {policy: text}}`.
      policy: name of the evaluated model.
      texts: sample id -> its response.

    Raises:
      UserError: the records hold another text of that policy already.
    """
    merged = {name: dict(record) for name, record in records.items()}
    for name, text in texts.items():
        record = merged.setdefault(name, {"sample_ID": name, "model_response": {}})
        if record["model_response"].get(policy, text) != text:
            raise UserError(
                f"the file given by --out holds another response of {policy!r} to {name!r}; "
                "choose another --policy or --out"
            )
        record["model_response"] = {**record["model_response"], policy: text}
    return merged


def _numbered(file: Path, what: str) -> Iterable[tuple[str, Record]]:
    return ((f"{what} file {file}: line {n}", row) for n, row in read_jsonl(file, what))


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
    chosen = choose_contexts(load_benchmark(args.benchmark), names, args.contexts)
    folder = Path(args.out)
    rows = [prompt_record(s, args.view) for samples in chosen.values() for s in samples]
    model = args.model or args.policy or DEFAULT_MODEL
    write_jsonl(folder / PROMPTS, rows)
    write_jsonl(
        folder / BATCH,
        (batch_request(r["sample_ID"], r["messages"], model, args.max_tokens) for r in rows),
    )
    absent = [t for t in shifts.resolve_shifts(names) if t not in chosen]
    counts = ", ".join(f"{tag} {len(samples)}" for tag, samples in chosen.items())
    lines = [f"{len(rows)} prompts ({counts}) in {folder / PROMPTS} and {folder / BATCH}"]
    if absent:
        lines.append(f"not in the benchmark: {', '.join(absent)}")
    if not args.model:
        lines.append(f"the requests name the model {model!r}; --model sets your server's name")
    return "\n".join(lines)


def collect(args: argparse.Namespace) -> str:
    """Turns a batch output into a response file; returns the lines to print."""
    out = Path(args.out)
    if out.suffix != ".jsonl":
        raise UserError(f"--out {out}: a response file must be named *.jsonl")
    texts, cut = collect_responses(_numbered(Path(args.collect), "batch output"))
    records: dict[str, Record] = {}
    for where, row in _numbered(out, "response") if out.exists() else []:
        name = row.get("sample_ID")
        if not isinstance(name, str) or not isinstance(row.get("model_response"), dict):
            raise UserError(f"{where}: needs 'sample_ID' and an object 'model_response'")
        if name in records:
            raise UserError(f"{where}: duplicate sample_ID {name!r}")
        records[name] = row
    merged = merge_policy(records, args.policy, texts)
    write_jsonl(out, merged.values())
    lines = [f"{len(texts)} responses of {args.policy!r} in {out}"]
    lacking = [i for i, row in merged.items() if args.policy not in row["model_response"]]
    if lacking:
        lines.append(f"{len(lacking)} samples there lack {args.policy!r}, first {lacking[0]!r}")
    if cut:
        lines.append(f"{len(cut)} of them end at max_tokens, first {cut[0]!r}")
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m remid_jax.benchmark.export",
        description="Writes the prompts for evaluated models, or collects their responses.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--benchmark", default=BUNDLED, help="'bundled' or an RPGBench JSON file")
    add("--shifts", default=",".join(shifts.SHIFTS), help="shifts or subset tags, comma-separated")
    add("--view", default=FULL, choices=VIEWS, help="what the evaluated model sees")
    add("--contexts", type=int, default=0, help="per subset, as config.limits.contexts; 0: all")
    add("--policy", help="name of the evaluated model in the response file")
    add("--model", help="name of the model on the server (default: --policy)")
    add("--max-tokens", type=int, default=256, help="tokens of a response, at most")
    add("--collect", metavar="BATCH_OUTPUT", help="batch output file to turn into responses")
    add("--out", required=True, help="folder for the prompts, or with --collect a *.jsonl file")
    args = parser.parse_args(argv)
    if args.contexts < 0:
        raise UserError(f"--contexts is {args.contexts}; it must be at least 0 (all)")
    if args.max_tokens < 1:
        raise UserError(f"--max-tokens is {args.max_tokens}; it must be at least 1")
    if args.policy is not None and not args.policy.strip():
        raise UserError("--policy is empty")
    if args.collect is not None and args.policy is None:
        raise UserError("--collect needs --policy, the name that the responses get")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0, or 2 for what a user can get wrong."""
    try:
        args = _parse(argv)
        print(export(args) if args.collect is None else collect(args))
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
