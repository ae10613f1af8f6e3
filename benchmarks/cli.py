"""The command lines of the benchmarks: arguments, the load check, output, the JSON file."""

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import load_check
from benchmarks.harness import Report
from remid_jax import arguments
from remid_jax.cli import run_command
from remid_jax.files import write_atomically
from remid_jax.messages import log
from remid_jax.provenance import git_revision, version
from remid_jax.report.tables import print_whole

LEAST_ROUNDS = 3
PACKAGES = (
    "jax", "jaxlib", "flax", "numpy", "torch", "transformers", "trl", "peft", "accelerate",
    "datasets",
)  # fmt: skip
OK, NOISE = 0, 3
Sizes = Mapping[str, tuple[int, int, str]]  # flag -> default, value under --small, help


def new_parser(name: str, description: str) -> arguments.Parser:
    """Arguments of a benchmark; a --json PATH that cannot be written is refused at once."""
    parser = arguments.Parser(f"python -m benchmarks.{name}", description.splitlines()[0])
    parser.add_argument("--json", metavar="PATH", type=_new_file, help="file for all figures")
    return parser


def _new_file(text: str) -> Path:
    path = Path(text)
    if not os.access(path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: its folder is not there or not writable")
    return path


def _count(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return value


def command(
    name: str,
    description: str,
    run: Callable[[argparse.Namespace], Report],
    sizes: Sizes,
    argv: Sequence[str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> int:
    """Runs one benchmark as a program; returns the exit code.

    Args:
      name: its module in this package.
      description: its first line is shown by --help.
      run: arguments -> what it found.
      sizes: its flags that take a whole number.
      argv: command line without the program; by default the process's own.
      flags: further flags without a value -> help.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = new_parser(name, description)
    parser.add_argument("--rounds", type=_count, default=LEAST_ROUNDS, help="timed rounds")
    parser.add_argument("--small", action="store_true", help="a tiny shape, to see that it runs")
    parser.add_argument("--allow-noise", action="store_true", help="exit code 0 despite noise")
    for flag, text in (flags or {}).items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    for size, (default, tiny, text) in sizes.items():
        chosen = tiny if "--small" in argv else default
        text = f"{text} (default {default})".replace("%", "%%")  # argparse fills in its own fields
        parser.add_argument(f"--{size}", type=_count, default=chosen, help=text)
    if "models" in sizes:
        parser.replaced("--policies", "--models, which does not count golden")

    def measure() -> int:
        args = parser.parse_args(argv)
        others = {"before": load_check.listen()}
        if not load_check.is_quiet(others["before"]):
            log.warning("%s; ratios will not be quotable", _noise(others))
        start = load_check.moment()
        report = run(args)
        others["during"] = load_check.share(start, load_check.moment())
        others["after"] = load_check.listen()
        silent = all(map(load_check.is_quiet, others.values()))
        _print(report, args, "" if silent else _noise(others))
        found = {"quiet": silent, "cpu_share_of_others": others, **report.json}
        write_json(name, args, argv, found)
        return OK if silent or args.allow_noise else NOISE

    return run_command(measure)


def _noise(others: Mapping[str, float | None]) -> str:
    if None in others.values():
        return "cannot tell whether the machine is quiet (no /proc/stat)"
    shares = ", ".join(f"{100 * s:.0f} % {when}" for when, s in others.items())
    limit = f"{100 * load_check.LIMIT:.0f} %"
    return f"not quiet: other processes took {shares} of the cores' time (limit {limit})"


def _print(report: Report, args: argparse.Namespace, noise: str) -> None:
    for table in report.tables:
        print_whole(table)
    doubts = [
        *([noise] if noise else []),
        *(["the shape is the tiny one of --small"] if args.small else []),
        *([f"fewer than {LEAST_ROUNDS} rounds"] if args.rounds < LEAST_ROUNDS else []),
    ]
    warning = [f"RATIOS ARE NOT QUOTABLE: {'; '.join(doubts)}"] if doubts else []
    print(*report.lines, *warning, sep="\n")


def write_json(
    name: str, args: argparse.Namespace, argv: Sequence[str], found: Mapping[str, Any]
) -> None:
    """Writes what was found, which must be finite, and where it comes from, to `args.json`."""
    if not args.json:
        return
    cpus = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpus.read_text() if cpus.exists() else "")
    versions = {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}}
    content = {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *argv]),
        "arguments": {**vars(args), "json": str(args.json)},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git_revision(),
        "machine": {
            "cpu": names[0] if names else platform.processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "versions": {package: known for package, known in versions.items() if known},
        **found,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(args.json, [text.encode() + b"\n"])
