"""How the next token is chosen from logits."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from remid_jax.errors import UserError

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How responses are drawn.

    Attributes:
      max_tokens: at most so many tokens, the stop token not counted.
      temperature: 0 is greedy.
      top_p: nucleus: the fewest tokens whose probability reaches this, in (0, 1].
      repetition_penalty: logits of tokens already in prompt or response are divided (positive ones)
        or multiplied (negative ones) by this; 1 is off.
      seed: of the draws; each row's draws also depend on its prompt, not on its place.
      stop_strings: texts that end a response; what begins one is not part of it.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop_strings: tuple[str, ...] = ()

    def __post_init__(self):
        if self.max_tokens < 1:
            raise UserError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        finite = math.isfinite(self.temperature) and math.isfinite(self.repetition_penalty)
        allowed = self.temperature >= 0 and 0 < self.top_p <= 1 and self.repetition_penalty > 0
        if not (finite and allowed):
            raise UserError(
                "sampling needs temperature >= 0, 0 < top_p <= 1 and repetition_penalty > 0, got "
                f"{self.temperature}, {self.top_p}, {self.repetition_penalty}"
            )
        if isinstance(self.stop_strings, str) or not all(self.stop_strings):
            raise UserError("stop_strings must be a tuple of texts, none empty")


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
