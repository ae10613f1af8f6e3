"""Strong and weak scaling over simulated devices: `benchmarks.growth --devices`.

Simulated devices share the cores of one machine, and a single one uses all of them. So the same
work ought to take as long on n devices as on one, and n times the work n times as long: strong and
weak scaling are both rates of operations over those of one device, and what they lack is the price
of spreading work (exchanges, uneven parts, smaller products).
"""

import argparse
import dataclasses
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import gemm, program
from benchmarks.harness import Contestant, contest
from benchmarks.pairs import check_close
from benchmarks.program import Report
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.sharding import MeshConfig, make_mesh, place
from remid_jax.report.tables import new_table

AXES = ("data", "fsdp")  # tensor would have to divide SmolLM2's three key-value heads
STRONG, WEAK = "strong", "weak"
Make = Callable[[JaxEngine, int], Contestant]  # of an engine and a multiple of the responses


def _name(axis: str, count: int, kind: str) -> str:
    return f"{axis}={count} {kind}"


def run(args: argparse.Namespace, make: Make) -> Report:
    """Times the same work, and work in proportion, on 1, 2, 4 ... devices of each axis.

    Raises:
      UserError: there are fewer devices.
    """
    program.simulate(args.devices, f"--devices {args.devices}")
    counts = program.doubled(args.devices)
    model = program.load_model(args)
    contestants = {}
    for axis in AXES:
        for n in counts[1:]:
            mesh = make_mesh(MeshConfig(**{axis: n}))
            spread = dataclasses.replace(model, params=place(model.params, mesh))
            engine = JaxEngine(spread, longest=args.context_tokens)
            contestants[_name(axis, n, STRONG)] = make(engine, 1)
            contestants[_name(axis, n, WEAK)] = make(engine, n)
    alone = JaxEngine(model, longest=args.context_tokens)
    contestants = {"one": make(alone, 1), **contestants}
    timed = contest(
        "devices", contestants, args.rounds, _agree(args.response_tokens),
        gemm.engine_products(alone),
    )  # fmt: skip
    one = timed.rates["one"]
    over = {
        name: statistics.median(a / b for a, b in zip(rates, one, strict=True))
        for name, rates in timed.rates.items()
    }
    found = {
        axis: {
            kind: [1.0, *(over[_name(axis, n, kind)] for n in counts[1:])]
            for kind in (STRONG, WEAK)
        }
        for axis in AXES
    }  # fmt: skip
    rows = [
        (name, f"{statistics.median(s):.4g}", f"{min(s):.4g}-{max(s):.4g}", f"{over[name]:.2f}")
        for name, s in timed.seconds.items()
    ]  # fmt: skip
    columns = ("devices", "s", "min-max", "rate over one's")
    table = new_table("one call of log_likelihood on simulated devices", columns, rows)
    figures = {"devices": counts, "scaling": found, "contestants": program.contest_json(timed)}
    return Report(figures, [table])


def _agree(tokens: int) -> Callable[[int, Mapping[str, Any]], None]:
    """A check that all devices find the sums of one."""

    def agree(r: int, found: Mapping[str, Any]) -> None:
        one = found["one"]
        for name, sums in found.items():
            check_close(f"one device and {name}", sums[:, : one.shape[1]], one, tokens, r)

    return agree
