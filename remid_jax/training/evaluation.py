"""How well a pair of reasoner and policy predicts held-out golden responses."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Golden responses of one subset under the policy.

    Attributes:
      ids: sample ids.
      sums: [n] log q(y|x, r) in nats, mean over thoughts, the end of turn not counted.
      tokens: [n] tokens of each.
      other: [n] the same with a thought of another sample's rollout.
      overlap: [n] share of the golden response's word pairs that stand in its thoughts; NaN where
        it has one word.
    """

    ids: Sequence[str]
    sums: np.ndarray
    tokens: np.ndarray
    other: np.ndarray
    overlap: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Means with standard errors over samples; perplexity is per token."""
        mean, error = ratio_of_sums(-self.sums, self.tokens)
        other, _ = ratio_of_sums(-self.other, self.tokens)
        n, known = len(self.sums), np.isfinite(self.overlap)
        perplexity = math.exp(mean)
        return {
            "n": n,
            "tokens_per_response": float(self.tokens.mean()),
            "perplexity": perplexity,
            "perplexity_se": perplexity * error,
            "log_q": float(self.sums.mean()),
            "log_q_se": float(self.sums.std(ddof=1) / math.sqrt(n)) if n > 1 else None,
            "perplexity_other_thought": math.exp(other),
            "overlap": float(self.overlap[known].mean()) if known.any() else None,
        }


def ratio_of_sums(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Σ a / Σ b and its standard error over independent pairs (delta method); 0 for one pair."""
    ratio = float(a.sum() / b.sum())
    n = len(a)
    if n < 2:
        return ratio, 0.0
    return ratio, float(np.sqrt(np.sum((a - ratio * b) ** 2) * n / (n - 1)) / b.sum())
