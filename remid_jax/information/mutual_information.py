"""Estimators of mutual information from a pair matrix S[i, j] = log q(y_j | x_i), in nats.

All are pure functions of arrays; rows are contexts and columns are responses, and entry (i, i) is
the response that belongs to context i. Masks select contexts, together with their responses.

Input is checked on the host: `ValueError` names the argument, its shape and the place. Under `jit`,
`vmap` and `grad` only shapes are known, and values pass unchecked.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.arguments import floating, is_concrete, real
from remid_jax.information.checking import (
    MOST_CONTEXTS,
    MOST_LISTED,
    check_block,
    check_each,
    check_finite,
    check_lengths,
    check_mask,
    check_result,
    count_of,
    look_up,
    mask_of,
    operands,
    seed_of,
)

Array = jax.Array
WEIGHTS = (1e-20, 1e20)  # of negative pairs: their sums stay within float32


def all_negatives(n: int) -> np.ndarray:
    """Weights [n, n] that count every pair i ≠ j once.

    Raises:
      ValueError: n is no whole number of at least 1.

    >>> all_negatives(3).sum(0).tolist()
    [2.0, 2.0, 2.0]
    """
    n = count_of(n, "n", most=MOST_CONTEXTS)
    return np.ones((n, n)) - np.eye(n)


def cyclic_negatives(n: int, count: int) -> np.ndarray:
    """Weights [n, n] of the pairs (i, i + s mod n), s = 1..count.

    Each row and each column is used equally often, which removes most of the noise that comes from
    choosing negatives at random.

    Raises:
      ValueError: n is no whole number, or `count` none in 1..n-1.

    >>> cyclic_negatives(4, 1).argmax(1).tolist()
    [1, 2, 3, 0]
    """
    n, count = count_of(n, "n", most=MOST_CONTEXTS), count_of(count, "count", least=0)
    if not 1 <= count < n:
        raise ValueError(f"cyclic negatives need 1 <= count < {n} contexts, got {count}")
    weights = np.zeros((n, n))
    for shift in range(1, count + 1):
        weights[np.arange(n), (np.arange(n) + shift) % n] = 1
    return weights


def random_negatives(n: int, count: int, seed: int) -> np.ndarray:
    """Weights [n, n]: how often each pair i ≠ j was among `count` uniform draws with replacement.

    Raises:
      ValueError: fewer than 2 contexts, no draw, or a seed that is none.

    >>> int(random_negatives(5, 100, seed=0).sum())
    100
    """
    n, count = count_of(n, "n", 2, MOST_CONTEXTS), count_of(count, "count", most=MOST_LISTED)
    draws = np.random.default_rng(seed_of(seed)).integers(0, n * (n - 1), count)
    row, other = draws // (n - 1), draws % (n - 1)
    weights = np.zeros((n, n))
    np.add.at(weights, (row, other + (other >= row)), 1)
    return weights


def check_pairs(scores: Any, lengths: Any, where: Any, negatives: Any = None) -> None:
    """Checks the arguments of `club`: a pair matrix, and what says which of its entries are read.

    Raises:
      ValueError: see `club`.
    """
    check_block(scores, np.zeros((), bool))  # its shape and dtype
    n = np.shape(scores)[0]
    check_mask(where, n)
    used = _weighted(negatives, n)
    if not is_concrete(scores, where, negatives):
        check_lengths(lengths, np.zeros(n, bool))  # its shape and dtype
        return
    kept = mask_of(where, (n,))
    used = used & kept[:, None] & kept[None, :]
    check_block(scores, used)
    if not (used & ~np.eye(n, dtype=bool)).any():
        raise ValueError(f"negatives of shape {used.shape}: no pair i ≠ j of kept contexts")
    check_lengths(lengths, used.any(axis=0))


def _weighted(negatives: Any, n: int) -> Any:
    """[n, n] bool, the entries that `club` reads: own pairs, and pairs of positive weight."""
    if negatives is None:
        return np.ones((n, n), bool)
    weights = real(negatives, "negatives")
    if weights.shape != (n, n):
        raise ValueError(f"negatives must have shape ({n}, {n}), got {weights.shape}")
    if not is_concrete(weights):
        return np.ones((n, n), bool)
    weights = np.asarray(weights)
    check_finite(weights, name="negatives")
    wrong = (weights < 0) | ((weights != 0) & np.eye(n, dtype=bool))
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"negatives of shape {weights.shape} must be >= 0, and 0 on the diagonal, "
            f"but hold {weights[place]} at {place}"
        )
    right = lambda w: (w >= WEIGHTS[0]) & (w <= WEIGHTS[1])  # noqa: E731
    check_each(weights, right, "must lie between 1e-20 and 1e20", "negatives", weights > 0)
    return (weights > 0) | np.eye(n, dtype=bool)


def _scaled(scores: Array, lengths: Array | None) -> Array:
    scores = floating(scores)
    return scores if lengths is None else scores / floating(lengths, scores.dtype)


def _kept(scores: Array, lengths: Array | None, where: Array | None) -> tuple[Array, Array]:
    """Scaled scores, 0 where their contexts are not kept, and the mask of contexts."""
    scores = _scaled(scores, lengths)
    mask = jnp.ones(scores.shape[0], bool) if where is None else jnp.asarray(where, bool)
    return jnp.where(mask[:, None] & mask[None, :], scores, 0), mask


def _mean_diagonal(scores: Array, mask: Array) -> Array:
    return jnp.mean(jnp.diagonal(scores), where=mask)


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
      negatives: [N, N] weights of the pairs, zero on the diagonal; by default all i ≠ j. Scores of
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
    check_pairs(scores, lengths, where, negatives)
    scores, mask = _kept(scores, lengths, where)
    weights = all_negatives(scores.shape[0]) if negatives is None else negatives
    weights = jnp.where(mask[:, None] & mask[None, :], jnp.asarray(weights, scores.dtype), 0)
    used = jnp.where(weights > 0, scores, 0)
    value = _mean_diagonal(scores, mask) - jnp.sum(weights * used) / jnp.sum(weights)
    return check_result(value, "club of scores (and lengths)")


def infonce(scores: Array, *, lengths: Array | None = None, where: Array | None = None) -> Array:
    """mean_i [S_ii − log mean_j exp S_ji], j over contexts including i: a lower bound for any q.

    Never above log N (van den Oord et al., arXiv 1807.03748). Arguments and errors as in `club`.

    >>> float(infonce(jnp.array([[0.0, -100.0], [-100.0, 0.0]]))).__round__(4)
    0.6931
    """
    check_pairs(scores, lengths, where)
    scores, mask = _kept(scores, lengths, where)
    count = jnp.sum(mask, dtype=scores.dtype)
    column = jax.nn.logsumexp(scores, axis=0, where=mask[:, None]) - jnp.log(count)
    value = jnp.mean(jnp.diagonal(scores) - column, where=mask)
    return check_result(value, "infonce of scores (and lengths)")


def leave_one_out(
    scores: Array, *, lengths: Array | None = None, where: Array | None = None
) -> Array:
    """mean_i [S_ii − log mean_{j≠i} exp S_ji], j over the other contexts (Poole et al., 2019).

    Its mean is an upper bound of I if q is exact (arXiv 1905.06922). Arguments and errors as in
    `club`.

    >>> float(leave_one_out(jnp.array([[-1.0, -3.0], [-5.0, -2.0]])))
    2.5
    """
    check_pairs(scores, lengths, where)
    scores, mask = _kept(scores, lengths, where)
    count = jnp.sum(mask, dtype=scores.dtype)
    others = mask[:, None] & ~jnp.eye(scores.shape[0], dtype=bool)
    column = jax.nn.logsumexp(scores, axis=0, where=others) - jnp.log(count - 1)
    value = jnp.mean(jnp.diagonal(scores) - column, where=mask)
    return check_result(value, "leave_one_out of scores (and lengths)")


ESTIMATORS = {"club": club, "infonce": infonce, "leave_one_out": leave_one_out}


def estimator(name: str) -> Callable[..., Array]:
    """The estimator of a name in `ESTIMATORS`.

    Raises:
      ValueError: there is none, with the nearest name.

    >>> estimator("club") is club
    True
    """
    return look_up("estimator", name, ESTIMATORS)


def effective(model: Array, golden: Array) -> Array:
    """Effective mutual information: the value of the model's responses minus the golden ones'.

    EMI when q reads X, R-EMI when it reads (X, R).

    Raises:
      ValueError: a value is not finite, or shapes do not fit together.
    """
    model, golden = operands(model=model, golden=golden)
    with np.errstate(over="ignore"):
        return check_result(model - golden, "model − golden")


def emid(in_distribution: Array, out_of_distribution: Array) -> Array:
    """Effective mutual information difference: (R-)EMI(P) − (R-)EMI(Q); larger is worse.

    Raises:
      ValueError: a value is not finite, or shapes do not fit together.
    """
    P, Q = operands(in_distribution=in_distribution, out_of_distribution=out_of_distribution)
    with np.errstate(over="ignore"):
        return check_result(P - Q, "in_distribution − out_of_distribution")


def retained(model: Array, golden: Array) -> Array:
    """The share of the golden responses' information that the model's keep; has no unit.

    Raises:
      ValueError: a value is not finite, shapes do not fit together, or golden is 0.
    """
    model, golden = operands(model=model, golden=golden)
    check_each(golden, lambda x: x != 0, "must not be 0: nothing to retain", "golden")
    with np.errstate(over="ignore"):
        return check_result(model / golden, "model / golden")


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
      ValueError: shapes differ, a value that is kept is not finite, a length is not positive, or
        no context is kept.
    """
    names = ("model_diagonal", "model_lengths", "golden_diagonal", "golden_lengths")
    arrays = (model_diagonal, model_lengths, golden_diagonal, golden_lengths)
    shapes = [real(a, name).shape for a, name in zip(arrays, names, strict=True)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 1:
        raise ValueError(f"diagonals and lengths must all have shape [N], got {shapes}")
    check_mask(where, shapes[0][0], least=1)
    if is_concrete(*arrays, where):
        kept = mask_of(where, shapes[0])
        for k in (0, 2):
            check_finite(arrays[k], kept, names[k], on_device=True)
            check_lengths(arrays[k + 1], kept, names[k + 1])
    gap = _scaled(model_diagonal, model_lengths) - _scaled(golden_diagonal, golden_lengths)
    value = jnp.mean(gap, where=None if where is None else jnp.asarray(where, bool))
    return check_result(value, "likelihood_baseline of diagonals and lengths")
