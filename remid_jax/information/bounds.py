"""Upper bounds of EMID = EMI(P) − EMI(Q), in nats, on discrete laws.

Contexts x carry laws P, Q [X]; channel and model are rows p(y|x), p_θ(y|x) [X, Y]. Only Y|X must be
the same under P and Q. On text none of these is a guarantee: the laws are not known there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.arguments import floating, is_concrete, real, refuse
from remid_jax.information.checking import (
    TOLERANCE,
    check_distribution,
    check_each,
    check_finite,
    check_result,
    look_up,
)
from remid_jax.information.divergences import (
    entropy,
    factor_js,
    jensen_shannon,
    kl,
    output_law,
    total_variation,
)

Array = jax.Array
Bound = Callable[[Array, Array, Array, Array], Array]


class EntropyCeiling(NamedTuple):
    """The two readings of Ĥ = max_x [H(p(·|x)) + H(p_θ(·|x))], in nats, over contexts with mass."""

    max_of_sum: Array
    max_plus_max: Array


def _laws(P: Any, Q: Any) -> list[Array]:
    """Two laws of one shape, once they are checked."""
    laws = []
    for name, law in (("P", P), ("Q", Q)):
        laws.append(real(law, name))
        if laws[-1].ndim == 0 or laws[-1].shape != laws[0].shape:
            shapes = np.shape(P), np.shape(Q)
            raise ValueError(f"P and Q must be laws of one shape, got shapes {shapes}")
        check_distribution(laws[-1], None, name)
    return laws


def _arguments(P: Any, Q: Any, channel: Any, model: Any) -> list[Array]:
    """Laws [X] and rows [X, Y] of a channel and a model, once they are checked."""
    found = _laws(P, Q)
    for name, rows in (("channel", channel), ("model", model)):
        found.append(real(rows, name))
        shape = found[-1].shape
        if found[0].ndim != 1 or len(shape) != 2 or shape != (*found[0].shape, shape[-1]):
            raise ValueError(
                f"laws [X] and {name} [X, Y] do not agree: shapes {found[0].shape} and {shape}"
            )
        check_distribution(found[-1], -1, name)
    return found


def entropy_ceiling(P: Array, Q: Array, channel: Array, model: Array) -> EntropyCeiling:
    """Ĥ of the printed bound; the maximum of the sum is too small in general, max + max is safe.

    Raises:
      ValueError: a law or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    mass = P + Q > 0
    truth, ours = entropy(channel), entropy(model)
    low = jnp.asarray(-jnp.inf, truth.dtype)

    def top(values: Array) -> Array:
        return jnp.max(values, where=mass, initial=low)

    return EntropyCeiling(top(truth + ours), top(truth) + top(ours))


def paper_bound(
    ceiling: Array, marginal_js: Array, output_js_P: Array, output_js_Q: Array
) -> Array:
    """√(2/3)·Ĥ·Σ_z √D_JS(P_z‖Q_z) + 8·Δ^¼, Δ = D_JS(P_Yθ‖P_Y) + D_JS(Q_Yθ‖Q_Y).

    The formula as printed (arXiv 2512.17270). It is no guarantee: it assumes that X_{−z}|X_z is
    shared by P and Q for every z, which makes all D_JS(z) equal; where marginals agree and the
    coupling does not, it can be 0 at any EMID; and 8·Δ^¼ ignores the number of responses.

    Args:
      ceiling: Ĥ, nats; see `entropy_ceiling`.
      marginal_js: [factors] D_JS of the factors' marginal laws, nats.
      output_js_P: D_JS(P_Yθ‖P_Y), nats; output_js_Q likewise.

    Returns:
      A scalar, nats.

    Raises:
      ValueError: a value that is not finite (in float32) or below 0 by more than rounding, or
        divergences of the factors in another shape.
    """
    _check_printed(ceiling, marginal_js, output_js_P, output_js_Q)
    outputs = jnp.maximum(output_js_P + output_js_Q, 0) ** 0.25
    bound = jnp.sqrt(2 / 3) * ceiling * _root_sum(marginal_js) + 8 * outputs
    return check_result(bound, "paper_bound of ceiling and divergences")


def parent_bound(
    ceiling: Array, marginal_js: Array, output_js_P: Array, output_js_Q: Array
) -> Array:
    """`paper_bound` with 4·(Δ_P^¼ + Δ_Q^¼) as its last term, as published code computes it.

    Raises:
      ValueError: as in `paper_bound`.
    """
    _check_printed(ceiling, marginal_js, output_js_P, output_js_Q)
    outputs = jnp.maximum(output_js_P, 0) ** 0.25 + jnp.maximum(output_js_Q, 0) ** 0.25
    bound = jnp.sqrt(2 / 3) * ceiling * _root_sum(marginal_js) + 4 * outputs
    return check_result(bound, "parent_bound of ceiling and divergences")


def _check_printed(ceiling: Any, marginal_js: Any, output_js_P: Any, output_js_Q: Any) -> None:
    _check_nats(ceiling, "ceiling")
    _check_nats(marginal_js, "marginal_js", rank=1)
    _check_nats(output_js_P, "output_js_P")
    _check_nats(output_js_Q, "output_js_Q")


def _check_nats(values: Any, name: str, rank: int = 0) -> None:
    """Checks a scalar or [factors] that are at least 0; rounding can leave them just below."""
    shape = real(values, name).shape
    if len(shape) != rank:
        what = "[factors]" if rank else "one number"
        raise ValueError(f"{name} must be {what}, got shape {shape}")
    least = lambda x: x >= -TOLERANCE  # noqa: E731
    check_each(values, least, "must not be negative", name, on_device=True)


def _root_sum(divergences: Array) -> Array:
    """Σ_z √D_z; rounding can leave a divergence of 0 just below it."""
    return jnp.sum(jnp.sqrt(jnp.maximum(floating(divergences), 0)))


def phi(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    """φ(x) = KL(p_θ(·|x)‖Q_Yθ) − KL(p(·|x)‖P_Y): [X] nats.

    EMID = (E_P − E_Q) φ − KL(P_Yθ‖Q_Yθ) − KL(Q_Y‖P_Y), hence EMID ≤ (E_P − E_Q) φ.
    Infinite at contexts whose responses the other law never gives, and NaN at contexts that neither
    law has and whose responses neither gives.

    Raises:
      ValueError: a law or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    return kl(model, output_law(Q, model)) - kl(channel, output_law(P, channel))


def psi(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    """ψ(x) = KL(p_θ(·|x)‖M_Yθ) − KL(p(·|x)‖M_Y), M = (P + Q)/2: [X] nats, finite under P + Q.

    Raises:
      ValueError: a law or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    middle = (P + Q) / 2
    return kl(model, output_law(middle, model)) - kl(channel, output_law(middle, channel))


def value_range(values: Array, P: Array, Q: Array) -> Array:
    """max − min of a function [X] over the contexts with P + Q > 0; infinite where an end is.

    Raises:
      ValueError: a law is no distribution, shapes differ, or a value is NaN at a context with mass.
    """
    values, P, Q = _values_and_laws(values, P, Q)
    mass = P + Q > 0
    top = jnp.max(values, where=mass, initial=-jnp.inf)
    return _defined(top - jnp.min(values, where=mass, initial=jnp.inf), values, "value_range")


def expectation_gap(values: Array, P: Array, Q: Array) -> Array:
    """(E_P − E_Q) of a function [X]; contexts without mass count nothing even where infinite.

    Raises:
      ValueError: a law is no distribution, shapes differ, a value is NaN at a context with mass, or
        both expectations are infinite.
    """
    values, P, Q = _values_and_laws(values, P, Q)
    finite = jnp.where(P + Q > 0, values, 0)
    weight = P - Q
    gap = jnp.sum(jnp.where(weight == 0, 0, weight * jnp.where(weight == 0, 0, finite)))
    return _defined(gap, values, "expectation_gap")


def _values_and_laws(values: Any, P: Any, Q: Any) -> list[Array]:
    """A function [X] without NaN where there is mass, and two laws [X], once they are checked."""
    laws, values = _laws(P, Q), real(values, "values")
    if values.shape != laws[0].shape:
        raise ValueError(
            f"values and laws must have one shape, got {values.shape} and {laws[0].shape}"
        )
    if is_concrete(values, laws):
        host = np.asarray(values)
        mass = np.asarray(laws[0]) + np.asarray(laws[1]) > 0
        refuse(host, np.isnan(host) & mass, "values", "must be numbers where there is mass")
        check_finite(host, np.isfinite(host) & mass, "values", on_device=True)
    return [floating(values), *laws]


def _defined(result: Array, values: Array, what: str) -> Array:
    """A result that is finite where all values are, and is a number."""
    if is_concrete(result, values):
        if np.isfinite(np.asarray(values)).all():
            check_result(result, f"{what} of values")
        if np.isnan(np.asarray(result)):
            raise ValueError(f"{what} is not defined: infinite values stand against each other")
    return result


class LinearBound(NamedTuple):
    """EMID ≤ phi ≤ tv ≤ js, in nats; all infinite where φ is."""

    phi: Array
    tv: Array
    js: Array


def linear_bound(P: Array, Q: Array, channel: Array, model: Array) -> LinearBound:
    """EMID ≤ (E_P − E_Q) φ ≤ range(φ)·TV(P, Q) ≤ range(φ)·min(1, √(2·D_JS(P‖Q))).

    Valid for all laws and channels. All three forms are infinite where a context's responses are
    impossible under the other law; `mixture_bound` is not.

    Args:
      P: [X] in-distribution law; Q likewise.
      channel: [X, Y] true rows p(y|x); model: [X, Y] rows p_θ(y|x).

    Raises:
      ValueError: a law or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    values = phi(P, Q, channel, model)
    finite = jnp.all(jnp.isfinite(values) | (P + Q == 0))
    span = jnp.where(finite, value_range(jnp.where(P + Q > 0, values, 0), P, Q), jnp.inf)
    gap = jnp.where(finite, expectation_gap(jnp.where(finite, values, 0), P, Q), jnp.inf)
    distance = total_variation(P, Q)
    root = jnp.minimum(1, jnp.sqrt(2 * jnp.maximum(jensen_shannon(P, Q), 0)))
    return LinearBound(gap, _times(span, distance), _times(span, root))


def _times(span: Array, distance: Array) -> Array:
    """Their product, 0 where the laws are the same and the span infinite."""
    return jnp.where(distance > 0, span * jnp.where(distance > 0, distance, 1), 0)


def mixture_bound(P: Array, Q: Array, channel: Array, model: Array) -> LinearBound:
    """EMID ≤ (E_P − E_Q) ψ + KL(Q_Yθ‖M_Yθ) + KL(P_Y‖M_Y) ≤ range(ψ)·TV + … ; always finite.

    The last two terms are at most log 2 each. Arguments and errors as in `linear_bound`; the field
    `phi` holds the form with (E_P − E_Q) ψ.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    middle = (P + Q) / 2
    rest = kl(output_law(Q, model), output_law(middle, model)) + kl(
        output_law(P, channel), output_law(middle, channel)
    )
    values = psi(P, Q, channel, model)
    span = value_range(jnp.where(P + Q > 0, values, 0), P, Q)
    root = jnp.minimum(1, jnp.sqrt(2 * jnp.maximum(jensen_shannon(P, Q), 0)))
    gap = expectation_gap(values, P, Q)
    return LinearBound(gap + rest, span * total_variation(P, Q) + rest, span * root + rest)


class FactorBound(NamedTuple):
    """A bound and the factors' shares in it: `bound` is scalar, the others [factors]."""

    bound: Array
    by_factor: Array
    share: Array


def factor_bound(span: Array, shares: Array) -> FactorBound:
    """EMID ≤ range(φ)·min(1, √(2·Σ_z J_z)) ≤ Σ_z range(φ)·√(2·J_z), Σ J = D_JS.

    Args:
      span: range(φ), nats, finite.
      shares: [factors] of `factor_js`, which sum to D_JS(P‖Q) exactly.

    Returns:
      The bound, each factor's term of the looser sum, and each factor's share of D_JS.

    Raises:
      ValueError: a value that is not finite (in float32) or below 0 by more than rounding, or
        shares in another shape.
    """
    _check_nats(span, "span")
    _check_nats(shares, "shares", rank=1)
    return check_result(_of_factors(span, floating(shares)), "factor_bound of span and shares")


def _of_factors(span: Array, shares: Array) -> FactorBound:
    """`factor_bound`, also of a span that is infinite."""
    shares = jnp.maximum(shares, 0)
    total = jnp.sum(shares)
    share = jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), 0)
    bound = _times(span, jnp.minimum(1, jnp.sqrt(2 * total)))
    return FactorBound(bound, _times(span, jnp.sqrt(2 * shares)), share)


class PrintedParts(NamedTuple):
    """What the printed formula is made of, nats: Ĥ, D_JS of the factors [3] and of the outputs."""

    ceiling: EntropyCeiling
    marginal_js: Array
    output_js_P: Array
    output_js_Q: Array


def printed_parts(P: Array, Q: Array, channel: Array, model: Array) -> PrintedParts:
    """The parts of `paper_bound` for laws [U, C, D] and rows p(y|x), p_θ(y|x) [U·C·D, Y].

    Raises:
      ValueError: a law or a row is no distribution, or shapes do not agree.
    """
    P, Q = _laws(P, Q)
    axes = range(P.ndim)
    others = [tuple(k for k in axes if k != z) for z in axes]
    marginals = jnp.stack([jensen_shannon(P.sum(o), Q.sum(o)) for o in others])
    flat = P.ravel(), Q.ravel()
    outputs = (jensen_shannon(output_law(p, model), output_law(p, channel)) for p in flat)
    return PrintedParts(entropy_ceiling(*flat, channel, model), marginals, *outputs)


def _printed(formula: Callable[..., Array]) -> Bound:
    def of(P: Array, Q: Array, channel: Array, model: Array) -> Array:
        P, Q = _laws(P, Q)
        parts = printed_parts(P, Q, channel, model)
        return formula(parts.ceiling.max_of_sum, *parts[1:])

    return of


def _factor_form(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    P, Q = _laws(P, Q)
    flat = P.ravel(), Q.ravel()
    distance = total_variation(*flat)
    safe = jnp.where(distance > 0, distance, 1)
    span = jnp.where(distance > 0, linear_bound(*flat, channel, model).tv / safe, 0)
    return _of_factors(span, factor_js(P, Q)).bound


def _form(family: Callable[..., LinearBound], field: str) -> Bound:
    def of(P: Array, Q: Array, channel: Array, model: Array) -> Array:
        P, Q = _laws(P, Q)
        return getattr(family(P.ravel(), Q.ravel(), channel, model), field)

    return of


BOUNDS: dict[str, Bound] = {
    "linear": _form(linear_bound, "phi"),
    "linear_tv": _form(linear_bound, "tv"),
    "linear_js": _form(linear_bound, "js"),
    "mixture": _form(mixture_bound, "phi"),
    "mixture_tv": _form(mixture_bound, "tv"),
    "mixture_js": _form(mixture_bound, "js"),
    "factor": _factor_form,
    "paper": _printed(paper_bound),
    "parent_code": _printed(parent_bound),
}
"""Name -> (P [U, C, D], Q [U, C, D], channel [X, Y], model [X, Y]) -> nats."""
NO_GUARANTEE = ("paper", "parent_code")


def bound(name: str) -> Bound:
    """A bound by its name in `BOUNDS`; those in `NO_GUARANTEE` are formulas and no bounds.

    Raises:
      ValueError: an unknown name, with the nearest one.

    >>> bound("linear_tv") is BOUNDS["linear_tv"]
    True
    """
    return look_up("bound", name, BOUNDS)
