"""Where the numbers of a run come from."""

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from remid_jax.errors import visible

CONSOLE = "remid-jax"  # the installed command
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "tokenizers", "ml-collections", "gguf")


def provenance(config: ConfigDict) -> dict[str, Any]:
    """Configuration, command, revision, versions and devices of a run."""
    return {
        "config": config.to_dict(),
        "command": _command(),
        "git_revision": git_revision(),
        "versions": {p: _version(p) for p in ("remid_jax", *PACKAGES)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "matmul_precision": "highest",
    }


def _command() -> list[str]:
    """What started this process; an escape stands for what JSON and terminals cannot hold."""
    words = [visible(word) for word in sys.orig_argv[1:]]
    if words and Path(words[0]).stem == CONSOLE:
        return [CONSOLE, *words[1:]]
    return ["python", *words]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """Commit of the source, marked where it was changed; None outside a checkout."""
    here = Path(__file__)
    run = {"cwd": here.parent, "capture_output": True, "text": True, "check": True}
    try:  # an environment may lie in the checkout of something else
        subprocess.run(["git", "ls-files", "--error-unmatch", here.name], **run)
        revision = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("-dirty" if changed else "")
