"""The Jensen-Shannon divergence of two sets of feature vectors by a domain classifier, in nats."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import real, shown
from remid_jax.information.representation import check_pair

Array = jax.Array

NEWTON_STEPS = 20
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class ClassifierJS:
    """A divergence from held-out predictions.

    Attributes:
      value: log 2 − balanced held-out cross-entropy, nats; may be negative.
      standard_error: over vectors (or groups), with the fitted classifiers taken as given.
      freedom: number of vectors (or groups) − 1.
      penalties: the penalty chosen in each fold.
    """

    value: float
    standard_error: float
    freedom: int
    penalties: tuple[float, ...]


def _losses(weights: Array, offset: Array, z: Array, sign: Array) -> Array:
    """−log P(label) of each row, [n] nats, under logits z·weights + offset."""
    return jax.nn.softplus(-sign * (z @ weights + offset))


def _fit(z: Array, sign: Array, share: Array, penalty: Array) -> tuple[Array, Array]:
    """Weights [d] and offset of a logistic regression by Newton's method with a line search.

    Minimises Σ share·loss + ½ penalty·v·‖weights‖², v the variance of the rows used, so that the
    penalty has no unit; the offset is free. `share` [n] sums to 1, and is 0 for rows to leave out.
    """
    d = z.shape[1]
    variance = share @ jnp.sum(jnp.square(z - share @ z), axis=1)
    ridge = penalty * variance + jnp.finfo(z.dtype).tiny
    design = jnp.concatenate([z, jnp.ones((len(z), 1), z.dtype)], axis=1)
    ridges = jnp.full(d + 1, ridge).at[d].set(0)
    sizes = jnp.array([1, 0.5, 0.25, 0.1, 0.03, 0.01, 0.001, 0], z.dtype)

    def objective(theta: Array) -> Array:
        return share @ jax.nn.softplus(-sign * (design @ theta)) + ridges @ jnp.square(theta) / 2

    def step(_: int, theta: Array) -> Array:
        logits = design @ theta
        gradient = design.T @ (-share * sign * jax.nn.sigmoid(-sign * logits)) + ridges * theta
        curve = share * jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits)
        hessian = (design.T * curve) @ design + jnp.diag(ridges + 1e-7)
        move = jnp.linalg.solve(hessian, gradient)
        tried = theta - sizes[:, None] * move
        values = jax.vmap(objective)(tried)
        return tried[jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))]

    theta = jax.lax.fori_loop(0, NEWTON_STEPS, step, jnp.zeros(d + 1, z.dtype))
    return theta[:d], theta[d]


def _balanced(used: Array, sign: Array) -> Array:
    """Weights of the used rows, ½ in all for each label."""
    share = jnp.zeros(sign.shape)
    for label in (1, -1):
        of_label = (used & (sign == label)).astype(share.dtype)
        share = share + of_label / (2 * jnp.sum(of_label))
    return share


@functools.partial(jax.jit, static_argnames=("folds",))
def _held_out_losses(
    z: Array, sign: Array, fold: Array, penalties: Array, folds: int
) -> tuple[Array, Array]:
    """[n] losses of each row under a classifier that did not see its fold; chosen penalties."""

    def of_fold(k: Array) -> tuple[Array, Array]:
        validation = fold == (k + 1) % folds
        inner = _balanced((fold != k) & ~validation, sign)

        def validate(penalty: Array) -> Array:
            losses = _losses(*_fit(z, sign, inner, penalty), z, sign)
            return _balanced(validation, sign) @ losses

        best = penalties[jnp.argmin(jax.lax.map(validate, penalties))]
        return _losses(*_fit(z, sign, _balanced(fold != k, sign), best), z, sign), best

    with jax.default_matmul_precision("highest"):
        losses, chosen = jax.lax.map(of_fold, jnp.arange(folds))
    return losses[fold, jnp.arange(len(fold))], chosen


def _coordinates(x: Array) -> Array:
    """Rows in the space they span, when that is smaller: distances and angles stay."""
    x = x - x.mean(axis=0)
    x = x / jnp.maximum(jnp.sqrt(jnp.mean(jnp.sum(jnp.square(x), axis=1))), 1e-30)
    n, d = x.shape
    if d <= n:
        return x
    values, vectors = jnp.linalg.eigh(jnp.matmul(x, x.T, precision="highest"))
    return vectors * jnp.sqrt(jnp.maximum(values, 0))


def _fold_of(counts: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each group, given its rows in either set [groups, 2].

    In random order, each goes to the fold that holds least of the sets the group belongs to.
    """
    shares = counts / counts.sum(axis=0)
    filled, chosen = np.zeros((folds, 2)), np.zeros(len(counts), int)
    for g in np.random.default_rng(seed).permutation(len(counts)):
        chosen[g] = np.argmin(filled @ shares[g])
        filled[chosen[g]] += shares[g]
    return chosen


def _folds(
    n: int, m: int, groups: tuple[Any, Any] | None, folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fold and group of each of n + m rows."""
    if groups is None:
        groups = (np.arange(n), n + np.arange(m))
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise ValueError(f"groups must be two lists, of a and of b, got {shown(groups)}")
    both = (
        checks.labels_of(groups[0], n, "groups of a", least=0),
        checks.labels_of(groups[1], m, "groups of b", least=0),
    )
    group = np.unique(np.concatenate(both), return_inverse=True)[1]
    counts = np.stack([np.bincount(g, minlength=group.max() + 1) for g in np.split(group, [n])], 1)
    return _fold_of(counts, folds, seed)[group], group


@checks.arguments(seed=checks.SEED)
def classifier_js(
    a: Any,
    b: Any,
    *,
    groups: tuple[Any, Any] | None = None,
    folds: int = 5,
    penalties: tuple[float, ...] = PENALTIES,
    seed: int = 0,
) -> ClassifierJS:
    """log 2 − held-out cross-entropy of a domain classifier: an estimate of D_JS that errs low.

    With a fair coin that chooses a or b, D_JS = log 2 − H(coin | x), and the cross-entropy of any
    classifier that did not see x is at least H(coin | x) in expectation. So this is, in
    expectation, a lower bound of the features' D_JS, itself at most that of the texts. The
    classifier is a logistic regression, cross-fitted, with an L2 penalty chosen inside each
    training part and both sets weighted by ½. The value is never clipped.

    Args:
      a: [n, d] feature vectors; b: [m, d].
      groups: clusters of the rows of a and of b, as integers >= 0 [n] and [m] in one numbering; a
        cluster is never split between training and held-out part, and is one unit of the error.
      folds: parts of the data, at least 3.
      penalties: candidates; the largest brings the classifier near the coin.
      seed: of the folds.

    Returns:
      Value, standard error, degrees of freedom and chosen penalties.

    Raises:
      ValueError: an argument of another shape or kind, or a fold without rows of both sets.
    """
    check_pair(a, b)
    a, b = real(a, "a"), real(b, "b")
    n, m = len(a), len(b)
    folds = checks.count_of(folds, "folds", 1, n + m)
    if folds < 3:
        raise ValueError(f"folds must be at least 3 (training, choice, held out), got {folds}")
    if np.ndim(penalties := real(penalties, "penalties")) != 1:
        raise ValueError(f"penalties must be a list of numbers, got shape {penalties.shape}")
    checks.entries(penalties, "penalties", checks.NOT_NEGATIVE, on_device=True)
    fold, group = _folds(n, m, groups, folds, seed)
    for name, of_set in (("a", fold[:n]), ("b", fold[n:])):
        if len(np.unique(of_set)) < folds:
            raise ValueError(f"{name} fills only {len(np.unique(of_set))} of {folds} folds")
    z = _coordinates(jnp.concatenate([jnp.asarray(a, float), jnp.asarray(b, float)]))
    sign = jnp.concatenate([jnp.ones(n, z.dtype), -jnp.ones(m, z.dtype)])
    candidates = jnp.asarray(penalties, z.dtype)
    losses, chosen = _held_out_losses(z, sign, jnp.asarray(fold), candidates, folds)
    losses = np.asarray(losses, np.float64)
    value, error, freedom = _summary(losses, n, group)
    checks.result((value, error), "classifier_js of a and b")
    return ClassifierJS(value, error, freedom, tuple(float(p) for p in chosen))


def _summary(losses: np.ndarray, n: int, group: np.ndarray) -> tuple[float, float, int]:
    """log 2 − mean of the two sets' mean losses, its (cluster) standard error, and G − 1."""
    in_a = np.arange(len(losses)) < n
    mean = np.where(in_a, losses[:n].mean(), losses[n:].mean())
    share = np.where(in_a, 0.5 / n, 0.5 / (len(losses) - n))
    sums = np.bincount(group, share * (losses - mean))
    g = len(sums)
    error = math.sqrt(g / (g - 1) * np.sum(sums**2))
    return math.log(2) - float(share @ losses), error, g - 1
