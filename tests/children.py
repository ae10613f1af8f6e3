"""Programs in processes of their own, with as many simulated CPU devices as asked."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

TESTS = Path(__file__).parent


def start(program: str, *arguments: str, devices: int = 1) -> subprocess.Popen:
    """The process, whose modules are those of the tests; programs are compiled and kept as here.

    Args:
      program: Python; arguments: its `sys.argv[1:]`.
      devices: how many it has.
    """
    kept = jax.config.jax_compilation_cache_dir
    quick = jax.config.values["jax_disable_most_optimizations"]
    environment = {
        **os.environ, "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
        "JAX_COMPILATION_CACHE_DIR": str(kept),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(quick)),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    """What it printed to both streams, after it has ended with this code."""
    out, said = process.communicate(timeout=1800)
    assert process.returncode == code, said
    return out, said


def answer(program: str, *arguments: str, devices: int = 1) -> Any:
    """The last line that a program printed, read as JSON; `start` says what is given."""
    out, _ = finished(start(program, *arguments, devices=devices))
    return json.loads(out.splitlines()[-1])
