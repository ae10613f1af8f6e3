"""The compiled programs of training: score, and the updates of SFT, GRPO and DPO."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from remid_jax.models.sharding import whole_everywhere
from remid_jax.training.dpo import DpoConfig, dpo_loss
from remid_jax.training.groups import GroupedBatch, group_statistics
from remid_jax.training.grpo import Completions, GrpoConfig, grpo_loss
from remid_jax.training.optimiser import OptimiserConfig, TrainState, gradient_step

Array = jax.Array
_STATIC = ("graphdef", "micro_batches", "remat")


@functools.partial(jax.jit, static_argnames=("graphdef",))
def score(params: Any, batch: GroupedBatch, *, graphdef: Any) -> Array:
    """log q [B, G, K] of scored tokens in nats; 0 where there is none."""
    with jax.default_matmul_precision("highest"):
        log_probs, _ = group_statistics(nnx.merge(graphdef, params), batch)
    return whole_everywhere(jnp.where(batch.weights > 0, log_probs, 0.0))


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames=("state",))
def sft_update(
    frozen: Any, state: TrainState, batch: GroupedBatch, key: Array, *, graphdef: Any,
    optimiser: OptimiserConfig, micro_batches: int, remat: bool,
) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
    """One step of supervised fine-tuning: Σ w · (−log q) / Σ w over scored tokens.

    Args:
      frozen: parameters that stay; `graphdef` is the decoder that they and those of `state` make.
      state: what is trained; its buffers are donated.
      batch: prompts and rows with the weights of their tokens.
      key: of the dropout.
      optimiser: how parameters follow the gradient.
      micro_batches: parts of the batch that run one after the other; changes no result.
      remat: whether layers are recomputed for the gradient instead of kept; changes no result.

    Returns:
      The new state; metrics of `gradient_step`, the loss in nats per token, and `tokens`.
    """

    def loss(params: Any, part: GroupedBatch, key: Array):
        decoder = nnx.merge(graphdef, nnx.merge_state(frozen, params))
        log_probs, _ = group_statistics(decoder, part, key=key, remat=remat)
        total = -jnp.sum(part.weights * log_probs)
        return total, (part.weights.sum(), {})

    state, tokens, metrics = gradient_step(loss, state, batch, key, optimiser, micro_batches)
    return state, {"tokens": tokens, **metrics}


@functools.partial(
    jax.jit, static_argnames=(*_STATIC, "grpo", "on_policy"), donate_argnames=("state",)
)
def grpo_update(
    frozen: Any, state: TrainState, batch: GroupedBatch, drawn: Completions, *, graphdef: Any,
    optimiser: OptimiserConfig, micro_batches: int, remat: bool, grpo: GrpoConfig,
    on_policy: bool,
) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
    """One step of group-relative policy optimisation, arguments as of `sft_update`.

    There is no dropout: the ratio is that of the model which draws.

    Args:
      drawn: what is known of the completions of `batch`; its arrays lead with [B, G].
      on_policy: whether `state` drew the completions itself: then the importance ratio is 1, and
        `drawn.old_log_probs` is compared but not used.

    Returns:
      The new state; metrics of `grpo_loss` and `gradient_step`, and `entropy`.
    """

    def loss(params: Any, part: tuple[GroupedBatch, Completions], _: Array):
        rows, known = part
        decoder = nnx.merge(graphdef, nnx.merge_state(frozen, params))
        found = group_statistics(decoder, rows, remat=remat, entropy=True)
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

    state, _, metrics = gradient_step(
        loss, state, (batch, drawn), jax.random.key(0), optimiser, micro_batches
    )
    return state, metrics


@functools.partial(jax.jit, static_argnames=(*_STATIC, "dpo"), donate_argnames=("state",))
def dpo_update(
    frozen: Any, state: TrainState, batch: GroupedBatch, reference: Array, *, graphdef: Any,
    optimiser: OptimiserConfig, micro_batches: int, remat: bool, dpo: DpoConfig,
) -> tuple[TrainState, dict[str, Array]]:  # fmt: skip
    """One step of direct preference optimisation, arguments as of `sft_update`.

    There is no dropout: the reference has none either.

    Args:
      batch: each prompt is continued by the preferred answer, then by the other one.
      reference: [B, 2, K] log-probabilities of their tokens under the reference, in nats.

    Returns:
      The new state; metrics of `dpo_loss` and `gradient_step`, and `tokens`.
    """

    def loss(params: Any, part: tuple[GroupedBatch, Array], _: Array):
        rows, known = part
        decoder = nnx.merge(graphdef, nnx.merge_state(frozen, params))
        log_probs, _ = group_statistics(decoder, rows, remat=remat)
        total, pairs, metrics = dpo_loss(log_probs, known, rows.weights, dpo)
        return total, (pairs, metrics)

    tokens = jnp.sum(batch.weights > 0, dtype=jnp.float32)
    state, _, metrics = gradient_step(
        loss, state, (batch, reference), jax.random.key(0), optimiser, micro_batches
    )
    return state, {"tokens": tokens, **metrics}
