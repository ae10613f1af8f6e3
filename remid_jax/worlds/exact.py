"""Every quantity of the theory on a tabular world, as finite sums in nats."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import bounds, checks
from remid_jax.information.arguments import real, shown
from remid_jax.information.attribution import shapley
from remid_jax.information.divergences import (
    chain_rule_js,
    factor_js,
    jensen_shannon,
    mutual_information,
    output_law,
    total_variation,
)
from remid_jax.information.precision import double_precision
from remid_jax.worlds.distributions import (
    Mechanisms,
    World,
    check_channel,
    checked_mechanisms,
    joint_distribution,
    mechanisms_of,
    mixed_distributions,
)

Array = jax.Array


def exact_quantities(
    P: Any,
    Q: Any,
    channel: Any,
    model: Any,
    mechanisms_P: Mechanisms | None = None,
    mechanisms_Q: Mechanisms | None = None,
) -> dict[str, Any]:
    """All exact quantities of a pair of distributions, a true channel and a model's channel.

    Args:
      P: [U, C, D] in distribution; Q: out of it.
      channel: [U·C·D, Y] rows p(y|x), x in C order of (user, character, dialogue).
      model: [U·C·D, Y] rows p_θ(y|x).
      mechanisms_P: p(u) [U], p(c|u) [U, C], p(d|u,c) [U, C, D]; by default those of P. They decide
        what the mixed cells of Shapley are where an event has no mass. mechanisms_Q likewise.

    Returns:
      Names to float64 numbers or arrays, in nats: see `quantities`.

    Raises:
      ValueError: P, Q, a row or a mechanism is no distribution, or shapes do not agree.
    """
    P, Q = np.asarray(real(P, "P"), np.float64), np.asarray(real(Q, "Q"), np.float64)
    channel, model = real(channel, "channel"), real(model, "model")
    if P.ndim != 3 or P.shape != Q.shape:
        raise ValueError(f"P and Q must share a shape [U, C, D], got {P.shape} and {Q.shape}")
    for name, p in (("P", P), ("Q", Q)):
        checks.distribution(p, (0, 1, 2), name)
    for name, rows in (("channel", channel), ("model", model)):
        check_channel(rows, P.size, name)
    if np.shape(channel) != np.shape(model):
        raise ValueError(
            f"channel and model must share their responses, got {np.shape(channel)} and "
            f"{np.shape(model)}"
        )
    with double_precision():
        mechanisms = [
            _given_mechanisms(name, p, given)
            for name, p, given in (("P", P, mechanisms_P), ("Q", Q, mechanisms_Q))
        ]
        world = World(*mechanisms, jnp.asarray(channel), jnp.asarray(model))
        return jax.tree.map(np.asarray, _quantities(world, jnp.asarray(P), jnp.asarray(Q)))


def _given_mechanisms(name: str, p: np.ndarray, given: Any) -> Mechanisms:
    """The given mechanisms, once they are found to be those of p, or those of p itself."""
    if given is None:
        return mechanisms_of(p)
    given = tuple(jnp.asarray(m) for m in checked_mechanisms(given, f"mechanisms_{name}"))
    found = joint_distribution(given)
    if found.shape != p.shape or not np.allclose(found, p, atol=1e-8):
        raise ValueError(f"mechanisms_{name} are not those of the distribution {name}")
    return given


def _world(world: Any, name: str) -> World:
    if not isinstance(world, World):
        raise ValueError(f"{name} must be a World, got {shown(world)}")
    return world


@checks.arguments(world=_world)
def quantities(world: World, P: Array | None = None, Q: Array | None = None) -> dict[str, Array]:
    """The exact quantities of a world, jit- and vmap-able.

    Args:
      world: mechanisms and channels.
      P: [U, C, D] the in-distribution where it is known with fewer roundings than as the product of
        its mechanisms; Q likewise. A root of a divergence near 0 shows them.

    Returns:
      mi_P, mi_Q, mi_model_P, mi_model_Q: I(X;Y) and I(X;Y_θ) under P and Q.
      emi_P, emi_Q, emid: their differences.
      js_marginals [3], js_joint, js_chain_user_character_dialogue [3], js_factors [3] (averaged
        over orders), tv.
      H_hat_max_of_sum, H_hat_max_plus_max, js_output_P, js_output_Q: parts of the printed bound.
      paper_bound, parent_code_bound: the printed formula and its published computation; no bounds.
      linear, linear_tv, linear_js, mixture, mixture_tv, mixture_js: valid bounds.
      factor_bound: equal to `linear_js`, from the chain-rule shares of D_JS.
      shapley_user_character_dialogue [3]: sums to emid.

    Raises:
      ValueError: no world, or a mechanism or row that is no distribution.
    """
    P3 = world.P if P is None else real(P, "P")
    Q3 = world.Q if Q is None else real(Q, "Q")
    channel, model = world.channel, world.model
    P, Q = P3.ravel(), Q3.ravel()
    parts = bounds.printed_parts(P3, Q3, channel, model)
    linear = bounds.linear_bound(P, Q, channel, model)
    mixture = bounds.mixture_bound(P, Q, channel, model)
    mi_P, mi_Q, mi_model_P, mi_model_Q = (
        mutual_information(p, rows) for rows in (channel, model) for p in (P, Q)
    )
    emi_P, emi_Q = mi_model_P - mi_P, mi_model_Q - mi_Q
    return {
        "mi_P": mi_P,
        "mi_Q": mi_Q,
        "mi_model_P": mi_model_P,
        "mi_model_Q": mi_model_Q,
        "emi_P": emi_P,
        "emi_Q": emi_Q,
        "emid": emi_P - emi_Q,
        "js_marginals": parts.marginal_js,
        "js_joint": jensen_shannon(P, Q),
        "js_chain_user_character_dialogue": chain_rule_js(P3, Q3),
        "js_factors": factor_js(P3, Q3),
        "tv": total_variation(P, Q),
        "H_hat_max_of_sum": parts.max_of_sum,
        "H_hat_max_plus_max": parts.max_plus_max,
        "js_output_P": parts.output_js_P,
        "js_output_Q": parts.output_js_Q,
        "paper_bound": bounds.paper_bound(parts.max_of_sum, *parts[2:]),
        "parent_code_bound": bounds.bound("parent_code")(P3, Q3, channel, model),
        "linear": linear.phi,
        "linear_tv": linear.tv,
        "linear_js": linear.js,
        "mixture": mixture.phi,
        "mixture_tv": mixture.tv,
        "mixture_js": mixture.js,
        "factor_bound": bounds.bound("factor")(P3, Q3, channel, model),
        "shapley_user_character_dialogue": shapley(_cell_emi(world)),
    }


_quantities = jax.jit(quantities)


@checks.arguments(world=_world)
def exact_emid(world: World) -> Array:
    """EMID = EMI(P) − EMI(Q) of a world alone, nats; jit- and vmap-able.

    Raises:
      ValueError: as in `quantities`.
    """
    return _emi(world, world.P.ravel()) - _emi(world, world.Q.ravel())


def _emi(world: World, p: Array) -> Array:
    """EMI of a world's model under a distribution [X]."""
    return mutual_information(p, world.model) - mutual_information(p, world.channel)


def _cell_emi(world: World) -> Array:
    """EMI of the 2³ cells in which each factor's mechanism comes from P (0) or Q (1): [2, 2, 2]."""
    cells = mixed_distributions(world.mechanisms_P, world.mechanisms_Q).reshape(8, -1)
    return jax.lax.map(lambda p: _emi(world, p), cells).reshape(2, 2, 2)


def scored_information(distribution: Array, channel: Array, log_q: Array) -> dict[str, Array]:
    """Population values of what estimators read from scores log q(y|x) of responses y ~ p(·|x).

    Args:
      distribution: [X] of the contexts.
      channel: [X, Y] rows that generate the responses.
      log_q: [X, Y] nats.

    Returns:
      club: E log q(y|x) − E log q(y|x') with x' independent; mutual plus lautum information where
        q is exact.
      infonce: the limit K → ∞ of cross-information, E [log q(y|x) − log Σ_x' p(x') q(y|x')].
      log_likelihood: E log q(y|x).

    Raises:
      ValueError: no distribution, shapes that do not agree, or a log q that is not finite.
    """
    p, channel, log_q = (
        real(x, name)
        for name, x in (("distribution", distribution), ("channel", channel), ("log_q", log_q))
    )
    if p.ndim != 1 or log_q.shape != channel.shape:
        shapes = f"{p.shape}, {channel.shape} and {log_q.shape}"
        raise ValueError(
            f"distribution [X], channel [X, Y] and log_q [X, Y] do not agree: shapes {shapes}"
        )
    checks.distribution(p, -1, "distribution")
    check_channel(channel, p.size, "channel")
    checks.entries(log_q, "log_q", on_device=True)
    outputs = output_law(p, channel)
    used = channel > 0
    own = jnp.sum(p * jnp.sum(jnp.where(used, channel * jnp.where(used, log_q, 0), 0), -1))
    other = jnp.sum(p[:, None] * outputs[None, :] * log_q)
    mixed = jax.nn.logsumexp(log_q + jnp.log(p)[:, None], axis=0)
    values = {"club": own - other, "infonce": own - jnp.sum(outputs * mixed), "log_likelihood": own}
    return checks.result(values, "scored_information of log_q")
