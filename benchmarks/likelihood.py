"""Pair log-likelihoods for R-EMID: our engine beside the reference's way and careful PyTorch.

A round is one context: every response is scored on it. `reference` runs context and response in one
pass for each pair and computes all logits, as the published reference does; `naive` computes the
response's logits only; `cached` computes the context once and expands its cache over batches;
`ours, full sequences` is our own model without sharing. The fastest batch size of the warm-up is
taken.
"""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import cli
from benchmarks import harness as h
from benchmarks import pairs as p
from benchmarks.model import model_of
from remid_jax.inference.engine import JaxEngine

SIZES = {
    "contexts": (16, 6, "contexts; round r takes the r-th"),
    "context-tokens": (1000, 50, "tokens of a context, within 4 %"),
    "models": (2, 2, "evaluated models whose responses are scored, beside golden"),
    "responses": (32, 8, "responses of golden and of each model"),
    "response-tokens": (64, 12, "tokens of a response"),
    "reference-pairs": (8, 4, "pairs of a round that are run where nothing is shared"),
}
PAIR_BATCHES, CACHED_BATCHES = (1, 4, 8), (1, 4, 8, 32)
OURS, FULL = "ours", "ours, full sequences"
RATIOS = {
    "ratio": ("reference", "the reference"),
    "ratio_naive": ("naive", "the reference without useless logits"),
    "ratio_cached": ("cached", "cached PyTorch"),
    "ratio_full": (FULL, "our model without sharing"),
}


def run(args: argparse.Namespace) -> h.Report:
    """Times all contestants and compares them with plain matrix products."""
    from benchmarks import torch_side

    model = model_of(args)
    contexts, responses = p.draw(args, model)
    theirs, c, engine = torch_side.TorchModel(model), model.config, JaxEngine(model)
    count, tokens = len(responses), args.response_tokens
    few = min(args.reference_pairs, count)
    part = few / count
    subset = np.sort(np.random.default_rng(4).choice(count, few, replace=False))

    def context(r: int) -> Sequence[int]:
        return contexts[r % len(contexts)]

    def pairs(r: int) -> list[tuple[Sequence[int], Sequence[int]]]:
        return [(context(r), responses[j]) for j in subset]

    def shared(r: int) -> h.Flops:
        return p.shared_flops(c, len(context(r)), count, tokens)

    def unshared(r: int, every_logit: bool = False) -> h.Flops:
        length = len(context(r)) + tokens - 1
        return p.unshared_flops(c, length, few, length if every_logit else tokens)

    def cached(batch: int) -> Callable[[int], np.ndarray]:
        return lambda r: theirs.cached_pairs(context(r), responses, batch)

    def full(every_logit: bool) -> h.Contestant:
        ways = {
            f"batch {b}": lambda r, b=b: theirs.full_pairs(pairs(r), b, every_logit)
            for b in PAIR_BATCHES
            if b <= few
        }
        return h.Contestant(ways, lambda r: unshared(r, every_logit), part)

    def agree(r: int, found: Mapping[str, Any]) -> None:
        for name, sums in found.items():
            expected = found[OURS] if len(sums) == count else found[OURS][subset]
            p.check_close(f"ours and {name}", sums, expected, tokens, r)

    in_full = {"": lambda r: p.full_sequence_pairs(model, pairs(r))}
    batches = {f"batch {b}": cached(b) for b in CACHED_BATCHES if b <= count}
    contestants = {
        OURS: h.Contestant({"": p.one_context(engine, contexts, responses)}, shared),
        FULL: h.Contestant(in_full, unshared, part),
        "cached": h.Contestant(batches, shared),
        "naive": full(every_logit=False),
        "reference": full(every_logit=True),
    }
    square = 64 if args.small else h.SQUARE
    best, library, shape = h.fastest_product(c, {"torch": torch_side.product}, square)
    products = h.ModelProducts(c, engine.sizes.call)
    timed = h.contest("likelihood", contestants, args.rounds, agree, products)

    report, ours = h.Report(), timed[OURS]
    context_tokens = f"about {args.context_tokens} tokens"
    title = f"seconds for one context of {context_tokens} and {count} responses"
    report.contest("contestants", title, timed)
    report.lines.append(
        f"{few} of the {count} pairs are run where nothing is shared, and their seconds multiplied "
        f"by {count / few:g}: time is linear in pairs"
    )
    for key, (name, who) in RATIOS.items():
        ratio = h.quotients(timed[name].seconds, ours.seconds)
        report.figure(key, ratio, f"seconds of {who} / ours")
    allowed = [sum(unshared(r)) / part / sum(shared(r)) for r in range(args.rounds)]
    reached = h.quotients(h.quotients(timed[FULL].seconds, ours.seconds), allowed)
    report.figure("flops_ratio", allowed, "operations of our model without sharing / ours")
    report.figure("share_of_flops_ratio", reached, "ratio_full / flops_ratio")
    report.figure("gemm_share", ours.gemm_share, h.GEMM_SHARE)
    machine = [rate / best for rate in ours.flops_per_s]
    what = "our FLOP/s / those of the fastest product on this machine"
    report.figure("machine_share", machine, what)
    report.lines.append(
        f"fastest product: {best / 1e9:.3g} GFLOP/s by {library}, [m, k, n] = {list(shape)}"
    )
    return report


main = functools.partial(cli.command, "likelihood", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
