"""Log-probabilities of the RPMs' answers under their own distributions."""

from collections.abc import Mapping, Sequence

import numpy as np

from remid_jax.data.samples import Sample
from remid_jax.evaluation.answers import Answer
from remid_jax.models.tokenizer import Tokenizer


def own_log_probs(
    samples: Sequence[Sample],
    answers: Mapping[str, Mapping[str, Answer]],
    tokenizer: Tokenizer,
    span: str,
) -> dict[str, np.ndarray]:
    """log p_θ of each RPM's answers, where the scorer reads just the same tokens.

    Args:
      samples: N contexts of one subset.
      answers: RPM -> sample id -> answer.
      tokenizer: the scorer's.
      span: `config.estimator.span`; with `reference` other tokens are scored.

    Returns:
      RPM -> [N] float64 nats; NaN for answers from a file, of another tokenizer, or drawn from
      another distribution than the model's own (greedy, tempered, truncated or penalised).
    """

    def value(a: Answer) -> float:
        same = a.tokenizer == tokenizer.fingerprint and span == "response"
        return a.log_prob if same and a.log_prob is not None else np.nan

    return {
        rpm: np.array([value(by_id[s.sample_id]) for s in samples])
        for rpm, by_id in answers.items()
    }
