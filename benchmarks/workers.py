"""Strong and weak scaling over real processes, each on one core of its own, start-up included.

`diagnosis`: workers on one work folder; time is that of whole commands. `training`: one mesh over
processes of jax.distributed; time is that of a step. Strong: the same work for all numbers of
processes; weak: work in proportion. Efficiency is the rate per process over that of one alone.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import program
from benchmarks.program import Report
from remid_jax.errors import UserError
from remid_jax.progress import progress
from remid_jax.report.tables import new_table

SIZES = {
    "processes": (2, 2, "most processes; 1, 2, 4 ... up to so many run"),
    "contexts": (6, 3, "contexts of a subset for one process"),
    "batch": (8, 2, "samples of a training step for one process"),
    "steps": (5, 2, "steps of training; the first holds compilation and is left out"),
}
ROOT = Path(__file__).parents[1]
STRONG, WEAK = "strong", "weak"
DIAGNOSIS, TRAINING = "diagnosis", "training"


def _diagnosis(contexts: int) -> dict[str, Any]:
    """The main job on two subsets, with so few negatives that work grows as contexts do."""
    return {
        "config": "configs/quickstart.py:runlocal", "shifts": ("german",),
        "limits.contexts": contexts, "estimator.negatives": "cyclic",
        "estimator.num_negatives": 1, "sampling.batch_rows": 1,
    }  # fmt: skip


def _training(steps: int, batch: int, processes: int) -> dict[str, Any]:
    """Steps of SFT with SmolLM2 and LoRA, rows spread over the processes."""
    return {
        "config": "configs/corl_smollm2.py", "cold_start": (f"policy_sft:{steps}",), "round": (),
        "sft.batch": batch, "evaluate.ends": False, "evaluate.every": 0, "mesh.data": processes,
    }  # fmt: skip


def command_of(settings: dict[str, Any], workdir: Path) -> list[str]:
    """The command of one process; `settings` holds `config`, a file, and keys of it."""
    flags = [f"--config.{k}={v}" for k, v in settings.items() if k != "config"]
    main = ["-m", "experiments.main", "--config", settings["config"], "--workdir", str(workdir)]
    return [sys.executable, *main, *flags]


def free_address() -> str:
    """HOST:PORT on this machine where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def together(commands: Sequence[list[str]]) -> float:
    """Seconds that processes take, all begun at once, one core each.

    Raises:
      UserError: one of them fails.
    """
    cores = sorted(os.sched_getaffinity(0))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    start = time.perf_counter()
    running = []
    with tempfile.TemporaryFile("w+") as said:
        for command, core in zip(commands, cores, strict=False):
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
            running.append(process)
        codes = [p.wait() for p in running]
        seconds = time.perf_counter() - start
        if any(codes):
            said.seek(0)
            last = said.read().strip().splitlines()[-1:]
            raise UserError(f"a process ended with {max(codes, key=abs)}: {''.join(last)}")
    return seconds


def seconds_of(kind: str, work: int, processes: int, steps: int) -> float:
    """Of the whole diagnosis, or of a step (the median of all but the first)."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        if kind == DIAGNOSIS:
            return together([command_of(_diagnosis(work), workdir)] * processes)
        settings = _training(steps, work, processes)
        if processes > 1:
            settings |= {"processes.coordinator": free_address(), "processes.count": processes}
        commands = [
            command_of({**settings, "processes.index": i}, workdir) for i in range(processes)
        ]
        together(commands)
        lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return statistics.median(json.loads(t)["time"]["seconds"] for t in lines[1:])


def run(args: argparse.Namespace) -> Report:
    """Runs every case once to warm up (programs are compiled and kept), then in turns.

    Raises:
      UserError: fewer cores than processes, nothing binds a process to a core here, a size that
        is too small, or nothing is to be measured.
    """
    if not (hasattr(os, "sched_getaffinity") and shutil.which("taskset")):
        raise UserError("benchmarks.workers needs Linux and taskset (util-linux) to bind processes")
    cores = len(os.sched_getaffinity(0))
    if args.processes > cores:
        raise UserError(f"--processes {args.processes}: there are {cores} cores")
    if args.contexts < 3:
        raise UserError("--contexts must be at least 3: the diagnosis gives standard errors")
    if args.steps < 2:
        raise UserError("--steps is 1; it must be at least 2: the first is left out")
    counts = program.doubled(args.processes)
    units = {DIAGNOSIS: args.contexts, TRAINING: args.batch}
    kinds = [k for k in units if not getattr(args, f"skip_{k}")]
    if not kinds:
        raise UserError("--skip-diagnosis and --skip-training leave nothing to measure")
    cases = {
        (kind, way, n): units[kind] * (n if way == WEAK else counts[-1])
        for kind in kinds
        for way in (STRONG, WEAK)
        for n in counts
    }
    # The most processes do the same work in both ways: that is run once.
    seconds: dict[tuple[str, int, int], list[float]] = {
        (kind, n, work): [] for (kind, _, n), work in cases.items()
    }
    with progress("workers", len(seconds) * (args.rounds + 1)) as advance:
        for r in range(args.rounds + 1):
            for (kind, n, work), times in seconds.items():
                took = seconds_of(kind, work, n, args.steps)
                if r:
                    times.append(took)
                advance(1)
    found, rows = {}, []
    for (kind, way, n), work in cases.items():
        times, one = seconds[kind, n, work], seconds[kind, 1, cases[kind, way, 1]]
        ideal = n if way == STRONG else 1
        efficiency = statistics.median(a / b / ideal for a, b in zip(one, times, strict=True))
        found[f"{kind} {way} {n}"] = {
            "work": work, "seconds_of_rounds": times, "efficiency": efficiency,
        }  # fmt: skip
        rows.append((
            f"{kind}, {way}", str(n), str(work), f"{statistics.median(times):.4g}",
            f"{min(times):.4g}-{max(times):.4g}", f"{efficiency:.2f}",
        ))  # fmt: skip
    columns = ("work", "processes", "contexts or batch", "s", "min-max", "efficiency")
    table = new_table("processes with one core each, median over rounds", columns, rows)
    return Report({"workers": found}, [table])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    flags = {f"skip-{kind}": f"leaves {kind} out" for kind in (DIAGNOSIS, TRAINING)}
    return program.command("workers", __doc__, run, SIZES, argv, flags)


if __name__ == "__main__":
    sys.exit(main())
