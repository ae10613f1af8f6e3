"""A folder of finished pieces of work, each written once and whole, under the hash of its inputs.

A run that was killed finds every finished piece again; a run with other inputs never takes one for
its own, because the inputs (weights, tokenizer, dtype, token ids, settings) are the name.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.evaluation.sharing import Claims
from remid_jax.files import write_atomically


def key_of(*parts: Any) -> str:
    """Hex digest of JSON-encodable parts.

    >>> key_of("a", [1, 2]) == key_of("a", (1, 2)) != key_of("a", [12])
    True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """Pieces of work by kind and key.

    Attributes:
      reused: how many pieces were found rather than made.
      made: how many were written.
      claims: on pieces that are being made, among all processes that use the folder.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.claims = Claims(folder / "claims")
        self.reused = 0
        self.made = 0

    def _path(self, kind: str, key: str, suffix: str) -> Path:
        return self._folder / kind / f"{key}{suffix}"

    def get_json(self, kind: str, key: str) -> Any | None:
        """The stored value, or None where there is none (or a damaged one, which is made anew)."""
        try:
            value = json.loads(self._path(kind, key, ".json").read_bytes())
        except (OSError, ValueError):
            return None
        self.reused += 1
        return value

    def put_json(self, kind: str, key: str, value: Any) -> None:
        """Stores a JSON value."""
        content = json.dumps(value, ensure_ascii=False, indent=1).encode()
        write_atomically(self._path(kind, key, ".json"), [content])
        self.made += 1

    def get_arrays(self, kind: str, key: str) -> dict[str, np.ndarray] | None:
        """The stored arrays by name, or None as in `get_json`."""
        try:
            content = io.BytesIO(self._path(kind, key, ".npz").read_bytes())
            with np.load(content, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception:  # a damaged archive fails in many ways; all mean: make it anew
            return None
        self.reused += 1
        return arrays

    def put_arrays(self, kind: str, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Stores arrays by name."""
        write_atomically(self._path(kind, key, ".npz"), [npz_bytes(arrays)])
        self.made += 1


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """The content of an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
