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
from remid_jax.models.products import product
from remid_jax.settings import check_fields, key

Array = jax.Array

KERNELS = ("query", "key", "value", "output", "gate", "up", "down")
"""Kernels of a layer, all [in, out]."""


class LoraParam(nnx.Param):
    """The type of an adapter's parameters, and of no other."""


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Shape of an adapter; a `UserError` where a value is out of range, or no kernel matches."""

    rank: int = key(16, "inner width r", "[1, inf)")
    alpha: float = key(32.0, "A B is multiplied by alpha / rank", "(0, 1e38]")
    dropout: float = key(0.05, "probability that an input of A is dropped in training", "[0, 1)")
    targets: str = key(".*", "regular expression over the kernels of a layer, see `KERNELS`")

    def __post_init__(self):
        check_fields(self, "lora")
        try:
            found = self.kernels
        except re.error as e:
            raise UserError(
                f"lora.targets {self.targets!r} is no regular expression ({e})"
            ) from None
        if not found:
            known = ", ".join(KERNELS)
            raise UserError(f"lora.targets {self.targets!r} matches no kernel; there are {known}")

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
    """(alpha / rank) · dropout(x) A B: [..., in] -> [..., out] float32.

    Args:
      x, a, b, config: inputs of the kernel, to whose type those of all products are rounded;
        A [in, rank]; B [rank, out]; shape of the adapter.
      key: for dropout; None: nothing is dropped.
    """
    dtype = x.dtype
    if key is not None and config.dropout:
        x = drop(x, config.dropout, key)
    inner = product("...i,ir->...r", x, a.astype(dtype))
    return product("...r,ro->...o", inner, b.astype(dtype)) * config.scale
