"""Scoring without sharing, in JAX: every pair is one forward pass over context and response."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.inference.sizes import stepped
from remid_jax.inference.vocabulary import target_log_probs
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.pretrained import LanguageModel

Array = jax.Array


def _hidden(decoder: Decoder, tokens: Array) -> Array:
    """[R, S] tokens after nothing -> normalised hidden states [R, S, width]."""
    c: DecoderConfig = decoder.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), decoder.embedding[...].dtype)
    return decoder.extend(tokens, (empty, empty), 0)[0]


@functools.partial(jax.jit, static_argnames=("graphdef",))
def hidden_states(params: Any, tokens: Array, *, graphdef: Any) -> Array:
    """Hidden states [R, S, width] of whole sequences [R, S], without logits."""
    with jax.default_matmul_precision("highest"):
        return _hidden(nnx.merge(graphdef, params), tokens)


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _log_prob_sum(
    params: Any, tokens: Array, first: Array, targets: Array, *, graphdef: Any
) -> Array:
    """Sum of log q of targets [P], the first of which follows position `first` of tokens [S]."""
    decoder = nnx.merge(graphdef, params)
    with jax.default_matmul_precision("highest"):
        hidden = _hidden(decoder, tokens[None])[0]
        asked = jax.lax.dynamic_slice_in_dim(hidden, first, targets.shape[0])
        return target_log_probs(decoder, asked, targets).sum()


def full_sequence_pairs(
    model: LanguageModel, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> np.ndarray:
    """log q(y | x) of (context, response) pairs, in nats; logits at the response's places only.

    Sequences are padded to few lengths (an eighth at most), so that few programs are compiled.
    """
    sums = []
    for x, y in pairs:
        row = [*x, *y[:-1]]
        tokens = np.zeros(stepped(len(row)), np.int32)
        tokens[: len(row)] = row
        targets = np.asarray(y, np.int32)
        sums.append(
            _log_prob_sum(model.params, tokens, len(x) - 1, targets, graphdef=model.graphdef)
        )
    return np.array([float(s) for s in sums])
