"""Pair log-likelihoods for R-EMID: our engine beside the reference's way and careful PyTorch.

A round is one context: every response is scored on it. `reference` runs context and response in one
pass for each pair and computes all logits, as the published reference does; `naive` computes the
response's logits only; `cached` computes the context once and expands its cache over batches;
`ours, full sequences` is our own model without sharing. The fastest batch size of the warm-up is
taken.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks import gemm, program, reduced_precision
from benchmarks.full_sequence import full_sequence_pairs
from benchmarks.harness import Contestant, contest, medians
from benchmarks.pairs import agreement, draw, one_context, shared_flops, unshared_flops
from benchmarks.program import Report
from remid_jax.inference.engine import JaxEngine

SIZES = {
    "contexts": (16, 6, "contexts; round r takes the r-th"),
    "context-tokens": (1000, 50, "tokens of a context, within 4 %"),
    "policies": (3, 3, "whose responses are scored: golden and the evaluated models"),
    "responses": (32, 8, "responses of each policy"),
    "response-tokens": (64, 12, "tokens of a response"),
    "reference-pairs": (8, 4, "pairs of a round that are run where nothing is shared"),
}
FLAGS = {"bf16": "compare our engine in float32 with bfloat16 weights, and with bfloat16 caches"}
PAIR_BATCHES, CACHED_BATCHES = (1, 4, 8), (1, 4, 8, 32)
MEANING = {
    "ratio": "seconds of the reference / ours",
    "ratio_naive": "seconds of the reference without useless logits / ours",
    "ratio_cached": "seconds of cached PyTorch / ours",
    "ratio_full": "seconds of our model without sharing / ours",
    "flops_ratio": "operations of our model without sharing / ours",
    "share_of_flops_ratio": "ratio_full / flops_ratio",
    "gemm_share": "our FLOP/s / those of plain JAX products of these shapes",
    "machine_share": "our FLOP/s / those of the fastest product on this machine",
}


def run(args: argparse.Namespace) -> Report:
    """Times all contestants and compares them with plain matrix products."""
    model = program.load_model(args)
    contexts, responses = draw(args, model)
    if args.bf16:
        return reduced_precision.run(args, model, contexts, responses)
    from benchmarks import torch_side

    theirs, c = torch_side.TorchModel(model), model.config
    count, tokens = len(responses), args.response_tokens
    few = min(args.reference_pairs, count)
    subset = np.sort(np.random.default_rng(4).choice(count, few, replace=False))
    context = [contexts[r % len(contexts)] for r in range(args.rounds)]

    def pairs(r: int) -> list[tuple[list[int], list[int]]]:
        return [(context[r], responses[j]) for j in subset]

    def full(batch: int, every: bool) -> Callable[[int], np.ndarray]:
        return lambda r: theirs.full_pairs(pairs(r), batch, every)

    def cached(batch: int) -> Callable[[int], np.ndarray]:
        return lambda r: theirs.cached_pairs(context[r], responses, batch)

    def shared(r: int) -> tuple[float, float]:
        return shared_flops(c, len(context[r]), count, tokens)

    def unshared(every: bool) -> Callable[[int], tuple[float, float]]:
        def count_flops(r: int) -> tuple[float, float]:
            length = len(context[r]) + tokens - 1
            return unshared_flops(c, length, few, length if every else tokens)

        return count_flops

    part = few / count
    engine = JaxEngine(model)
    batches = {f"batch {b}": b for b in PAIR_BATCHES if b <= few}
    contestants = {
        "ours": Contestant({"": one_context(engine, contexts, responses)}, shared),
        "ours, full sequences": Contestant(
            {"": lambda r: full_sequence_pairs(model, pairs(r))}, unshared(False), part
        ),
        "cached": Contestant(
            {f"batch {b}": cached(b) for b in CACHED_BATCHES if b <= count}, shared
        ),
        "naive": Contestant({k: full(b, False) for k, b in batches.items()}, unshared(False), part),
        "reference": Contestant(
            {k: full(b, True) for k, b in batches.items()}, unshared(True), part
        ),
    }
    best = gemm.best_rate(c, {"torch": torch_side.product}, 64 if args.small else gemm.SQUARE)
    agree, products = agreement(subset, tokens), gemm.engine_products(engine)
    timed = contest("likelihood", contestants, args.rounds, agree, products)
    allowed = [sum(unshared(False)(r)) / part / sum(shared(r)) for r in range(args.rounds)]
    ratio_full = timed.ratio("ours, full sequences", "ours")
    figures = medians({
        "ratio": timed.ratio("reference", "ours"),
        "ratio_naive": timed.ratio("naive", "ours"),
        "ratio_cached": timed.ratio("cached", "ours"),
        "ratio_full": ratio_full,
        "flops_ratio": allowed,
        "share_of_flops_ratio": [a / b for a, b in zip(ratio_full, allowed, strict=True)],
        "gemm_share": timed.share("ours"),
        "machine_share": timed.share("ours", best["flops_per_s"]),
    })  # fmt: skip
    title = f"seconds for one context of about {args.context_tokens} tokens and {count} responses"
    lines = (
        f"{few} of the {count} pairs are run where nothing is shared, and their seconds multiplied "
        f"by {count / few:g}: time is linear in pairs",
        *program.ratio_lines(figures, MEANING),
        f"fastest product: {best['flops_per_s'] / 1e9:.3g} GFLOP/s by {best['library']}, "
        f"[m, k, n] = {best['shape']}",
    )
    figures |= {"contestants": program.contest_json(timed), "best_gemm": best}
    return Report(figures, [program.contest_table(title, timed)], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    return program.command("likelihood", __doc__, run, SIZES, argv, FLAGS)


if __name__ == "__main__":
    sys.exit(main())
