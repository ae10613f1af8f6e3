"""How the time of pair log-likelihoods grows with contexts, their length, responses and models.

Each quantity is varied with the others fixed; M = (1 + models) x responses are scored on each of N
contexts. The exponent is the slope of log time over log size, by least squares; a line through time
over size gives the seconds that a call takes whatever the size. Operations stand beside time: where
their exponents are equal, time follows the work. Needs no PyTorch.

With --devices the number of simulated devices is varied instead. They share the cores of one
machine, and a single one uses all of them. So the same work ought to take as long on n devices as
on one, and n times the work n times as long: strong and weak scaling are both rates of operations
over those of one device, and what they lack is the price of spreading work (exchanges, uneven
parts, smaller products).
"""

import argparse
import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import model_of, random_tokens
from benchmarks.pairs import check_close, shared_flops
from remid_jax.errors import UserError
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.sharding import MeshConfig, make_mesh, place

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
AXES = ("data", "fsdp")  # tensor would have to divide SmolLM2's three key-value heads
STRONG, WEAK = "strong", "weak"
POINT = ("contexts", "context_tokens", "response_tokens", "models")
Point = dict[str, int]  # of `POINT` -> size


def fit(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Exponent, and the value at size 0 of the line through values over sizes.

    >>> [round(v, 6) for v in fit([1, 2, 4], [3.0, 6.0, 12.0])]
    [1.0, 0.0]
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    exponent, intercept = np.polyfit(np.log(x), np.log(y), 1)[0], np.polyfit(x, y, 1)[1]
    return float(exponent), 0.0 if abs(intercept) < 1e-9 * y.max() else float(intercept)


def _contestant(engine: JaxEngine, point: Point, responses: int) -> h.Contestant:
    """Scores of all answers in all contexts."""
    n, length, tokens = point["contexts"], point["context_tokens"], point["response_tokens"]
    count = (1 + point["models"]) * responses
    contexts = random_tokens(engine.model, [length] * n, seed=6)
    answers = random_tokens(engine.model, [tokens] * count, seed=7)

    def run(r: int) -> np.ndarray:
        engine.clear()
        rows = [engine.score(x, answers) for x in contexts]
        return np.array([[y.sum() for y in row] for row in rows])

    layers, head = shared_flops(engine.config, length, count, tokens)
    return h.Contestant({"": run}, lambda r: (n * layers, n * head))


def _finite(r: int, found: Mapping[str, Any]) -> None:
    for name, sums in found.items():
        if not np.isfinite(sums).all():
            raise UserError(f"{name}: a log-likelihood is not finite")


def run(args: argparse.Namespace) -> h.Report:
    """Times every point in turns and fits each sweep, or times numbers of devices."""
    base = {key: getattr(args, key) for key in POINT}
    if args.devices > 1:
        return _over_devices(args, base)
    sweeps = {
        key: [{**base, key: n} for n in sorted({max(1, round(base[key] * f)) for f in factors})]
        for key, factors in FACTORS.items()
    }
    for key, points in sweeps.items():
        if len(points) < 3:
            raise UserError(f"--{key.replace('_', '-')} is too small to vary it three times")
    every = {str(p): p for points in sweeps.values() for p in points}
    engine = JaxEngine(model_of(args), longest=max(p["context_tokens"] for p in every.values()))
    contestants = {name: _contestant(engine, p, args.responses) for name, p in every.items()}
    products = h.ModelProducts(engine.config, engine.sizes.call)
    timed = h.contest("growth", contestants, args.rounds, _finite, products)

    rows, fits = [], []
    for key, points in sweeps.items():
        sizes, names = [float(p[key]) for p in points], list(map(str, points))
        times = [statistics.median(timed[name].seconds) for name in names]
        work = [sum(contestants[name].flops(0)) / 1e9 for name in names]
        rows += [
            {"varied": key, "size": n, "s": t, "GFLOP": w, "GFLOP/s": w / t}
            for n, t, w in zip(sizes, times, work, strict=True)
        ]
        (exponent, seconds), (of_work, left) = fit(sizes, times), fit(sizes, work)
        fits.append({
            "varied": key, "exponent of time": exponent, "of GFLOP": of_work,
            "s at size 0": seconds, "GFLOP at size 0": left,
        })  # fmt: skip
    report = h.Report()
    report.table("points", "one call of log_likelihood, median over rounds", rows)
    report.table("fits", "growth, by least squares", fits)
    return report


def _over_devices(args: argparse.Namespace, base: Point) -> h.Report:
    """Times the same work, and work in proportion, on 1, 2, 4 ... devices of each axis."""
    with contextlib.suppress(RuntimeError):  # JAX runs already, and keeps its devices
        jax.config.update("jax_num_cpu_devices", args.devices)
    if jax.device_count() < args.devices:
        there = f"there are {jax.device_count()}"
        raise UserError(f"--devices {args.devices} needs {args.devices} devices; {there}")
    counts = [2**k for k in range(args.devices.bit_length())]
    model = model_of(args)
    alone = JaxEngine(model, longest=args.context_tokens)
    contestants = {"one": _contestant(alone, base, args.responses)}
    for axis in AXES:
        for n in counts[1:]:
            placed = place(model.params, make_mesh(MeshConfig(**{axis: n})))
            spread_model = dataclasses.replace(model, params=placed)
            engine = JaxEngine(spread_model, longest=args.context_tokens)
            for kind, times in ((STRONG, 1), (WEAK, n)):
                made = _contestant(engine, base, times * args.responses)
                contestants[f"{axis}={n} {kind}"] = made

    def agree(r: int, found: Mapping[str, Any]) -> None:
        one = found["one"]
        for name, sums in found.items():
            same = sums[:, : one.shape[1]]
            check_close(f"one device and {name}", same, one, args.response_tokens, r)

    products = h.ModelProducts(model.config, alone.sizes.call)
    timed = h.contest("devices", contestants, args.rounds, agree, products)
    one = timed["one"].flops_per_s
    over = {n: statistics.median(h.quotients(t.flops_per_s, one)) for n, t in timed.items()}
    report = h.Report()
    report.contest("contestants", "one call of log_likelihood on simulated devices", timed)
    rows = [{"devices": name, "rate over one's": rate} for name, rate in over.items()]
    report.table("scaling", "operations a second beside one device", rows)
    return report


main = functools.partial(cli.command, "growth", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
