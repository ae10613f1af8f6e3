"""Contexts and responses, their scoring in turns, and what it costs."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.model import random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops, head_flops, score_flops
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import LanguageModel

TOLERANCE = 5e-5  # nats per token


def draw(args: argparse.Namespace, model: LanguageModel) -> tuple[list[list[int]], list[list[int]]]:
    """Random contexts, and the responses of all policies, one policy after the other."""
    if args.response_tokens < 2:
        raise UserError("--response-tokens is 1; it must be at least 2")
    rng = np.random.default_rng(1)
    slack = args.context_tokens // 25
    lengths = args.context_tokens + rng.integers(-slack, slack + 1, args.contexts)
    count = args.policies * args.responses
    contexts = random_tokens(model, lengths, seed=2)
    return contexts, random_tokens(model, [args.response_tokens] * count, seed=3)


def one_context(
    engine: JaxEngine, contexts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Callable[[int], np.ndarray]:
    """Round -> [M], sums of all responses on that round's context; no cache from before is used."""

    def run(r: int) -> np.ndarray:
        engine.clear()
        ((_, sums),) = engine.log_likelihood([contexts[r % len(contexts)]], responses)
        return np.asarray(sums)

    return run


def agreement(subset: np.ndarray, tokens: int) -> Callable[[int, Mapping[str, Any]], None]:
    """A check that all found the same sums; some found them for a subset of the responses.

    Args:
      subset: which responses those are.
      tokens: of each response.
    """

    def agree(r: int, found: Mapping[str, Any]) -> None:
        ours = found["ours"]
        for name, sums in found.items():
            expected = ours if len(sums) == len(ours) else ours[subset]
            check_close(f"ours and {name}", sums, expected, tokens, r)

    return agree


def check_close(who: str, sums: np.ndarray, expected: np.ndarray, tokens: int, r: int) -> None:
    """Refuses sums of responses of so many tokens that differ in round `r`.

    Raises:
      UserError: by more than rounding.
    """
    worst = float(np.abs(sums - expected).max()) / tokens
    if not worst <= TOLERANCE:
        raise UserError(
            f"{who} differ by {worst:.2g} nats per token in round {r} (at most {TOLERANCE:g} is "
            "rounding); no time is reported"
        )


def shared_flops(c: DecoderConfig, context: int, count: int, tokens: int) -> tuple[float, float]:
    """(layers, head): operations of `count` responses on one context that is run once."""
    head = head_flops(c, 1 + count * (tokens - 1))
    whole = extend_flops(c, context) + head_flops(c, 1) + count * score_flops(c, context, tokens)
    return whole - head, head


def unshared_flops(c: DecoderConfig, length: int, count: int, logits: int) -> tuple[float, float]:
    """(layers, head): operations of `count` whole sequences with so many logits each."""
    return count * extend_flops(c, length), count * head_flops(c, logits)
