"""Runs a program in a process of its own that has eight simulated CPU devices."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def on_eight_devices(program: str, *arguments: str, **variables: str) -> Any:
    """What the program printed, as JSON.

    Args:
      program: Python; arguments: its `sys.argv[1:]`.
      variables: further variables of its environment.
    """
    environment = {
        **os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}", **variables,
    }  # fmt: skip
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
