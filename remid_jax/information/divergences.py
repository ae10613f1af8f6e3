"""Entropies and divergences of discrete laws, in nats, with 0 log 0 = 0 and finite gradients.

Probabilities lie along one axis (the last, by default); all other axes are batch axes.
"""

import itertools

import jax
import jax.numpy as jnp

from remid_jax.information.arguments import floating, real, shown
from remid_jax.information.attribution import MOST_FACTORS, shapley
from remid_jax.information.checking import check_distribution, check_same_length

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
    check_distribution(p, axis)
    p = floating(real(p, "p"))
    return -jnp.sum(_p_log_ratio(p, jnp.ones_like(p)), axis=axis)


def _two(p: Array, q: Array, axis: Axis) -> tuple[Array, Array]:
    """Two laws as floating-point numbers, once they are checked."""
    p, q = real(p, "p"), real(q, "q")
    check_same_length(p, q, axis)
    check_distribution(p, axis)
    check_distribution(q, axis, "q")
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
      ValueError: the law or a row is no distribution, or their shapes do not agree.

    >>> round(float(mutual_information(jnp.array([0.5, 0.5]), jnp.eye(2))), 4)
    0.6931
    """
    outputs = output_law(law, channel)
    law, channel = real(law, "law"), real(channel, "channel")
    informations = kl(channel, outputs[..., None, :])
    # A context of probability 0 may have outputs that no other has: 0 · ∞ counts as 0.
    return jnp.sum(law * jnp.where(law > 0, informations, 0), axis=-1)


def output_law(law: Array, channel: Array) -> Array:
    """p_Y = Σ_x p(x) p(·|x), [..., Y], of a law [..., X] through a channel [..., X, Y].

    Raises:
      ValueError: the law or a row of the channel is no distribution, or their shapes do not agree.
    """
    law, channel = real(law, "law"), real(channel, "channel")
    if channel.ndim < 2 or law.shape[-1:] != channel.shape[-2:-1]:
        shapes = law.shape, channel.shape
        raise ValueError(f"law [..., X] and channel [..., X, Y] do not agree: shapes {shapes}")
    check_same_length(law[..., None], channel, -2, "law and channel")
    check_distribution(law, -1, "law")
    check_distribution(channel, -1, "channel")
    return jnp.sum(law[..., None] * channel, axis=-2)


def chain_rule_js(p: Array, q: Array, order: tuple[int, ...] = (0, 1, 2)) -> Array:
    """The shares of factors in D_JS of two joint laws: I(B;Z₁), I(B;Z₂|Z₁), … in the given order.

    B is a fair coin that chooses the law; the terms are ≥ 0 and sum to D_JS(p‖q) exactly.

    Args:
      p: joint law over the factors, one axis a factor; q likewise.
      order: the factors' axes, first to last.

    Returns:
      [factors] nats, indexed by factor (not by position in `order`).

    Raises:
      ValueError: p or q is no distribution, their shapes differ, or `order` does not name each
        axis once.
    """
    p, q = _two_joint(p, q)
    order = _order(order, p.ndim)
    known, shares = jnp.zeros((), jnp.result_type(p)), [None] * len(order)
    for position, factor in enumerate(order):
        value = _marginal_js(p, q, tuple(order[position + 1 :]))
        shares[factor] = value - known
        known = value
    return jnp.stack(shares)


def _order(order: tuple[int, ...], factors: int) -> tuple[int, ...]:
    axes = real(order, "order", empty=True)
    if axes.ndim != 1 or sorted(axes.tolist()) != list(range(factors)):
        raise ValueError(f"order {shown(order)} must name each of the {factors} axes once")
    return tuple(int(k) for k in axes)


def _two_joint(p: Array, q: Array) -> tuple[Array, Array]:
    """Two joint laws of one shape, an axis a factor, once they are checked."""
    p, q = real(p, "p"), real(q, "q")
    if p.shape != q.shape or not 1 <= p.ndim <= MOST_FACTORS:
        shapes = f"{p.shape} and {q.shape}"
        raise ValueError(f"p and q must have one shape, got {shapes}: 1 to {MOST_FACTORS} axes")
    check_distribution(p, None)
    check_distribution(q, None, "q")
    return floating(p), floating(q)


def factor_js(p: Array, q: Array) -> Array:
    """`chain_rule_js` averaged over all orders: [factors] nats, symmetric in the factors.

    The average is the Shapley value of v(S) = D_JS of the marginal laws of the factors in S.

    Raises:
      ValueError: p or q is no distribution, or their shapes differ.
    """
    p, q = _two_joint(p, q)
    axes = range(p.ndim)
    values, values_type = [], jnp.zeros((), jnp.result_type(p, q))
    for cell in itertools.product((0, 1), repeat=len(axes)):
        summed = tuple(k for k in axes if not cell[k])
        values.append(_marginal_js(p, q, summed) if any(cell) else jnp.zeros_like(values_type))
    return shapley(-jnp.stack(values).reshape((2,) * len(axes)))


def _marginal_js(p: Array, q: Array, summed: tuple[int, ...]) -> Array:
    return jensen_shannon(jnp.sum(p, axis=summed).ravel(), jnp.sum(q, axis=summed).ravel())
