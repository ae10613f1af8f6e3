"""Decoding: our engine beside `generate` of transformers, greedy, and for groups of one prompt.

Greedy: every prompt gets the same number of new tokens. Group: some responses of one prompt are
drawn, each of its own prescribed length, and a call ends with the longest; `generate` runs the
prompt once for each of them. Decoding alone is what a call takes beyond the same call for one
token, which is mostly the prompts.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import gemm, program
from benchmarks.harness import Contestant, Timed, contest, medians
from benchmarks.model import random_tokens
from benchmarks.program import Report
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
Sides = tuple[Timed, Timed]  # whole calls, and calls for one token


def greedy_agreement(
    prompts: Sequence[Tokens], next_logits: Callable[[Tokens], np.ndarray]
) -> Callable[[int, Mapping[str, Any]], None]:
    """A check that both sides chose the same tokens, or parted where two tokens tie.

    Args:
      prompts: of the rows.
      next_logits: tokens -> logits [V] of the next one.
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


def decode_flops(
    c: DecoderConfig, prompts: int, prompt: int, lengths: Sequence[int]
) -> tuple[float, float]:
    """(layers, head): operations of some prompts, each continued by responses of these lengths."""
    rows = sum(extend_flops(c, n - 1, prompt) for n in lengths)
    head = head_flops(c, 1 + sum(n - 1 for n in lengths))
    return prompts * (extend_flops(c, prompt) + rows), prompts * head


def _greedy(
    args: argparse.Namespace, engine: JaxEngine, theirs: Any, prompts: Sequence[Tokens]
) -> Sides:
    def ours(new: int) -> Callable[[int], list[list[int]]]:
        def run(r: int) -> list[list[int]]:
            engine.clear()
            sampled = engine.generate(prompts, SamplingConfig(max_tokens=new))
            return [list(s.tokens) for s in sampled]

        return run

    def flops(new: int) -> Callable[[int], tuple[float, float]]:
        return lambda r: decode_flops(engine.config, len(prompts), args.prompt_tokens, [new])

    agree, products = (
        greedy_agreement(prompts, theirs.next_logits),
        gemm.engine_products(engine),
    )

    def timed(title: str, new: int, rounds: int) -> Timed:
        contestants = {
            OURS: Contestant({"": ours(new)}, flops(new)),
            THEIRS: Contestant({"": lambda r: theirs.generate(prompts, new)}, flops(new)),
        }
        return contest(title, contestants, rounds, agree, products)

    whole = timed("greedy", args.new_tokens, args.rounds)
    return whole, timed("one token", 1, max(1, args.rounds // 2))


def _group(
    args: argparse.Namespace, engine: JaxEngine, theirs: Any, prompt: Tokens
) -> tuple[Timed, list[int]]:
    limits = spread_lengths(args.new_tokens, args.group)
    config = SamplingConfig(max_tokens=args.new_tokens, temperature=1.0)

    def ours(r: int) -> list[list[int]]:
        engine.clear()
        sampled = engine.generate([prompt], config, draws=args.group, limits=limits)
        return [list(s.tokens) for s in sampled]

    def agree(r: int, found: Mapping[str, Any]) -> None:
        for name, rows in found.items():  # what is drawn differs; the greedy rows are compared
            if [len(row) for row in rows] != limits:
                raise UserError(f"{name} drew responses of other lengths than {limits}")

    def flops(r: int) -> tuple[float, float]:
        return decode_flops(engine.config, 1, len(prompt), limits)

    contestants = {
        OURS: Contestant({"": ours}, flops),
        THEIRS: Contestant(
            {"": lambda r: theirs.generate([prompt], args.new_tokens, limits)}, flops
        ),
    }
    return contest("group", contestants, args.rounds, agree, gemm.engine_products(engine)), limits


def run(args: argparse.Namespace) -> Report:
    """Times greedy decoding with its split, then a group."""
    if args.new_tokens < 2:
        raise UserError("--new-tokens is 1; it must be at least 2")
    from benchmarks import torch_side

    model = program.load_model(args)
    theirs = torch_side.TorchModel(model)
    engine = JaxEngine(model, batch_rows=args.prompts)
    prompts = random_tokens(model, [args.prompt_tokens] * args.prompts, seed=5)
    greedy, one = _greedy(args, engine, theirs, prompts)
    group, limits = _group(args, engine, theirs, prompts[0])
    read = step_bytes(model.config, args.prompts, args.prompt_tokens, args.new_tokens - 1) / 1e9
    decoding = {
        side: [s - statistics.median(one.seconds[side]) for s in greedy.seconds[side]]
        for side in (OURS, THEIRS)
    }
    figures = medians({
        "ratio": greedy.ratio(THEIRS, OURS),
        "ratio_decoding": [a / b for a, b in zip(decoding[THEIRS], decoding[OURS], strict=True)],
        "ratio_prefill": one.ratio(THEIRS, OURS),
        "ratio_group": group.ratio(THEIRS, OURS),
        "gb_per_s": [read / s for s in decoding[OURS]],
        "gb_per_s_transformers": [read / s for s in decoding[THEIRS]],
    })  # fmt: skip
    sizes = f"{args.prompts} prompts of {args.prompt_tokens} tokens"
    tables = [
        program.contest_table(f"seconds for {sizes}, {args.new_tokens} new tokens each", greedy),
        program.contest_table(f"seconds for {sizes}, one new token each", one),
        program.contest_table(
            f"seconds for {args.group} responses of {limits[0]} to {limits[-1]} tokens to one "
            f"prompt of {args.prompt_tokens}", group,
        ),
    ]  # fmt: skip
    lines = list(program.ratio_lines(figures, MEANING))
    figures |= {
        "greedy": program.contest_json(greedy),
        "one_token": program.contest_json(one),
        "group": program.contest_json(group),
        "group_lengths": limits,
        "decoding_seconds": decoding,
    }
    return Report(figures, tables, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    return program.command("sampling", __doc__, run, SIZES, argv)


if __name__ == "__main__":
    sys.exit(main())
