"""How well reasoner and policy predict held-out golden responses, and what their thoughts leak."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.data.thoughts import comparable_words, without_markers
from remid_jax.information.uncertainty import t_interval


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Golden responses of one subset under the policy.

    Attributes:
      ids: [n] sample ids.
      sums: [n] log q(y|x, r) in nats, mean over thoughts, as if one of them were trusted; the end
        of turn is not counted.
      tokens: [n] tokens of each.
      other: [n] as `sums`, with the thoughts of another sample.
      overlap: [n] share of the golden response's word pairs found in its thoughts; NaN where it has
        one word.
      mixture: [n] as `sums`, of the mixture over thoughts that `config.scoring` says.
      agreement: [n] how alike a context's thoughts are, see `word_agreement`; NaN for one.
      entropy: [n] of a context's thoughts in nats, see `draw_entropy`.
    """

    ids: Sequence[str]
    sums: np.ndarray
    tokens: np.ndarray
    other: np.ndarray
    overlap: np.ndarray
    mixture: np.ndarray
    agreement: np.ndarray
    entropy: np.ndarray

    def summary(self) -> dict[str, Any]:
        """Means with standard errors over samples; perplexity is per token."""
        mean, error = ratio_of_sums(-self.sums, self.tokens)
        mixed, mixed_error = ratio_of_sums(-self.mixture, self.tokens)
        other, _ = ratio_of_sums(-self.other, self.tokens)
        log_q, log_q_error = _mean_and_error(self.sums)
        perplexity, mixture = math.exp(mean), math.exp(mixed)
        return {
            "n": len(self.sums),
            "tokens_per_response": float(self.tokens.mean()),
            "perplexity": perplexity,
            "perplexity_se": perplexity * error,
            "perplexity_mixture": mixture,
            "perplexity_mixture_se": mixture * mixed_error,
            "log_q": log_q,
            "log_q_se": log_q_error,
            "perplexity_other_thought": math.exp(other),
            "overlap": _mean_of_known(self.overlap),
            "agreement": _mean_of_known(self.agreement),
            "entropy": _mean_of_known(self.entropy),
        }


def _mean_of_known(values: np.ndarray) -> float | None:
    known = np.isfinite(values)
    return float(values[known].mean()) if known.any() else None


def ratio_of_sums(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Σ a / Σ b and its standard error over independent pairs (delta method); 0 for one pair."""
    ratio, n = float(a.sum() / b.sum()), len(a)
    if n < 2:
        return ratio, 0.0
    return ratio, float(np.sqrt(np.sum((a - ratio * b) ** 2) * n / (n - 1)) / b.sum())


def change(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, Any]:
    """What log q of responses gained: mean, standard error and 95 % t-interval, in nats.

    Both map sample id -> log q(y|x, r); samples that only one of them has are left out.

    >>> found = change({"a": -9.0, "b": -8.0, "c": -7.0}, {"a": -7.0, "b": -7.0, "c": -7.0})
    >>> found["n"], found["gain"], [round(x, 2) for x in found["interval"]]
    (3, 1.0, [-1.48, 3.48])
    >>> change({"a": -9.0, "b": -8.0}, {"a": float("nan"), "b": -7.0})["interval"] is None
    True
    """
    gains = np.array([after[k] - before[k] for k in before if k in after])
    n = len(gains)
    gain, error = _mean_and_error(gains) if n else (None, None)
    known = error is not None and math.isfinite(error)
    interval = t_interval(gain, error, n - 1) if known else None
    return {"n": n, "gain": gain, "gain_se": error, "interval": interval}


def _mean_and_error(values: np.ndarray) -> tuple[float, float | None]:
    """The mean and its standard error, None of a single value."""
    n = len(values)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None


def ngram_overlap(thought: str, golden: str, n: int) -> float:
    """The share of the golden response's n-grams of words that occur in the thought.

    A thought that repeats the response makes it likely without any reasoning. Characters take the
    place of words where a script writes no spaces; case, Unicode form, punctuation and the markers
    of sections do not count. NaN where the response has fewer than n words.

    Raises:
      ValueError: n < 1.

    >>> ngram_overlap("offer the green tea", "Drink the green tea!", 2).__round__(3)
    0.667
    """
    if n < 1:
        raise ValueError(f"n-grams need n >= 1, got {n}")
    wanted = _ngrams(golden, n)
    known = set(_ngrams(without_markers(thought), n))
    return sum(gram in known for gram in wanted) / len(wanted) if wanted else math.nan


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = comparable_words(text)
    return list(zip(*(words[start:] for start in range(n)), strict=False))
