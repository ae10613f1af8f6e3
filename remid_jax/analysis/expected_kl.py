"""How far the evaluated models' laws are from q's, from answers drawn at temperature 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis.measures import Subset, count_groups, groups_of
from remid_jax.analysis.rows import number
from remid_jax.data.samples import Sample
from remid_jax.evaluation.answers import Answer
from remid_jax.evaluation.config import MIN_CONTEXTS
from remid_jax.information.repeated import expected_kl
from remid_jax.information.uncertainty import jackknife
from remid_jax.models.tokenizer import Tokenizer


def own_log_probs(
    samples: Sequence[Sample],
    answers: Mapping[str, Mapping[str, Answer]],
    tokenizer: Tokenizer,
    config: ConfigDict,
) -> dict[str, np.ndarray]:
    """log p_θ of each policy's answers under its own law, where q scores just the same tokens.

    Args:
      samples: N contexts of one subset.
      answers: policy -> sample id -> answer.
      tokenizer: the policy q's.
      config: of the diagnosis; with `span='reference'` other tokens are scored.

    Returns:
      policy -> [N] float64 nats; NaN for answers from a file, of another tokenizer, or drawn from
      another law than the model's own (greedy, tempered, truncated or penalised).
    """

    def value(a: Answer) -> float:
        same = a.tokenizer == tokenizer.fingerprint and config.estimator.span == "response"
        return a.log_prob if same and a.log_prob is not None else np.nan

    return {
        policy: np.array([value(by_id[s.sample_id]) for s in samples])
        for policy, by_id in answers.items()
    }


def add_expected_kl(
    rows: Sequence[dict[str, Any]],
    subsets: Sequence[Subset],
    log_p: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Adds `expected_kl` ± `expected_kl_se`: mean over contexts of log p_θ(y|x) − log q(y|x, r).

    y is the model's own answer, and both sums run over its tokens without the end of turn. The
    mean does not saturate as cross-information does. None unless temperature, top_p and repetition
    penalty are all 1 and the model was run here: otherwise the sampled law is another one, whose
    likelihood is not known.

    Args:
      rows: of `estimate_rows`.
      subsets: all of them.
      log_p: tag -> of `own_log_probs`.
    """
    by_tag = {s.tag: s for s in subsets}
    for row in rows:
        subset, own = by_tag[row["subset"]], log_p[row["subset"]].get(row["policy"])
        row["expected_kl"] = row["expected_kl_se"] = None
        if own is not None:
            row["expected_kl"], row["expected_kl_se"] = _value(subset, row["policy"], own)


def _value(subset: Subset, policy: str, log_p: np.ndarray) -> tuple[float | None, float | None]:
    used = subset.used(policy)
    groups = groups_of(used, subset)
    if count_groups(groups) < MIN_CONTEXTS or not np.isfinite(log_p[used]).all():
        return None, None
    gaps = log_p - np.diagonal(subset.policies[policy].scores)  # in float64: large, little apart
    _, each = expected_kl(gaps[:, None], np.zeros((len(gaps), 1)), used[:, None])
    value, error, _ = jackknife(lambda mask: jnp.mean(each, where=mask), groups)
    return number(value), number(error)
