"""The linear bound of EMID from samples, and the prediction of the worst case made of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from remid_jax.information import checks
from remid_jax.information.arguments import floating, real, shown

Array = jax.Array


class BoundBlocks(NamedTuple):
    """Log-likelihoods that the linear bound is estimated from; contexts are rows, in nats.

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


class BoundEstimate(NamedTuple):
    """value and its jackknife standard error in nats, with Welch's degrees of freedom."""

    value: Array
    standard_error: Array
    freedom: Array

    @checks.arguments(level=checks.LEVEL)
    def upper_limit(self, level: float = 0.95) -> float:
        """One-sided upper confidence limit of the bound, value + t·standard error.

        Raises:
          ValueError: a value that is not finite or out of range.
        """
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
    n, m = (
        checks.contexts_of(blocks.golden_P, "golden_P"),
        checks.contexts_of(blocks.model_Q, "model_Q"),
    )
    shapes = ((n,), (m, n), (m, m), (n, n), (m,), (n, m))
    for name, array, shape in zip(BoundBlocks._fields, blocks, shapes, strict=True):
        if (found := real(array, name).shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {found}")
        checks.entries(array, name, on_device=True)


def _log_mean(scores: Array) -> Array:
    """log of the mean over contexts of exp S: [responses]."""
    return jax.nn.logsumexp(scores, axis=0) - jnp.log(scores.shape[0])


def _log_mean_without(scores: Array) -> Array:
    """The same with one context deleted: [contexts, responses].

    Without a context that is not the largest, at least 1 is left of Σ exp(S − max), so subtracting
    is safe; without the largest the sum is taken anew.
    """
    top = jnp.max(scores, axis=0)
    largest = jnp.arange(scores.shape[0])[:, None] == jnp.argmax(scores, axis=0)[None, :]
    terms = jnp.exp(scores - top)
    others = top + jnp.log(jnp.where(largest, 1, jnp.sum(terms, axis=0) - terms))
    anew = jax.nn.logsumexp(scores, axis=0, where=~largest)
    return jnp.where(largest, anew, others) - jnp.log(scores.shape[0] - 1)


def _across(own: Array, under: Array) -> tuple[Array, Array, Array]:
    """mean_j [own_j − log mean_k exp S_kj], k over the other distribution's contexts.

    Beside it replicates without each response, and without each of the other's contexts.
    """
    terms = own - _log_mean(under)
    total, n = terms.sum(), terms.shape[0]
    return total / n, (total - terms) / (n - 1), jnp.mean(own - _log_mean_without(under), axis=1)


def _within(scores: Array) -> tuple[Array, Array]:
    """InfoNCE of a square block, and its value without each context and response."""
    own, n = jnp.diagonal(scores), scores.shape[0]
    value = jnp.mean(own - _log_mean(scores))
    kept = ~jnp.eye(n, dtype=bool)
    return value, jnp.mean(own - _log_mean_without(scores), axis=1, where=kept)


def linear_bound_estimate(blocks: BoundBlocks) -> BoundEstimate:
    """(E_P − E_Q) φ ≥ EMID from samples, φ(x) = KL(p_θ(·|x)‖Q_Yθ) − KL(p(·|x)‖P_Y).

    The two means over the other distribution's contexts err up (Jensen); the two within one are
    InfoNCE, which errs down, and are subtracted. So the estimate errs up at any N where the
    likelihoods are exact. With an estimate q in their place it is no bound.

    Returns:
      Value and standard error by deleting one context of P or of Q at a time.

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
    variances, freedoms = [], []
    for replicates in (ours_P - golden_P + theirs_P, ours_Q - model_Q + theirs_Q):
        n = replicates.shape[0]
        spread = jnp.sum(jnp.square(replicates - replicates.mean()))
        variances.append((n - 1) / n * spread)
        freedoms.append(n - 1)
    variance = variances[0] + variances[1]
    spread = sum(jnp.square(v) / f for v, f in zip(variances, freedoms, strict=True))
    # Without any spread the smaller of both freedoms errs on the safe side.
    welch = jnp.square(variance) / jnp.where(spread > 0, spread, 1)
    freedom = jnp.where(spread > 0, welch, min(freedoms))
    found = BoundEstimate(value, jnp.sqrt(variance), freedom)
    return checks.result(found, "linear_bound_estimate of blocks")


def predict_worst_case(blocks: BoundBlocks) -> BoundEstimate:
    """A prediction, before deployment, of how large R-EMID can get; never a bound.

    It needs ID samples, the RPM's answers on ID and on unlabelled OOD contexts, and q: responses
    drawn from q(·|x) at the OOD contexts stand in for golden ones, and all likelihoods are q's.
    Useful as far as it orders shifts as exact EMID does.

    Args:
      blocks: with q's own responses in `golden_Q_own` and `golden_Q_under_P`.

    Raises:
      ValueError: as in `linear_bound_estimate`.
    """
    return linear_bound_estimate(blocks)
