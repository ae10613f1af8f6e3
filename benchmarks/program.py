"""The command lines of the benchmarks: arguments, the quiet machine, tables and the JSON file."""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from benchmarks import quiet
from benchmarks.harness import Timed
from benchmarks.model import SMALL, SMOLLM2, random_model
from remid_jax import arguments
from remid_jax.cli import run_command
from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.models.pretrained import LanguageModel
from remid_jax.report.tables import new_table

LEAST_ROUNDS = 3
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers", "trl", "peft")
OK, NOISE = 0, 3
Sizes = Mapping[str, tuple[int, int, str]]  # flag -> default, value under --small, help


def contest_json(timed: Timed) -> dict[str, Any]:
    """Every contestant's figures for the JSON file."""
    return {
        name: {
            "seconds": statistics.median(seconds),
            "seconds_of_rounds": seconds,
            "compile_seconds": timed.compile_seconds[name],
            "setting": timed.setting[name],
            "flops_per_s": statistics.median(timed.rates[name]),
            "gemm_flops_per_s": statistics.median(timed.gemm[name]),
        }
        for name, seconds in timed.seconds.items()
    }


def contest_table(title: str, timed: Timed) -> Table:
    """A contest's table."""
    rows = [
        (
            name, timed.setting[name], f"{statistics.median(seconds):.4g}",
            f"{min(seconds):.4g}-{max(seconds):.4g}",
            f"{statistics.median(timed.rates[name]) / 1e9:.3g}",
            f"{statistics.median(timed.share(name)):.2f}", f"{timed.compile_seconds[name]:.3g}",
        )
        for name, seconds in timed.seconds.items()
    ]  # fmt: skip
    columns = ("contestant", "setting", "s", "min-max", "GFLOP/s", "of GEMM", "compiling, s")
    return new_table(title, columns, rows)


def ratio_lines(figures: Mapping[str, Any], meaning: Mapping[str, str]) -> Iterator[str]:
    """One line for each figure that has a meaning."""
    for key, text in meaning.items():
        low, high = figures["ranges"].get(key, (None, None))
        spread = "" if low is None else f" ({low:.3g} to {high:.3g})"
        yield f"{key} {figures[key]:.3g}{spread}: {text}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What a benchmark hands back: figures for the JSON file, tables and lines for the reader."""

    figures: dict[str, Any]
    tables: Sequence[Table]
    lines: Sequence[str] = ()


def doubled(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`.

    >>> doubled(6)
    [1, 2, 4]
    """
    return [2**k for k in range(most.bit_length())]


class Parser(arguments.Parser):
    """The arguments of a benchmark.

    Args:
      name: its module in this package.
      description: its first line is shown by --help.
    """

    def __init__(self, name: str, description: str) -> None:
        super().__init__(f"python -m benchmarks.{name}", description.splitlines()[0])

    def add_json(self) -> None:
        """Adds --json PATH; a path that cannot be written is refused at once."""
        self.add_argument("--json", metavar="PATH", type=_new_file, help="file for all figures")


def _new_file(text: str) -> Path:
    path = Path(text)
    if not os.access(path.absolute().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text}: its folder is not there or not writable")
    return path


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return value


def _parse(
    name: str, description: str, sizes: Sizes, flags: Mapping[str, str], argv: Sequence[str]
) -> argparse.Namespace:
    parser = Parser(name, description)
    parser.add_json()
    parser.add_argument("--rounds", type=_count, default=LEAST_ROUNDS, help="timed rounds")
    parser.add_argument("--small", action="store_true", help="a tiny shape, to see that it runs")
    parser.add_argument("--allow-noise", action="store_true", help="exit code 0 despite noise")
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    for size, (default, _, text) in sizes.items():
        text = text.replace("%", "%%")  # argparse fills in its own fields
        parser.add_argument(f"--{size}", type=_count, help=f"{text} (default {default})")
    args = parser.parse_args(argv)
    for size, (default, small, _) in sizes.items():
        key = size.replace("-", "_")
        if getattr(args, key) is None:
            setattr(args, key, small if args.small else default)
    return args


def load_model(args: argparse.Namespace) -> LanguageModel:
    """The random model of the size that the arguments ask for."""
    return random_model(SMALL if args.small else SMOLLM2)


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
        others = {"before": quiet.listen()}
        if not quiet.is_quiet(others["before"]):
            print(f"{_noise(others)}; ratios will not be quotable", file=sys.stderr, flush=True)
        start = quiet.moment()
        report = run(args)
        others |= {"during": quiet.share(start, quiet.moment()), "after": quiet.listen()}
        silent = all(map(quiet.is_quiet, others.values()))
        _print(report, args, "" if silent else _noise(others))
        if args.json:
            origin = provenance(name, args, argv)
            content = {**origin, "quiet": silent, "cpu_share_of_others": others, **report.figures}
            write_json(args.json, content)
        return OK if silent or args.allow_noise else NOISE

    return run_command(measure)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes all figures of a benchmark.

    Raises:
      UserError: the file cannot be written.
      ValueError: a figure is not finite.
    """
    text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(path, [text.encode() + b"\n"])


def simulate(devices: int, what: str) -> None:
    """Sees to it that JAX has so many devices, simulated ones if it does not run yet.

    Args:
      devices: how many.
      what: asks for them, as the error says.

    Raises:
      UserError: JAX runs already with fewer.
    """
    with contextlib.suppress(RuntimeError):  # JAX runs already
        jax.config.update("jax_num_cpu_devices", devices)
    if jax.device_count() < devices:
        raise UserError(f"{what} needs {devices} devices; there are {jax.device_count()}")


def _noise(others: Mapping[str, float | None]) -> str:
    if None in others.values():
        return "cannot tell whether the machine is quiet (no /proc/stat)"
    shares = ", ".join(f"{100 * s:.0f} % {when}" for when, s in others.items())
    limit = f"{100 * quiet.LIMIT:.0f} %"
    return f"not quiet: other processes took {shares} of the cores' time (limit {limit})"


def _print(report: Report, args: argparse.Namespace, noise: str) -> None:
    console = Console(width=120, soft_wrap=True)
    for made in report.tables:
        console.print(made)
    doubts = [
        *([noise] if noise else []),
        *(["the shape is the tiny one of --small"] if args.small else []),
        *([f"fewer than {LEAST_ROUNDS} rounds"] if args.rounds < LEAST_ROUNDS else []),
    ]
    warning = [f"RATIOS ARE NOT QUOTABLE: {'; '.join(doubts)}"] if doubts else []
    for line in (*report.lines, *warning):
        console.print(line, markup=False, highlight=False)


def provenance(name: str, args: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """What a JSON file says of its making: command, commit, machine and versions."""
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    return {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *argv]),
        "arguments": settings,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _commit() -> str | None:
    """The commit of this source, marked where files differ from it; None outside a checkout."""

    def git(*words: str) -> str:
        run = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
        return subprocess.run(["git", *words], **run).stdout.strip()

    try:
        changed = git("status", "--porcelain", "-uno")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _versions() -> dict[str, str]:
    known = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[package] = importlib.metadata.version(package)
    return known
