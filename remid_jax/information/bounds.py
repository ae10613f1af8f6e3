"""Upper bounds of EMID = EMI(P) − EMI(Q), in nats, on discrete distributions.

Contexts x have distributions P, Q [X]; channel and model are rows p(y|x), p_θ(y|x) [X, Y]. Only Y|X
must be the same under P and Q. On text none of these is a guarantee: P and Q are not known there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, real
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
NOT_BELOW_ROUNDING = checks.Rule(lambda x: x >= -checks.TOLERANCE, "must not be negative")


def _pair(P: Any, Q: Any) -> list[Array]:
    """Two distributions of one shape, once they are checked."""
    found = []
    for name, p in (("P", P), ("Q", Q)):
        found.append(real(p, name))
        if found[-1].ndim == 0 or found[-1].shape != found[0].shape:
            shapes = np.shape(P), np.shape(Q)
            raise ValueError(f"P and Q must be distributions of one shape, got shapes {shapes}")
        checks.distribution(found[-1], None, name)
    return found


def _arguments(P: Any, Q: Any, channel: Any, model: Any) -> list[Array]:
    """Distributions [X] and rows [X, Y] of a channel and a model, once they are checked."""
    found = _pair(P, Q)
    for name, rows in (("channel", channel), ("model", model)):
        found.append(real(rows, name))
        shape = found[-1].shape
        if found[0].ndim != 1 or len(shape) != 2 or shape != (*found[0].shape, shape[-1]):
            raise ValueError(
                f"distributions [X] and {name} [X, Y] do not agree: shapes {found[0].shape} and "
                f"{shape}"
            )
        checks.distribution(found[-1], -1, name)
    return found


def paper_bound(
    ceiling: Array, marginal_js: Array, output_js_P: Array, output_js_Q: Array
) -> Array:
    """√(2/3)·Ĥ·Σ_z √D_JS(P_z‖Q_z) + 8·Δ^¼, Δ = D_JS(P_Yθ‖P_Y) + D_JS(Q_Yθ‖Q_Y).

    The formula as printed (arXiv 2512.17270). It is no guarantee: it assumes that X_{−z}|X_z is
    shared by P and Q for every z, which makes all D_JS(z) equal; where marginals agree and the
    coupling does not, it can be 0 at any EMID; and 8·Δ^¼ ignores the number of responses.

    Args:
      ceiling: Ĥ = max_x [H(p(·|x)) + H(p_θ(·|x))], nats; see `printed_parts`.
      marginal_js: [factors] D_JS of the factors' marginal distributions, nats.
      output_js_P: D_JS(P_Yθ‖P_Y), nats; output_js_Q likewise.

    Returns:
      A scalar, nats.

    Raises:
      ValueError: another shape, or a value that is not finite or below 0 by more than rounding.
    """
    _check_nats(ceiling, "ceiling")
    _check_nats(marginal_js, "marginal_js", rank=1)
    _check_nats(output_js_P, "output_js_P")
    _check_nats(output_js_Q, "output_js_Q")
    outputs = 8 * jnp.maximum(output_js_P + output_js_Q, 0) ** 0.25
    bound = _printed(ceiling, marginal_js, outputs)
    return checks.result(bound, "paper_bound of ceiling and divergences")


def _check_nats(values: Any, name: str, rank: int = 0) -> None:
    """Checks a scalar or [factors] that are at least 0; rounding can leave them just below."""
    shape = real(values, name).shape
    if len(shape) != rank:
        what = "[factors]" if rank else "one number"
        raise ValueError(f"{name} must be {what}, got shape {shape}")
    checks.entries(values, name, NOT_BELOW_ROUNDING, on_device=True)


def _printed(ceiling: Array, marginal_js: Array, outputs: Array) -> Array:
    roots = jnp.sum(jnp.sqrt(jnp.maximum(floating(marginal_js), 0)))
    return jnp.sqrt(2 / 3) * ceiling * roots + outputs


def phi(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    """φ(x) = KL(p_θ(·|x)‖Q_Yθ) − KL(p(·|x)‖P_Y): [X] nats.

    EMID = (E_P − E_Q) φ − KL(P_Yθ‖Q_Yθ) − KL(Q_Y‖P_Y), hence EMID ≤ (E_P − E_Q) φ. Infinite at
    contexts whose responses never occur under the other distribution, and NaN at contexts without
    mass whose responses never occur under either.

    Raises:
      ValueError: P, Q or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    return kl(model, output_law(Q, model)) - kl(channel, output_law(P, channel))


def psi(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    """ψ(x) = KL(p_θ(·|x)‖M_Yθ) − KL(p(·|x)‖M_Y), M = (P + Q)/2: [X] nats, finite under P + Q.

    Raises:
      ValueError: P, Q or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    return phi((P + Q) / 2, (P + Q) / 2, channel, model)


class LinearBound(NamedTuple):
    """EMID ≤ phi ≤ tv ≤ js, in nats; all infinite where φ is."""

    phi: Array
    tv: Array
    js: Array


def linear_bound(P: Array, Q: Array, channel: Array, model: Array) -> LinearBound:
    """EMID ≤ (E_P − E_Q) φ ≤ range(φ)·TV(P, Q) ≤ range(φ)·min(1, √(2·D_JS(P‖Q))).

    Valid for all distributions and channels. All three forms are infinite where a context's
    responses are impossible under the other distribution; `mixture_bound` is not.

    Args:
      P: [X] in-distribution; Q likewise.
      channel: [X, Y] true rows p(y|x).
      model: [X, Y] rows p_θ(y|x).

    Raises:
      ValueError: P, Q or a row is no distribution, or shapes do not agree.
    """
    P, Q, channel, model = _arguments(P, Q, channel, model)
    return _forms(phi(P, Q, channel, model), P, Q)


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
    return LinearBound(*(form + rest for form in _forms(psi(P, Q, channel, model), P, Q)))


def _forms(values: Array, P: Array, Q: Array) -> LinearBound:
    """(E_P − E_Q) f, range(f)·TV(P, Q) and range(f)·min(1, √(2·D_JS)) of a function f [X]."""
    span, distance = _span(values, P, Q), total_variation(P, Q)
    gap = jnp.sum((P - Q) * jnp.where((P + Q > 0) & jnp.isfinite(values), values, 0))
    root = jnp.minimum(1, jnp.sqrt(2 * jnp.maximum(jensen_shannon(P, Q), 0)))
    gap = jnp.where(jnp.isfinite(span), gap, jnp.inf)
    return LinearBound(gap, _times(span, distance), _times(span, root))


def _span(values: Array, P: Array, Q: Array) -> Array:
    """max − min over the contexts with P + Q > 0; infinite where a value there is not finite."""
    mass = P + Q > 0
    safe = jnp.where(mass & jnp.isfinite(values), values, 0)
    top = jnp.max(safe, where=mass, initial=-jnp.inf)
    span = top - jnp.min(safe, where=mass, initial=jnp.inf)
    return jnp.where(jnp.all(jnp.isfinite(values) | ~mass), span, jnp.inf)


def _times(span: Array, distance: Array) -> Array:
    """Their product, 0 where the distance is 0 and the span infinite."""
    return jnp.where(distance > 0, span * jnp.where(distance > 0, distance, 1), 0)


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
      ValueError: another shape, or a value that is not finite or below 0 by more than rounding.
    """
    _check_nats(span, "span")
    _check_nats(shares, "shares", rank=1)
    return checks.result(_of_factors(span, floating(shares)), "factor_bound of span and shares")


def _of_factors(span: Array, shares: Array) -> FactorBound:
    """`factor_bound`, also of a span that is infinite."""
    shares = jnp.maximum(shares, 0)
    total = jnp.sum(shares)
    share = jnp.where(total > 0, shares / jnp.where(total > 0, total, 1), 0)
    bound = _times(span, jnp.minimum(1, jnp.sqrt(2 * total)))
    return FactorBound(bound, _times(span, jnp.sqrt(2 * shares)), share)


class PrintedParts(NamedTuple):
    """What the printed formula is made of, nats.

    Attributes:
      max_of_sum: Ĥ as printed, over contexts with mass; too small in general.
      max_plus_max: the sum of both maxima, which is safe.
      marginal_js: [factors] D_JS of the factors' marginal distributions.
      output_js_P: D_JS(P_Yθ‖P_Y).
      output_js_Q: D_JS(Q_Yθ‖Q_Y).
    """

    max_of_sum: Array
    max_plus_max: Array
    marginal_js: Array
    output_js_P: Array
    output_js_Q: Array


def printed_parts(P: Array, Q: Array, channel: Array, model: Array) -> PrintedParts:
    """The parts of `paper_bound` for distributions [U, C, D] and rows p(y|x), p_θ(y|x) [U·C·D, Y].

    Raises:
      ValueError: P, Q or a row is no distribution, or shapes do not agree.
    """
    P, Q = _pair(P, Q)
    flat = (P.ravel(), Q.ravel())
    _arguments(*flat, channel, model)
    others = [tuple(k for k in range(P.ndim) if k != z) for z in range(P.ndim)]
    marginals = jnp.stack([jensen_shannon(P.sum(o), Q.sum(o)) for o in others])
    outputs = (jensen_shannon(output_law(p, model), output_law(p, channel)) for p in flat)
    truth, ours = entropy(channel), entropy(model)
    top = lambda h: jnp.max(h, where=flat[0] + flat[1] > 0, initial=-jnp.inf)  # noqa: E731
    return PrintedParts(top(truth + ours), top(truth) + top(ours), marginals, *outputs)


def _paper_form(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    parts = printed_parts(P, Q, channel, model)
    return paper_bound(parts.max_of_sum, *parts[2:])


def _parent_form(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    """The printed formula with 4·(Δ_P^¼ + Δ_Q^¼) as its last term, as published code has it."""
    parts = printed_parts(P, Q, channel, model)
    outputs = sum(4 * jnp.maximum(js, 0) ** 0.25 for js in parts[3:])
    return _printed(parts.max_of_sum, parts.marginal_js, outputs)


def _factor_form(P: Array, Q: Array, channel: Array, model: Array) -> Array:
    P, Q = _pair(P, Q)
    flat = (P.ravel(), Q.ravel())
    span = _span(phi(*flat, channel, model), *flat)
    span = jnp.where(total_variation(*flat) > 0, span, 0)
    return _of_factors(span, factor_js(P, Q)).bound


def _form(family: Callable[..., LinearBound], field: str) -> Bound:
    def of(P: Array, Q: Array, channel: Array, model: Array) -> Array:
        P, Q = _pair(P, Q)
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
    "paper": _paper_form,
    "parent_code": _parent_form,
}
"""Name -> (P [U, C, D], Q [U, C, D], channel [X, Y], model [X, Y]) -> nats."""


def bound(name: str) -> Bound:
    """A bound by its name in `BOUNDS`; "paper" and "parent_code" are formulas and no bounds.

    Raises:
      ValueError: an unknown name, with the nearest one.

    >>> bound("linear_tv") is BOUNDS["linear_tv"]
    True
    """
    return checks.look_up("bound", name, BOUNDS)
