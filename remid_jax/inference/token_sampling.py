"""How the next token is chosen from logits."""

import dataclasses

import jax
import jax.numpy as jnp

from remid_jax.errors import UserError
from remid_jax.settings import check_fields, key

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How responses are drawn.

    Raises:
      UserError: a value of another type or out of range.
    """

    max_tokens: int = key(256, "at most, the stop token not counted", "[1, inf) tokens")
    temperature: float = key(0.0, "of the draws; 0 is greedy", "[0, inf)")
    top_p: float = key(1.0, "the fewest tokens of this probability are drawn from", "(0, 1]")
    repetition_penalty: float = key(1.0, "divides logits of tokens seen before; 1: off", "(0, inf)")
    # Each row's draws also depend on its prompt, not on its place.
    seed: int = key(0, "of the draws", configured=False)
    stop_strings: tuple[str, ...] = key((), "texts that end an answer, as ('\\nUser:',)")

    def __post_init__(self):
        check_fields(self, "sampling")
        if not all(self.stop_strings):
            raise UserError("sampling.stop_strings holds an empty text, which ends every answer")


def penalise_repetition(logits: Array, seen: Array, penalty: float) -> Array:
    """Divides positive and multiplies negative logits of `seen` tokens by `penalty`.

    Args:
      logits: [..., V]; seen: [..., V] bool.
    """
    changed = jnp.where(logits > 0, logits / penalty, logits * penalty)
    return jnp.where(seen, changed, logits)


def nucleus(logits: Array, top_p: float) -> Array:
    """Sets logits outside the smallest set of probability >= `top_p` to -inf. [..., V] -> same."""
    ordered = jnp.sort(logits, axis=-1, descending=True)
    before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1) - jax.nn.softmax(
        ordered, axis=-1
    )
    cut = jnp.min(jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits >= cut, logits, -jnp.inf)


def choose(logits: Array, seen: Array, keys: Array, config: SamplingConfig) -> Array:
    """The next token of each row.

    Args:
      logits: [B, V] float32.
      seen: [B, V] bool, tokens of prompt and response so far.
      keys: [B] random keys.
      config: how to draw; its seed is in the keys.

    Returns:
      [B] int32.
    """
    if config.repetition_penalty != 1:
        logits = penalise_repetition(logits, seen, config.repetition_penalty)
    if config.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / config.temperature
    if config.top_p < 1:
        logits = nucleus(logits, config.top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
