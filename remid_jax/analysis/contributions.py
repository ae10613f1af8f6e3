"""What each sample adds to a policy's R-EMI."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import ANCHORS, Subset
from remid_jax.files import write_atomically
from remid_jax.information.attribution import contribution_table
from remid_jax.information.significance import contributions

CONTRIBUTIONS = "contributions.jsonl"


def contribution_rows(subsets: Sequence[Subset], config: ConfigDict) -> list[dict[str, Any]]:
    """What each sample adds to R-EMI, h_i(model) − h_i(golden), the largest loss first (club only).

    See `contributions`: the mean of `nats` over a policy's samples of a subset is its R-EMI.

    Args:
      subsets: of the diagnosis.
      config: its configuration.

    Returns:
      {policy, subset, sample_ID, nats, of_mean, tokens}, `nats` per response (or per token, as
      `config.estimator.normalisation` says), ascending within each policy and subset; none for
      another estimator, or where no negative pair of a subset is left.
    """
    if config.estimator.name != "club":
        return []
    found = []
    for policy, subset in itertools.product(subsets[0].policies, subsets):
        if policy in ANCHORS:
            continue
        used, weights = subset.used(policy), subset.negatives[0]
        pairs = np.ix_(used, used)
        if not (weights.model[pairs].any() and weights.golden[pairs].any()):
            continue
        by_token = config.estimator.normalisation == "token"
        model, golden = (
            contributions(block.scores, block.lengths if by_token else None, used, w)
            for block, w in (
                (subset.policies[policy], weights.model), (subset.golden, weights.golden)
            )
        )  # fmt: skip
        ids = [i for i, u in zip(subset.sample_ids, used, strict=True) if u]
        lengths = subset.policies[policy].lengths[used]
        table = contribution_table(ids, np.asarray(model - golden)[used], lengths)
        found += [{"policy": policy, "subset": subset.tag, **row} for row in table]
    return found


def write_contributions(workdir: Path, subsets: Sequence[Subset], config: ConfigDict) -> str | None:
    """Writes `contribution_rows` to contributions.jsonl, and removes that of an earlier run.

    Returns:
      The file's name, or None where there are no rows.
    """
    path = workdir / CONTRIBUTIONS
    rows = contribution_rows(subsets, config)
    if not rows:
        path.unlink(missing_ok=True)
        return None
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_atomically(path, ["".join(lines).encode()])
    return CONTRIBUTIONS
