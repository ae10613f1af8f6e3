"""What studies of several runs share: each run a process of its own, and how results begin."""

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from remid_jax.errors import UserError
from remid_jax.progress import progress


def header(seeds: Iterable[int], origin: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What results of a study begin with; `origin` is their provenance."""
    return {
        "seeds": list(seeds), "command": " ".join(origin["command"]),
        "commit": origin["git_revision"], "machine": f"{origin['platform']}, {origin['device']}",
        "seconds": seconds,
    }  # fmt: skip


def check_starts(methods: Sequence[str], starts: Mapping[str, str | None]) -> None:
    """Raises a UserError where a method begins from another that is not in the study."""
    needed = {starts.get(m) for m in methods} - {None}
    if missing := needed - set(methods):
        raise UserError(f"config.methods needs {', '.join(sorted(missing))} to begin from")


class Child(NamedTuple):
    """One run.

    Attributes:
      name: for messages.
      done: the file that it writes last.
      words: of the command line of `experiments.main`.
    """

    name: str
    done: Path
    words: tuple[str, ...]


def run_children(waves: Sequence[Sequence[Child]], workers: int) -> None:
    """Runs the waves one after the other, `workers` children of a wave at once.

    Raises:
      UserError: a run fails; what has not begun is not begun any more.
    """
    children: set[subprocess.Popen] = set()
    left = [[child for child in wave if not child.done.exists()] for wave in waves]
    total = sum(map(len, left))  # finished ones would tell nothing of the time left
    with progress("runs", total) as advance, ThreadPoolExecutor(workers) as pool:
        try:
            for wave in left:
                for one in [pool.submit(_run, child, children) for child in wave]:
                    one.result()
                    advance(1)
        except BaseException as e:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in children if isinstance(e, KeyboardInterrupt) else ():
                process.terminate()
            raise


def _run(child: Child, children: set[subprocess.Popen]) -> None:
    command = [sys.executable, "-m", f"{__package__.rpartition('.')[0]}.main", *child.words]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **streams, text=True, errors="replace") as process:
        children.add(process)
        said = process.stderr.read()
    if process.returncode:
        last = (said.strip() or "no message").splitlines()[-1]
        raise UserError(f"run {child.name} failed: {last}")
