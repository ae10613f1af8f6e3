"""Pair log-likelihoods for R-EMID: our engine beside the reference's way and careful PyTorch.

A round is one context: every response is scored on it. `reference` runs context and response in one
pass for each pair and computes all logits, as the published reference does; `naive` computes the
response's logits only; `cached` computes the context once and expands its cache over batches;
`ours, full sequences` is our own model without sharing. The fastest batch size of the warm-up is
taken. With --bf16: what bfloat16 saves in time, and what it changes in R-EMID; needs no PyTorch.
"""

import argparse
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks import cli
from benchmarks import harness as h
from benchmarks import pairs as p
from benchmarks.model import model_of
from remid_jax.errors import UserError
from remid_jax.inference.engine import JaxEngine
from remid_jax.information.mutual_information import club, effective, emid
from remid_jax.models.pretrained import DTYPES, LanguageModel

SIZES = {
    "contexts": (16, 6, "contexts; round r takes the r-th"),
    "context-tokens": (1000, 50, "tokens of a context, within 4 %"),
    "models": (2, 2, "evaluated models whose responses are scored, beside golden"),
    "responses": (32, 8, "responses of golden and of each model"),
    "response-tokens": (64, 12, "tokens of a response"),
    "reference-pairs": (8, 4, "pairs of a round that are run where nothing is shared"),
}
FLAGS = {"bf16": "compare our engine in float32 with bfloat16 weights, and with bfloat16 caches"}
PAIR_BATCHES, CACHED_BATCHES = (1, 4, 8), (1, 4, 8, 32)
OURS, FULL = "ours", "ours, full sequences"
EXACT, WEIGHTS, CACHES = "float32", "bf16 weights", "bf16 caches"
RATIOS = {
    "ratio": ("reference", "the reference"),
    "ratio_naive": ("naive", "the reference without useless logits"),
    "ratio_cached": ("cached", "cached PyTorch"),
    "ratio_full": (FULL, "our model without sharing"),
}
Lists = Sequence[Sequence[int]]


def run(args: argparse.Namespace) -> h.Report:
    """Times all contestants and compares them with plain matrix products."""
    model = model_of(args)
    contexts, responses = p.draw(args, model)
    if args.bf16:
        return _bf16(args, model, contexts, responses)
    from benchmarks import torch_side

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
    report.contest("contestants", _title(args, count), timed)
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


def _title(args: argparse.Namespace, count: int) -> str:
    return f"seconds for one context of about {args.context_tokens} tokens and {count} responses"


def _bf16(
    args: argparse.Namespace, model: LanguageModel, contexts: Lists, responses: Lists
) -> h.Report:
    n, count, tokens = args.rounds, len(responses), args.response_tokens
    if not 4 <= n <= min(len(contexts), args.responses):
        raise UserError(
            f"--bf16 needs at least 4 rounds and no more than contexts and responses, not {n}: "
            "each round gives one context of R-EMID"
        )
    half = jax.tree.map(lambda x: x.astype(DTYPES["bfloat16"]), model.params)
    engines = {
        EXACT: JaxEngine(model),
        WEIGHTS: JaxEngine(dataclasses.replace(model, params=half, dtype="bfloat16")),
        CACHES: JaxEngine(model, cache_dtype="bfloat16"),
    }
    sums = {name: np.zeros((n, count)) for name in engines}

    def keep(r: int, found: Mapping[str, np.ndarray]) -> None:
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise UserError(f"{name} gives a log-likelihood that is not finite")
            sums[name][r] = values

    def flops(r: int) -> h.Flops:
        return p.shared_flops(model.config, len(contexts[r]), count, tokens)

    contestants = {
        name: h.Contestant({"": p.one_context(engine, contexts, responses)}, flops)
        for name, engine in engines.items()
    }
    products = h.ModelProducts(model.config, engines[EXACT].sizes.call)
    timed = h.contest("bfloat16", contestants, n, keep, products)
    report, rows = h.Report(), []
    report.contest("contestants", _title(args, count), timed)
    exact = r_emid(sums[EXACT], 1 + args.models, tokens)
    for name in (WEIGHTS, CACHES):
        ratio = h.quotients(timed[EXACT].seconds, timed[name].seconds)
        report.figure(f"ratio_{name.replace(' ', '_')}", ratio, f"seconds in float32 / with {name}")
        apart = np.abs(sums[name] - sums[EXACT]) / tokens
        change = np.abs(r_emid(sums[name], 1 + args.models, tokens) - exact)
        rows.append({
            "absolute difference from float32": name, "log q, largest": float(apart.max()),
            "mean": float(apart.mean()), "R-EMID, largest": float(change.max()),
        })  # fmt: skip
    report.table("precision", f"nats per token, {n} contexts", rows)
    report.lines.append(
        "log q is a response's mean over its tokens; R-EMID: first half of the contexts minus the "
        "second; the weights are random, so a trained model's figures are others"
    )
    return report


def r_emid(sums: np.ndarray, sources: int, tokens: int) -> np.ndarray:
    """R-EMID of each evaluated model in nats per token: first half of the contexts minus second.

    Args:
      sums: [N, sources · K] log q; column p·K + i is source p's response to context i, golden 0.
      sources: golden and the evaluated models.
      tokens: of each response.
    """
    blocks = sums.reshape(len(sums), sources, -1) / tokens
    middle = len(sums) // 2
    inside, outside = (
        [float(club(blocks[half, p, half])) for p in range(sources)]
        for half in (slice(middle), slice(middle, len(sums)))
    )
    return np.array([
        emid(effective(inside[p], inside[0]), effective(outside[p], outside[0]))
        for p in range(1, sources)
    ])  # fmt: skip


main = functools.partial(cli.command, "likelihood", __doc__, run, SIZES, flags=FLAGS)

if __name__ == "__main__":
    raise SystemExit(main())
