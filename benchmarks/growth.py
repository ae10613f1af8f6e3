"""How the time of pair log-likelihoods grows with contexts, their length, responses and models.

Each quantity is varied with the others fixed; M = (1 + models) x responses are scored on each of N
contexts. The exponent is the slope of log time over log size, by least squares; a line through time
over size gives the seconds that a call takes whatever the size. Operations stand beside time: where
their exponents are equal, time follows the work. With --devices the number of simulated devices is
varied instead (see `benchmarks.devices`). Needs no PyTorch.
"""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import devices, gemm, program
from benchmarks.harness import Contestant, contest
from benchmarks.model import random_tokens
from benchmarks.pairs import shared_flops
from benchmarks.program import Report
from remid_jax.errors import UserError
from remid_jax.inference.engine import JaxEngine
from remid_jax.report.tables import new_table

SIZES = {
    "contexts": (2, 2, "contexts where they are fixed"),
    "context-tokens": (256, 24, "tokens of a context where they are fixed"),
    "response-tokens": (64, 8, "tokens of a response where they are fixed"),
    "models": (2, 1, "evaluated models beside golden where they are fixed"),
    "responses": (4, 2, "responses of golden and of each model"),
    "devices": (1, 1, "simulated devices; above 1 their number alone is varied"),
}
FACTORS = {  # of the fixed sizes
    "contexts": (0.5, 1, 1.5, 2),
    "context_tokens": (0.5, 1, 2, 4),
    "response_tokens": (0.25, 0.5, 1, 2),
    "models": (0.5, 1, 2, 4),
}


@dataclasses.dataclass(frozen=True)
class Point:
    """The sizes of one call of `log_likelihood`."""

    contexts: int
    context_tokens: int
    response_tokens: int
    models: int

    def __str__(self) -> str:
        return (
            f"N={self.contexts} context={self.context_tokens} response={self.response_tokens} "
            f"models={self.models}"
        )


def sweeps(base: Point) -> dict[str, list[Point]]:
    """Quantity -> points in which it alone differs, ascending."""
    return {
        key: [
            dataclasses.replace(base, **{key: n})
            for n in sorted({max(1, round(getattr(base, key) * f)) for f in factors})
        ]
        for key, factors in FACTORS.items()
    }


def fit(sizes: Sequence[float], values: Sequence[float]) -> dict[str, float]:
    """Exponent, and the line through values over sizes, both by least squares.

    >>> {k: round(v, 6) for k, v in fit([1, 2, 4], [3.0, 6.0, 12.0]).items()}
    {'exponent': 1.0, 'intercept': 0.0, 'slope': 3.0}
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    exponent = np.polyfit(np.log(x), np.log(y), 1)[0]
    slope, intercept = np.polyfit(x, y, 1)
    intercept = 0.0 if abs(intercept) < 1e-9 * y.max() else intercept  # rounding
    return {"exponent": float(exponent), "intercept": float(intercept), "slope": float(slope)}


def _contestant(engine: JaxEngine, point: Point, responses: int) -> Contestant:
    count = (1 + point.models) * responses
    contexts = random_tokens(engine.model, [point.context_tokens] * point.contexts, seed=6)
    answers = random_tokens(engine.model, [point.response_tokens] * count, seed=7)

    def run(r: int) -> np.ndarray:
        engine.clear()
        return np.stack([sums for _, sums in engine.log_likelihood(contexts, answers)])

    layers, head = shared_flops(engine.config, point.context_tokens, count, point.response_tokens)
    return Contestant({"": run}, lambda r: (point.contexts * layers, point.contexts * head))


def _finite(r: int, found: Mapping[str, Any]) -> None:
    for name, sums in found.items():
        if not np.isfinite(sums).all():
            raise UserError(f"{name}: a log-likelihood is not finite")


def run(args: argparse.Namespace) -> Report:
    """Times every point in turns and fits each sweep."""
    base = Point(args.contexts, args.context_tokens, args.response_tokens, args.models)
    if args.devices > 1:
        return devices.run(args, lambda e, times: _contestant(e, base, times * args.responses))
    swept = sweeps(base)
    for key, points in swept.items():
        if len(points) < 3:
            raise UserError(f"--{key.replace('_', '-')} is too small to vary it three times")
    model = program.load_model(args)
    engine = JaxEngine(model, longest=max(p.context_tokens for p in swept["context_tokens"]))
    points = {str(p): p for some in swept.values() for p in some}
    contestants = {name: _contestant(engine, p, args.responses) for name, p in points.items()}
    products = gemm.engine_products(engine)
    timed = contest("growth", contestants, args.rounds, _finite, products)
    return _report(swept, timed.seconds, {n: sum(c.flops(0)) for n, c in contestants.items()})


def _report(
    swept: Mapping[str, Sequence[Point]], seconds: Mapping[str, list[float]], flops: Mapping
) -> Report:
    rows, fits, found = [], [], {}
    for key, points in swept.items():
        sizes = [getattr(p, key) for p in points]
        times = [statistics.median(seconds[str(p)]) for p in points]
        work = [flops[str(p)] for p in points]
        time_fit, work_fit = fit(sizes, times), fit(sizes, work)
        found[key] = {
            "sizes": sizes, "seconds": times, "flops": work,
            "seconds_of_rounds": [seconds[str(p)] for p in points],
            "time_fit": time_fit, "flops_fit": work_fit,
        }  # fmt: skip
        rows += [
            (key, str(n), f"{t:.4g}", f"{w / 1e9:.4g}", f"{w / t / 1e9:.3g}")
            for n, t, w in zip(sizes, times, work, strict=True)
        ]
        fits.append((
            key, f"{time_fit['exponent']:.2f}", f"{work_fit['exponent']:.2f}",
            f"{time_fit['intercept']:.3g}", f"{work_fit['intercept'] / 1e9:.3g}",
        ))  # fmt: skip
    columns = ("varied", "size", "s", "GFLOP", "GFLOP/s")
    fitted = ("varied", "exponent of time", "of GFLOP", "s at size 0", "GFLOP at size 0")
    tables = [
        new_table("one call of log_likelihood, median over rounds", columns, rows),
        new_table("growth, by least squares", fitted, fits),
    ]
    return Report({"sweeps": found}, tables)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    return program.command("growth", __doc__, run, SIZES, argv)


if __name__ == "__main__":
    sys.exit(main())
