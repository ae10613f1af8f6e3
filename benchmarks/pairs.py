"""Pairs of context and response: scored by our engine and in full, and what that costs."""

import argparse
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.harness import Flops
from benchmarks.model import random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops, head_flops, score_flops
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.sizes import stepped
from remid_jax.inference.vocabulary import target_log_probs
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import LanguageModel

TOLERANCE = 5e-5  # nats per token


def draw(args: argparse.Namespace, model: LanguageModel) -> tuple[list[list[int]], list[list[int]]]:
    """Random contexts, and the responses of golden and of all models, one after the other."""
    if args.response_tokens < 2:
        raise UserError("--response-tokens is 1; it must be at least 2")
    rng = np.random.default_rng(1)
    slack = args.context_tokens // 25
    lengths = args.context_tokens + rng.integers(-slack, slack + 1, args.contexts)
    count = (1 + args.models) * args.responses
    contexts = random_tokens(model, lengths, seed=2)
    return contexts, random_tokens(model, [args.response_tokens] * count, seed=3)


def one_context(
    engine: JaxEngine, contexts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Callable[[int], np.ndarray]:
    """Round -> [M], sums of all responses on that round's context; no cache from before is used."""

    def run(r: int) -> np.ndarray:
        engine.clear()
        values = engine.score(contexts[r % len(contexts)], responses)
        return np.array([y.sum() for y in values])

    return run


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


def unshared_flops(c: DecoderConfig, length: int, count: int, logits: int) -> Flops:
    """Operations of `count` whole sequences with so many logits each."""
    return count * extend_flops(c, length), count * head_flops(c, logits)


@functools.partial(jax.jit, static_argnames=("graphdef",))
def hidden_states(params: Any, tokens: jax.Array, *, graphdef: Any) -> jax.Array:
    """Normalised hidden states [R, S, width] of whole sequences [R, S], without logits."""
    decoder = nnx.merge(graphdef, params)
    c: DecoderConfig = decoder.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), decoder.embedding[...].dtype)
    with jax.default_matmul_precision("highest"):
        return decoder.extend(tokens, (empty, empty), 0)[0]


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _log_prob_sum(
    params: Any, tokens: jax.Array, first: jax.Array, targets: jax.Array, *, graphdef: Any
) -> jax.Array:
    """Sum of log q of targets [P], the first of which follows position `first` of tokens [S]."""
    hidden = hidden_states(params, tokens[None], graphdef=graphdef)[0]
    asked = jax.lax.dynamic_slice_in_dim(hidden, first, targets.shape[0])
    with jax.default_matmul_precision("highest"):
        return target_log_probs(nnx.merge(graphdef, params), asked, targets).sum()


def full_sequence_pairs(
    model: LanguageModel, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """log q(y | x) of (context, response) pairs in nats, each by a pass over both.

    Logits are computed at the response's places only. Sequences are padded to few lengths (by an
    eighth at most), so that few programs are compiled.
    """
    sums = []
    for x, y in pairs:
        row = [*x, *y[:-1]]
        tokens = np.zeros(stepped(len(row)), np.int32)
        tokens[: len(row)] = row
        given = (model.params, tokens, len(x) - 1, np.asarray(y, np.int32))
        sums.append(_log_prob_sum(*given, graphdef=model.graphdef))
    return np.array([float(s) for s in sums])
