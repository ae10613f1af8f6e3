"""The compiled programs of training: score, SFT update, GRPO update."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.sizes import HEAD
from remid_jax.models.sharding import whole_everywhere
from remid_jax.training.groups import GroupedBatch, group_statistics
from remid_jax.training.grpo import Completions, GrpoConfig, grpo_loss
from remid_jax.training.optimiser import (
    OptimiserConfig,
    TrainState,
    accumulate_gradients,
    apply_gradients,
)

Array = jax.Array
_STATIC = ("graphdef", "step_config")


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """How an update runs; none of it changes what it computes.

    Attributes:
      micro_batches: parts of a batch that run one after the other.
      remat: whether layers are recomputed for the gradient instead of kept in memory.
      head: vocabulary tokens whose logits are in memory at once.
    """

    micro_batches: int = 1
    remat: bool = False
    head: int = HEAD

    def __post_init__(self):
        if self.micro_batches < 1 or self.head < 1:
            raise UserError(f"micro_batches and head must be at least 1, got {self}")


@functools.partial(jax.jit, static_argnames=("graphdef", "head"))
def score(params: Any, batch: GroupedBatch, *, graphdef: Any, head: int = HEAD) -> Array:
    """log q [B, G, K] of scored tokens in nats; 0 where there is none."""
    with jax.default_matmul_precision("highest"):
        log_probs, _ = group_statistics(nnx.merge(graphdef, params), batch, head=head)
    return whole_everywhere(jnp.where(batch.weights > 0, log_probs, 0.0))


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))
def sft_update(
    frozen: Any, state: TrainState, batch: GroupedBatch, key: Array, *, graphdef: Any,
    optimiser: OptimiserConfig, step_config: StepConfig,
) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
    """One step of supervised fine-tuning: Σ w · (−log q) / Σ w over scored tokens.

    Args:
      frozen: parameters that stay.
      state: what is trained; its buffers are donated.
      batch: prompts and rows with the weights of their tokens.
      key: of the dropout.
      graphdef: of the decoder.
      optimiser: how parameters follow the gradient.
      step_config: how the update runs.

    Returns:
      The new state; `loss` in nats per token, `tokens`, and the metrics of `apply_gradients`.
    """

    def loss(params: Any, part: GroupedBatch, key: Array):
        decoder = nnx.merge(graphdef, nnx.merge_state(frozen, params))
        log_probs, _ = group_statistics(
            decoder, part, head=step_config.head, key=key, remat=step_config.remat
        )
        total = -jnp.sum(part.weights * log_probs)
        return total, (part.weights.sum(), {})

    with jax.default_matmul_precision("highest"):
        gradient, total, denominator, _ = accumulate_gradients(
            loss, state.params, batch, step_config.micro_batches, key
        )
    state, metrics = apply_gradients(state, gradient, denominator, optimiser)
    return state, {"loss": total / jnp.maximum(denominator, 1e-9), "tokens": denominator, **metrics}


@functools.partial(
    jax.jit, static_argnames=(*_STATIC, "grpo", "on_policy"), donate_argnames=("state",)
)
def grpo_update(
    frozen: Any, state: TrainState, batch: GroupedBatch, drawn: Completions, *, graphdef: Any,
    optimiser: OptimiserConfig, step_config: StepConfig, grpo: GrpoConfig, on_policy: bool,
) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
    """One step of group-relative policy optimisation.

    There is no dropout: the ratio is that of the model which draws.

    Args:
      frozen, state, graphdef, optimiser, step_config: as of `sft_update`.
      batch: prompts and completions, all of whose tokens are scored.
      drawn: what is known of the completions; its arrays lead with [B, G].
      grpo: the loss.
      on_policy: whether `state` drew the completions itself: then the importance ratio is 1, and
        `drawn.old_log_probs` is compared but not used.

    Returns:
      The new state; `loss`, `entropy`, and the metrics of `grpo_loss` and `apply_gradients`.
    """

    def loss(params: Any, part: tuple[GroupedBatch, Completions], _: Array):
        rows, known = part
        decoder = nnx.merge(graphdef, nnx.merge_state(frozen, params))
        found = group_statistics(
            decoder, rows, head=step_config.head, remat=step_config.remat, entropy=True
        )
        log_probs, entropy = (x.reshape(-1, x.shape[-1]) for x in found)
        known = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), known)
        mask = known.mask.astype(jnp.float32)
        apart = jnp.abs(jax.lax.stop_gradient(log_probs) - known.old_log_probs)
        if on_policy:
            known = dataclasses.replace(known, old_log_probs=jax.lax.stop_gradient(log_probs))
        total, denominator, metrics = grpo_loss(log_probs, known, grpo)
        counted = mask.sum()
        metrics["entropy"] = (jnp.sum(mask * entropy), counted)
        metrics["sampling_logp_difference"] = (jnp.sum(mask * apart), counted)
        return total, (denominator, metrics)

    with jax.default_matmul_precision("highest"):
        gradient, total, denominator, metrics = accumulate_gradients(
            loss, state.params, (batch, drawn), step_config.micro_batches, jax.random.key(0)
        )
    state, applied = apply_gradients(state, gradient, denominator, optimiser)
    means = {name: a / jnp.maximum(b, 1e-9) for name, (a, b) in metrics.items()}
    return state, {"loss": total / jnp.maximum(denominator, 1e-9), **means, **applied}
