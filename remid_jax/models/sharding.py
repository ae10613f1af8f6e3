"""Where arrays live on many devices: rules by name, so that model code knows no mesh."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from remid_jax.errors import UserError
from remid_jax.settings import key

AXES = ("data", "fsdp", "tensor")
ROWS = ("data", "fsdp")  # over which batches are spread

# Parameter's path -> axes of its dimensions; the first whole match wins. Layers lead with [layers].
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
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
    """How many devices each axis of the mesh has."""

    data: int = key(1, "copies of the weights", "[1, inf) devices")
    fsdp: int = key(1, "weights and rows are spread over them", "[1, inf) devices")
    tensor: int = key(1, "heads and hidden widths are spread over them", "[1, inf) devices")

    @property
    def size(self) -> int:
        """Devices in all."""
        return self.data * self.fsdp * self.tensor

    @property
    def rows(self) -> int:
        """Parts into which a batch is cut."""
        return self.data * self.fsdp


def make_mesh(config: MeshConfig, own: bool = False) -> Mesh | None:
    """The mesh over all devices (`own`: of this process); None where it needs but one.

    Raises:
      UserError: too few devices, an axis below 1, or several processes some of whose devices have
        no place.
    """
    shape = (config.data, config.fsdp, config.tensor)
    devices = jax.local_devices() if own else jax.devices()
    processes = 1 if own else jax.process_count()
    if min(shape) < 1 or config.size > len(devices):
        raise UserError(
            f"config.mesh needs {' x '.join(map(str, shape))} devices (data x fsdp x tensor); "
            f"there are {len(devices)}"
            + (" of this process" if own and jax.process_count() > 1 else "")
        )
    if processes > 1 and config.size < len(devices):
        raise UserError(
            f"config.mesh has {config.size} places; {processes} processes need one for each of "
            f"their {len(devices)} devices"
        )
    if config.size == 1:
        return None
    return jax.make_mesh(
        shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[: config.size]
    )


def spec_of(name: str) -> PartitionSpec:
    """Axes of a parameter's dimensions, or a `UserError` where no rule matches.

    >>> tuple(spec_of("layers/query"))
    (None, 'fsdp', 'tensor')
    """
    for pattern, axes in RULES:
        if re.fullmatch(pattern, name):
            return PartitionSpec(*axes)
    raise UserError(f"no sharding rule matches the parameter {name!r}; add one to the rules")


def path_name(path: Sequence[Any]) -> str:
    """`layers/query` of a path of `jax.tree_util`."""
    return "/".join(str(k.key) for k in path if hasattr(k, "key"))


def shardings_of(params: Any, mesh: Mesh) -> Any:
    """The sharding of each parameter; a `UserError` where none fits, or it is not divisible."""

    def one(path: Sequence[Any], leaf: Any) -> NamedSharding:
        name = path_name(path)
        spec = spec_of(name)
        for size, axis in zip(leaf.shape, spec, strict=False):
            if axis is not None and size % mesh.shape[axis]:
                raise UserError(
                    f"config.mesh.{axis} {mesh.shape[axis]} does not divide {size}, a dimension of "
                    f"{name} {tuple(leaf.shape)}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(one, params)


def place_one(name: str, value: Any, mesh: Mesh) -> jax.Array:
    """A parameter, of which each device is given its own part only."""
    return _laid(value, NamedSharding(mesh, spec_of(name)))


def place(params: Any, mesh: Mesh | None) -> Any:
    """Parameters on the devices that the rules give them; errors as of `shardings_of`."""
    return params if mesh is None else jax.tree.map(_laid, params, shardings_of(params, mesh))


def _laid(x: Any, sharding: NamedSharding) -> jax.Array:
    """An array as the sharding says; across processes each of them gives its own part."""
    if isinstance(x, jax.Array) and x.sharding == sharding:
        return x
    if sharding.is_fully_addressable:
        return jax.device_put(x, sharding)
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return jax.jit(lambda y: y, out_shardings=sharding)(x)
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])


def on_mesh(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays that lie on the mesh, and the others whole on each of its devices; see `place`.

    Without a mesh they are bound to the one device, as results of programs are that read an array
    from a file: a program that is given both sorts of arrays in turn is compiled twice.
    """
    if mesh is None:
        return jax.device_put(tree, jax.local_devices()[0])
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: x if mesh_of(x) == mesh else _laid(x, whole), tree)


def place_rows(batch: Any, mesh: Mesh | None) -> Any:
    """A pytree of [B, ...] arrays spread over the mesh by rows; a `UserError` if B is uneven."""
    if mesh is None:
        return batch
    parts = parts_of_mesh(mesh, ROWS)

    def one(x: Any) -> Any:
        if x.shape[0] % parts:
            raise UserError(
                f"a batch of {x.shape[0]} cannot be spread over {parts} devices (data x fsdp)"
            )
        return _laid(x, NamedSharding(mesh, PartitionSpec(ROWS)))

    return jax.tree.map(one, batch)


def mesh_of(params: Any) -> Mesh | None:
    """The mesh on which `place` laid parameters; None for those on one device."""
    sharding = getattr(jax.tree.leaves(params)[0], "sharding", None)
    laid = isinstance(sharding, NamedSharding) and sharding.mesh.axis_names == AXES
    return sharding.mesh if laid else None


def using(mesh: Mesh | None) -> contextlib.AbstractContextManager[Any]:
    """While it is open, programs run on this mesh; None: on one device."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def parts_of_mesh(mesh: Any, axes: str | Sequence[str]) -> int:
    """Into how many parts a mesh cuts what lies along these axes; 1 without a mesh."""
    if mesh is None:
        return 1
    return math.prod(mesh.shape[a] for a in ([axes] if isinstance(axes, str) else axes))


def parts_in_force(axes: str | Sequence[str]) -> int:
    """Into how many parts the mesh in force cuts what lies along these axes; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return parts_of_mesh(None if mesh.empty else mesh, axes)


def pinned(x: jax.Array, *axes: str | Sequence[str] | None) -> jax.Array:
    """A value whose last dimensions lie along these axes of the mesh in force, if they divide them.

    Left to itself the compiler cuts the residual stream rather than gather a layer's weights, and
    then exchanges it again and again.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    free = [PartitionSpec.UNCONSTRAINED] * (x.ndim - len(axes))
    sizes = x.shape[x.ndim - len(axes) :]
    fitting = [
        None if a is None or n % parts_in_force(a) else a for a, n in zip(axes, sizes, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*free, *fitting))


def gathered(params: Any) -> Any:
    """Parameters not spread over `fsdp`, for loops whose every step would gather them anew."""
    if parts_in_force("fsdp") == 1:
        return params

    def one(path: Sequence[Any], x: jax.Array) -> jax.Array:
        return pinned(x, *(None if a == "fsdp" else a for a in spec_of(path_name(path))))

    return jax.tree_util.tree_map_with_path(one, params)


def whole_everywhere(tree: Any) -> Any:
    """Results of a compiled program that every device, and so every process, holds whole."""
    return jax.tree.map(lambda x: pinned(x, *[None] * x.ndim), tree)


def to_host(x: jax.Array) -> np.ndarray:
    """An array whole on this host, whichever devices and processes hold its parts."""
    if not (x.is_fully_addressable or x.is_fully_replicated):
        whole = NamedSharding(x.sharding.mesh, PartitionSpec())
        x = jax.jit(lambda y: y, out_shardings=whole)(x)
    return np.asarray(x)
