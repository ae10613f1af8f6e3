"""Log-probabilities over a large vocabulary: a piece at a time, each device its own part."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import PartitionSpec

from remid_jax.errors import UserError
from remid_jax.inference.sizes import HEAD
from remid_jax.models.decoder import logits_of
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import ROWS, parts_in_force
from remid_jax.models.slices import slice_in_dim

Array = jax.Array


def check_ids(ids: Sequence[int], size: int, what: str) -> None:
    """Refuses token ids (of `what`) that are no integers from 0 to `size` - 1.

    They would be read as others.
    """
    values = np.asarray(ids)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise UserError(f"{what} must be token ids, whole numbers from 0 to {size - 1}")
    outside = values[(values < 0) | (values >= size)]
    if outside.size:
        raise UserError(f"{what} has the token id {outside[0]}; the model's are 0 to {size - 1}")


def check_context(model: LanguageModel, tokens: int, what: str, hint: str = "") -> None:
    """Refuses more tokens than the context window holds; what: `a prompt has`, for messages."""
    limit = model.config.max_positions
    if tokens > limit:
        raise UserError(
            f"{what} {tokens} tokens, more than the context window of {model.name} ({limit}){hint}"
        )


def target_log_probs(decoder: Any, hidden: Array, targets: Array, chunk: int = HEAD) -> Array:
    """log softmax(logits)[target] at each position, [P] float32; see `target_statistics`."""
    return target_statistics(decoder, hidden, targets, chunk, False)[0]


def target_statistics(
    decoder: Any, hidden: Array, targets: Array, chunk: int, entropy: bool
) -> tuple[Array, Array]:
    """`target_log_probs`, and the entropy of the next token's distribution where it is asked for.

    A gradient computes each piece's logits again, so that they never stand all at once. On a mesh
    each device of its tensor axis goes through its own tokens, and only sums are exchanged.

    Args:
      decoder: for its head.
      hidden: [P, width] normalised hidden states.
      targets: [P] token ids.
      chunk: tokens of the vocabulary whose logits stand in memory at once.
      entropy: whether entropies are asked for; they are 0 if not, and have no gradient.

    Returns:
      [P] log-probabilities and [P] entropies, float32, in nats.
    """
    kernel, axis = decoder.head_kernel()
    run = functools.partial(_statistics, axis=axis, chunk=chunk, entropy=entropy)
    if parts_in_force((*ROWS, "tensor")) == 1:
        return run(kernel, hidden, targets, shared=False)
    rows = PartitionSpec(None if targets.shape[0] % parts_in_force(ROWS) else ROWS)
    over = PartitionSpec("tensor", None) if axis == 0 else PartitionSpec(None, "tensor")
    run = functools.partial(run, shared=True)
    return jax.shard_map(run, in_specs=(over, rows, rows), out_specs=(rows, rows), check_vma=False)(
        kernel, hidden, targets
    )


def _statistics(
    kernel: Array, hidden: Array, targets: Array, *, axis: int, chunk: int, entropy: bool,
    shared: bool,
) -> tuple[Array, Array]:  # fmt: skip
    """`target_statistics` by a kernel that is the device's own part of the vocabulary if shared."""
    vocab = kernel.shape[axis]
    first = jax.lax.axis_index("tensor") * vocab if shared else 0
    pieces = -(-vocab // chunk)
    size = -(-vocab // pieces)

    def add(carry: tuple[Array, ...], start: Array) -> tuple[tuple[Array, ...], None]:
        top, total, moment, target = carry
        begin = jnp.minimum(start, vocab - size)  # the last piece is whole, ...
        piece = slice_in_dim(kernel, begin, size, axis)
        logits = logits_of(hidden, piece, axis)
        if pieces * size != vocab:  # ... and what it repeats does not count
            logits = jnp.where(begin + jnp.arange(size) >= start, logits, -jnp.inf)
        place = targets - first - begin
        inside = (place >= start - begin) & (place < size)
        found = jnp.take_along_axis(logits, jnp.clip(place, 0, size - 1)[:, None], 1)[:, 0]
        target = target + jnp.where(inside, found, 0)
        new = jax.lax.stop_gradient(jnp.maximum(top, logits.max(-1)))
        scale, weight = jnp.exp(top - new), jnp.exp(logits - new[:, None])
        if entropy:  # Σ weight · logit, of which a token outside the piece has none
            fixed = jax.lax.stop_gradient((weight, logits))
            moment = moment * scale + jnp.where(fixed[0] > 0, fixed[0] * fixed[1], 0).sum(-1)
        return (new, total * scale + weight.sum(-1), moment, target), None

    zeros = jnp.zeros(targets.shape)
    starts = jnp.arange(pieces, dtype=jnp.int32) * size
    carry = jnp.full(targets.shape, -jnp.inf), zeros, zeros, zeros
    (top, total, moment, target), _ = jax.lax.scan(jax.checkpoint(add), carry, starts)
    if shared:
        highest = jax.lax.pmax(jax.lax.stop_gradient(top), "tensor")
        scale = jnp.exp(top - highest)
        total, moment, target = jax.lax.psum((total * scale, moment * scale, target), "tensor")
        top = highest
    normaliser = top + jnp.log(total)
    spread = jax.lax.stop_gradient(normaliser - moment / total) if entropy else jnp.zeros_like(top)
    return target - normaliser, spread


@functools.partial(jax.jit, static_argnames=("graphdef",))
def next_log_probs(params: Any, hidden: Array, *, graphdef: Any) -> Array:
    """log q of every token after one normalised hidden state [width]: [vocab_size], in nats."""
    with jax.default_matmul_precision("highest"):
        return jax.nn.log_softmax(nnx.merge(graphdef, params).logits(hidden[None])[0])
