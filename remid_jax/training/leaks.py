"""How much of the golden response's wording a thought gives away.

A thought that repeats the response it is meant to prepare makes the policy's likelihood high
without any reasoning: overlap of word sequences shows it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from remid_jax.data.thoughts import comparable_words, without_markers


@dataclasses.dataclass(frozen=True)
class Leak:
    """Overlap of one n-gram length over many thoughts.

    Attributes:
      mean: share of the golden n-grams found in the thought, mean over pairs; NaN without a pair.
      standard_error: of the mean over independent pairs, s.d./√pairs; NaN below 2 pairs.
      pairs: thoughts whose golden response has at least n words.
    """

    mean: float
    standard_error: float
    pairs: int


def ngram_overlap(thought: str, golden: str, n: int) -> float:
    """The share of the golden response's n-grams that occur in the thought.

    Units are words, and characters where a script writes no spaces; case, Unicode form and
    punctuation do not count, and neither do the markers of the thought's sections. An n-gram that
    the response repeats counts as often as it stands there.

    Args:
      thought: the whole thought, or the part that the policy reads.
      golden: the golden response.
      n: words of a sequence, at least 1.

    Returns:
      A share in [0, 1]; NaN where the response has fewer than n words.

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


def leak_table(
    thoughts: Sequence[str], goldens: Sequence[str], n: Sequence[int] = (1, 2, 3, 4)
) -> dict[int, Leak]:
    """Mean overlap of thoughts with their golden responses, for several n-gram lengths.

    Args:
      thoughts: texts.
      goldens: the golden response of each thought.
      n: lengths of the n-grams.

    Returns:
      n -> its `Leak`, in the order of n.

    Raises:
      ValueError: not one golden response a thought, or some n < 1.

    >>> leak_table(["tea"], ["Green tea"], n=(1,))[1].mean
    0.5
    """
    if len(thoughts) != len(goldens):
        raise ValueError(f"{len(thoughts)} thoughts, but {len(goldens)} golden responses")
    return {size: _leak(thoughts, goldens, size) for size in n}


def _leak(thoughts: Sequence[str], goldens: Sequence[str], n: int) -> Leak:
    pairs = zip(thoughts, goldens, strict=True)
    shares = np.array([ngram_overlap(thought, golden, n) for thought, golden in pairs])
    shares = shares[~np.isnan(shares)]
    count = len(shares)
    error = float(shares.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    return Leak(float(shares.mean()) if count else math.nan, error, count)
