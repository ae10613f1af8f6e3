"""Decoding: our engine beside `generate` of transformers, greedy, and for groups of one prompt.

Greedy: every prompt gets the same number of new tokens. Group: some responses of one prompt are
drawn, each of its own prescribed length, and a call ends with the longest; `generate` runs the
prompt once for each of them. Decoding alone is what a call takes beyond the same call for one
token, which is mostly the prompts.
"""

import argparse
import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import model_of, random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import cache_bytes, extend_flops, head_flops, num_parameters
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.decoder import DecoderConfig

SIZES = {
    "prompts": (16, 3, "prompts that are decoded together"),
    "prompt-tokens": (500, 40, "tokens of a prompt"),
    "new-tokens": (128, 10, "tokens of a greedy response, and of the longest of a group"),
    "group": (8, 4, "responses of one prompt, of lengths spread up to the longest"),
}
TIE = 1e-4  # two tokens whose logits are closer tie: rounding decides
OURS, THEIRS = "ours", "transformers"
MEANING = {
    "ratio": "seconds of transformers / ours, greedy",
    "ratio_decoding": "the same of decoding alone",
    "ratio_prefill": "the same of the prompts and one token",
    "ratio_group": "seconds of transformers / ours, a group of one prompt",
    "gb_per_s": "our decoding alone: GB/s of weights and caches that each step must read",
    "gb_per_s_transformers": "the same of transformers",
}
Tokens = Sequence[int]
Agree = Callable[[int, Mapping[str, Any]], None]


def greedy_agreement(
    prompts: Sequence[Tokens], next_logits: Callable[[Tokens], np.ndarray]
) -> Agree:
    """A check that both sides chose the same tokens, or parted where two tokens tie.

    `next_logits` gives the logits [V] of the token that follows some tokens.
    """

    def agree(r: int, found: Mapping[str, Any]) -> None:
        for i, (a, b) in enumerate(zip(found[OURS], found[THEIRS], strict=True)):
            if len(a) != len(b):
                raise UserError(f"row {i} has {len(a)} tokens of ours and {len(b)} of theirs")
            k = next((k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), None)
            if k is None:
                continue
            logits = next_logits([*prompts[i], *a[:k]])
            apart = abs(float(logits[a[k]] - logits[b[k]]))
            if not apart <= TIE:
                raise UserError(
                    f"greedy token {k} of row {i} is {a[k]} in ours and {b[k]} in "
                    f"transformers, whose logits differ by {apart:.2g}; no time is reported"
                )

    return agree


def length_agreement(limits: Sequence[int]) -> Agree:
    """A check that both sides drew responses of these lengths: what they draw differs."""

    def agree(r: int, found: Mapping[str, Any]) -> None:
        for name, rows in found.items():
            if [len(row) for row in rows] != limits:
                raise UserError(f"{name} drew responses of other lengths than {limits}")

    return agree


def spread_lengths(longest: int, count: int) -> list[int]:
    """Even lengths from an eighth of the longest on.

    >>> spread_lengths(128, 8)
    [16, 32, 48, 64, 80, 96, 112, 128]
    """
    return np.linspace(max(1, longest // 8), longest, count).round().astype(int).tolist()


def step_bytes(c: DecoderConfig, rows: int, prompt: int, steps: int) -> float:
    """Bytes that `steps` steps of `rows` rows after the first token must read, in float32."""
    weights = 4 * num_parameters(c)
    return sum(weights + rows * cache_bytes(c, prompt + t) for t in range(1, steps + 1))


def decode_flops(c: DecoderConfig, prompts: int, prompt: int, lengths: Sequence[int]) -> h.Flops:
    """Operations of some prompts, each continued by responses of these lengths."""
    rows = sum(extend_flops(c, n - 1, prompt) for n in lengths)
    head = head_flops(c, 1 + sum(n - 1 for n in lengths))
    return prompts * (extend_flops(c, prompt) + rows), prompts * head


def _contest(
    title: str, engine: JaxEngine, theirs: Any, prompts: Sequence[Tokens], rounds: int,
    agree: Agree, new: int, limits: Sequence[int] = (),
) -> dict[str, h.Timed]:  # fmt: skip
    """Both sides take turns: greedy, or drawing a response of each length in `limits`."""
    config = SamplingConfig(max_tokens=new, temperature=1.0 if limits else 0.0)
    more = {"draws": len(limits), "limits": limits} if limits else {}

    def ours(r: int) -> list[list[int]]:
        engine.clear()
        return [list(s.tokens) for s in engine.generate(prompts, config, **more)]

    flops = decode_flops(engine.config, len(prompts), len(prompts[0]), limits or [new])
    contestants = {
        OURS: h.Contestant({"": ours}, lambda r: flops),
        THEIRS: h.Contestant(
            {"": lambda r: theirs.generate(prompts, new, limits)}, lambda r: flops
        ),
    }
    products = h.ModelProducts(engine.config, engine.sizes.call)
    return h.contest(title, contestants, rounds, agree, products)


def run(args: argparse.Namespace) -> h.Report:
    """Times greedy decoding with its split, then a group."""
    if args.new_tokens < 2:
        raise UserError("--new-tokens is 1; it must be at least 2")
    from benchmarks import torch_side

    model, new = model_of(args), args.new_tokens
    sides = (JaxEngine(model, batch_rows=args.prompts), torch_side.TorchModel(model))
    prompts = random_tokens(model, [args.prompt_tokens] * args.prompts, seed=5)
    limits = spread_lengths(new, args.group)
    agree, some = greedy_agreement(prompts, sides[1].next_logits), max(1, args.rounds // 2)
    greedy = _contest("greedy", *sides, prompts, args.rounds, agree, new)
    one = _contest("one token", *sides, prompts, some, agree, 1)
    agree = length_agreement(limits)
    group = _contest("group", *sides, prompts[:1], args.rounds, agree, new, limits)

    report = h.Report()
    sizes = f"{args.prompts} prompts of {args.prompt_tokens} tokens"
    report.contest("greedy", f"seconds for {sizes}, {new} new tokens each", greedy)
    report.contest("one_token", f"seconds for {sizes}, one new token each", one)
    span = f"{limits[0]} to {limits[-1]} tokens to one prompt of {args.prompt_tokens}"
    report.contest("group", f"seconds for {args.group} responses of {span}", group)
    seconds = {
        key: {side: t.seconds for side, t in timed.items()}
        for key, timed in (("ratio", greedy), ("ratio_prefill", one), ("ratio_group", group))
    }
    seconds["ratio_decoding"] = {
        side: [s - statistics.median(one[side].seconds) for s in t.seconds]
        for side, t in greedy.items()
    }
    read = step_bytes(model.config, args.prompts, args.prompt_tokens, new - 1) / 1e9
    for key, meaning in MEANING.items():
        if key in seconds:
            values = h.quotients(seconds[key][THEIRS], seconds[key][OURS])
        else:
            side = THEIRS if key.endswith(THEIRS) else OURS
            values = [read / s for s in seconds["ratio_decoding"][side]]
        report.figure(key, values, meaning)
    report.json["group_lengths"] = limits
    return report


main = functools.partial(cli.command, "sampling", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
