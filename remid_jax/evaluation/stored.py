"""The pair matrices of a finished run, read again from its folder."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.outputs import matrices_file
from remid_jax.information import pairs
from remid_jax.information.pairs import GOLDEN, EstimatorSettings
from remid_jax.json_files import read_json_lines

SCORES = "/scores"


def read_samples(folder: Path) -> dict[str, Sample]:
    """Sample id -> the context that a run evaluated, from its responses.jsonl.

    Raises:
      UserError: the file is missing or damaged.
    """
    file = folder / "responses.jsonl"
    rows = read_json_lines(file, "responses")
    samples = (Sample.from_record(row, f"responses file {file}: line {n}") for n, row in rows)
    return {s.sample_id: s for s in samples}


def read_subsets(
    folder: Path, provenance: Mapping[str, Any], samples: Mapping[str, Sample],
    shifts: Mapping[str, str | None],
) -> tuple[list[pairs.Subset], EstimatorSettings]:  # fmt: skip
    """The subsets that a run was estimated from, without reference rows, and how.

    Args:
      folder: of the run.
      provenance: of its results.
      samples: of `read_samples`.
      shifts: tag -> what is shifted, in distribution first.

    Raises:
      UserError: a file is missing or damaged.
    """
    config = ConfigDict(provenance["config"])
    settings = EstimatorSettings.from_config(config)
    subsets = []
    for tag, shift in shifts.items():
        file = matrices_file(folder, tag)
        try:
            with open(file, "rb") as content, np.load(content) as saved:
                arrays = {name: saved[name] for name in saved.files}
            chosen = [samples[i] for i in arrays["sample_ids"].tolist()]
            blocks = _blocks(arrays)
            golden = blocks.pop(GOLDEN)
        except FileNotFoundError:
            raise UserError(f"pair matrices file not found: {file}") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
            raise UserError(f"pair matrices file {file} is damaged: {e}") from None
        labels = pairs.cluster_labels(tag, chosen, config.estimator.clusters)
        negatives = pairs.negatives_for(len(chosen), settings, labels)
        subsets.append(_subset(tag, chosen, golden, blocks, negatives, labels, shift))
    return subsets, settings


def _blocks(arrays: Mapping[str, np.ndarray]) -> dict[str, pairs.Block]:
    names = [name.removesuffix(SCORES) for name in arrays if name.endswith(SCORES)]
    parts = ("scores", "scores_without_reasoning", "num_tokens", "where")
    return {name: pairs.Block(*(arrays[f"{name}/{part}"] for part in parts)) for name in names}


def _subset(
    tag: str, chosen: Sequence[Sample], golden: pairs.Block, rpms: Mapping[str, pairs.Block],
    negatives: tuple[pairs.Negatives, pairs.Negatives], labels: pairs.Labels | None,
    shift: str | None,
) -> pairs.Subset:  # fmt: skip
    return pairs.Subset(
        tag=tag,
        sample_ids=tuple(s.sample_id for s in chosen),
        pair_ids=tuple(s.pair_id for s in chosen),
        languages=tuple(s.extra.get("language") for s in chosen),
        golden=golden,
        rpms=rpms,
        negatives=negatives,
        labels=labels,
        shift=shift,
    )
