"""Do numbers depend on the mesh? Scores, draws and updates on simulated devices beside one's.

A tiny random model in float32 scores and draws, and takes one step of SFT and one of GRPO on stored
completions. The bounds are those of rounding: 5e-5 nats a token, 1e-5 of a metric, and 1e-4 of a
gradient's norm, whose sum of thousands of squares is rounded in more places.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import program
from benchmarks.grpo import LORA, OPTIMISER, filled_adapter
from benchmarks.model import SMALL, random_model, random_tokens
from remid_jax.cli import run_command
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.sampling import SamplingConfig, sample
from remid_jax.models.adapters import Adapter, adapted_structure
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import MeshConfig, make_mesh, place, place_rows, using
from remid_jax.progress import progress
from remid_jax.report.tables import new_table, print_whole
from remid_jax.training.groups import Example, GroupedBatch, group_examples
from remid_jax.training.grpo import Completions, GrpoConfig
from remid_jax.training.optimiser import init_state
from remid_jax.training.updates import grpo_update, score, sft_update

ONE = (1, 1, 1)
MESHES = ((2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2), (2, 4, 1), (1, 8, 1))
DEVICES = 8
BOUNDS = {
    "log q": 5e-5, "log q of draws": 5e-5, "other tokens": 0,
    "SFT": 1e-5, "GRPO": 1e-5, "gradient norm": 1e-4,
}  # fmt: skip
DIFFERENT = 1
NORM = "grad_norm"
Found = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Work:
    """What is computed on every mesh; all of it lies on one device.

    Attributes:
      model, adapter: random ones.
      contexts, responses: token ids, of lengths that no mesh divides.
      groups: completions, all of whose tokens are scored.
      known: what GRPO knows of them.
    """

    model: LanguageModel
    adapter: Adapter
    contexts: list[list[int]]
    responses: list[list[int]]
    groups: GroupedBatch
    known: Completions


def work() -> Work:
    """Small, and the same in every run."""
    model = random_model(SMALL)
    adapter = filled_adapter(model, seed=1)
    rng = np.random.default_rng(0)
    prompts = random_tokens(model, rng.integers(5, 30, 8), seed=1)
    drawn = random_tokens(model, rng.integers(3, 9, 32), seed=2)
    rows = [[Example(p, drawn[4 * i + g]) for g in range(4)] for i, p in enumerate(prompts)]
    groups = group_examples(rows, SMALL.max_positions)
    graphdef, _ = adapted_structure(model.config, LORA)
    params = nnx.merge_state(model.params, adapter.params)
    old = np.asarray(score(params, groups, graphdef=graphdef)) - 0.1
    known = Completions(
        old_log_probs=old, reference_log_probs=old - 0.05,
        advantages=rng.standard_normal(old.shape[:2]).astype(np.float32),
        mask=np.asarray(groups.weights) > 0, truncated=np.zeros(old.shape[:2], bool),
    )  # fmt: skip
    contexts = random_tokens(model, rng.integers(20, 90, 5), seed=3)
    responses = random_tokens(model, rng.integers(4, 25, 11), seed=4)
    return Work(model, adapter, contexts, responses, groups, known)


def found_on(shape: Sequence[int], w: Work) -> Found:
    """All numbers on a mesh (data, fsdp, tensor), as JSON holds them."""
    mesh = make_mesh(MeshConfig(*shape))
    placed = dataclasses.replace(w.model, params=place(w.model.params, mesh))
    pairs = pair_log_likelihoods(placed, w.contexts, w.responses)
    draws = sample(placed, w.contexts, SamplingConfig(max_tokens=6, temperature=0.8, top_p=0.9))
    graphdef, _ = adapted_structure(w.model.config, LORA)
    adapter = place(w.adapter.params, mesh)
    groups, known = place_rows((w.groups, w.known), mesh)
    how = {"graphdef": graphdef, "optimiser": OPTIMISER}

    def state() -> Any:
        return init_state(jax.tree.map(jnp.copy, adapter), OPTIMISER)  # an update uses it up

    with using(mesh):
        _, sft = sft_update(placed.params, state(), groups, jax.random.key(0), **how)
        _, grpo = grpo_update(
            placed.params, state(), groups, known, on_policy=False,
            grpo=GrpoConfig(kl_coefficient=0.1), **how,
        )  # fmt: skip
    return {
        "log_q": (pairs.sums / pairs.num_tokens).tolist(),
        "tokens": [list(d.tokens) for d in draws],
        "draws_log_q": [d.log_probs.tolist() for d in draws],
        "sft": {k: float(v) for k, v in sft.items()},
        "grpo": {k: float(v) for k, v in grpo.items()},
    }


def differences(found: Found, one: Found) -> dict[str, float]:
    """Key of `BOUNDS` -> the largest difference; infinite where counts differ or one is no number.

    Log-probabilities in nats a token; metrics absolute, or relative where they exceed 1; norms
    relative.
    """
    kinds = ("sft", "grpo")
    return {
        "log q": _largest(found["log_q"], one["log_q"]),
        "log q of draws": max(map(_largest, found["draws_log_q"], one["draws_log_q"])),
        "other tokens": sum(a != b for a, b in zip(found["tokens"], one["tokens"], strict=True)),
        "SFT": _metrics(found["sft"], one["sft"]),
        "GRPO": _metrics(found["grpo"], one["grpo"]),
        "gradient norm": max(_largest(found[k][NORM] / one[k][NORM], 1.0) for k in kinds),
    }


def _largest(a: Any, b: Any) -> float:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape:
        return float("inf")
    apart = float(np.abs(x - y).max(initial=0.0))
    return apart if np.isfinite(apart) else float("inf")


def _metrics(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    if a.keys() != b.keys():
        return float("inf")
    return max(_largest(a[k], b[k]) / max(1.0, abs(b[k])) for k in b if k != NORM)


def run(argv: Sequence[str], args: argparse.Namespace) -> Found:
    """Computes everything on each mesh.

    Raises:
      UserError: JAX runs already with fewer devices.
    """
    program.simulate(DEVICES, "benchmarks.meshes")
    w, found = work(), {}
    with progress("meshes", 1 + len(MESHES)) as advance:
        for shape in (ONE, *MESHES):
            found[shape] = found_on(shape, w)
            advance(1)
    one = found.pop(ONE)
    apart = {"x".join(map(str, s)): differences(f, one) for s, f in found.items()}
    return {**program.provenance("meshes", args, argv), "bounds": BOUNDS, "meshes": apart}


def exceeded(meshes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What differs by more than rounding.

    >>> exceeded({"2x1x1": {"log q": 1e-6}, "1x2x1": {"log q": 1e-3}})
    ['1x2x1: log q differs by 0.001, at most 5e-05 is rounding']
    """
    return [
        f"{mesh}: {what} differs by {apart:.2g}, at most {BOUNDS[what]:g} is rounding"
        for mesh, values in meshes.items()
        for what, apart in values.items()
        if not apart <= BOUNDS[what]
    ]


def _in_json(meshes: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """The differences; None for infinite ones, which JSON does not know."""
    return {
        mesh: {what: v if math.isfinite(v) else None for what, v in values.items()}
        for mesh, values in meshes.items()
    }


def print_table(meshes: Mapping[str, Mapping[str, float]]) -> None:
    """A row for each mesh, and the bounds."""
    rows = [
        (mesh, math.prod(map(int, mesh.split("x"))), *(f"{v:.1e}" for v in values.values()))
        for mesh, values in meshes.items()
    ]
    rows.append(("at most", "", *(f"{v:.1e}" for v in BOUNDS.values())))
    columns = ("data x fsdp x tensor", "devices", *BOUNDS)
    print_whole(new_table("largest difference from one device", columns, rows))


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0 where nothing differs but by rounding, 1 elsewhere, 2 after an error."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = program.Parser("meshes", __doc__)
    parser.add_json()

    def compare() -> int:
        args = parser.parse_args(argv)
        found = run(argv, args)
        print_table(found["meshes"])
        if args.json:
            program.write_json(args.json, {**found, "meshes": _in_json(found["meshes"])})
        lines = exceeded(found["meshes"])
        for line in lines:
            print(line)
        return DIFFERENT if lines else program.OK

    return run_command(compare)


if __name__ == "__main__":
    sys.exit(main())
