"""Does it fit a TPU? Compiles every program ahead of time, without a TPU, and reads what it needs.

For 8B shapes, at the sizes of configs/rpgbench_qwen3_8b.py and configs/corl_paper.py. Bytes are of
one chip. Needs libtpu: pip install "remid_jax[aot]".
"""

import argparse
import itertools
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # the chips are not there: nothing may look for them

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks import cli
from benchmarks.tpu_programs import HEADS, MODELS, PROGRAMS, TRAINING, lowering
from configs import corl_paper, rpgbench_qwen3_8b
from remid_jax.cli import run_command
from remid_jax.errors import UserError, nearest
from remid_jax.models.pretrained import check_mesh
from remid_jax.models.sharding import AXES, MeshConfig, using
from remid_jax.progress import progress
from remid_jax.report.tables import new_table, print_whole

GIB = 2**30
TOPOLOGIES = {  # name -> type of the chips for the TPU runtime, GiB of one that programs may use
    "v5e:1x1": ("v5litepod-1", 15.75),
    "v5e:2x4": ("v5litepod-8", 15.75),
    "v5p:2x2x1": ("v5p-8", 95),
    "v6e:2x4": ("v6e-8", 31.25),
}
# How the compiler says that memory does not suffice, and how much it would need.
_TOO_MUCH = (r"Used ([\d.]+)([MG]) of [\d.]+[MG] hbm", r"temporaries \(([\d.]+)([MG])\) exceeds")
DOES_NOT_FIT = 1
COLUMNS = ("program", "fits", "GiB a chip", "arguments", "temporary", "s")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.new_parser("tpu_compile", __doc__)
    default = "v5e:2x4,v5p:2x2x1,v6e:2x4"
    parser.add_argument("--topologies", default=default, help="separated by commas")
    parser.add_argument("--models", default="qwen3-8b,llama3-8b", help=", ".join(MODELS))
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="separated by commas")
    parser.add_argument("--context", type=int, default=4096, help="tokens of a context")
    parser.add_argument(
        "--call", type=int, default=0, help="tokens of responses scored at once; default: as on TPU"
    )
    args = parser.parse_args(argv)
    if args.context < 1 or args.call < 0:
        raise UserError("--context must be at least 1, and --call at least 0")
    for flag, known in (("topologies", TOPOLOGIES), ("models", MODELS), ("programs", PROGRAMS)):
        names = getattr(args, flag).split(",")
        setattr(args, flag, names)
        for name in names:
            if name not in known:
                raise UserError(f"--{flag}: unknown {name!r}{nearest(name, known)}")
    return args


def topology_mesh(topology: str, program: str) -> Mesh:
    """The mesh of a program's configuration over a topology's chips, none of which is there.

    It is tensor=chips where the configuration's has another number of chips.
    """
    os.environ.update({
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": TOPOLOGIES[topology][0], "TPU_WORKER_HOSTNAMES": "localhost",
    })  # fmt: skip
    from jax.experimental import topologies

    single = {"chips_per_host_bounds": (1, 1, 1)} if topology == "v5e:1x1" else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **single)
    except Exception as e:  # the plugin fails in its own ways
        reason = str(e).strip().splitlines()[0]
        raise UserError(
            f"no compiler for TPU ({reason}); pip install 'remid_jax[aot]' brings libtpu"
        ) from None
    config = corl_paper if program in TRAINING else rpgbench_qwen3_8b
    mesh, chips = MeshConfig(**config.get_config().mesh), np.array(found.devices)
    if mesh.size != chips.size:
        mesh = MeshConfig(tensor=chips.size)
    placed = chips.reshape(mesh.data, mesh.fsdp, mesh.tensor)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def compiled(topology: str, mesh: Mesh, lower: Callable[[], Any]) -> dict[str, Any]:
    """What the compiler says of a program on one chip.

    Returns:
      "fits": whether arguments, results and temporaries fit the chip; "needed": bytes of all of
      them at the height; "arguments" and "temporary": bytes, None where the compiler gave up;
      "seconds" of compilation.
    """
    start = time.monotonic()
    kept = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)  # no chip is there to load it on
    arguments = temporary = None
    try:
        with using(mesh):
            m = lower().compile().memory_analysis()
    except Exception as e:
        used = next((m for p in _TOO_MUCH if (m := re.search(p, str(e)))), None)
        if used is None:
            raise UserError(f"{topology}: {str(e).strip().splitlines()[0]}") from e
        needed, fits = int(float(used[1]) * (GIB if used[2] == "G" else 2**20)), False
    else:
        arguments, temporary = m.argument_size_in_bytes, m.temp_size_in_bytes
        results = m.output_size_in_bytes - m.alias_size_in_bytes
        needed = arguments + temporary + results + m.generated_code_size_in_bytes
        fits = needed <= TOPOLOGIES[topology][1] * GIB
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
    return {
        "fits": fits, "needed": needed, "arguments": arguments, "temporary": temporary,
        "seconds": time.monotonic() - start,
    }  # fmt: skip


def run(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Compiles the programs; returns what is known of each by its name."""
    tasks, found = {}, {}
    for topology, model, program in itertools.product(args.topologies, args.models, args.programs):
        mesh = topology_mesh(topology, program)
        check_mesh(MODELS[model], mesh)
        shape = "x".join(map(str, mesh.devices.shape))
        tasks[f"{topology} {shape} {model} {program}"] = (topology, mesh, model, program)
    with progress("programs", len(tasks)) as advance:
        for key, (topology, mesh, model, program) in tasks.items():
            lower = lowering(model, program, mesh, args.context, args.call)
            found[key] = compiled(topology, mesh, lower)
            advance(1)
    return found


def print_tables(programs: Mapping[str, Mapping[str, Any]]) -> None:
    """A table for each topology, mesh and model, and the head's two ways beside each other."""
    places: dict[str, dict[str, Mapping[str, Any]]] = {}
    for key, values in programs.items():
        place, name = key.rsplit(" ", 1)
        places.setdefault(place, {})[name] = values
    for place, found in places.items():
        print_whole(new_table(place, COLUMNS, [_row(n, values) for n, values in found.items()]))
        chunked, full = (found.get(name) for name in HEADS)
        if chunked and full and full["temporary"]:
            ratio = chunked["temporary"] / full["temporary"]
            print(f"temporary bytes of the head, chunked / full: {ratio:.3f}")


def _row(name: str, c: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = (c[k] for k in ("needed", "arguments", "temporary"))
    return (
        "sample, a token" if name == "sample" else name, "yes" if c["fits"] else "NO",
        *("-" if n is None else f"{n / GIB:.2f}" for n in sizes), f"{c['seconds']:.0f}",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where all fit, 1 where one does not, or 2 after one line of error."""
    argv = sys.argv[1:] if argv is None else list(argv)

    def compile_all() -> int:
        args = _parse(argv)
        programs = run(args)
        print_tables(programs)
        cli.write_json("tpu_compile", args, argv, {"programs": programs})
        return cli.OK if all(c["fits"] for c in programs.values()) else DOES_NOT_FIT

    return run_command(compile_all)


if __name__ == "__main__":
    sys.exit(main())
