"""Likelihoods in bfloat16 beside float32: how much faster, and how far off.

A round is one context of `benchmarks.likelihood`. What the error does to R-EMI and the profile, a
run of the main job measures: `--config.model.dtype=auto`.
"""

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.likelihood import SIZES, shared_flops
from benchmarks.model import model_of, random_tokens
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.pretrained import HALF, in_half_precision

WHOLE = "float32"
TAKEN = ("contexts", "context-tokens", "responses", "response-tokens")


def run(args: argparse.Namespace) -> h.Report:
    """Times both types on the same work."""
    model, tokens = model_of(args), args.response_tokens
    contexts = random_tokens(model, [args.context_tokens] * args.contexts, seed=2)
    responses = random_tokens(model, [tokens] * args.responses, seed=3)

    engines = {WHOLE: JaxEngine(model), HALF: JaxEngine(in_half_precision(model))}

    def scores(engine: JaxEngine) -> Callable[[int], np.ndarray]:
        def score(r: int) -> np.ndarray:
            engine.clear()  # no cache from before is used
            return np.stack(engine.score(contexts[r % len(contexts)], responses))

        return score

    flops = shared_flops(model.config, args.context_tokens, len(responses), tokens)
    errors: dict[str, list[float]] = {"token": [], "response": []}

    def note(r: int, found: Mapping[str, Any]) -> None:
        off = found[HALF] - found[WHOLE]
        errors["token"].append(float(np.abs(off).max()))
        errors["response"].append(float(np.abs(off.mean(-1)).mean()))

    contestants = {n: h.Contestant({"": scores(e)}, lambda r: flops) for n, e in engines.items()}
    products = h.ModelProducts(model.config, engines[WHOLE].sizes.call)
    timed = h.contest("precision", contestants, args.rounds, products, note)
    report = h.Report()
    title = f"seconds for one context of {args.context_tokens} tokens, {len(responses)} responses"
    report.contest("contestants", title, timed)
    report.ratio(
        "ratio", timed[WHOLE].seconds, timed[HALF].seconds, "seconds of float32 / bfloat16"
    )
    report.figure("largest", errors["token"], "largest error of log q of a token, nats")
    report.figure("mean", errors["response"], "mean error of log q a token of a response, nats")
    return report


main = functools.partial(
    cli.command, "precision", __doc__, run, {name: SIZES[name] for name in TAKEN}
)

if __name__ == "__main__":
    raise SystemExit(main())
