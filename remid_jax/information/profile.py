"""The information profile: which factors of the context a model's answers carry, beside golden's.

With δ_i = w_i · mean_j [log q(y_i | x_i) − log q(y_i | x_i with one factor of sample j)], a
factor's information is mean δ; see `profile_shares` for the model's share of golden's. w_i is the
share of the other samples whose value of the factor differs. With it, answers that ignore a factor
have an information of exactly 0 on average, under any q, where factors are independent.

This is no mutual information, nor a bound of it: for an estimated q even golden's may be below 0.
A share of 0 may be a wrong value rather than an ignored one, one above 0 inferred from the other
factors, one above 1 no merit (ignoring one factor raises the others). It is not the fraction of
right words, losses of single factors do not add up, and nothing here bounds EMID or ranks quality.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import first, floating, is_concrete, real
from remid_jax.information.uncertainty import MIN_GROUPS, replicate_error

Array = jax.Array


class Information(NamedTuple):
    """Information of a factor and its standard error, nats a response."""

    value: Array
    se: Array


def factor_gaps(own: Array, swapped: Array, weights: Array, where: Array | None = None) -> Array:
    """δ_i = w_i · mean_j [log q(y_i | x_i) − log q(y_i | x_i with one factor of sample j)].

    Args:
      own: [n] log q of each response under its own context, nats.
      swapped: [n, K] nats, with the factor of K samples whose value differs.
      weights: [n] share of the other samples whose value differs, 0 where none does: a context
        without a partner, whose swapped scores are not read.
      where: [n] bool, contexts to keep.

    Returns:
      [n] nats a response; NaN for a context that has no partner or is not kept.

    Raises:
      ValueError: shapes do not agree, a weight is outside of [0, 1], or a score that is read is
        not finite (in float32).

    >>> factor_gaps(jnp.array([-1.0, -2.0]), jnp.array([[-3.0], [-6.0]]), [0.5, 1.0]).tolist()
    [1.0, 4.0]
    """
    own, swapped, weights, valid = _read_swaps(own, swapped, weights, where)
    gaps, _ = _weighted_gaps(own, swapped, weights, jnp.broadcast_to(valid[:, None], swapped.shape))
    found = jnp.where(valid, gaps, jnp.nan)
    return checks.result(found, "factor_gaps of own, swapped and weights", valid)


def _read_swaps(
    own: Any, swapped: Any, weights: Any, where: Any
) -> tuple[Array, Array, Array, Array]:
    """Scores and weights, 0 where they are not read; contexts [n] that are kept with a partner."""
    named = {"own": own, "swapped": swapped, "weights": weights}
    own, swapped, weights = (real(values, name) for name, values in named.items())
    n = own.shape[0] if own.ndim == 1 else None
    if n is None or swapped.ndim != 2 or swapped.shape[0] != n or weights.shape != (n,):
        shapes = f"{own.shape}, {swapped.shape} and {weights.shape}"
        raise ValueError(f"own [n], swapped [n, K] and weights [n] do not agree: shapes {shapes}")
    keep = checks.mask_of(where, (n,))
    checks.entries(weights, "weights", checks.SHARE, used=keep, on_device=True)
    valid = keep & (weights > 0)
    checks.entries(own, "own", used=valid, on_device=True)
    if is_concrete(valid):
        used = np.broadcast_to(np.asarray(valid)[:, None], swapped.shape)
        checks.entries(swapped, "swapped", used=used, on_device=True)
    own, valid = floating(own), jnp.asarray(valid)
    return (
        jnp.where(valid, own, 0),
        jnp.where(valid[:, None], floating(swapped, own.dtype), 0),
        jnp.where(valid, floating(weights, own.dtype), 0),
        valid,
    )


def _weighted_gaps(
    own: Array, swapped: Array, weights: Array, available: Array
) -> tuple[Array, Array]:
    """δ [n] over the available swaps [n, K], 0 without any; whether there is any."""
    count = jnp.sum(available, axis=1, dtype=own.dtype)
    # Differences first: scores are large, and what they differ in is small.
    total = jnp.sum(own[:, None] - swapped, axis=1, where=available)
    return weights * total / jnp.maximum(count, 1), count > 0


def profile_information(
    own: Array,
    swapped: Array,
    weights: Array,
    sources: Array | None,
    where: Array | None = None,
) -> Information:
    """mean_i δ_i of a factor, and its jackknife error that deletes contexts as rows and as sources.

    A deleted context takes its row with it, and the swaps that took their factor from it; a row
    that has no other swap is left out, and weights stay. A context that is no row stays a source.
    It is linear in the scores: those of golden minus those of the model give what is lost.

    Args:
      own: [n] nats; swapped [n, K], weights [n] and where [n] as in `factor_gaps`.
      sources: int [n, K], the sample that each swap took its factor from; any number in a row that
        is not kept or has no partner. None where no sample gave it: contexts are rows alone.

    Returns:
      Value and standard error; the error is NaN where a deletion leaves no row.

    Raises:
      ValueError: as in `factor_gaps`; fewer than 3 contexts with a partner, or a source that is no
        other context.

    >>> own, swapped = jnp.zeros(3), jnp.array([[-1.0], [-2.0], [-3.0]])
    >>> found = profile_information(own, swapped, jnp.ones(3), jnp.array([[1], [2], [0]]))
    >>> float(found.value), round(float(found.se), 4)
    (2.0, 1.1547)
    """
    own, swapped, weights, valid = _read_swaps(own, swapped, weights, where)
    if sources is None:
        sources = jnp.full(swapped.shape, -1)
    else:
        sources = _checked_sources(sources, swapped.shape, valid)
    if is_concrete(valid) and np.sum(valid) < MIN_GROUPS:
        raise ValueError(
            f"weights and where of shape {valid.shape} leave {np.sum(valid)} contexts with a "
            f"partner: a jackknife needs {MIN_GROUPS}"
        )
    found = _information(own, swapped, weights, sources, valid)
    checks.result(found.value, "profile_information of own, swapped and weights")
    return found


def _checked_sources(sources: Any, shape: tuple[int, ...], valid: Any) -> Array:
    sources = real(sources, "sources")
    if not jnp.issubdtype(sources.dtype, jnp.integer):
        raise ValueError(f"sources must be whole numbers, of an integer type, not {sources.dtype}")
    if sources.shape != shape:
        raise ValueError(f"sources must have the shape {shape} of swapped, got {sources.shape}")
    if not is_concrete(sources, valid):
        return jnp.asarray(sources)
    sources, row = np.asarray(sources), np.arange(shape[0])[:, None]
    wrong = (sources < 0) | (sources >= shape[0]) | (sources == row)
    if (place := first(wrong & np.asarray(valid)[:, None])) is not None:
        found = f"{sources[place]} at {place}"
        raise ValueError(f"sources of shape {shape}: {found} is no other context")
    return jnp.asarray(np.where(wrong, -1, sources).astype(np.int32))


@jax.jit
def _information(
    own: Array, swapped: Array, weights: Array, sources: Array, valid: Array
) -> Information:
    context = jnp.arange(own.shape[0], dtype=sources.dtype)
    gaps, _ = _weighted_gaps(own, swapped, weights, jnp.broadcast_to(valid[:, None], swapped.shape))
    value = jnp.mean(gaps, where=valid)

    def change_without(deleted: Array) -> Array:
        available = (valid & (context != deleted))[:, None] & (sources != deleted)
        left, some = _weighted_gaps(own, swapped, weights, available)
        # Centred, for the digits of small changes in float32.
        return jnp.mean(left - value, where=some)

    changes = jax.lax.map(change_without, context)  # one at a time, in memory of [n, K]
    return Information(value, replicate_error(changes, valid)[0])
