"""Several sampled responses a context: estimates, variance by source, and E KL from own samples.

A greedy model gives one response a context, and its mutual information is log N whatever it says;
samples show how much a response varies where the context does not. Arrays are [N, M]: response m
of context j; a bool mask marks those that exist.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, is_concrete, real

Array = jax.Array


def repeated_contributions(scores: Array, where: Array | None = None) -> Array:
    """c_jm = S_jjm − mean_{i≠j} S_ijm: what each response adds to `repeated_club`.

    Args:
      scores: [N, N, M], S[i, j, m] = log q(y_jm | x_i) in nats.
      where: [N, M] bool, responses that exist; a context without any is no negative either.

    Returns:
      [N, M] nats; NaN where there is no response.

    Raises:
      ValueError: not [N, N, M], fewer than 2 contexts, or a score that is not finite.
    """
    found, mask = _contributions(scores, where)
    return jnp.where(mask, found, jnp.nan)


def repeated_club(scores: Array, where: Array | None = None) -> Array:
    """vCLUB of several responses a context: mean over contexts of the mean contribution.

    Its expectation does not depend on M; with M = 1 it is `club`. Contexts share negatives, so its
    standard error is that of the jackknife over contexts. Args and Raises as in
    `repeated_contributions`; returns a scalar in nats.

    >>> s = jnp.array([[-1.0, -3.0], [-5.0, -2.0]])[..., None]
    >>> float(repeated_club(s))
    2.5
    """
    means, present, _ = _context_means(*_contributions(scores, where))
    return checks.result(jnp.mean(means, where=present), "repeated_club of scores")


def _contributions(scores: Array, where: Array | None) -> tuple[Array, Array]:
    scores = real(scores, "scores", empty=True)
    shape = scores.shape
    if len(shape) != 3 or shape[0] != shape[1] or shape[2] < 1:
        raise ValueError(f"scores must be [contexts, contexts, responses], got shape {shape}")
    mask = _response_mask(where, shape[1:])
    used = jnp.any(mask, axis=1)[:, None, None] & mask[None]
    checks.entries(scores, "scores", used=used, on_device=True)
    found = _own_minus_others(floating(scores), mask)
    return checks.result(found, "contributions of scores", mask), mask


@jax.jit
def _own_minus_others(scores: Array, mask: Array) -> Array:
    present = jnp.any(mask, axis=1)
    used = present[:, None, None] & mask[None]
    scores = jnp.where(used, scores, 0)
    own = jnp.eye(scores.shape[0], dtype=bool)[..., None]
    # Differences first: scores are large, and what they differ in is small.
    gaps = jnp.diagonal(scores).T[None] - scores
    others = jnp.sum(present, dtype=scores.dtype) - 1
    return jnp.sum(gaps, axis=0, where=used & ~own) / others


def _response_mask(where: Any, shape: tuple[int, ...]) -> Array:
    mask = jnp.asarray(checks.mask_of(where, shape, one="response"))
    present = jnp.any(mask, axis=1)
    if is_concrete(present) and np.sum(present) < 2:
        raise ValueError(f"responses of shape {shape} exist for {np.sum(present)} of 2 contexts")
    return mask


def _context_means(values: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Mean over the responses of each context [N], whether it has any [N], and how many [N]."""
    counts = jnp.sum(mask, axis=1, dtype=values.dtype)
    total = jnp.sum(jnp.where(mask, values, 0), axis=1)
    return total / jnp.maximum(counts, 1), counts > 0, counts


class VarianceParts(NamedTuple):
    """Variance of single values by source (nats²), and the standard error of their mean (nats).

    Attributes:
      context: of a context's expected value, between contexts.
      response: of the responses of one context.
      standard_error: of the mean over contexts of their mean responses.
    """

    context: Array
    response: Array
    standard_error: Array


def variance_parts(values: Array, where: Array | None = None) -> VarianceParts:
    """Splits the variance into a context and a response part (one-way random effects, ANOVA).

    response = SS_within / Σ(m_i − 1);  context = (SS_between/(N − 1) − response) / m₀ with
    m₀ = (T − Σ m_i²/T)/(N − 1) and T = Σ m_i (Searle, Casella and McCulloch, 1992, 3.6). Both are
    unbiased and never clipped: a context part near 0 is estimated below 0 half of the time.

    Args:
      values: [N, M] in nats, independent between contexts, as contributions nearly are.
      where: [N, M] bool, responses that exist; numbers a context may differ.

    Returns:
      `VarianceParts` of scalars.

    Raises:
      ValueError: not [N, M], fewer than 2 contexts, none with 2 responses, or a value not finite.

    >>> parts = variance_parts(jnp.array([[1.0, 3.0], [5.0, 7.0]]))
    >>> [round(float(part), 4) for part in parts]
    [7.0, 2.0, 2.0]
    """
    values, mask = _checked(values, where, "values")
    if is_concrete(mask) and np.asarray(mask).sum(axis=1).max() < 2:
        raise ValueError(f"values of shape {values.shape}: no context has 2 responses")
    return checks.result(_split(values, mask), "variance_parts of values")


@jax.jit
def _split(values: Array, mask: Array) -> VarianceParts:
    values = jnp.where(mask, values, 0)
    means, present, m = _context_means(values, mask)
    n, total = jnp.sum(present, dtype=values.dtype), jnp.sum(m)
    grand = jnp.sum(values) / total
    within = jnp.sum(jnp.square(values - means[:, None]), where=mask) / (total - n)
    between = jnp.sum(m * jnp.square(means - grand)) / (n - 1)
    balanced = (total - jnp.sum(jnp.square(m)) / total) / (n - 1)
    spread = jnp.var(means, where=present, ddof=1)
    return VarianceParts((between - within) / balanced, within, jnp.sqrt(spread / n))


def _checked(values: Any, where: Any, name: str) -> tuple[Array, Array]:
    values = real(values, name, empty=True)
    shape = values.shape
    if len(shape) != 2 or shape[1] < 1:
        raise ValueError(f"{name} must be [contexts, responses], got shape {shape}")
    mask = _response_mask(where, shape)
    checks.entries(values, name, used=mask, on_device=True)
    return floating(values), mask


COST = checks.Rule(lambda x: x > 0, "must be positive and finite")


@checks.arguments(
    context_variance=checks.FINITE,
    response_variance=checks.FINITE,
    context_cost=COST,
    response_cost=COST,
)
def responses_worth_it(
    context_variance: float, response_variance: float, context_cost: float, response_cost: float
) -> float:
    """M* = √(response_variance · context_cost / (context_variance · response_cost)), at least 1.

    The responses a context that make (σ_c² + σ_r²/M)·(c_c + M·c_r) smallest: variance of the mean
    times the cost of a context with M responses (two-stage sampling: Cochran, 1977, 10.6).

    Args:
      context_variance, response_variance: of `variance_parts`; at most 0 counts as none.
      context_cost, response_cost: of one more context or response, in any common unit.

    Returns:
      M*, to be rounded; infinite where contexts do not differ but responses do.

    Raises:
      ValueError: a variance that is not finite, a cost that is not positive, or overflow.

    >>> responses_worth_it(1.0, 4.0, 9.0, 1.0)
    6.0
    """
    if response_variance <= 0:
        return 1.0
    if context_variance <= 0:
        return float("inf")
    unit = context_variance * response_cost
    ratio = response_variance * context_cost / unit if unit > 0 else np.inf
    return checks.result(max(1.0, float(np.sqrt(ratio))), "responses_worth_it")


def expected_kl(log_p: Array, log_q: Array, where: Array | None = None) -> tuple[Array, Array]:
    """E_x KL(p_θ(·|x)‖q(·|x)) ≈ mean of log p_θ(y|x) − log q(y|x), y ~ p_θ(·|x).

    For models whose likelihood is known, on their own samples drawn from just what `log_p` scores:
    at temperature 1, neither greedy nor truncated. Unlike cross-information it does not saturate at
    log K. Unbiased and never clipped: it can be below 0 by chance.

    Args:
      log_p: [N, M], log p_θ of each sampled response in nats; log_q: [N, M] likewise under q.
      where: [N, M] bool, responses that exist.

    Returns:
      (mean over contexts, per context [N]) in nats; NaN for a context without responses.
      `variance_parts(log_p − log_q)` has the standard error.

    Raises:
      ValueError: shapes differ, fewer than 2 contexts, or a value that is not finite.
    """
    shapes = real(log_p, "log_p", empty=True).shape, real(log_q, "log_q", empty=True).shape
    if shapes[0] != shapes[1]:
        raise ValueError(f"log_p has shape {shapes[0]}, log_q {shapes[1]}")
    log_p, mask = _checked(log_p, where, "log_p")
    log_q, _ = _checked(log_q, where, "log_q")
    means, present, _ = _context_means(log_p - log_q, mask)
    value, means = checks.result((jnp.mean(means, where=present), means), "log_p − log_q")
    return value, jnp.where(present, means, jnp.nan)


class RankAgreement(NamedTuple):
    """Rank correlations of two lists.

    Attributes:
      spearman: ρ, in [−1, 1]; kendall: τ-b, likewise.
      n: values a list.
    """

    spearman: float
    kendall: float
    n: int


def rank_agreement(a: Array | np.ndarray, b: Array | np.ndarray) -> RankAgreement:
    """Whether two estimators order the same models alike: Spearman's ρ and Kendall's τ-b.

    A model that scores its own responses prefers them, so an order that holds under one q only is
    the q's. Ties share ranks.

    Args:
      a: [n] a value a model under one q; b: [n] under another, in the same order.

    Raises:
      ValueError: not two lists of one length of at least 2, or one without any order.

    >>> rank_agreement(np.array([1.0, 2.0, 3.0]), np.array([2.0, 5.0, 9.0])).spearman.__round__(6)
    1.0
    """
    from scipy.stats import kendalltau, spearmanr

    a, b = (np.asarray(real(x, name)) + 0 for name, x in (("a", a), ("b", b)))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ValueError(f"a and b must be [n >= 2] alike, got shapes {a.shape} and {b.shape}")
    for name, values in (("a", a), ("b", b)):
        checks.entries(values, name)
        if np.ptp(values) == 0:
            raise ValueError(f"{name} of shape {values.shape} holds one value only: no order")
    rho, tau = spearmanr(a, b).statistic, kendalltau(a, b, variant="b").statistic
    return RankAgreement(float(rho), float(tau), len(a))
