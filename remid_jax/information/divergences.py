"""Entropies and divergences of discrete distributions, in nats, with finite gradients at 0.

Probabilities lie along one axis (the last, by default), with 0 log 0 = 0; others are batch axes.
"""

import itertools

import jax
import jax.numpy as jnp

from remid_jax.information import checks
from remid_jax.information.arguments import floating, real, shown
from remid_jax.information.attribution import MOST_FACTORS, shapley

Array = jax.Array
Axis = int | tuple[int, ...]


def _p_log_ratio(p: Array, q: Array) -> Array:
    """p log(p / q) with 0 where p = 0, and ∞ where p > q = 0; its gradient never holds NaN."""
    p, q = jnp.asarray(p), jnp.asarray(q)
    both = (p > 0) & (q > 0)
    safe_p, safe_q = jnp.where(both, p, 1), jnp.where(both, q, 1)
    finite = safe_p * (jnp.log(safe_p) - jnp.log(safe_q))
    return jnp.where(both, finite, jnp.where(p > 0, jnp.inf, 0))


def entropy(p: Array, axis: Axis = -1) -> Array:
    """H(p) = −Σ p log p (Shannon).

    Raises:
      ValueError: p is no distribution along `axis`.

    >>> round(float(entropy(jnp.array([0.5, 0.5, 0.0]))), 4)
    0.6931
    """
    checks.distribution(p, axis)
    p = floating(real(p, "p"))
    return -jnp.sum(_p_log_ratio(p, jnp.ones_like(p)), axis=axis)


def _two(p: Array, q: Array, axis: Axis) -> tuple[Array, Array]:
    """Two distributions as floating-point numbers, once they are checked."""
    p, q = real(p, "p"), real(q, "q")
    checks.same_length(p, q, axis)
    checks.distribution(p, axis)
    checks.distribution(q, axis, "q")
    return floating(p), floating(q)


def kl(p: Array, q: Array, axis: Axis = -1) -> Array:
    """KL(p‖q) = Σ p log(p/q); infinite where p puts mass that q does not.

    Raises:
      ValueError: p or q is no distribution along `axis`, or their sizes differ along it.

    >>> float(kl(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])))
    inf
    """
    p, q = _two(p, q, axis)
    return jnp.sum(_p_log_ratio(p, q), axis=axis)


def jensen_shannon(p: Array, q: Array, axis: Axis = -1) -> Array:
    """D_JS(p‖q) = ½ KL(p‖m) + ½ KL(q‖m), m = (p + q)/2: in [0, log 2] (Lin, 1991).

    Raises:
      ValueError: p or q is no distribution along `axis`, or their sizes differ along it.

    >>> round(float(jensen_shannon(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))), 4)
    0.6931
    """
    p, q = _two(p, q, axis)
    middle = (p + q) / 2
    return jnp.sum(_p_log_ratio(p, middle) + _p_log_ratio(q, middle), axis=axis) / 2


def total_variation(p: Array, q: Array, axis: Axis = -1) -> Array:
    """TV(p, q) = ½ Σ |p − q|: in [0, 1].

    Raises:
      ValueError: p or q is no distribution along `axis`, or their sizes differ along it.

    >>> float(total_variation(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])))
    0.5
    """
    p, q = _two(p, q, axis)
    return jnp.sum(jnp.abs(p - q), axis=axis) / 2


def mutual_information(law: Array, channel: Array) -> Array:
    """I(X;Y) = Σ_x p(x) KL(p(·|x)‖p_Y), with p_Y = Σ_x p(x) p(·|x).

    Args:
      law: [..., X] probabilities of the contexts.
      channel: [..., X, Y] rows p(y|x).

    Returns:
      [...] nats.

    Raises:
      ValueError: `law` or a row is no distribution, or their shapes do not agree.

    >>> round(float(mutual_information(jnp.array([0.5, 0.5]), jnp.eye(2))), 4)
    0.6931
    """
    outputs = output_law(law, channel)
    law, channel = real(law, "law"), real(channel, "channel")
    informations = kl(channel, outputs[..., None, :])
    # A context of probability 0 may have outputs that no other has: 0 · ∞ counts as 0.
    return jnp.sum(law * jnp.where(law > 0, informations, 0), axis=-1)


def output_law(law: Array, channel: Array) -> Array:
    """p_Y = Σ_x p(x) p(·|x), [..., Y], of contexts p(x) [..., X] through a channel [..., X, Y].

    Raises:
      ValueError: `law` or a row of the channel is no distribution, or their shapes do not agree.
    """
    law, channel = real(law, "law"), real(channel, "channel")
    if channel.ndim < 2 or law.shape[-1:] != channel.shape[-2:-1]:
        shapes = law.shape, channel.shape
        raise ValueError(f"law [..., X] and channel [..., X, Y] do not agree: shapes {shapes}")
    checks.same_length(law[..., None], channel, -2, "law and channel")
    checks.distribution(law, -1, "law")
    checks.distribution(channel, -1, "channel")
    return jnp.sum(law[..., None] * channel, axis=-2)


def chain_rule_js(p: Array, q: Array, order: tuple[int, ...] = (0, 1, 2)) -> Array:
    """The shares of factors in D_JS of two joint distributions: I(B;Z₁), I(B;Z₂|Z₁), … in order.

    B is a fair coin that chooses p or q; the terms are ≥ 0 and sum to D_JS(p‖q) exactly.

    Args:
      p: joint distribution over the factors, one axis a factor; q likewise.
      order: the factors' axes, first to last.

    Returns:
      [factors] nats, indexed by factor (not by position in `order`).

    Raises:
      ValueError: no distributions of one shape, or an `order` that does not name each axis once.
    """
    p, q = _two_joint(p, q)
    axes = real(order, "order", empty=True)
    if axes.ndim != 1 or sorted(axes.tolist()) != list(range(p.ndim)):
        raise ValueError(f"order {shown(order)} must name each of the {p.ndim} axes once")
    order = [int(k) for k in axes]
    known = [_marginal_js(p, q, tuple(order[first:])) for first in range(p.ndim + 1)]
    shares = {z: known[k + 1] - known[k] for k, z in enumerate(order)}
    return jnp.stack([shares[z] for z in range(p.ndim)])


def _two_joint(p: Array, q: Array) -> tuple[Array, Array]:
    """Two joint distributions of one shape, an axis a factor, once they are checked."""
    p, q = real(p, "p"), real(q, "q")
    if p.shape != q.shape or not 1 <= p.ndim <= MOST_FACTORS:
        shapes = f"{p.shape} and {q.shape}"
        raise ValueError(f"p and q must have one shape, got {shapes}: 1 to {MOST_FACTORS} axes")
    checks.distribution(p, None)
    checks.distribution(q, None, "q")
    return floating(p), floating(q)


def factor_js(p: Array, q: Array) -> Array:
    """`chain_rule_js` averaged over all orders: [factors] nats, symmetric in the factors.

    The average is the Shapley value of v(S) = D_JS of the marginals of the factors in S.

    Raises:
      ValueError: p or q is no distribution, or their shapes differ.
    """
    p, q = _two_joint(p, q)
    cells = itertools.product((False, True), repeat=p.ndim)
    values = [_marginal_js(p, q, tuple(k for k in range(p.ndim) if not cell[k])) for cell in cells]
    return shapley(-jnp.stack(values).reshape((2,) * p.ndim))


def _marginal_js(p: Array, q: Array, summed: tuple[int, ...]) -> Array:
    if len(summed) == p.ndim:
        return jnp.zeros((), jnp.result_type(p, q))
    return jensen_shannon(jnp.sum(p, axis=summed).ravel(), jnp.sum(q, axis=summed).ravel())
