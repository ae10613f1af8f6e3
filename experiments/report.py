"""Finished runs as pages, tables, answers to limits, and beside each other.

python -m experiments.report RUN [RUN ...] [--fail-if LIMIT] [--compare]; see --help
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from remid_jax.cli import run_command

DESCRIPTION = """\
Rewrites report.html, its pictures and results.csv of finished runs from what lies in their folders,
and prints their report. With limits, the exit code is 0 where all of them pass, 1 where one fails,
and 3 where none fails but one cannot be told from these contexts (see docs/gate.md)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Reads, judges, writes and prints; the exit code is 0, 1 or 3 by the limits, or 2."""
    return run_command(lambda: _run(argv), program=argv is None)


def _run(argv: Sequence[str] | None) -> int:
    from remid_jax.messages import quiet

    args = _arguments(argv)
    with quiet(args.quiet):
        return _report(args)


def _report(args: argparse.Namespace) -> int:
    from remid_jax.analysis.schema import VERSION, check_run
    from remid_jax.report.gate import exit_code
    from remid_jax.report.limits import parse_limit
    from remid_jax.report.run_folder import read_run

    limits = [parse_limit(text) for text in args.fail_if]
    folders = [*args.runs, *([args.reference] if args.reference else ())]
    runs = [read_run(folder, VERSION, check_run) for folder in folders]
    if args.compare:
        _print_comparison(*runs, args)
        return 0
    reference = runs.pop() if args.reference else None
    found = []
    for run in runs:  # all, before any file
        with _of_damage(run):
            found.append((run, _judge(run, limits, reference, args)))
    for run, answers in found:
        with _of_damage(run):
            _show(run, answers, args.format, several=len(found) > 1)
    return exit_code([answer for _, answers in found for answer in answers], args.undecided)


@contextlib.contextmanager
def _of_damage(run: Any) -> Iterator[None]:
    """Says in a line that a file of a run holds values of kinds that no run writes."""
    from remid_jax.errors import UserError

    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{run.name} cannot be shown: a file of it was changed since it was written, or this "
            f"is a fault of remid_jax ({type(e).__name__}: {e})"
        ) from e


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    from remid_jax.arguments import Parser
    from remid_jax.errors import UserError
    from remid_jax.report.limits import CHANGE, GRAMMAR

    parser = Parser(
        "python -m experiments.report", DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", metavar="RUN", help="work folder of a finished run")
    parser.add_argument(
        "--format", choices=("text", "markdown"), default="text",
        help="what is printed: a report for the terminal, or a comment for a pull request",
    )  # fmt: skip
    parser.add_quiet()
    parser.add_argument(
        "--compare", action="store_true",
        help="print what differs between two runs, second minus first, and what was changed",
    )  # fmt: skip
    parser.add_argument("--rpm-a", metavar="NAME", help="an RPM of the first run, or the reference")
    parser.add_argument("--rpm-b", metavar="NAME", help="the RPM that is compared with it")
    parser.add_argument(
        "--fail-if", action="append", default=[], metavar="LIMIT", help=f"a limit: {GRAMMAR}"
    )
    parser.add_argument(
        "--reference", metavar="RUN", help=f"finished run that limits on {CHANGE}MEASURE refer to"
    )
    parser.add_argument(
        "--undecided", choices=("pass", "fail"), default="",
        help="what becomes of the exit code where a limit cannot be told; by default it is 3",
    )  # fmt: skip
    args = parser.parse_args(argv)
    changes = [text for text in args.fail_if if text.strip().startswith(CHANGE)]
    if args.compare and (len(args.runs) != 2 or args.fail_if or args.reference):
        raise UserError("--compare takes two runs and no limits; for limits use --reference RUN")
    if changes and not args.reference:
        raise UserError(f"limit {changes[0]!r} is about a change: name --reference RUN")
    if args.reference and not changes:
        raise UserError(f"--reference is read by limits such as {CHANGE}r_emi < -5; there is none")
    if (args.rpm_a or args.rpm_b) and not (args.compare or args.reference):
        raise UserError("--rpm-a and --rpm-b belong to --compare or --reference")
    return args


def _judge(
    run: Any, limits: Sequence[Any], reference: Any, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """The answers to all limits, in their order."""
    from remid_jax.report.gate import changes, judge
    from remid_jax.report.measured import measured
    from remid_jax.report.text import REFERENCES

    cells = [r for r in measured(run.results) if r["rpm"] not in REFERENCES]
    if reference is not None:
        from .run_pairs import differences

        found, _ = differences(reference, run, args.rpm_a, args.rpm_b)
        cells += changes(found)
    return judge(limits, cells, run.name)


def _show(run: Any, answers: Sequence[dict[str, Any]], form: str, several: bool) -> None:
    from remid_jax.report.files import write_report
    from remid_jax.report.gate import answer_lines
    from remid_jax.report.markdown import markdown_report
    from remid_jax.report.terminal import print_report
    from remid_jax.report.text import Figures

    gate = [{key: a[key] for key in ("limit", "answer", "why")} for a in answers]
    write_report(run.folder, run.results, run.contributions, run.examples, gate)
    if form == "markdown":
        print(markdown_report(run.results, run.name, gate))
        return
    print_report(run.results, run.folder)
    level = Figures(run.results["provenance"]["config"]["estimator"]).level
    for line in answer_lines(answers, level, run.name if several else ""):
        print(line)


def _print_comparison(first: Any, second: Any, args: argparse.Namespace) -> None:
    from remid_jax.report.markdown import comparison_parts
    from remid_jax.report.run_comparison import COLUMNS, comparison_tables, heading_lines
    from remid_jax.report.tables import new_table, rendered
    from remid_jax.report.text import Figures, wrapped

    from .run_pairs import differences

    records, contexts = differences(first, second, args.rpm_a, args.rpm_b)
    heading = list(heading_lines(first, second, contexts))
    figures = Figures(second.results["provenance"]["config"]["estimator"])
    tables = comparison_tables(records, figures)
    if args.format == "markdown":
        print(comparison_parts(heading, tables))
        return
    print("\n".join(x for line in heading for x in wrapped(line)))
    for found in tables:
        made = new_table(found.title, COLUMNS, found.rows, left=COLUMNS[:2])
        print("\n".join(("", *rendered(made), *wrapped(found.verdict))))


if __name__ == "__main__":
    sys.exit(main())
