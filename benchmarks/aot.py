"""Compiles for a TPU topology without a TPU: what memory it needs, what chips exchange."""

import dataclasses
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks.collectives import collectives
from remid_jax.errors import UserError
from remid_jax.models.sharding import AXES, MeshConfig, using

GIB = 2**30
# How the compiler says that memory does not suffice, and how much it would need.
_TOO_MUCH = (r"Used ([\d.]+)([MG]) of [\d.]+[MG] hbm", r"temporaries \(([\d.]+)([MG])\) exceeds")


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips that stand together.

    Attributes:
      accelerator: their type, as the TPU runtime names it.
      chips: how many.
      usable: bytes of a chip's memory that programs may use.
    """

    accelerator: str
    chips: int
    usable: int


TOPOLOGIES = {
    "v5e:1x1": Topology("v5litepod-1", 1, int(15.75 * GIB)),
    "v5e:2x4": Topology("v5litepod-8", 8, int(15.75 * GIB)),
    "v5p:2x2x1": Topology("v5p-8", 4, int(95 * GIB)),
    "v6e:2x4": Topology("v6e-8", 8, int(31.25 * GIB)),
}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program on one chip.

    Attributes:
      fits: whether arguments, results and temporaries fit the chip.
      needed: bytes of all of them at the height.
      arguments, temporary: bytes; None where the compiler gave up.
      collectives: kind -> (times, bytes).
      seconds: of compilation.
    """

    fits: bool
    needed: int
    arguments: int | None
    temporary: int | None
    collectives: Mapping[str, tuple[int, int]]
    seconds: float


def _topology(name: str) -> Topology:
    if name not in TOPOLOGIES:
        raise UserError(f"unknown topology {name!r}; choose among {', '.join(TOPOLOGIES)}")
    return TOPOLOGIES[name]


def topology_devices(name: str) -> list[Any]:
    """The chips of a topology, none of which is there.

    Raises:
      UserError: an unknown topology, or no TPU compiler.
    """
    accelerator = _topology(name).accelerator
    os.environ.update({
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": accelerator, "TPU_WORKER_HOSTNAMES": "localhost",
    })  # fmt: skip
    from jax.experimental import topologies

    single = {"chips_per_host_bounds": (1, 1, 1)} if name == "v5e:1x1" else {}
    try:
        return list(topologies.get_topology_desc(
            platform="tpu", topology_name=name, **single
        ).devices)  # fmt: skip
    except Exception as e:  # the plugin fails in its own ways
        reason = str(e).strip().splitlines()[0]
        raise UserError(
            f"no compiler for TPU ({reason}); pip install 'remid_jax[aot]' brings libtpu"
        ) from None


def check_places(name: str, config: MeshConfig) -> None:
    """Refuses a mesh that has not one place for each chip of a topology.

    Raises:
      UserError: an unknown topology, or a mesh of another size.
    """
    chips = _topology(name).chips
    if config.size != chips:
        raise UserError(
            f"the mesh {config.data} x {config.fsdp} x {config.tensor} (data x fsdp x tensor) has "
            f"{config.size} places, {name} has {chips} chips"
        )


def topology_mesh(name: str, config: MeshConfig) -> Mesh:
    """The mesh over a topology's chips.

    Raises:
      UserError: as of `check_places`, or no compiler.
    """
    check_places(name, config)
    places = np.array(topology_devices(name)).reshape(config.data, config.fsdp, config.tensor)
    return Mesh(places, AXES, axis_types=(AxisType.Auto,) * 3)


def compiled(name: str, mesh: Mesh, lower: Callable[[], Any]) -> Compiled:
    """Compiles a program.

    Args:
      name: of the topology.
      mesh: of its chips.
      lower: gives the lowered program.

    Raises:
      UserError: the compiler fails for another reason than memory.
    """
    start = time.monotonic()
    kept = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)  # no chip is there to load it on
    try:
        with using(mesh):
            program = lower().compile()
    except Exception as e:
        seconds = time.monotonic() - start
        used = next((m for p in _TOO_MUCH if (m := re.search(p, str(e)))), None)
        if used is None:
            raise UserError(f"{name}: {str(e).strip().splitlines()[0]}") from e
        size = float(used[1]) * (GIB if used[2] == "G" else 2**20)
        return Compiled(False, int(size), None, None, {}, seconds)
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
    memory = program.memory_analysis()
    needed = (
        memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes + memory.generated_code_size_in_bytes
    )  # fmt: skip
    return Compiled(
        needed <= TOPOLOGIES[name].usable, needed, memory.argument_size_in_bytes,
        memory.temp_size_in_bytes, collectives(program.as_text()), time.monotonic() - start,
    )  # fmt: skip
