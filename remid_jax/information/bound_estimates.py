"""The linear bound of EMID from samples, and the prediction of the worst case made of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from remid_jax.information import checks
from remid_jax.information.arguments import floating, real, shown

Array = jax.Array


class BoundBlocks(NamedTuple):
    """Log-likelihoods in nats, contexts in rows.

    Attributes:
      model_P_own: [N] log p_θ(y_j|x_j) of the model's ID responses.
      model_P_under_Q: [M, N] the same responses under the M OOD contexts.
      model_Q: [M, M] the model's OOD responses under OOD contexts.
      golden_P: [N, N] golden ID responses under ID contexts, log p(y_j|x_i) or its estimate q.
      golden_Q_own: [M] golden OOD responses under their own contexts.
      golden_Q_under_P: [N, M] the same under the ID contexts.
    """

    model_P_own: Array
    model_P_under_Q: Array
    model_Q: Array
    golden_P: Array
    golden_Q_own: Array
    golden_Q_under_P: Array


class PredictionBlocks(NamedTuple):
    """What the worst case of one RPM in one shifted subset is predicted from.

    Attributes:
      n: shifted contexts; n_id: those in distribution.
      predicted: of q's responses to shifted contexts; None where there are too few contexts.
      bound: of golden ones; None where there are none.
    """

    n: int
    n_id: int
    predicted: BoundBlocks | None
    bound: BoundBlocks | None


class BoundEstimate(NamedTuple):
    """Value and jackknife standard error (one context of P or Q at a time), nats, Welch's d.o.f."""

    value: Array
    standard_error: Array
    freedom: Array

    @checks.arguments(level=checks.LEVEL)
    def upper_limit(self, level: float = 0.95) -> float:
        """One-sided upper confidence limit of the bound, value + t·standard error."""
        from scipy.special import stdtrit

        value, error, freedom = checks.operands(
            value=self.value, standard_error=self.standard_error, freedom=self.freedom
        )
        checks.entries(error, "standard_error", checks.NOT_NEGATIVE)
        checks.entries(freedom, "freedom", checks.POSITIVE)
        return checks.result(value + stdtrit(freedom, level) * error, "upper_limit at this level")


def _check(blocks: BoundBlocks) -> None:
    if not isinstance(blocks, BoundBlocks):
        raise ValueError(f"blocks must be BoundBlocks, got {shown(blocks)}")
    n = checks.contexts_of(blocks.golden_P, "golden_P")
    m = checks.contexts_of(blocks.model_Q, "model_Q")
    shapes = ((n,), (m, n), (m, m), (n, n), (m,), (n, m))
    for name, array, shape in zip(BoundBlocks._fields, blocks, shapes, strict=True):
        if (found := real(array, name).shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {found}")
        checks.entries(array, name, on_device=True)


def _log_mean(scores: Array) -> Array:
    """log of the mean over contexts of exp S: [responses]."""
    return jax.nn.logsumexp(scores, axis=0) - jnp.log(scores.shape[0])


def _log_mean_without(scores: Array) -> Array:
    """The same with one context deleted: [contexts, responses]."""
    # Without a context that is not the largest, at least 1 is left of Σ exp(S − max), so
    # subtracting is safe; without the largest the sum is taken anew.
    top = jnp.max(scores, axis=0)
    largest = jnp.arange(scores.shape[0])[:, None] == jnp.argmax(scores, axis=0)[None, :]
    terms = jnp.exp(scores - top)
    others = top + jnp.log(jnp.where(largest, 1, jnp.sum(terms, axis=0) - terms))
    anew = jax.nn.logsumexp(scores, axis=0, where=~largest)
    return jnp.where(largest, anew, others) - jnp.log(scores.shape[0] - 1)


def _across(own: Array, under: Array) -> tuple[Array, Array, Array]:
    """mean_j [own_j − log mean_k exp S_kj], and without each response j and each context k."""
    terms = own - _log_mean(under)
    total, n = terms.sum(), terms.shape[0]
    return total / n, (total - terms) / (n - 1), jnp.mean(own - _log_mean_without(under), axis=1)


def _within(scores: Array) -> tuple[Array, Array]:
    """InfoNCE, and its value without each context with its response."""
    own, n = jnp.diagonal(scores), scores.shape[0]
    value = jnp.mean(own - _log_mean(scores))
    kept = ~jnp.eye(n, dtype=bool)
    return value, jnp.mean(own - _log_mean_without(scores), axis=1, where=kept)


def linear_bound_estimate(blocks: BoundBlocks) -> BoundEstimate:
    """(E_P − E_Q) φ ≥ EMID from samples, φ(x) = KL(p_θ(·|x)‖Q_Yθ) − KL(p(·|x)‖P_Y).

    The two means over the other distribution's contexts err up (Jensen); the two within one are
    InfoNCE, which errs down, and are subtracted. So the estimate errs up at any N where the
    likelihoods are exact. With an estimate q in their place it is no bound.

    Raises:
      ValueError: a block of wrong shape, fewer than 2 contexts, or an entry that is not finite.
    """
    _check(blocks)
    blocks = BoundBlocks(*(floating(block) for block in blocks))
    ours, ours_P, ours_Q = _across(blocks.model_P_own, blocks.model_P_under_Q)
    theirs, theirs_Q, theirs_P = _across(blocks.golden_Q_own, blocks.golden_Q_under_P)
    model, model_Q = _within(blocks.model_Q)
    golden, golden_P = _within(blocks.golden_P)
    value = ours - model - golden + theirs
    deleted = ours_P - golden_P + theirs_P, ours_Q - model_Q + theirs_Q
    freedoms = [len(r) - 1 for r in deleted]
    variances = [
        f / (f + 1) * jnp.sum(jnp.square(r - r.mean()))
        for r, f in zip(deleted, freedoms, strict=True)
    ]
    variance = sum(variances)
    spread = sum(jnp.square(v) / f for v, f in zip(variances, freedoms, strict=True))
    # Without any spread the smaller of both freedoms errs on the safe side.
    welch = jnp.square(variance) / jnp.where(spread > 0, spread, 1)
    freedom = jnp.where(spread > 0, welch, min(freedoms))
    found = BoundEstimate(value, jnp.sqrt(variance), freedom)
    return checks.result(found, "linear_bound_estimate of blocks")


def predict_worst_case(blocks: BoundBlocks) -> BoundEstimate:
    """A prediction, before deployment, of how large R-EMID can get; never a bound.

    All likelihoods are q's, and responses drawn from q(·|x) at the OOD contexts stand in for golden
    ones in `golden_Q_own` and `golden_Q_under_P`. Useful as far as it orders shifts as exact EMID
    does. Errors as in `linear_bound_estimate`.
    """
    return linear_bound_estimate(blocks)
