"""Checks a benchmark file: `python -m remid_jax.data.check [FILE] [--strict]`.

Prints a line for each violation, some figures and a summary. Exit code 0: clean; 1: violations;
2: the file cannot be read as a benchmark.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from remid_jax.arguments import Parser
from remid_jax.cli import run_command
from remid_jax.data.checks import composition, violations
from remid_jax.data.options import add_file, load_with_options
from remid_jax.data.reading import BUNDLED, bundled_path


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the checks; returns the exit code."""
    return run_command(lambda: _run(argv), program=argv is None)


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser("python -m remid_jax.data.check", "Checks a benchmark file.")
    add_file(parser)
    parser.add_argument(
        "--strict", action="store_true", help="the bundled benchmark's own rules for any file"
    )
    parser.replaced("--model", "python -m remid_jax.evaluation.factor_check [FILE] [--model PATH]")
    args = parser.parse_args(argv)
    benchmark = load_with_options(args.file, args)
    bundled = args.file == BUNDLED or Path(args.file).resolve() == bundled_path().resolve()
    found = violations(benchmark, args.strict or bundled)
    for line in (*found, *composition(benchmark)):
        print(line)
    samples, subsets, count = len(list(benchmark)), len(benchmark.subsets), len(found)
    said = f"{samples} samples in {subsets} subsets, {count} violation{'s' * (count != 1)}"
    print(f"{benchmark.name}: {said}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
