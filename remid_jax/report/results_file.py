"""results.json, the newest results of a folder."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.messages import log

SPREAD = ("shard", "processes", "dry_run")  # keys that change no number


def write_results(workdir: Path, results: Mapping[str, Any]) -> Path:
    """Writes results.json without NaN and infinity; one of another configuration is kept."""
    path = workdir / "results.json"
    text = json.dumps(results, ensure_ascii=False, indent=1, allow_nan=False, default=_plain)
    try:
        older = path.read_bytes() if path.exists() else b""
    except OSError as e:
        raise UserError(f"{path} cannot be read, and so not kept: {e.strerror}") from None
    if older and (name := _digest(older)) != _digest(text.encode()):
        kept = workdir / f"results-{name}.json"
        write_atomically(kept, [older])
        log.info("note: results of another configuration are kept as %s", kept)
    write_atomically(path, [text.encode()])
    return path


def _digest(content: bytes) -> str:
    """Of the configuration behind the results, or of the whole file where it names none."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        config = json.loads(content)["provenance"]["config"]
        own = {k: v for k, v in config.items() if k not in SPREAD}
        content = json.dumps(own, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:8]


def _plain(value: Any) -> Any:
    """Scalars of array libraries as numbers, other sequences as lists."""
    return value.item() if getattr(value, "shape", None) == () else list(value)
