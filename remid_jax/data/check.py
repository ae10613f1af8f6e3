"""Checks a benchmark file: `python -m remid_jax.data.check [FILE] [--strict] [--model]`.

Prints a line for each violation, some figures and a summary. Exit code 0: clean; 1: violations;
2: the file cannot be read as a benchmark.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from remid_jax.arguments import Parser
from remid_jax.cli import run_command
from remid_jax.data import checks, reading
from remid_jax.data.options import add_subset_options, load_with_options
from remid_jax.errors import UserError

EMBEDDED = "embedded"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the checks.

    Args:
      argv: arguments, by default those of the command line.

    Returns:
      The exit code.
    """
    return run_command(lambda: int(bool(_run(_parser().parse_args(argv)))), program=argv is None)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m remid_jax.data.check", description="Checks a benchmark file.")
    parser.add_argument(
        "file",
        nargs="?",
        default=reading.BUNDLED,
        help="file of samples (RPGBench JSON, a JSON list, JSONL), or `bundled` (default)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="the bundled benchmark's own rules for any file"
    )
    parser.add_argument(
        "--model", nargs="?", const=EMBEDDED, metavar="PATH",
        help="check with a model too (default the embedded one) that persona, character and "
        "dialogue matter; minutes to a quarter of an hour",
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=int, metavar="N", help="with --model: N samples of each subset"
    )
    add_subset_options(parser)
    return parser


def _run(args: argparse.Namespace) -> list[checks.Violation]:
    if args.limit is not None and (args.limit < 1 or args.model is None):
        raise UserError("--limit needs --model and a number of at least 1")
    benchmark = load_with_options(args.file, args)
    found = checks.violations(benchmark, strict=args.strict or _is_bundled(args.file))
    for violation in found:
        print(violation)
    for line in checks.composition(benchmark):
        print(line, flush=True)
    if args.model is not None:
        found += _check_factors(benchmark, args.model, args.limit)
    samples = sum(len(subset) for subset in benchmark.subsets.values())
    print(
        f"{benchmark.name}: {samples} samples in {len(benchmark.subsets)} subsets, "
        f"{len(found)} violation{'' if len(found) == 1 else 's'}"
    )
    return found


def _is_bundled(file: str) -> bool:
    return file == reading.BUNDLED or Path(file).resolve() == reading.bundled_path().resolve()


def _check_factors(
    benchmark: reading.Benchmark, path: str, limit: int | None
) -> list[checks.Violation]:
    # Loaded here because the benchmark needs no model for anything else.
    from remid_jax.evaluation import factor_check
    from remid_jax.models.pretrained import DEFAULT, load_language_model

    model = load_language_model(DEFAULT if path == EMBEDDED else path)
    effects: list[factor_check.Effect] = []
    print(factor_check.row("factor matters in"), flush=True)
    for part in factor_check.factor_effects(model, factor_check.english_subsets(benchmark), limit):
        if part:
            print(factor_check.row(part[0].tag, part), flush=True)
        effects += part
    for line in factor_check.summary(effects):
        print(line)
    found = list(factor_check.weak_factors(effects))
    for violation in found:
        print(violation)
    return found


if __name__ == "__main__":
    sys.exit(main())
