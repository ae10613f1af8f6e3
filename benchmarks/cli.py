"""The command lines of the benchmarks: arguments, the load check, output, the JSON file."""

import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import load_check
from benchmarks.harness import Report
from remid_jax import arguments
from remid_jax.cli import run_command
from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.report.tables import print_whole

LEAST_ROUNDS = 3
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers", "trl", "peft")
OK, NOISE = 0, 3
RENAMED = {"--policies": "--models, which does not count golden"}
Sizes = Mapping[str, tuple[int, int, str]]  # flag -> default, value under --small, help


class Parser(arguments.Parser):
    """The arguments of a benchmark; a --json PATH that cannot be written is refused at once."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(f"python -m benchmarks.{name}", description.splitlines()[0])
        self.add_argument("--json", metavar="PATH", type=_new_file, help="file for all figures")


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


def _parse(
    name: str, description: str, sizes: Sizes, flags: Mapping[str, str], argv: Sequence[str]
) -> argparse.Namespace:
    for old in RENAMED.keys() & {word.split("=")[0] for word in argv}:
        raise UserError(f"{old} is now {RENAMED[old]}")
    parser = Parser(name, description)
    parser.add_argument("--rounds", type=_count, default=LEAST_ROUNDS, help="timed rounds")
    parser.add_argument("--small", action="store_true", help="a tiny shape, to see that it runs")
    parser.add_argument("--allow-noise", action="store_true", help="exit code 0 despite noise")
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    small = "--small" in argv
    for size, (default, tiny, text) in sizes.items():
        text = f"{text} (default {default})".replace("%", "%%")  # argparse fills in its own fields
        parser.add_argument(f"--{size}", type=_count, default=tiny if small else default, help=text)
    return parser.parse_args(argv)


def command(
    name: str,
    description: str,
    run: Callable[[argparse.Namespace], Report],
    sizes: Sizes,
    argv: Sequence[str] | None = None,
    flags: Mapping[str, str] | None = None,
) -> int:
    """Runs one benchmark as a program.

    Args:
      name: its module in this package.
      description: its first line is shown by --help.
      run: arguments -> what it found.
      sizes: its flags that take a whole number.
      argv: command line without the program; by default the process's own.
      flags: further flags without a value -> help.

    Returns:
      The exit code: 0, 2 after one line of error, 3 where the machine was not quiet.
    """
    argv = sys.argv[1:] if argv is None else list(argv)

    def measure() -> int:
        args = _parse(name, description, sizes, flags or {}, argv)
        others = {"before": load_check.listen()}
        if not load_check.is_quiet(others["before"]):
            print(f"{_noise(others)}; ratios will not be quotable", file=sys.stderr, flush=True)
        start = load_check.moment()
        report = run(args)
        others |= {
            "during": load_check.share(start, load_check.moment()),
            "after": load_check.listen(),
        }
        silent = all(map(load_check.is_quiet, others.values()))
        _print(report, args, "" if silent else _noise(others))
        if args.json:
            origin = provenance(name, args, argv)
            noise = {"quiet": silent, "cpu_share_of_others": others}
            write_json(args.json, {**origin, **noise, **report.json})
        return OK if silent or args.allow_noise else NOISE

    return run_command(measure)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes all figures of a benchmark, which must be finite."""
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path, [text.encode() + b"\n"])


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


def provenance(name: str, args: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """What a JSON file says of its making: command, commit, machine and versions."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *argv]),
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": versions,
    }


def _commit() -> str | None:
    """The commit of this source, marked where files differ from it; None outside a checkout."""
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    run = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
    try:
        return subprocess.run(describe, **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    with contextlib.suppress(OSError, IndexError):
        return re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    return platform.processor()
