"""Strong scaling over real processes of one runtime, each on one core of its own.

`diagnosis`: processes share its requests. `training`: one mesh over all of them, and time is that
of a step. The work is the same for all numbers of processes; efficiency is the rate per process
over that of one alone: of the work itself, and of whole commands, start-up (imports, weights,
programs) included.
"""

import argparse
import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import cli
from benchmarks import harness as h
from remid_jax.errors import UserError
from remid_jax.progress import progress

SIZES = {
    "processes": (2, 2, "most processes; 1, 2, 4 ... up to so many run"),
    "contexts": (12, 3, "contexts of a subset"),
    "batch": (16, 2, "samples of a training step"),
    "steps": (5, 2, "steps of training; the first holds compilation and is left out"),
}
ROOT = Path(__file__).parents[1]
DIAGNOSIS, TRAINING = "diagnosis", "training"
FLAGS = {f"skip-{kind}": f"leaves {kind} out" for kind in (DIAGNOSIS, TRAINING)}
Seconds = dict[str, float]  # "work"; of a diagnosis also "start_up" and "command", the whole of it


def settings_of(kind: str, units: int, processes: int, steps: int) -> dict[str, Any]:
    """The configuration of a run: `config`, its file, and keys of it.

    A diagnosis is of two subsets, with so few negatives that work grows as contexts do. Training is
    steps of SFT with SmolLM2 and LoRA, rows spread over the processes.
    """
    if kind == DIAGNOSIS:
        return {
            "config": "configs/quickstart.py:runlocal", "shifts": ("german",),
            "limits.contexts": units, "estimator.negatives": "cyclic",
            "estimator.num_negatives": 1, "sampling.batch_rows": 1,
        }  # fmt: skip
    return {
        "config": "configs/corl_smollm2.py", "cold_start": (f"policy_sft:{steps}",), "round": (),
        "sft.batch": units, "evaluate.ends": False, "evaluate.every": 0, "mesh.data": processes,
    }  # fmt: skip


def commands_of(settings: Mapping[str, Any], workdir: Path, processes: int) -> list[list[str]]:
    """The command of each process; `settings` as `settings_of` gives them."""
    keys = {k: v for k, v in settings.items() if k != "config"}
    if processes > 1:
        keys |= {"processes.coordinator": free_address(), "processes.count": processes}
    main = [sys.executable, "-m", "experiments.main", "--config", settings["config"]]
    main += ["--workdir", str(workdir), *(f"--config.{k}={v}" for k, v in keys.items())]
    if processes == 1:
        return [main]
    return [[*main, f"--config.processes.index={i}"] for i in range(processes)]


def free_address() -> str:
    """HOST:PORT on this machine where nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{s.getsockname()[1]}"


def together(commands: Sequence[list[str]]) -> float:
    """Seconds that processes take, all begun at once, one core each; refuses a failure."""
    cores, running = os.sched_getaffinity(0), []
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        try:
            for command, core in zip(commands, sorted(cores), strict=False):
                os.sched_setaffinity(0, {core})  # a process inherits it
                running.append(subprocess.Popen(
                    command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said
                ))  # fmt: skip
        finally:
            os.sched_setaffinity(0, cores)
        codes = [p.wait() for p in running]
        seconds = time.perf_counter() - start
        if any(codes):
            said.seek(0)
            last = said.read().strip().splitlines()[-1:]
            raise UserError(f"a process ended with {max(codes, key=abs)}: {''.join(last)}")
    return seconds


def seconds_of(kind: str, units: int, processes: int, steps: int) -> Seconds:
    """Of a diagnosis, or of a step of training (the median of all but the first)."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        settings = settings_of(kind, units, processes, steps)
        command = together(commands_of(settings, workdir, processes))
        if kind == DIAGNOSIS:
            results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
            return {**results["provenance"]["seconds"], "command": command}
        lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return {"work": statistics.median(json.loads(t)["time"]["seconds"] for t in lines[1:])}


def _check(args: argparse.Namespace) -> None:
    if not hasattr(os, "sched_getaffinity"):
        raise UserError("benchmarks.workers needs Linux to bind processes to cores")
    cores = len(os.sched_getaffinity(0))
    if args.processes > cores:
        raise UserError(f"--processes {args.processes}: there are {cores} cores")
    if args.contexts < 3:
        raise UserError("--contexts must be at least 3: the diagnosis gives standard errors")
    if args.steps < 2:
        raise UserError("--steps is 1; it must be at least 2: the first is left out")
    if args.skip_diagnosis and args.skip_training:
        raise UserError("--skip-diagnosis and --skip-training leave nothing to measure")


def run(args: argparse.Namespace) -> h.Report:
    """Runs every number of processes once to warm up (programs are kept), then in turns."""
    _check(args)
    counts = [2**k for k in range(args.processes.bit_length())]
    units = {DIAGNOSIS: args.contexts, TRAINING: args.batch}
    kinds = [kind for kind in units if not getattr(args, f"skip_{kind}")]
    measured: dict[tuple[str, int], list[Seconds]] = {(k, n): [] for k in kinds for n in counts}
    with progress("workers", len(measured) * (args.rounds + 1)) as advance:
        for r in range(args.rounds + 1):
            for (kind, n), rounds in measured.items():
                seconds = seconds_of(kind, units[kind], n, args.steps)
                rounds += [seconds] if r else []
                advance(1)
    return report_of(measured)


def report_of(measured: Mapping[tuple[str, int], Sequence[Seconds]]) -> h.Report:
    """Efficiencies, of (kind, number of processes) -> seconds of each round."""
    rows, rounds = [], {}
    for (kind, n), some in measured.items():
        took = {part: [s[part] for s in some] for part in some[0]}
        alone = {part: [s[part] for s in measured[kind, 1]] for part in took}
        efficiency = {
            part: statistics.median(h.quotients(alone[part], took[part])) / n for part in took
        }
        rounds[f"{kind} {n}"] = took
        rows.append({
            "work": kind, "processes": n, **h.spread(took["work"]),
            "efficiency": efficiency["work"],
            "start-up, s": statistics.median(took["start_up"]) if "start_up" in took else "-",
            "with start-up": efficiency.get("command", "-"),
        })  # fmt: skip
    report = h.Report()
    report.table("workers", "processes with one core each, median over rounds", rows)
    report.json["seconds_of_rounds"] = rounds
    return report


main = functools.partial(cli.command, "workers", __doc__, run, SIZES, flags=FLAGS)

if __name__ == "__main__":
    raise SystemExit(main())
