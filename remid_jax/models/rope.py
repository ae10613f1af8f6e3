"""Scaled rotary frequencies: what configurations and files say of them, as divisors."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from remid_jax.errors import UserError

Divisors = tuple[float, ...] | None
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_GGUF_TENSOR = "rope_freqs.weight"


def llama3_divisors(
    theta: float, head_dim: int, factor: float, low: float, high: float, original: float
) -> tuple[float, ...]:
    """Divisors of the rotary frequencies θ^(−2i/head_dim) of Llama 3.1 and later.

    A frequency that turns r times within the original context is kept where r > `high`, divided
    by `factor` where r < `low`, and becomes f·(s + (1 − s)/factor), s = (r − low)/(high − low),
    in between.

    Args:
      theta: base of the frequencies.
      head_dim: width of one head, even.
      factor: divisor of the slowest frequencies.
      low, high: turns that bound the blend; low < high.
      original: context in tokens before the extension.

    Returns:
      head_dim/2 divisors, rounded to float32.

    Raises:
      UserError: `low` is not below `high`, or another number is not positive.
    """
    if not (factor > 0 and original > 0 and 0 < low < high):
        raise UserError("rotary scaling 'llama3' needs positive numbers, low < high")
    half = head_dim // 2
    turns = original * theta ** (-np.arange(half) / half) / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return tuple(map(float, (1 / (kept + (1 - kept) / factor)).astype(np.float32)))


def from_hf(config: Mapping[str, Any], head_dim: int) -> tuple[float, Divisors]:
    """Base and divisors of the rotary frequencies of a Hugging Face config.json.

    Args:
      config: the file's content; both its older and newer ways to write scaling are read.
      head_dim: width of one head.

    Raises:
      UserError: a kind of scaling other than `llama3`, one that lacks a number, or rotation of a
        part of the head only.
    """
    said = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = float(said.get("rope_theta", config.get("rope_theta", 10000.0)))
    part = said.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1.0
    if part != 1.0:
        raise UserError(f"partial_rotary_factor {part} is not supported, only 1.0")
    kind = said.get("rope_type", said.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise UserError(f"rotary scaling {kind!r} is not supported, only 'llama3'")
    lacking = [name for name in _LLAMA3 if name not in said]
    if lacking:
        raise UserError(f"rotary scaling 'llama3' in config.json lacks {lacking[0]!r}")
    return theta, llama3_divisors(theta, head_dim, *(float(said[name]) for name in _LLAMA3))


def divisors_from_gguf(
    names: set[str], read: Callable[[str], np.ndarray], head_dim: int
) -> Divisors:
    """The divisors that a GGUF file stores as a tensor, or None where it has none.

    Raises:
      UserError: the tensor is not head_dim/2 positive numbers.
    """
    if _GGUF_TENSOR not in names:
        return None
    values = read(_GGUF_TENSOR)
    if values.shape != (head_dim // 2,):
        raise UserError(f"tensor {_GGUF_TENSOR!r} has shape {values.shape}, not {(head_dim // 2,)}")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise UserError(f"tensor {_GGUF_TENSOR!r} holds values that are no divisors")
    return tuple(map(float, values))


def to_hf(theta: float, head_dim: int, divisors: Divisors) -> dict[str, Any]:
    """The keys of config.json for these frequencies: the inverse of `from_hf`.

    Divisors from a GGUF file come without the numbers behind them; those of all released Llama
    3.1 to 3.3 (blend from 1 to 4 turns in 8,192 tokens) are recognised.

    Raises:
      UserError: other divisors.
    """
    if divisors is None:
        return {"rope_theta": theta}
    released = (max(divisors), 1.0, 4.0, 8192)
    if llama3_divisors(theta, head_dim, *released) != divisors:
        raise UserError("the rotary divisors of this GGUF file have no known form in config.json")
    scaling = {"rope_type": "llama3", **dict(zip(_LLAMA3, released, strict=True))}
    return {"rope_theta": theta, "rope_scaling": scaling}
