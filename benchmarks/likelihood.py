"""Pair log-likelihoods for R-EMID: our engine beside the reference's way and careful PyTorch.

A round is one context: every response is scored on it. `reference` runs context and response in one
pass for each pair and computes all logits, as the published reference does; `cached` computes the
context once and expands its cache over batches. The fastest batch size of the warm-up is taken.
"""

import argparse
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import model_of, random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops, head_flops, score_flops
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.decoder import DecoderConfig

SIZES = {
    "contexts": (16, 6, "contexts; round r takes the r-th"),
    "context-tokens": (1000, 50, "tokens of a context, within 4 %"),
    "models": (2, 2, "evaluated models whose responses are scored, beside golden"),
    "responses": (32, 8, "responses of golden and of each model"),
    "response-tokens": (64, 12, "tokens of a response"),
    "reference-pairs": (8, 4, "pairs of a round that the reference runs"),
}
REFERENCE_BATCHES, CACHED_BATCHES = (1, 4, 8), (1, 4, 8, 32)
OURS, CACHED, REFERENCE = "ours", "cached", "reference"
TOLERANCE = 5e-5  # nats per token


def check_close(who: str, sums: np.ndarray, expected: np.ndarray, tokens: int, r: int) -> None:
    """Refuses sums of responses of so many tokens that differ by more than rounding in a round."""
    worst = float(np.abs(sums - expected).max()) / tokens
    if not worst <= TOLERANCE:
        raise UserError(
            f"{who} differ by {worst:.2g} nats per token in round {r} (at most {TOLERANCE:g} is "
            "rounding); no time is reported"
        )


def shared_flops(c: DecoderConfig, context: int, count: int, tokens: int) -> h.Flops:
    """Operations of `count` responses on one context that is run once."""
    head = head_flops(c, 1 + count * (tokens - 1))
    every = extend_flops(c, context) + head_flops(c, 1) + count * score_flops(c, context, tokens)
    return every - head, head


def run(args: argparse.Namespace) -> h.Report:
    """Times all contestants."""
    if args.response_tokens < 2:
        raise UserError("--response-tokens is 1; it must be at least 2")
    from benchmarks import torch_side

    model, tokens = model_of(args), args.response_tokens
    theirs, engine, c = torch_side.TorchModel(model), JaxEngine(model), model.config
    slack = args.context_tokens // 25
    lengths = np.random.default_rng(1).integers(-slack, slack + 1, args.contexts)
    contexts = random_tokens(model, args.context_tokens + lengths, seed=2)
    count = (1 + args.models) * args.responses
    responses = random_tokens(model, [tokens] * count, seed=3)
    few = min(args.reference_pairs, count)
    subset = np.sort(np.random.default_rng(4).choice(count, few, replace=False))

    def context(r: int) -> Sequence[int]:
        return contexts[r % len(contexts)]

    def ours(r: int) -> np.ndarray:
        engine.clear()  # no cache from before is used
        return np.array([y.sum() for y in engine.score(context(r), responses)])

    def cached(batch: int, r: int) -> np.ndarray:
        return theirs.cached_pairs(context(r), responses, batch)

    def reference(batch: int, r: int) -> np.ndarray:
        pairs = [(context(r), responses[j]) for j in subset]
        return theirs.full_pairs(pairs, batch, every_logit=True)

    def shared(r: int) -> h.Flops:
        return shared_flops(c, len(context(r)), count, tokens)

    def unshared(r: int) -> h.Flops:
        length = len(context(r)) + tokens - 1
        return few * extend_flops(c, length), few * head_flops(c, length)

    def batches(way: Any, sizes: Sequence[int], most: int) -> dict[str, Any]:
        return {f"batch {b}": functools.partial(way, b) for b in sizes if b <= most}

    def agree(r: int, found: Mapping[str, Any]) -> None:
        check_close("ours and cached", found[CACHED], found[OURS], tokens, r)
        check_close("ours and reference", found[REFERENCE], found[OURS][subset], tokens, r)

    full = batches(reference, REFERENCE_BATCHES, few)
    contestants = {
        OURS: h.Contestant({"": ours}, shared),
        CACHED: h.Contestant(batches(cached, CACHED_BATCHES, count), shared),
        REFERENCE: h.Contestant(full, unshared, few / count),
    }
    products = h.ModelProducts(c, engine.sizes.call)
    timed = h.contest("likelihood", contestants, args.rounds, products, agree)

    report, seconds = h.Report(), timed[OURS].seconds
    context_tokens = f"about {args.context_tokens} tokens"
    title = f"seconds for one context of {context_tokens} and {count} responses"
    report.contest("contestants", title, timed)
    report.lines.append(
        f"the reference runs {few} of the {count} pairs, and its seconds are multiplied by "
        f"{count / few:g}: time is linear in pairs"
    )
    report.ratio("ratio", timed[REFERENCE].seconds, seconds, "seconds of the reference / ours")
    report.ratio("ratio_cached", timed[CACHED].seconds, seconds, "seconds of cached PyTorch / ours")
    report.figure("gemm_share", timed[OURS].gemm_share, h.GEMM_SHARE)
    return report


main = functools.partial(cli.command, "likelihood", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
