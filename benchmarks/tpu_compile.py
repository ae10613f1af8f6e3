"""Does it fit a TPU? Compiles every program ahead of time, without a TPU, and reads what it needs.

For 8B shapes, at the sizes of configs/rpgbench_qwen3_8b.py and configs/corl_paper.py. Bytes are of
one chip; what chips exchange is counted with the trips of loops; operations are by formula. Needs
libtpu: pip install "remid_jax[aot]". With --json a run that was stopped goes on.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"  # the chips are not there: nothing may look for them

from jax.sharding import Mesh

from benchmarks import program, tpu_programs
from benchmarks.aot import GIB, TOPOLOGIES, Compiled, check_places, compiled, topology_mesh
from benchmarks.tpu_programs import MODELS, Lower, Shapes
from configs import corl_paper, rpgbench_qwen3_8b
from remid_jax.cli import run_command
from remid_jax.errors import UserError, nearest
from remid_jax.inference.sizes import HEAD
from remid_jax.models.pretrained import check_mesh
from remid_jax.models.sharding import MeshConfig
from remid_jax.progress import progress
from remid_jax.report.tables import new_table, print_whole

SCORING, TRAINING = ("prefill", "score", "sample"), ("rollout", "reward", "sft", "grpo")
HEADS = ("head", "head-full")
PROGRAMS = (*SCORING, *TRAINING, *HEADS)
DOES_NOT_FIT = 1
SIZES = ("context", "call")  # flags on which what is found depends
DEFAULT = ("v5e:2x4", "v5p:2x2x1", "v6e:2x4")
CONTEXT = 4096  # tokens of RPGBench's longest contexts
RESPONSE = 256  # tokens of a response


@dataclasses.dataclass(frozen=True)
class Task:
    """One program to compile."""

    topology: str
    model: str
    program: str
    mesh: MeshConfig

    @property
    def key(self) -> str:
        """Names it in the JSON file."""
        m = self.mesh
        return f"{self.topology} {m.data}x{m.fsdp}x{m.tensor} {self.model} {self.program}"


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = program.Parser("tpu_compile", __doc__)
    parser.add_argument("--topologies", default=",".join(DEFAULT), help="separated by commas")
    parser.add_argument("--models", default="qwen3-8b,llama3-8b", help=", ".join(MODELS))
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="separated by commas")
    parser.add_argument("--mesh", default="", help="data,fsdp,tensor; default: the configs'")
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens of a context")
    parser.add_argument(
        "--call", type=int, default=0, help="tokens of responses scored at once; default: as on TPU"
    )
    parser.add_json()
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


def _mesh(args: argparse.Namespace, topology: str, name: str) -> MeshConfig:
    """What is asked for; or the configuration's mesh, or one of heads where chips are others."""
    if args.mesh:
        try:
            return MeshConfig(*map(int, args.mesh.split(",")))
        except (TypeError, ValueError):
            raise UserError(f"--mesh {args.mesh!r}: give three numbers, as 1,2,4") from None
    wanted = corl_paper if name in TRAINING else rpgbench_qwen3_8b
    config = MeshConfig(**wanted.get_config().mesh)
    chips = TOPOLOGIES[topology].chips
    return config if config.size == chips else MeshConfig(tensor=chips)


def _lower(task: Task, mesh: Mesh, context: int, call: int) -> Lower:
    shapes = Shapes(MODELS[task.model], mesh, "bfloat16")
    if task.program in HEADS:
        chunk = HEAD if task.program == "head" else shapes.config.vocab_size
        return tpu_programs.head(shapes, context, chunk)
    if task.program in SCORING:
        config = rpgbench_qwen3_8b.get_config()
        return tpu_programs.scoring(shapes, config, context, RESPONSE, call)[task.program]
    config = corl_paper.get_config()
    return tpu_programs.training(shapes, config, config.max_prompt_tokens)[task.program]


def run(args: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """Compiles what is not in the JSON file yet; returns its content.

    Raises:
      UserError: before anything is compiled: a mesh that has not as many places as a topology has
        chips, or that does not divide a model; or there is no compiler.
    """
    tasks = [
        Task(t, m, p, _mesh(args, t, p))
        for t in args.topologies for m in args.models for p in args.programs
    ]  # fmt: skip
    for task in tasks:
        check_places(task.topology, task.mesh)
    content = program.provenance("tpu_compile", args, argv)
    done = _stored(args.json, content)
    meshes = {t: topology_mesh(t.topology, t.mesh) for t in tasks if t.key not in done}
    for task, mesh in meshes.items():
        check_mesh(MODELS[task.model], mesh)
    with progress("programs", len(tasks)) as advance:
        for task in tasks:
            if mesh := meshes.get(task):
                found = compiled(task.topology, mesh, _lower(task, mesh, args.context, args.call))
                done[task.key] = dataclasses.asdict(found)
                if args.json:
                    program.write_json(args.json, {**content, "programs": done})
            advance(1)
    return {**content, "programs": {task.key: done[task.key] for task in tasks}}


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
    places = dict.fromkeys(key.rsplit(" ", 1)[0] for key in programs)
    for place in places:
        found = {k.split()[-1]: v for k, v in programs.items() if k.rsplit(" ", 1)[0] == place}
        columns = ("program", "fits", "GiB a chip", "arguments", "temporary", "exchanged", "s")
        rows = [_row(name, Compiled(**values)) for name, values in found.items()]
        print_whole(new_table(place, columns, rows))
        chunked, full = (found.get(name) for name in HEADS)
        if chunked and full and full["temporary"]:
            ratio = chunked["temporary"] / full["temporary"]
            print(f"temporary bytes of the head, chunked / full: {ratio:.3f}")


def _row(name: str, c: Compiled) -> tuple[str, ...]:
    def gib(n: int | None) -> str:
        return "-" if n is None else f"{n / GIB:.2f}"

    exchanged = ", ".join(
        f"{times:,} {kind} {size / 1e9:.2f} GB" for kind, (times, size) in c.collectives.items()
    )
    return (
        "sample, a token" if name == "sample" else name, "yes" if c.fits else "NO",
        gib(c.needed), gib(c.arguments), gib(c.temporary), exchanged or "nothing",
        f"{c.seconds:.0f}",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where all fit, 1 where one does not, or 2 after one line of error."""
    argv = sys.argv[1:] if argv is None else list(argv)

    def compile_all() -> int:
        programs = run(_parse(argv), argv)["programs"]
        print_tables(programs)
        return program.OK if all(c["fits"] for c in programs.values()) else DOES_NOT_FIT

    return run_command(compile_all)


if __name__ == "__main__":
    sys.exit(main())
