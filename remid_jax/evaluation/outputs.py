"""Files that a run leaves beside results.json."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.data.responses import DETAILS, RESPONSE
from remid_jax.data.shifts import ALL_TAGS
from remid_jax.evaluation.cache import npz_bytes
from remid_jax.evaluation.plan import Plan, Task
from remid_jax.files import write_atomically
from remid_jax.information.pairs import GOLDEN, REFERENCE_ROWS, Subset
from remid_jax.json_files import write_json_lines


def write_matrices(folder: Path, subset: Subset) -> None:
    """pairs/TAG.npz: a subset's pair matrices and what is needed to estimate from them again."""
    arrays: dict[str, np.ndarray] = {"sample_ids": np.array(subset.sample_ids)}
    own = {name: block for name, block in subset.rpms.items() if name not in REFERENCE_ROWS}
    for name, block in {GOLDEN: subset.golden, **own}.items():
        arrays[f"{name}/scores"] = block.scores
        arrays[f"{name}/scores_without_reasoning"] = block.plain
        arrays[f"{name}/num_tokens"] = block.lengths
        arrays[f"{name}/where"] = block.where
    write_atomically(matrices_file(folder, subset.tag), [npz_bytes(arrays)])


def matrices_file(folder: Path, tag: str) -> Path:
    """Where a run's folder holds the pair matrices of a subset."""
    return folder / "pairs" / f"{_file_name(tag)}.npz"


def _file_name(tag: str) -> str:
    """A tag as the name of a file, whatever it holds; tags that would be alike stay apart."""
    plain = tag.lower().replace(" & ", "_and_").replace(" ", "_")
    name = re.sub(r"[^\w-]", "_", plain)[:80]
    if name == plain and tag in (*ALL_TAGS, plain):
        return name
    return f"{name}-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"


def write_texts(folder: Path, task: Task, plan: Plan) -> None:
    """responses.jsonl, which `config.responses` reads again, with the thought of each sample.

    Where several are drawn, of answers too, it is a list of them.
    """
    records, several = [], task.config.reasoning.draws > 1
    for tag, samples in task.selection.subsets.items():
        texts = plan.subsets[tag].texts
        for sample in samples:
            i = sample.sample_id
            answers = {name: by_id[i] for name, by_id in texts.answers.items()}
            thoughts = texts.thoughts[i]
            records.append({
                **sample.to_record(),
                RESPONSE: {name: a.content for name, a in answers.items() if a.text},
                DETAILS: {name: d for name, a in answers.items() if (d := a.details())},
                "thought": list(thoughts) if several else thoughts[0],
            })  # fmt: skip
    write_json_lines(folder / "responses.jsonl", records)


def write_contributions(folder: Path, records: Sequence[Mapping[str, Any]]) -> str | None:
    """contributions.jsonl; its name, or None where there are no records, and an older one goes."""
    path = folder / "contributions.jsonl"
    if not records:
        path.unlink(missing_ok=True)
        return None
    write_json_lines(path, records)
    return path.name


def write_examples(folder: Path, records: Sequence[Mapping[str, Any]], version: int) -> str | None:
    """examples.json under a version of its keys; its name, or None as of `write_contributions`."""
    path = folder / "examples.json"
    if not records:
        path.unlink(missing_ok=True)
        return None
    content = {"schema": version, "examples": list(records)}
    write_atomically(path, [json.dumps(content, ensure_ascii=False, allow_nan=False).encode()])
    return path.name
