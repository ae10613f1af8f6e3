"""safetensors files: which tensors they hold, of what type, and their values one by one."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.errors import UserError

# Types that are weights as they stand. Integers, and numbers of eight bits or fewer, are parts of a
# quantised weight, which needs scales and a rule.
FLOATS = ("F32", "F16", "BF16", "F64")


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Tensors of one or several files.

    Attributes:
      shapes: name -> shape as stored.
      kinds: name -> type as the file names it (`F32`, `BF16`, `I8` ...).
      read: name -> the values in float32.
    """

    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    read: Callable[[str], np.ndarray]


def open_tensors(files: Iterable[Path]) -> Tensors:
    """Opens safetensors files; reads their headers only.

    Raises:
      UserError: a file is missing, damaged or truncated, or two hold the same tensor.
    """
    where: dict[str, tuple[Any, Path]] = {}
    shapes, kinds = {}, {}
    for file in files:
        for name, handle, part in _parts(file):
            if name in where:
                raise UserError(
                    f"{where[name][1]} and {file.name} both hold tensor {name!r}; keep the files "
                    "of one model in the folder"
                )
            where[name] = handle, file
            shapes[name], kinds[name] = tuple(part.get_shape()), str(part.get_dtype())

    def read(name: str) -> np.ndarray:
        handle, file = where[name]
        check_kind(name, kinds[name], file)
        try:
            return as_float32(handle.get_tensor(name))
        except Exception as e:  # it fails in several ways, by the type that NumPy lacks
            raise UserError(f"{file}: tensor {name!r} cannot be read ({e})") from None

    return Tensors(shapes, kinds, read)


def _parts(file: Path) -> list[tuple[str, Any, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        handle = safe_open(str(file), framework="numpy")
        return [(name, handle, handle.get_slice(name)) for name in list(handle.keys())]
    except (SafetensorError, OSError) as e:
        raise UserError(f"{file}: not a readable safetensors file, or truncated ({e})") from None


def check_kind(name: str, kind: str, where: Path) -> None:
    """Refuses a tensor of a file or folder whose type is no weight's."""
    if kind not in FLOATS:
        raise UserError(
            f"{where}: tensor {name!r} is stored as {kind}, which is no weight by itself; take "
            f"the model in {', '.join(FLOATS)}"
        )


def check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: Path
) -> None:
    """Refuses files in which a tensor is missing or of another shape."""
    for name in sorted(expected.keys() - found.keys()):
        raise UserError(f"{where}: tensor {name!r} is missing")
    for name, shape in expected.items():
        if found[name] != shape:
            raise UserError(f"{where}: tensor {name!r} has shape {found[name]}, not {shape}")


def as_float32(values: np.ndarray) -> np.ndarray:
    """Values in float32; what is too large for it becomes infinite, which is refused later."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def check_finite(values: np.ndarray, name: str, where: Path) -> np.ndarray:
    """The values of a tensor, which hold neither NaN nor infinity, or a `UserError`."""
    if not np.isfinite(values).all():
        raise UserError(f"{where}: tensor {name!r} holds NaN or infinity")
    return values
