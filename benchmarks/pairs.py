"""Pairs of context and response: how closely their scores agree, and what scoring them costs."""

import numpy as np

from benchmarks.harness import Flops
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops, head_flops, score_flops
from remid_jax.models.decoder import DecoderConfig

TOLERANCE = 5e-5  # nats per token


def check_close(who: str, sums: np.ndarray, expected: np.ndarray, tokens: int, r: int) -> None:
    """Refuses sums of responses of so many tokens that differ by more than rounding in a round."""
    worst = float(np.abs(sums - expected).max()) / tokens
    if not worst <= TOLERANCE:
        raise UserError(
            f"{who} differ by {worst:.2g} nats per token in round {r} (at most {TOLERANCE:g} is "
            "rounding); no time is reported"
        )


def shared_flops(c: DecoderConfig, context: int, count: int, tokens: int) -> Flops:
    """Operations of `count` responses on one context that is run once."""
    head = head_flops(c, 1 + count * (tokens - 1))
    every = extend_flops(c, context) + head_flops(c, 1) + count * score_flops(c, context, tokens)
    return every - head, head
