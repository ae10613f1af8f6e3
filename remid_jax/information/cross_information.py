"""Cross-information: how well q tells a response's own context from K − 1 others, in nats.

CI_q(g) = E_{x, y~g(·|x)}[log q(y|x) − log (1/K) Σ_{k≤K} q(y|x_k)], where x_1 = x. It is at most
log K, and on golden responses a lower bound of I(X;Y) whatever q is. Comparing it between
subsets and models asks for the same K everywhere.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, is_concrete, real

Array = jax.Array
SATURATED = 0.9  # share of log K above which cross-information tells nothing more
SCALES = (1e-3, 1e3)  # where `calibrate_scale` looks


def _scale(value: Any, name: str) -> Any:
    return real(checks.one_number(value, name, checks.POSITIVE, on_device=True), name)


@checks.arguments(
    n=checks.whole(most=checks.MOST_LISTED),
    draws=checks.DRAWS,
    num_contexts=checks.whole(2),
    seed=checks.SEED,
)
def context_sets(
    n: int, num_contexts: int, *, draws: int = 32, seed: int = 0, groups: np.ndarray | None = None
) -> np.ndarray:
    """The other contexts that each response is compared with: `draws` sets of K − 1 a response.

    A draw puts the contexts on a ring in random order, clusters together, and gives each response
    the contexts at K − 1 random strides: each context is then used K − 1 times a draw. Where
    clusters are too large for that, each response takes the least used of those it may.

    Args:
      n: contexts.
      num_contexts: K, the own context included.
      draws: sets a response.
      seed: of the order and the strides.
      groups: [n] integers ≥ 0; a response is compared with contexts of other clusters only.

    Returns:
      int [n, draws, K − 1], distinct in each set and never the response's own.

    Raises:
      ValueError: K < 2, no draw, too few contexts (in other clusters), or groups that are none.

    >>> context_sets(3, 3, draws=1).sum(axis=-1).ravel().tolist()
    [3, 2, 1]
    """
    others = num_contexts - 1
    checks.count_of(
        n * draws * others, "n · draws · (num_contexts − 1)", most=10 * checks.MOST_LISTED
    )
    clusters = np.arange(n)
    if groups is not None:
        clusters = np.unique(checks.labels_of(groups, n, least=0), return_inverse=True)[1]
    largest = int(np.bincount(clusters).max(initial=0))
    if n - largest < others:
        cluster = "" if groups is None else f", {largest} of them in one cluster"
        raise ValueError(f"{n} contexts{cluster}: too few to compare {num_contexts} at a time")
    rng = np.random.default_rng(seed)
    strides = np.arange(largest, n - largest + 1)  # these leave a cluster, whichever way round
    if len(strides) < others:
        return _rationed_sets(clusters, others, draws, rng)
    rings = [_ring_sets(clusters, rng.choice(strides, others, False), rng) for _ in range(draws)]
    return np.stack(rings, axis=1)


def _ring_sets(clusters: np.ndarray, strides: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n = len(clusters)
    order = np.lexsort((rng.random(n), rng.permutation(clusters.max() + 1)[clusters]))
    sets = np.empty((n, len(strides)), int)
    sets[order] = order[(np.arange(n)[:, None] + strides) % n]
    return sets


def _rationed_sets(
    clusters: np.ndarray, others: int, draws: int, rng: np.random.Generator
) -> np.ndarray:
    n = len(clusters)
    uses, sets = np.zeros(n), np.empty((n, draws, others), int)
    for draw in range(draws):
        for i in rng.permutation(n):
            allowed = np.flatnonzero(clusters != clusters[i])
            least = np.lexsort((rng.random(len(allowed)), uses[allowed]))[:others]
            sets[i, draw] = allowed[least]
            uses[allowed[least]] += 1
    return sets


def _members(sets: Array) -> Array:
    """[N, draws, K]: the own context first, then the others."""
    own = jnp.arange(sets.shape[0], dtype=sets.dtype)[:, None, None]
    return jnp.concatenate([jnp.broadcast_to(own, (*sets.shape[:2], 1)), sets], axis=-1)


def _gaps(scores: Array, sets: Array, where: Array) -> tuple[Array, Array]:
    """S_ki − S_ii of each set's members [N, draws, K], 0 in sets not kept; kept sets [N, draws]."""
    members = _members(sets)
    valid = jnp.all(where[members], axis=-1)
    columns = jnp.arange(scores.shape[0])[:, None, None]
    # Differences first: scores are large, and what they differ in is small.
    gaps = scores[members, columns] - jnp.diagonal(scores)[:, None, None]
    return jnp.where(valid[..., None], gaps, 0), valid


@jax.jit
def _terms(scores: Array, sets: Array, scale: Any, where: Array) -> tuple[Array, Array]:
    """a·S_ii − log (1/K) Σ_k exp a·S_ki of each set, and kept sets, both [N, draws]."""
    gaps, valid = _gaps(scores, sets, where)
    scaled = jnp.asarray(scale, gaps.dtype) * gaps
    return math.log(gaps.shape[-1]) - jax.nn.logsumexp(scaled, axis=-1), valid


def _read(scores: Any, sets: Any, where: Any) -> tuple[Array, Array, Array]:
    """Scores, sets as integers that count all contexts, and the mask, once they are checked."""
    n = checks.contexts_of(scores)
    sets = _checked_sets(sets, n)
    keep = checks.mask_of(where, (n,), least=2)
    if is_concrete(scores, sets, keep):
        valid = keep[:, None] & keep[sets].all(axis=-1)
        used = np.zeros((n, n), bool)
        response = np.broadcast_to(np.arange(n)[:, None, None], sets.shape)
        used[sets[valid], response[valid]] = True
        checks.entries(scores, "scores", used=used | np.diag(valid.any(axis=1)), on_device=True)
        if not valid.any():
            raise ValueError(f"sets of shape {sets.shape}: none is left by where")
    return floating(scores), jnp.asarray(sets).astype(int), jnp.asarray(keep)


def _checked_sets(sets: Any, n: int) -> Any:
    """Sets of other contexts, on the host unless they are traced."""
    sets = real(sets, "sets", empty=True)
    if not jnp.issubdtype(sets.dtype, jnp.integer):
        raise ValueError(f"sets must be whole numbers, of an integer type, not {sets.dtype}")
    if sets.ndim != 3 or sets.shape[0] != n or 0 in sets.shape:
        raise ValueError(f"sets must have shape ({n}, draws, K - 1), got {sets.shape}")
    if not is_concrete(sets):
        return sets
    sets = np.asarray(sets)
    wrong = (sets < 0) | (sets >= n) | (sets == np.arange(n)[:, None, None])
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"sets of shape {sets.shape}: {sets[place]} at {place} is no other context"
        )
    return sets


@checks.arguments(scale=_scale)
def cross_information(
    scores: Array, sets: Array, *, scale: float | Array = 1.0, where: Array | None = None
) -> Array:
    """CI = mean over responses and sets of a·S_ii − log (1/K) Σ_{k ∈ {i} ∪ set} exp a·S_ki.

    At most log K. On golden responses its mean is a lower bound of I(X;Y) for any q and a that were
    not fitted to them (van den Oord et al., arXiv 1807.03748; Poole et al., arXiv 1905.06922), and
    likewise for the responses and the I of another generator.

    Args:
      scores: [N, N], log q(y_j | x_i) in nats; pairs that no set asks for are not read.
      sets: int [N, draws, K − 1], of `context_sets`.
      scale: a, of `calibrate_scale`.
      where: [N] bool, contexts to keep; a set with a masked member is left out, so that K stays.

    Returns:
      A scalar in nats.

    Raises:
      ValueError: an argument of another shape or kind, or no set that is left.

    >>> s = jnp.array([[0.0, -100.0], [-100.0, 0.0]])
    >>> float(cross_information(s, context_sets(2, 2))).__round__(4)
    0.6931
    """
    scores, sets, where = _read(scores, sets, where)
    terms, valid = _terms(scores, sets, scale, where)
    value = jnp.mean(terms, where=valid)
    return checks.result(value, "cross_information of scores and scale")


@checks.arguments(num_groups=checks.whole(most=checks.MOST_CONTEXTS), scale=_scale)
def cross_information_replicates(
    scores: Array, sets: Array, groups: Array, num_groups: int, *, scale: float | Array = 1.0
) -> tuple[Array, Array]:
    """`cross_information`, and its values with one group of contexts deleted at a time.

    A replicate is the mean of the terms without a member in the group: (Σ v − Σ_g v) / (n − n_g),
    by segment sums in O(N·draws·K) instead of one pass a group. `jackknife_error` of them takes the
    choice of few sets for noise of the contexts: at K = 8 it is about 15 % too wide with 16 draws,
    6 % with 32.

    Args:
      scores: as in `cross_information`; sets and scale likewise.
      groups: [N] integers in 0..G−1, the group of each context; negative: the context is not used.
      num_groups: G.

    Returns:
      (value, replicates [G]) in nats.

    Raises:
      ValueError: as in `cross_information`; no such labels, or a deletion that leaves no set.
    """
    groups = jnp.asarray(checks.labels_of(groups, checks.contexts_of(scores)))
    scores, indices, _ = _read(scores, sets, groups >= 0)
    _check_groups(sets, groups, num_groups)
    found = _replicates(scores, indices, groups, num_groups, scale)
    return checks.result(found, "cross_information_replicates of scores and scale")


@functools.partial(jax.jit, static_argnames="num_groups")
def _replicates(
    scores: Array, sets: Array, groups: Array, num_groups: int, scale: Any
) -> tuple[Array, Array]:
    terms, valid = _terms(scores, sets, scale, groups >= 0)
    value = jnp.mean(terms, where=valid)
    of_group = jnp.sort(groups[_members(sets)], axis=-1)
    new = of_group[..., 1:] != of_group[..., :-1]  # a term counts once a group
    counted = jnp.concatenate([valid[..., None], new & valid[..., None]], axis=-1).ravel()
    # Centred terms keep the digits of small differences in float32.
    centred = jnp.broadcast_to((terms - value)[..., None], of_group.shape).ravel()
    segments = jnp.where(counted, of_group.ravel(), 0)
    lost = jax.ops.segment_sum(jnp.where(counted, centred, 0), segments, num_groups)
    gone = jax.ops.segment_sum(counted.astype(terms.dtype), segments, num_groups)
    return value, value - lost / (jnp.sum(valid, dtype=terms.dtype) - gone)


def _check_groups(sets: Any, groups: Any, num_groups: int) -> None:
    if not is_concrete(sets, groups):
        return
    groups = np.asarray(groups)
    labels = np.unique(groups[groups >= 0])
    if labels.tolist() != list(range(num_groups)):
        raise ValueError(f"groups must hold each of 0..{num_groups - 1}, got {labels.tolist()}")
    of_group = np.sort(groups[np.asarray(_members(jnp.asarray(sets)))], axis=-1)
    of_group = of_group[of_group[..., 0] >= 0]
    new = np.diff(of_group, axis=-1, prepend=-1) > 0
    with_group = np.bincount(of_group[new], minlength=num_groups)
    if with_group.max() == len(of_group):
        group = int(with_group.argmax())
        raise ValueError(f"groups: every set has a member in group {group}; use a smaller K")


@checks.arguments(num_contexts=checks.whole(2))
def saturation(value: float | Array, num_contexts: int) -> float | Array:
    """CI / log K: the share of its ceiling that cross-information has reached.

    Raises:
      ValueError: the value is not finite, or K < 2: there is nothing to tell apart.

    >>> saturation(math.log(8.0), 8)
    1.0
    """
    return checks.operands(value=value)[0] / math.log(num_contexts)


def is_saturated(value: float | Array, num_contexts: int) -> bool | Array:
    """Whether CI is above .9 log K, where differences no longer mean anything: no verdict.

    Raises:
      ValueError: as in `saturation`.
    """
    return saturation(value, num_contexts) > SATURATED


def calibrate_scale(scores: Array, sets: Array, *, where: Array | None = None) -> Array:
    """argmax_a CI(a·log q): one scalar that makes an over- or underconfident q informative.

    CI is concave in a; its slope mean[S_ii − Σ_k softmax_k(a·S_ki)·S_ki] is bisected on log a.
    Choose it on held-out ID training data: on the data it is used on, CI is no lower bound.

    Args:
      scores: as in `cross_information`; sets and where likewise.

    Returns:
      A scalar in [.001, 1000], without gradient. There is no best scale at the lower end (own
      contexts are no more likely than others) nor at the upper (own contexts always are).

    Raises:
      ValueError: as in `cross_information`.
    """
    scores, sets, where = _read(scores, sets, where)
    scale = _best_scale(jax.lax.stop_gradient(scores), sets, where)
    return checks.result(scale, "calibrate_scale of scores")


@jax.jit
def _best_scale(scores: Array, sets: Array, where: Array) -> Array:
    gaps, valid = _gaps(scores, sets, where)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        weights = jax.nn.softmax(jnp.exp(middle) * gaps, axis=-1)
        rises = jnp.mean(jnp.sum(weights * gaps, axis=-1), where=valid) <= 0
        return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

    ends = tuple(jnp.asarray(math.log(end), gaps.dtype) for end in SCALES)
    return jnp.exp(sum(jax.lax.fori_loop(0, 50, halve, ends)) / 2)


def factor_terms(scores: Array, *, scale: float | Array = 1.0, where: Array | None = None) -> Array:
    """a·S_i0 − log mean_k exp a·S_ik of each context: see `factor_information`.

    Returns:
      [N] nats; NaN for contexts that are left out.

    Raises:
      ValueError: as in `factor_information`.
    """
    terms, valid = _factor_terms(scores, scale, where)
    return jnp.where(valid, terms, jnp.nan)


def factor_information(
    scores: Array, *, scale: float | Array = 1.0, where: Array | None = None
) -> Array:
    """Cross-information of one factor: mean_i [a·S_i0 − log mean_k exp a·S_ik], hard negatives.

    Column 0 scores a response under its own context, column k under the same context with one
    factor swapped, log q(y | u'_k, c, d). Responses that ignore the factor have at most 0 under any
    q; those of a model with the wrong factor are far below 0. With u' from p(u | c, d) its mean on
    golden responses is a lower bound of the conditional I(Y; U | C, D) for any q, at most log K;
    with u' from p(u) it is a contrast, not a bound.

    Args:
      scores: [N, K] in nats.
      scale: a, of `calibrate_scale`.
      where: [N, K] bool, available entries; a context needs its own and a swapped one. Only values
        of one K can be compared.

    Returns:
      A scalar in nats.

    Raises:
      ValueError: an argument of another shape or kind, or no context that is left.

    >>> float(factor_information(jnp.array([[0.0, 0.0], [0.0, -100.0]]))).__round__(4)
    0.3466
    """
    terms, valid = _factor_terms(scores, scale, where)
    return jnp.mean(terms, where=valid)


@checks.arguments(scale=_scale)
def _factor_terms(scores: Array, scale: float | Array, where: Array | None) -> tuple[Array, Array]:
    scores = real(scores, "scores", empty=True)
    shape = scores.shape
    if len(shape) != 2 or shape[0] < 1 or shape[1] < 2:
        raise ValueError(f"scores must be [contexts, own and swapped], got shape {shape}")
    available = checks.mask_of(where, shape, one="score")
    valid = available[:, 0] & available[:, 1:].any(axis=1)
    checks.entries(scores, "scores", used=available & valid[:, None], on_device=True)
    if is_concrete(valid) and not np.any(valid):
        raise ValueError(f"where of shape {shape} leaves no context with a swapped one")
    terms = _available_terms(floating(scores), scale, available & valid[:, None])
    return checks.result(terms, "factor_information of scores and scale", valid), valid


@jax.jit
def _available_terms(scores: Array, scale: Any, available: Array) -> Array:
    gaps = jnp.where(available, scores - scores[:, :1], 0)
    counted = available.at[:, 0].set(True)  # so that no row is empty
    total = jax.nn.logsumexp(jnp.asarray(scale, gaps.dtype) * gaps, axis=1, where=counted)
    return jnp.log(jnp.sum(counted, axis=1, dtype=gaps.dtype)) - total
