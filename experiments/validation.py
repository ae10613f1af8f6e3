"""What a file of samples, and of answers, allows to measure: the work of `experiments.validate`."""

import argparse
import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.arguments import Parser
from remid_jax.data import rules
from remid_jax.data.logs import is_log, is_silent, read_log
from remid_jax.data.options import add_file
from remid_jax.data.prompts import FULL, Messages, reply_messages
from remid_jax.data.reading import BUNDLED, Benchmark, load_benchmark, sample_records
from remid_jax.data.responses import (
    RESPONSE,
    Answers,
    count_lines,
    read_responses,
    response_records,
)
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import ID_TRAIN
from remid_jax.errors import UserError, nearest
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import check_config, specs_of
from remid_jax.evaluation.cost import cost_record, longest_of
from remid_jax.evaluation.measurable import (
    POWER,
    answer_records,
    nothing_measurable,
    subset_records,
)
from remid_jax.evaluation.plan import Task, make_plan
from remid_jax.evaluation.task import choose, make_task
from remid_jax.files import path_of
from remid_jax.information.pairs import MIN_CONTEXTS
from remid_jax.json_files import write_json_lines
from remid_jax.messages import quiet
from remid_jax.report.validation import print_validation

from .command_line import parse

CONFIG = "benchmark"  # by default, as for one's own data in the README
DESCRIPTION = "Says what a file of samples allows to measure, before anything is computed."
LOG = "log"  # tag of the dialogues of a log, which have none
Subsets = Mapping[str, Sequence[Sample]]
Record = dict[str, Any]


def validate(argv: Sequence[str] | None) -> int:
    """Reads, checks, counts and prints; returns the exit code, 0 or 1.

    Raises:
      UserError: a file or an option that cannot be used.
    """
    args, overrides = _parse(argv)
    with quiet(args.quiet):
        return _validate(args, overrides)


def _validate(args: argparse.Namespace, overrides: Sequence[str]) -> int:
    config = _configuration(args, overrides)
    logged = args.file != BUNDLED and is_log(path_of(args.file, "benchmark file"))
    try:
        record = _of_log(args, config) if logged else _of_samples(args, config, overrides)
    except UserError as e:
        if not (hint := _what_it_is(args.file)):
            raise
        raise UserError(f"{e}; {hint}") from None
    print_validation({"strict": args.strict, "power": POWER, **record})
    return int(bool(record["refused"] or (args.strict and record["problems"])))


def _what_it_is(file: str) -> str:
    """What a file that cannot be read as samples seems to be, and the remedy; else nothing."""
    if _holds_only_answers(file):
        return "it holds answers: give the file of samples, and this one as --responses"
    with contextlib.suppress(UserError):
        if file != BUNDLED and is_silent(file):
            return (
                f"a log of dialogues would have answers, each record as {RESPONSE!r}: "
                '{"my_rpm": "It took my kettle."}, and no record here has any'
            )
    return ""


def _holds_only_answers(file: str) -> bool:
    """Whether the first record of a file is an answer, ours or a server's, without a sample."""
    with contextlib.suppress(UserError, StopIteration):
        _, _, record = next(sample_records(Path(file)))
        answers = isinstance(record, dict) and record.keys() & {RESPONSE, "custom_id"}
        return bool(answers) and rules.PERSONA not in record
    return False


def _parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The arguments, and those of them that are keys of the configuration."""
    parser = Parser("python -m experiments.validate", DESCRIPTION)
    add_file(parser)
    parser.set_defaults(in_distribution="")
    add = parser.add_argument
    add("--responses", default="", metavar="FILE", help="collected answers, as config.responses")
    add("--config", default="", metavar="NAME",
        help=f"the configuration of the run (default: {CONFIG}, and all shifts of the file); its "
        "keys are set by --config.KEY=VALUE")  # fmt: skip
    add("--prompts", type=int, default=3, metavar="N", help="prompts that are shown (default: 3)")
    add("--no-cost", action="store_true", help="no tokens, operations and time: no model is opened")
    parser.add_quiet()
    add("--strict", action="store_true", help="the bundled benchmark's own rules for any file")
    parser.replaced("--model", "--config.model.path=PATH")
    args, rest = parser.parse_known_args(argv)
    for word in rest:
        if not word.startswith(("--config.", "--noconfig.")):
            names = [option for a in parser._actions for option in a.option_strings]
            raise UserError(f"unexpected argument {word!r}{nearest(word, names)}; see --help")
    if args.prompts < 0:
        raise UserError(f"--prompts is {args.prompts}; it must be at least 0")
    return args, rest


def _configuration(args: argparse.Namespace, overrides: Sequence[str]) -> ConfigDict:
    """The configuration of the run that is meant."""
    config, _ = parse(["--config", args.config or CONFIG, "--workdir", ".", *overrides])
    if config.get("experiment", "diagnose") != "diagnose":
        raise UserError(f"--config {args.config} is no diagnosis; choose one, as {CONFIG}")
    config.benchmark = args.file
    config.responses = args.responses or config.responses
    config.in_distribution = args.in_distribution or config.in_distribution
    if args.subset_shifts:
        config.subset_shifts = tuple(filter(str.strip, args.subset_shifts.split(",")))
    check_config(config)
    return config


def _of_samples(args: argparse.Namespace, config: ConfigDict, overrides: Sequence[str]) -> Record:
    """What a file of samples allows, with collected answers or without."""
    benchmark = load_benchmark(config.benchmark, config.in_distribution, config.subset_shifts)
    if not config.responses and _holds_answers(benchmark):
        config.responses = args.file
    if not args.config and not any(word.startswith("--config.shifts") for word in overrides):
        present = tuple(tag for tag in benchmark.shift_of if tag in benchmark.subsets)
        config.shifts = present or config.shifts
    named = _named(config.responses)
    subsets = {tag: s for tag, s in benchmark.subsets.items() if tag != ID_TRAIN}
    refused = task = cost = None
    try:
        subsets = choose(config).selection.subsets
        if not args.no_cost:
            task = make_task(config, None, lockstep=False)
            plan = make_plan(task, cache := Cache())
            cost = cost_record(task, plan, longest_of(plan), cache)
    except UserError as e:
        refused = str(e)
    facts = _facts(benchmark, subsets, config, args.strict)
    answers = None
    if config.responses:
        known = {s.sample_id for s in benchmark}
        answers = {
            "rpms": _rpms(_read(config.responses, subsets, task), _every(subsets)),
            "unknown": [name for name in named if name not in known],
        }
    return {
        **facts,
        "refused": refused or nothing_measurable(facts["subsets"]),
        "monitor": False,
        "notes": [*_shortened(task), *(rules.composition(benchmark) if args.strict else ())],
        "cost": cost,
        "answers": answers,
        "prompts": list(_prompts(config, task, subsets, args.prompts)),
    }


def _of_log(args: argparse.Namespace, config: ConfigDict) -> Record:
    """What a log of dialogues, one side of `--config monitor`, allows."""
    if args.responses:
        raise UserError(f"--responses: {args.file} is a log, which holds its answers itself")
    log = read_log(args.file, LOG)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.jsonl"
        write_json_lines(file, log.records)
        benchmark = load_benchmark(file, LOG)
        answers = read_responses(file, benchmark)
    samples, notes = list(benchmark), []
    several = "s" * (len(samples) != 1)
    few = f"{len(samples)} dialogue{several}; a standard error needs at least {MIN_CONTEXTS}"
    if log.silent:
        notes.append(f"{log.silent} records hold no answer and are left out")
    if not args.no_cost:
        notes.append(
            "what both logs cost: python -m experiments.main --config monitor --workdir DIR "
            "--config.before=FILE --config.after=FILE --config.dry_run=True"
        )
    facts = _facts(benchmark, benchmark.subsets, config, args.strict)
    refused = nothing_measurable(facts["subsets"])
    return {
        **facts,
        "refused": refused if len(samples) >= MIN_CONTEXTS else few,
        "monitor": True,
        "notes": notes,
        "cost": None,
        "answers": {"rpms": _rpms(answers, samples), "unknown": []},
        "prompts": list(_prompts(config, None, benchmark.subsets, args.prompts)),
    }


def _facts(benchmark: Benchmark, subsets: Subsets, config: ConfigDict, strict: bool) -> Record:
    confidence = config.estimator.confidence
    home, shift_of = benchmark.in_distribution, benchmark.shift_of
    found = subset_records(subsets, home, shift_of, confidence)
    return {
        "confidence": confidence,
        "subsets": [{**r, "available": len(benchmark.subsets[r["tag"]])} for r in found],
        "problems": list(map(dataclasses.asdict, rules.violations(benchmark, strict))),
    }


def _holds_answers(benchmark: Benchmark) -> bool:
    """Whether the file of samples is one of answers, too, which splits cannot be."""
    return not benchmark.has_splits and any(RESPONSE in s.extra for s in benchmark)


def _named(responses: str) -> list[str]:
    """The ids in a response file, if there is one; a `UserError` where it cannot be read."""
    return list(response_records(path_of(responses, "response file"))) if responses else []


def _read(responses: str, subsets: Subsets, task: Task | None) -> Answers:
    """Collected answers, as they would be scored where that is known."""
    if task and task.given is not None:
        return task.given
    with contextlib.suppress(UserError):  # for which the run is refused
        return read_responses(responses, _every(subsets))
    return {}


def _rpms(answers: Answers, samples: Sequence[Sample]) -> list[Record]:
    found = answer_records(answers, samples)
    return [{**r, "lines": list(count_lines(r["rpm"], r["counts"]))} for r in found]


def _shortened(task: Task | None) -> Iterator[str]:
    if task and (shortened := task.selection.shortened):
        name = shortened[0][0]
        yield f"{len(shortened)} samples lose their oldest turns to fit, {name!r} the first"


def _every(subsets: Subsets) -> list[Sample]:
    return [s for samples in subsets.values() for s in samples]


def _prompts(
    config: ConfigDict, task: Task | None, subsets: Subsets, count: int
) -> Iterator[Record]:
    """The first prompts, of one subset after another, as the first of the models will see them.

    They are messages where no model was opened.
    """
    view, tokenizer = FULL, None
    if not config.responses:
        view = next(iter(specs_of(config).values())).view
    if task:
        models = task.models
        tokenizer = next(iter(models.rpms.values()), models.scorer).tokenizer
        subsets = task.selection.subsets
    rows = itertools.zip_longest(*subsets.values())
    for sample in [s for row in rows for s in row if s is not None][:count]:
        messages = reply_messages(sample, view)
        yield {
            "subset": sample.tag,
            "sample_ID": sample.sample_id,
            "tokens": len(tokenizer.encode_chat(messages)) if tokenizer else None,
            "text": tokenizer.render(messages) if tokenizer else _plain(messages),
        }


def _plain(messages: Messages) -> str:
    return "\n\n".join(f"{m['role']}: {m['content']}" for m in messages)
