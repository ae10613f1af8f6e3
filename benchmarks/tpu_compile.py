"""Does it fit a TPU? Compiles every program ahead of time, without a TPU, and reads what it needs.

For 8B shapes, at the sizes of configs/rpgbench_qwen3_8b.py and configs/corl_paper.py. Bytes are of
one chip; what chips exchange is counted with the trips of loops; operations are by formula. Needs
libtpu: pip install "remid_jax[aot]". With --json a run that was stopped goes on.
"""

import argparse
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # the chips are not there: nothing may look for them

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks import cli, tpu_programs
from benchmarks.collectives import collectives
from benchmarks.tpu_programs import HEADS, MODELS, PROGRAMS, TRAINING
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
SIZES = ("context", "call")  # flags on which what is found depends
DEFAULT = "v5e:2x4,v5p:2x2x1,v6e:2x4"
CONTEXT = 4096  # tokens of RPGBench's longest contexts


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser("tpu_compile", __doc__)
    parser.add_argument("--topologies", default=DEFAULT, help="separated by commas")
    parser.add_argument("--models", default="qwen3-8b,llama3-8b", help=", ".join(MODELS))
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="separated by commas")
    parser.add_argument("--mesh", default="", help="data,fsdp,tensor; default: the configs'")
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens of a context")
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


def _mesh_config(wanted: str, topology: str, program: str) -> MeshConfig:
    """The mesh that is asked for; or the configuration's, or tensor=chips where they are others."""
    chips = math.prod(map(int, topology.split(":")[1].split("x")))
    if not wanted:
        config = corl_paper if program in TRAINING else rpgbench_qwen3_8b
        mesh = MeshConfig(**config.get_config().mesh)
        return mesh if mesh.size == chips else MeshConfig(tensor=chips)
    try:
        mesh = MeshConfig(*map(int, wanted.split(",")))
    except (TypeError, ValueError):
        raise UserError(f"--mesh {wanted!r}: give three numbers, as 1,2,4") from None
    if mesh.size != chips:
        raise UserError(
            f"the mesh {mesh.data} x {mesh.fsdp} x {mesh.tensor} (data x fsdp x tensor) has "
            f"{mesh.size} places, {topology} has {chips} chips"
        )
    return mesh


def topology_mesh(topology: str, config: MeshConfig) -> Mesh:
    """A mesh over a topology's chips, none of which is there."""
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
    chips = np.array(found.devices).reshape(config.data, config.fsdp, config.tensor)
    return Mesh(chips, AXES, axis_types=(AxisType.Auto,) * 3)


def compiled(topology: str, mesh: Mesh, lower: Callable[[], Any]) -> dict[str, Any]:
    """What the compiler says of a program on one chip.

    Returns:
      "fits": whether arguments, results and temporaries fit the chip; "needed": bytes of all of
      them at the height; "arguments" and "temporary": bytes, None where the compiler gave up;
      "collectives": kind -> (times, bytes); "seconds" of compilation.
    """
    start = time.monotonic()
    kept = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)  # no chip is there to load it on
    found = {"fits": False, "needed": 0, "arguments": None, "temporary": None, "collectives": {}}
    try:
        with using(mesh):
            program = lower().compile()
    except Exception as e:
        used = next((m for p in _TOO_MUCH if (m := re.search(p, str(e)))), None)
        if used is None:
            raise UserError(f"{topology}: {str(e).strip().splitlines()[0]}") from e
        found["needed"] = int(float(used[1]) * (GIB if used[2] == "G" else 2**20))
    else:
        m = program.memory_analysis()
        whole = m.argument_size_in_bytes + m.output_size_in_bytes + m.temp_size_in_bytes
        needed = whole - m.alias_size_in_bytes + m.generated_code_size_in_bytes
        found |= {
            "fits": needed <= TOPOLOGIES[topology][1] * GIB, "needed": needed,
            "arguments": m.argument_size_in_bytes, "temporary": m.temp_size_in_bytes,
            "collectives": collectives(program.as_text()),
        }  # fmt: skip
    finally:
        jax.config.update("jax_enable_compilation_cache", kept)
    return {**found, "seconds": time.monotonic() - start}


def run(args: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """Compiles what is not in the JSON file yet; returns what is known of each program by name."""
    tasks = {}
    for t in args.topologies:
        for model in args.models:
            for p in args.programs:
                m = _mesh_config(args.mesh, t, p)
                tasks[f"{t} {m.data}x{m.fsdp}x{m.tensor} {model} {p}"] = (t, model, p, m)
    content = cli.provenance("tpu_compile", args, argv)
    done = _stored(args.json, content)
    meshes = {key: topology_mesh(t, m) for key, (t, *_, m) in tasks.items() if key not in done}
    for key, mesh in meshes.items():
        check_mesh(MODELS[tasks[key][1]], mesh)
    with progress("programs", len(tasks)) as advance:
        for key, (topology, model, program, _) in tasks.items():
            if mesh := meshes.get(key):
                lower = tpu_programs.lowering(model, program, mesh, args.context, args.call)
                done[key] = compiled(topology, mesh, lower)
                if args.json:
                    cli.write_json(args.json, {**content, "programs": done})
            advance(1)
    return {key: done[key] for key in tasks}


def _stored(file: Path | None, current: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run of the same commit, and of no changed files, found at the same sizes."""
    try:
        earlier = json.loads(file.read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        return {}
    if any(earlier.get("arguments", {}).get(k) != current["arguments"][k] for k in SIZES):
        return {}
    commit = current["commit"] or "-dirty"
    same = earlier.get("commit") == commit and not commit.endswith("-dirty")
    return dict(earlier["programs"]) if same else {}


def print_tables(programs: Mapping[str, Mapping[str, Any]]) -> None:
    """A table for each topology, mesh and model, and the head's two ways beside each other."""
    places: dict[str, dict[str, Mapping[str, Any]]] = {}
    for key, values in programs.items():
        place, name = key.rsplit(" ", 1)
        places.setdefault(place, {})[name] = values
    columns = ("program", "fits", "GiB a chip", "arguments", "temporary", "exchanged", "s")
    for place, found in places.items():
        print_whole(new_table(place, columns, [_row(n, values) for n, values in found.items()]))
        chunked, full = (found.get(name) for name in HEADS)
        if chunked and full and full["temporary"]:
            ratio = chunked["temporary"] / full["temporary"]
            print(f"temporary bytes of the head, chunked / full: {ratio:.3f}")


def _row(name: str, c: Mapping[str, Any]) -> tuple[str, ...]:
    sizes = (c[k] for k in ("needed", "arguments", "temporary"))
    exchanged = ", ".join(
        f"{times:,} {kind} {size / 1e9:.2f} GB" for kind, (times, size) in c["collectives"].items()
    )
    return (
        "sample, a token" if name == "sample" else name, "yes" if c["fits"] else "NO",
        *("-" if n is None else f"{n / GIB:.2f}" for n in sizes), exchanged or "nothing",
        f"{c['seconds']:.0f}",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where all fit, 1 where one does not, or 2 after one line of error."""
    argv = sys.argv[1:] if argv is None else list(argv)

    def compile_all() -> int:
        programs = run(_parse(argv), argv)
        print_tables(programs)
        return cli.OK if all(c["fits"] for c in programs.values()) else DOES_NOT_FIT

    return run_command(compile_all)


if __name__ == "__main__":
    sys.exit(main())
