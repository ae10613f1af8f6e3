"""Where arrays live on many devices: rules by name, so that model code knows no mesh.

The mesh has three axes: `data` (rows of a batch), `fsdp` (rows too, and weights are spread over it)
and `tensor` (heads and hidden widths).
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from remid_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # over which batches are spread
Rules = Sequence[tuple[str, tuple[str | None, ...]]]

# Parameter's path -> axes of its dimensions; the first whole match wins. Layers lead with [layers].
RULES: Rules = (
    (r"embedding", ("tensor", "fsdp")),
    (r"head", ("fsdp", "tensor")),
    (r"layers/(query|key|value|gate|up)", (None, "fsdp", "tensor")),
    (r"layers/(output|down)", (None, "tensor", "fsdp")),
    (r"layers/(query|key|value)_bias", (None, "tensor")),
    (r"layers/(query|key|value|gate|up)_lora_a", (None, "fsdp", None)),
    (r"layers/(query|key|value|gate|up)_lora_b", (None, None, "tensor")),
    (r"layers/(output|down)_lora_a", (None, "tensor", None)),
    (r"layers/(output|down)_lora_b", (None, None, "fsdp")),
    (r"(layers/)?\w*norm", ()),
)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How many devices each axis of the mesh has.

    Attributes:
      data: copies of the weights.
      fsdp: devices over which weights and rows are spread.
      tensor: devices over which heads and hidden widths are spread.
    """

    data: int = 1
    fsdp: int = 1
    tensor: int = 1

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.data * self.fsdp * self.tensor

    @property
    def rows(self) -> int:
        """Parts into which a batch is cut."""
        return self.data * self.fsdp


def make_mesh(config: MeshConfig) -> Mesh:
    """The mesh over all of this process's devices, or over the first ones that it needs.

    Raises:
      UserError: fewer devices than the mesh has places, or an axis below 1.
    """
    shape = (config.data, config.fsdp, config.tensor)
    devices = jax.devices()
    if min(shape) < 1 or config.size > len(devices):
        raise UserError(
            f"config.mesh needs {' x '.join(map(str, shape))} devices (data x fsdp x tensor); "
            f"there are {len(devices)}"
        )
    return jax.make_mesh(
        shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[: config.size]
    )


def spec_of(name: str, rules: Rules = RULES) -> PartitionSpec:
    """Axes of a parameter's dimensions.

    Raises:
      UserError: no rule matches.

    >>> tuple(spec_of("layers/query"))
    (None, 'fsdp', 'tensor')
    """
    for pattern, axes in rules:
        if re.fullmatch(pattern, name):
            return PartitionSpec(*axes)
    raise UserError(f"no sharding rule matches the parameter {name!r}; add one to the rules")


def path_name(path: Sequence[Any]) -> str:
    """`layers/query` of a path of `jax.tree_util`."""
    return "/".join(str(k.key) for k in path if hasattr(k, "key"))


def shardings_of(params: Any, mesh: Mesh, rules: Rules = RULES) -> Any:
    """The sharding of each parameter: a tree like `params`.

    Raises:
      UserError: no rule for a parameter, or an axis that does not divide its dimension.
    """

    def one(path: Sequence[Any], leaf: Any) -> NamedSharding:
        name = path_name(path)
        spec = spec_of(name, rules)
        for size, axis in zip(leaf.shape, spec, strict=False):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(
                    f"config.mesh.{axis} {mesh.shape[axis]} does not divide {size}, a dimension of "
                    f"{name} {tuple(leaf.shape)}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, params)


def place(params: Any, mesh: Mesh, rules: Rules = RULES) -> Any:
    """Parameters on the devices that the rules give them; errors as of `shardings_of`."""
    return jax.device_put(params, shardings_of(params, mesh, rules))


def place_rows(batch: Any, mesh: Mesh) -> Any:
    """A pytree of [B, ...] arrays spread over the mesh by rows.

    Raises:
      UserError: the mesh does not divide B.
    """
    parts = mesh.shape["data"] * mesh.shape["fsdp"]

    def one(x: Any) -> Any:
        if x.shape[0] % parts:
            raise UserError(
                f"a batch of {x.shape[0]} cannot be spread over {parts} devices (data x fsdp)"
            )
        return jax.device_put(x, NamedSharding(mesh, PartitionSpec(ROWS)))

    return jax.tree.map(one, batch)
