"""Low-rank adaptation: what stands beside each frozen kernel of a decoder's layer.

    y = x W + (alpha / rank) · dropout(x) A B,      A [in, rank], B [rank, out], B = 0 at the start

(Hu et al. 2021, arXiv 2106.09685).
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models.fields import is_number, is_whole

Array = jax.Array

KERNELS = ("query", "key", "value", "output", "gate", "up", "down")
"""Kernels of a layer, all [in, out]."""


class LoraParam(nnx.Param):
    """The type of an adapter's parameters, and of no other."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Shape of an adapter.

    Attributes:
      rank: inner width r.
      alpha: what A B is multiplied by, times the rank.
      dropout: probability that an input of A is dropped in training.
      targets: regular expression that a kernel's whole name matches, among `KERNELS`.

    Raises:
      UserError: a value out of range, or no kernel matches.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: str = ".*"

    def __post_init__(self):
        numbers = is_whole(self.rank) and all(map(is_number, (self.alpha, self.dropout)))
        if not numbers or self.rank < 1 or not self.alpha > 0 or not 0 <= self.dropout < 1:
            raise UserError(
                "an adapter needs rank >= 1, alpha > 0 and 0 <= dropout < 1, got "
                f"{self.rank}, {self.alpha}, {self.dropout}"
            )
        try:
            found = self.kernels
        except (re.error, TypeError) as e:
            raise UserError(f"targets {self.targets!r} is no regular expression ({e})") from None
        if not found:
            known = ", ".join(KERNELS)
            raise UserError(f"targets {self.targets!r} matches no kernel; there are {known}")

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the adapted kernels."""
        return tuple(name for name in KERNELS if re.fullmatch(self.targets, name))

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


def lora_names(kernel: str) -> tuple[str, str]:
    """Names of A and B of a kernel.

    >>> lora_names("query")
    ('query_lora_a', 'query_lora_b')
    """
    return f"{kernel}_lora_a", f"{kernel}_lora_b"


def new_pair(key: Array, width_in: int, width_out: int, rank: int) -> tuple[LoraParam, LoraParam]:
    """A uniform within ±1/sqrt(in), B zero: the adapted layer begins as the plain one."""
    bound = width_in**-0.5
    a = jax.random.uniform(key, (width_in, rank), jnp.float32, -bound, bound)
    return LoraParam(a), LoraParam(jnp.zeros((rank, width_out), jnp.float32))


def drop(x: Array, rate: float, key: Array) -> Array:
    """Zeroes entries with probability `rate`, and scales the others to keep the mean."""
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), jnp.zeros((), x.dtype))


def low_rank(x: Array, a: Array, b: Array, config: LoraConfig, key: Array | None) -> Array:
    """(alpha / rank) · dropout(x) A B in the type of x: [..., in] -> [..., out].

    Args:
      x: inputs of the kernel.
      a: [in, rank].
      b: [rank, out].
      config: shape of the adapter.
      key: for dropout; None: nothing is dropped.
    """
    if key is not None and config.dropout:
        x = drop(x, config.dropout, key)
    return ((x @ a.astype(x.dtype)) @ b.astype(x.dtype)) * config.scale
