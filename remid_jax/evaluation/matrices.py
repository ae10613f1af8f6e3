"""The pair matrices that a run leaves behind."""

import hashlib
import re
from pathlib import Path

import numpy as np

from remid_jax.analysis.measures import ANCHORS, Subset
from remid_jax.data.shifts import ALL_TAGS
from remid_jax.evaluation.scoring import GOLDEN
from remid_jax.evaluation.store import npz_bytes
from remid_jax.files import write_atomically


def write_matrices(workdir: Path, subset: Subset) -> Path:
    """Writes a subset's pair matrices and what is needed to estimate from them again."""
    arrays: dict[str, np.ndarray] = {"sample_ids": np.array(subset.sample_ids)}
    own = {p: b for p, b in subset.policies.items() if p not in ANCHORS}
    for policy, block in {GOLDEN: subset.golden, **own}.items():
        arrays[f"{policy}/scores"] = block.scores
        arrays[f"{policy}/scores_without_reasoning"] = block.plain
        arrays[f"{policy}/num_tokens"] = block.lengths
        arrays[f"{policy}/where"] = block.where
    path = workdir / "pairs" / f"{_file_name(subset.tag)}.npz"
    write_atomically(path, [npz_bytes(arrays)])
    return path


def _file_name(tag: str) -> str:
    """A tag as the name of a file, whatever it holds; tags that would be alike stay apart."""
    plain = tag.lower().replace(" & ", "_and_").replace(" ", "_")
    name = re.sub(r"[^\w-]", "_", plain)[:80]
    if name == plain and tag in (*ALL_TAGS, plain):
        return name
    return f"{name}-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
