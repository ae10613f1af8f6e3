"""What judges of answers say, as arrays: flips, agreement, retests, and intervals of shares."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from remid_jax.information import checks
from remid_jax.information.pairs import ECHO, GOLDEN, SHUFFLED, UNSHIFTED

PAIRWISE, POINTWISE = "pairwise", "pointwise"
MODES = (PAIRWISE, POINTWISE)
REFERENCES = (SHUFFLED, UNSHIFTED, ECHO)  # what golden is better than
CALIBRATED = 0.75  # least accuracy of a judge whose judgments count
Pair = tuple[str, str]
Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Judgments:
    """Everything that one judge said.

    Attributes:
      name: of the judge.
      mode: `pairwise` or `pointwise`.
      source: where its judgments come from.
      verdicts: pairwise: tag -> (a, b) -> [N, 2, R] for the two orders and R calls, the first order
        with a first: 1 where a wins, -1 where b does, 0 for a tie, NaN where nothing was said.
      scores: pointwise: tag -> name -> [N, R], NaN where nothing was said.
      calls: judgments that were asked for.
      unscored: those whose reply holds none.
      stopped: whether it was asked about no RPM, since it failed its calibration.
    """

    name: str
    mode: str
    source: str
    verdicts: Mapping[str, Mapping[Pair, Array]]
    scores: Mapping[str, Mapping[str, Array]]
    calls: int
    unscored: int
    stopped: bool = False


def settle(verdicts: Array) -> tuple[Array, Array]:
    """Both orders as one outcome: what they agree in, and a tie where they do not.

    Args:
      verdicts: [N, 2, R], as `Judgments.verdicts` holds them.

    Returns:
      (outcomes, flips), both [N, R]: 1, 0 or -1; and 1 where the orders disagree, else 0. NaN where
      one of the orders has no verdict.

    >>> settle(np.array([[[1.0], [1.0]], [[1.0], [-1.0]]]))[0].ravel().tolist()
    [1.0, 0.0]
    """
    first, second = verdicts[:, 0], verdicts[:, 1]
    known = np.isfinite(first) & np.isfinite(second)
    flips = np.where(known, first != second, np.nan)
    return np.where(known, np.where(first == second, first, 0.0), np.nan), flips


def known_mean(values: Array) -> Array:
    """[N] means over the last axis of what is known; NaN where nothing is.

    >>> known_mean(np.array([[1.0, np.nan], [np.nan, np.nan]])).tolist()
    [1.0, nan]
    """
    known = np.isfinite(values)
    count = known.sum(axis=-1)
    total = np.sum(values, axis=-1, where=known)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def right(golden: Array, other: Array | None = None) -> Array:
    """[N] shares of calls in which a judge puts golden above a reference; ties are wrong.

    Args:
      golden: [N, R] outcomes of (golden, reference), or scores of golden.
      other: [N, R] scores of the reference.
    """
    gaps = golden if other is None else golden - other
    return known_mean(np.where(np.isfinite(gaps), gaps > 0, np.nan))


def golden_first(one: Judgments, reference: str) -> list[tuple[str, Array]]:
    """(tag, [N]) whether golden was put above a reference row; NaN where that was not judged."""
    if one.mode == PAIRWISE:
        pair = (GOLDEN, reference)
        return [(t, right(settle(x[pair])[0])) for t, x in one.verdicts.items() if pair in x]
    return [
        (tag, right(x[GOLDEN], x[reference]))
        for tag, x in one.scores.items()
        if GOLDEN in x and reference in x
    ]


def is_calibrated(one: Judgments) -> bool:
    """Whether golden is above reference rows in at least `CALIBRATED` of what was judged."""
    parts = [x for ref in REFERENCES for _, x in golden_first(one, ref)]
    values = np.concatenate(parts or [np.array([])])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.mean() >= CALIBRATED)


@checks.arguments(n=checks.POSITIVE, level=checks.LEVEL)
def wilson_interval(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's (1927) interval of a share of n independent units.

    Conservative for the mean of any values in [0, 1]: their variance is at most share (1 - share).

    Raises:
      ValueError: n is not positive or a level not in (0, 1).

    >>> [round(x, 3) for x in wilson_interval(0.9, 10)]
    [0.596, 0.982]
    """
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(max(share * (1 - share), 0) / n + z * z / (4 * n * n))
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def effective_groups(groups: Array) -> float:
    """(Σ m)² / Σ m² of groups of m units each (Kish, 1965): as many as count when m are alike.

    >>> effective_groups(np.array([0, 0, 1, 1])), round(effective_groups(np.array([0, 0, 0, 1])), 2)
    (2.0, 1.6)
    """
    _, sizes = np.unique(groups, return_counts=True)
    return float(sizes.sum() ** 2 / np.sum(sizes**2))


def krippendorff_alpha(values: Array) -> float:
    """Agreement of judges beyond chance, at interval level (Krippendorff, 2004, chapter 11).

    α = 1 − D_o / D_e: the mean squared difference between values of one unit, over that between all
    values. 1 is perfect agreement, 0 what chance gives.

    Args:
      values: [J, U] of judges and units; NaN where a judge says nothing.

    Returns:
      α; NaN where no unit has two values, or all values are equal.

    >>> krippendorff_alpha(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    1.0
    """
    known = np.isfinite(values)
    paired = known.sum(axis=0) >= 2
    values, known = values[:, paired], known[:, paired]
    m, n = known.sum(axis=0), int(known.sum())
    if not n:
        return float("nan")
    centred = np.where(known, values - np.mean(values, where=known), 0.0)
    squares, sums = np.sum(centred**2, axis=0), np.sum(centred, axis=0)
    observed = np.sum(2 * (m * squares - sums**2) / (m - 1)) / n
    expected = 2 * (n * squares.sum() - sums.sum() ** 2) / (n * (n - 1))
    return float(1 - observed / expected) if expected > 0 else float("nan")


def retest_variance(calls: Array) -> Array:
    """[...] variances of repeated calls [..., R] (R − 1 in the denominator); NaN below two calls.

    >>> retest_variance(np.array([[1.0, 0.0], [1.0, np.nan]])).tolist()
    [0.5, nan]
    """
    known = np.isfinite(calls)
    count = known.sum(axis=-1)
    gaps = np.where(known, calls - known_mean(calls)[..., None], 0.0)
    found = np.sum(gaps**2, axis=-1) / np.maximum(count - 1, 1)
    return np.where(count > 1, found, np.nan)


def correlation(a: Array, b: Array, ranks: bool = False) -> float:
    """Pearson's correlation of a [C] and b [C], or Spearman's; NaN where one is constant.

    >>> round(correlation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 16.0])), 3)
    0.99
    """
    from scipy.stats import rankdata

    both = [rankdata(x) if ranks else np.asarray(x, float) for x in (a, b)]
    a, b = (x - x.mean() for x in both)
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.clip(a @ b / norm, -1, 1)) if norm > 0 else float("nan")
