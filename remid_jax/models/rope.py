"""Scaled rotary frequencies: what configurations and files say of them, as divisors."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from remid_jax.errors import UserError
from remid_jax.models.fields import Fields, is_number, shown

Divisors = tuple[float, ...] | None
_LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
_PLAIN = "default"
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
      low, high: turns that bound the blend.
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
      UserError: a value of a wrong type, a kind of scaling other than `llama3`, a number that is
        missing or contradicted, an unknown key, or rotation of a part of the head only.
    """
    fields = Fields(config, "config.json")
    said = _scaling(fields)
    for part in (place.values.get("partial_rotary_factor") for place in (said, fields)):
        if part is not None and not (is_number(part) and part == 1):
            raise UserError(f"partial_rotary_factor {shown(part)} is not supported, only 1.0")
    theta, kind = _theta(fields, said), _kind(said)
    _refuse_other_keys(said, kind)
    if kind == _PLAIN:
        return theta, None
    lacking = [name for name in _LLAMA3 if name not in said.values]
    if lacking:
        raise UserError(f"rotary scaling 'llama3' in config.json lacks {lacking[0]!r}")
    least = {"factor": 1.0, "original_max_position_embeddings": 1.0}
    numbers = [said.number(name, least=least.get(name, 1e-3)) for name in _LLAMA3]
    return theta, llama3_divisors(theta, head_dim, *numbers)


def _scaling(fields: Fields) -> Fields:
    """The keys of scaling, under either name."""
    found = [f for f in map(fields.group, ("rope_parameters", "rope_scaling")) if f is not None]
    if len(found) == 2 and found[0].values != found[1].values:
        raise fields.error("rope_scaling", "the same as rope_parameters, which is also there")
    return found[0] if found else Fields({}, fields.where)


def _theta(fields: Fields, said: Fields) -> float:
    """The base of the frequencies, which may stand within the scaling, or beside it."""
    outside = fields.number("rope_theta", 10000.0, least=1.0)
    theta = said.number("rope_theta", outside, least=1.0)
    if "rope_theta" in fields.values and theta != outside:
        raise said.error("rope_theta", f"{outside:g}, as rope_theta outside of it")
    return theta


def _kind(said: Fields) -> str:
    """The kind of scaling, under its newer or older name."""
    kind = said.text("rope_type", said.text("type", _PLAIN))
    if said.text("type", kind) != kind:
        raise said.error("type", f"{kind!r}, as rope_type says")
    if kind not in (_PLAIN, "llama3"):
        raise UserError(f"rotary scaling {shown(kind)} is not supported, only 'llama3'")
    return kind


def _refuse_other_keys(said: Fields, kind: str) -> None:
    """Keys of a scaling that are not understood, and factors where nothing is scaled."""
    known = {"type", "rope_type", "rope_theta", "partial_rotary_factor", *_LLAMA3}
    if kind == _PLAIN:
        known -= {"factor"}
    for key, value in said.values.items():
        neutral = key in ("factor", "attention_factor") and value == 1
        if key not in known and not neutral and value not in (None, False, [], {}):
            raise UserError(
                f"{said.where}: {said.prefix}{key} ({shown(value)}) is not supported with rotary "
                f"scaling {kind!r}"
            )


def refuse_gguf_scaling(fields: Fields) -> None:
    """Refuses scaled frequencies other than those of a tensor of divisors.

    llama.cpp reads a factor without a type as linear scaling, and 0 as none.
    """
    kind = fields.text("rope.scaling.type", None)
    if kind not in (None, "none"):
        raise UserError(f"rotary scaling {shown(kind)} is not supported yet")
    for key in ("rope.scaling.factor", "rope.scale_linear"):
        factor = fields.values.get(key, 1)
        if not is_number(factor):
            raise fields.error(key, "a number")
        if kind is None and factor not in (0, 1):
            raise UserError(
                f"rotary scaling 'linear', which {key} {factor:g} without a type means, is not "
                "supported yet"
            )


def divisors_from_gguf(
    names: set[str], read: Callable[[str], np.ndarray], head_dim: int
) -> Divisors:
    """The head_dim/2 divisors that a GGUF file stores as a tensor, or None where it has none."""
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

    Divisors from a GGUF file come without the numbers behind them. Those of all released Llama
    3.1 to 3.3 (blend from 1 to 4 turns in 8,192 tokens) are recognised; others are a `UserError`.
    """
    if divisors is None:
        return {"rope_theta": theta}
    released = (max(divisors), 1.0, 4.0, 8192)
    if llama3_divisors(theta, head_dim, *released) != divisors:
        raise UserError("the rotary divisors of this GGUF file have no known form in config.json")
    scaling = {"rope_type": "llama3", **dict(zip(_LLAMA3, released, strict=True))}
    return {"rope_theta": theta, "rope_scaling": scaling}
