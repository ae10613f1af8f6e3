"""Estimators of mutual information from a pair matrix S[i, j] = log q(y_j | x_i), in nats.

Rows are contexts and columns are responses; entry (i, i) is the response that belongs to context i.
Masks select contexts, together with their responses. Input is checked on the host: see `checks`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, is_concrete, real, refuse

Array = jax.Array
WEIGHT = checks.Rule(lambda w: (w >= 1e-20) & (w <= 1e20), "must lie between 1e-20 and 1e20")
"""Of negative pairs: their sums stay within float32."""


@checks.arguments(n=checks.whole(most=checks.MOST_CONTEXTS))
def all_negatives(n: int) -> np.ndarray:
    """Weights [n, n] that count every pair i ≠ j once.

    Raises:
      ValueError: n is no whole number of at least 1.

    >>> all_negatives(3).sum(0).tolist()
    [2.0, 2.0, 2.0]
    """
    return np.ones((n, n)) - np.eye(n)


@checks.arguments(n=checks.whole(most=checks.MOST_CONTEXTS), count=checks.whole(0))
def cyclic_negatives(n: int, count: int) -> np.ndarray:
    """Weights [n, n] of the pairs (i, i + s mod n), s = 1..count.

    Each row and each column is used equally often, which removes most of the noise that comes from
    choosing negatives at random.

    Raises:
      ValueError: n is no whole number, or `count` none in 1..n-1.

    >>> cyclic_negatives(4, 1).argmax(1).tolist()
    [1, 2, 3, 0]
    """
    if not 1 <= count < n:
        raise ValueError(f"cyclic negatives need 1 <= count < {n} contexts, got {count}")
    shift = (np.arange(n) - np.arange(n)[:, None]) % n
    return ((shift >= 1) & (shift <= count)).astype(float)


@checks.arguments(
    n=checks.whole(2, checks.MOST_CONTEXTS),
    count=checks.whole(most=checks.MOST_LISTED),
    seed=checks.SEED,
)
def random_negatives(n: int, count: int, seed: int) -> np.ndarray:
    """Weights [n, n]: how often each pair i ≠ j was among `count` uniform draws with replacement.

    Raises:
      ValueError: fewer than 2 contexts, no draw, or a seed that is none.

    >>> int(random_negatives(5, 100, seed=0).sum())
    100
    """
    draws = np.random.default_rng(seed).integers(0, n * (n - 1), count)
    row, other = draws // (n - 1), draws % (n - 1)
    weights = np.zeros((n, n))
    np.add.at(weights, (row, other + (other >= row)), 1)
    return weights


def read_pairs(
    scores: Any, lengths: Any, where: Any, negatives: Any = None
) -> tuple[Array, Array, Array]:
    """Checks the arguments of `club`, and what they make.

    Returns:
      scores: [N, N], per token where lengths are given, 0 where they are not read.
      mask: [N] bool, contexts that are kept.
      weights: [N, N] of the pairs, 0 outside of the mask.

    Raises:
      ValueError: see `club`.
    """
    n = checks.contexts_of(scores)
    mask = checks.mask_of(where, (n,), least=2)
    used = _used(negatives, n) & mask[:, None] & mask[None, :]
    if is_concrete(scores, where, negatives):
        checks.entries(scores, "scores", used=used, on_device=True)
        if not (used & ~np.eye(n, dtype=bool)).any():
            raise ValueError(f"negatives of shape {used.shape}: no pair i ≠ j of kept contexts")
    checks.lengths(lengths, used.any(axis=0))
    scores, mask = floating(scores), jnp.asarray(mask)
    kept = mask[:, None] & mask[None, :]
    weights = ~jnp.eye(n, dtype=bool) if negatives is None else negatives
    weights = jnp.where(kept, jnp.asarray(weights, scores.dtype), 0)
    scores = jnp.where((weights > 0) | (kept & jnp.eye(n, dtype=bool)), scores, 0)
    if lengths is not None:
        scores = scores / jnp.where(mask, floating(lengths, scores.dtype), 1)
    return scores, mask, weights


def _used(negatives: Any, n: int) -> Any:
    """[n, n] bool, the entries that `club` reads: own pairs, and pairs of positive weight."""
    if negatives is None:
        return np.ones((n, n), bool)
    weights = real(negatives, "negatives")
    if weights.shape != (n, n):
        raise ValueError(f"negatives must have shape ({n}, {n}), got {weights.shape}")
    if not is_concrete(weights):
        return np.ones((n, n), bool)
    weights, own = np.asarray(weights), np.eye(n, dtype=bool)
    checks.entries(weights, "negatives")
    wrong = (weights < 0) | ((weights != 0) & own)
    refuse(weights, wrong, "negatives", "must be >= 0, and 0 on the diagonal", plural=True)
    checks.entries(weights, "negatives", WEIGHT, used=weights > 0)
    return (weights > 0) | own


def club(
    scores: Array,
    *,
    lengths: Array | None = None,
    negatives: Array | None = None,
    where: Array | None = None,
) -> Array:
    """vCLUB: mean_i S_ii − mean over negative pairs of S_ij (Cheng et al., arXiv 2006.12013).

    With the exact q this is mutual plus lautum information, an upper bound of I; with a fitted q it
    can fall on either side.

    Args:
      scores: [N, N], log q(y_j | x_i) in nats.
      lengths: [N] tokens of y_j; given, S_ij / n_j takes the place of S_ij (nats per token).
      negatives: [N, N] weights of the pairs, 0 on the diagonal; by default all i ≠ j. Scores of
        weight 0 are not read and may be NaN.
      where: [N] bool, contexts to keep (with their responses).

    Returns:
      A scalar.

    Raises:
      ValueError: the block is not square, an entry that is read is not finite (in float32),
        `where` is no mask or leaves fewer than 2 contexts, weights are negative or none is left,
        or a length is not positive.

    >>> float(club(jnp.array([[-1.0, -3.0], [-5.0, -2.0]])))
    2.5
    """
    scores, mask, weights = read_pairs(scores, lengths, where, negatives)
    own = jnp.mean(jnp.diagonal(scores), where=mask)
    value = own - jnp.sum(weights * scores) / jnp.sum(weights)
    return checks.result(value, "club of scores (and lengths)")


def infonce(scores: Array, *, lengths: Array | None = None, where: Array | None = None) -> Array:
    """mean_i [S_ii − log mean_j exp S_ji], j over contexts including i: a lower bound for any q.

    Never above log N (van den Oord et al., arXiv 1807.03748). Arguments and errors as in `club`.

    >>> float(infonce(jnp.array([[0.0, -100.0], [-100.0, 0.0]]))).__round__(4)
    0.6931
    """
    return checks.result(_contrast(scores, lengths, where, 1), "infonce of scores (and lengths)")


def leave_one_out(
    scores: Array, *, lengths: Array | None = None, where: Array | None = None
) -> Array:
    """mean_i [S_ii − log mean_{j≠i} exp S_ji], j over the other contexts (Poole et al., 2019).

    Its mean is an upper bound of I if q is exact (arXiv 1905.06922). Arguments and errors as in
    `club`.

    >>> float(leave_one_out(jnp.array([[-1.0, -3.0], [-5.0, -2.0]])))
    2.5
    """
    value = _contrast(scores, lengths, where, 0)
    return checks.result(value, "leave_one_out of scores (and lengths)")


def _contrast(scores: Any, lengths: Any, where: Any, own: int) -> Array:
    """mean_i [S_ii − log mean_j exp S_ji], j over kept contexts with (1) or without (0) i."""
    scores, mask, _ = read_pairs(scores, lengths, where)
    among = mask[:, None] & ~(jnp.eye(scores.shape[0], dtype=bool) & (own == 0))
    count = jnp.sum(mask, dtype=scores.dtype) - (1 - own)
    column = jax.nn.logsumexp(scores, axis=0, where=among) - jnp.log(count)
    return jnp.mean(jnp.diagonal(scores) - column, where=mask)


ESTIMATORS = {"club": club, "infonce": infonce, "leave_one_out": leave_one_out}


def estimator(name: str) -> Callable[..., Array]:
    """The estimator of a name in `ESTIMATORS`.

    Raises:
      ValueError: there is none, with the nearest name.

    >>> estimator("club") is club
    True
    """
    return checks.look_up("estimator", name, ESTIMATORS)


def effective(model: Array, golden: Array) -> Array:
    """Effective mutual information: the value of the model's responses minus the golden ones'.

    EMI when q reads X, R-EMI when it reads (X, R).

    Raises:
      ValueError: a value is not finite, or shapes do not fit together.
    """
    model, golden = checks.operands(model=model, golden=golden)
    with np.errstate(over="ignore"):
        return checks.result(model - golden, "model − golden")


def emid(in_distribution: Array, out_of_distribution: Array) -> Array:
    """Effective mutual information difference: (R-)EMI(P) − (R-)EMI(Q); larger is worse.

    Raises:
      ValueError: a value is not finite, or shapes do not fit together.
    """
    P, Q = checks.operands(in_distribution=in_distribution, out_of_distribution=out_of_distribution)
    with np.errstate(over="ignore"):
        return checks.result(P - Q, "in_distribution − out_of_distribution")


def retained(model: Array, golden: Array) -> Array:
    """The share of the golden responses' information that the model's keep; has no unit.

    Raises:
      ValueError: a value is not finite, shapes do not fit together, or golden is 0.
    """
    model, golden = checks.operands(model=model, golden=golden)
    checks.entries(
        golden, "golden", checks.Rule(lambda x: x != 0, "must not be 0: nothing to retain")
    )
    with np.errstate(over="ignore"):
        return checks.result(model / golden, "model / golden")


def likelihood_baseline(
    model_diagonal: Array,
    model_lengths: Array,
    golden_diagonal: Array,
    golden_lengths: Array,
    *,
    where: Array | None = None,
) -> Array:
    """Mean over contexts of log q(y_θ|x)/n_θ − log q(y|x)/n, in nats per token.

    It holds no mutual information at all, and stands beside every R-EMI: a claim that it already
    supports needs no information theory.

    Args:
      model_diagonal: [N] log q of each context's own response by the model; golden likewise.
      model_lengths: [N] their tokens; golden likewise.
      where: [N] bool, contexts to keep.

    Raises:
      ValueError: shapes differ, a kept value is not finite (or no length), or none is kept.
    """
    names = ("model_diagonal", "model_lengths", "golden_diagonal", "golden_lengths")
    arrays = (model_diagonal, model_lengths, golden_diagonal, golden_lengths)
    shapes = [real(a, name).shape for a, name in zip(arrays, names, strict=True)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"diagonals and lengths must all have shape [N], got {shapes}")
    mask, per_token = checks.mask_of(where, shapes[0], least=1), []
    for k in (0, 2):
        checks.entries(arrays[k], names[k], used=mask, on_device=True)
        checks.lengths(arrays[k + 1], mask, names[k + 1])
        diagonal = floating(arrays[k])
        per_token.append(diagonal / floating(arrays[k + 1], diagonal.dtype))
    value = jnp.mean(per_token[0] - per_token[1], where=mask)
    return checks.result(value, "likelihood_baseline of diagonals and lengths")
