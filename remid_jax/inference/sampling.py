"""Batched sampling: one prefill a prompt, whatever the number of its draws."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.errors import UserError
from remid_jax.inference.decoding import DecodeBatch, DecodeState, decode, init_state
from remid_jax.inference.prefix import Prefix, PrefixCache
from remid_jax.inference.sizes import CHUNK
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import ROWS, parts_of_mesh, to_host, using
from remid_jax.models.tokenizer import Tokenizer

Array = jax.Array

STEPS = 32  # tokens between looks at the texts, where a text can end a response
SPARE = 2**30  # bytes of weights that may stand twice for the sake of faster steps


@dataclasses.dataclass(frozen=True)
class Sampled:
    """One drawn response.

    Attributes:
      tokens: its token ids, without the stop token; may be empty.
      log_probs: log q of each under the unmodified model, in nats.
      stopped: whether a stop token or string ended it, rather than the limit.
    """

    tokens: tuple[int, ...]
    log_probs: np.ndarray
    stopped: bool


def _row_seed(tokens: Sequence[int], draw: int) -> int:
    """A number that follows from prompt and draw alone: draws do not depend on the other rows."""
    content = np.asarray(tokens, np.int32).tobytes() + (b"" if draw == 0 else b"/%d" % draw)
    return int.from_bytes(hashlib.sha256(content).digest()[:4], "little")


def splits_layers(model: LanguageModel, spare: int) -> bool:
    """Whether decoding runs over split layers: on CPU, where `spare` bytes hold them again."""
    size = sum(x.nbytes for x in jax.tree.leaves(model.params))
    return jax.default_backend() == "cpu" and size <= spare


def sample_from(
    model: LanguageModel,
    prefixes: Sequence[Prefix],
    config: SamplingConfig,
    draws: int = 1,
    limits: Sequence[int] | None = None,
    rows: int | None = None,
    spare: int = SPARE,
) -> list[Sampled]:
    """Continues cached prompts, all in one batch.

    Args:
      model: the language model.
      prefixes: P cached prompts.
      config: how to draw.
      draws: G responses a prompt; greedy ones are all equal.
      limits: P·G, most tokens of each response, none above `config.max_tokens`.
      rows: prompts to fill the batch up to, so that few programs are compiled; on a mesh up to the
        next number that its devices can share.
      spare: bytes that a second set of the layers may take; see `splits_layers`.

    Returns:
      P·G responses, a prompt's draws side by side; none depends on the other rows.

    Raises:
      UserError: prompt and response exceed the context window.
      ValueError: `limits` has another length or a number out of range.
    """
    if not prefixes:
        return []
    longest = max(p.length for p in prefixes) + config.max_tokens
    if longest > model.config.max_positions:
        raise UserError(
            f"prompt and max_tokens take {longest} tokens, more than the context window of "
            f"{model.name} ({model.config.max_positions})"
        )
    real = len(prefixes) * draws
    limits = [config.max_tokens] * real if limits is None else list(limits)
    if len(limits) != real or not all(1 <= n <= config.max_tokens for n in limits):
        raise ValueError(f"limits must be {real} numbers from 1 to {config.max_tokens}")
    parts = parts_of_mesh(model.mesh, ROWS)
    padding = -(-max(rows or 0, len(prefixes)) // parts) * parts - len(prefixes)
    filled = [*prefixes, *[prefixes[0]] * padding]
    with using(model.mesh):
        batch, state = _init(model, filled, config, draws, limits, spare)
    static = dataclasses.replace(config, seed=0, stop_strings=(), max_tokens=1)
    step = STEPS if config.stop_strings else config.max_tokens
    until = 0
    while True:
        until = min(until + step, config.max_tokens)
        with using(model.mesh):
            state = decode(
                model.params, batch, state, until, graphdef=model.graphdef, config=static,
                stop_ids=model.tokenizer.stop_ids,
            )  # fmt: skip
        drawn = _read(state, real)
        if config.stop_strings:
            drawn = [_cut(d, model.tokenizer, config.stop_strings) for d in drawn]
            ended = np.array([d.stopped for d in drawn] + [True] * (draws * padding))
            state = dataclasses.replace(state, done=state.done | ended)
        if until == config.max_tokens or bool(state.done.all()):
            return drawn


def _init(
    model: LanguageModel, prefixes: Sequence[Prefix], config: SamplingConfig, draws: int,
    limits: Sequence[int], spare: int,
) -> tuple[DecodeBatch, DecodeState]:  # fmt: skip
    """The prompts side by side, and the state before the first token; rows past `limits` pad."""
    real, b = len(limits), len(prefixes) * draws
    capacity = max(p.capacity for p in prefixes)

    def stacked(arrays: list[Array]) -> Array:
        rooms = [((0, 0), (0, capacity - x.shape[1]), (0, 0), (0, 0)) for x in arrays]
        padded = [jnp.pad(x, r) if r[1][1] else x for x, r in zip(arrays, rooms, strict=True)]
        return jnp.stack(padded)

    seen = np.zeros((b, model.config.vocab_size), bool)
    for i, p in enumerate(prefixes):
        seen[i * draws : (i + 1) * draws, list(p.tokens)] = True
    seeds = [_row_seed(p.tokens, g) for p in prefixes for g in range(draws)]
    random = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(config.seed), jnp.array(seeds, jnp.uint32)
    )
    lengths = jnp.array([p.length for p in prefixes], jnp.int32)
    batch = DecodeBatch(
        keys=stacked([p.keys for p in prefixes]),
        values=stacked([p.values for p in prefixes]),
        valid=jnp.arange(capacity) < lengths[:, None],
        lengths=lengths,
        random=random,
        limits=jnp.array([*limits, *[1] * (b - real)], jnp.int32),
    )
    hidden = jnp.repeat(jnp.stack([p.last_hidden for p in prefixes]), draws, axis=0)
    parts = (batch.keys, hidden, jnp.asarray(seen), jnp.arange(b) >= real)
    return batch, init_state(*parts, size=config.max_tokens, split=splits_layers(model, spare))


def _read(state: DecodeState, real: int) -> list[Sampled]:
    arrays = (state.tokens, state.log_probs, state.counts, state.stopped)
    columns = [to_host(x)[:real] for x in arrays]
    return [
        Sampled(tuple(ids[:n].tolist()), log_probs[:n].astype(np.float64), bool(stopped))
        for ids, log_probs, n, stopped in zip(*columns, strict=True)
    ]


def _cut(drawn: Sampled, tokenizer: Tokenizer, stops: Sequence[str]) -> Sampled:
    """The response before the first stop string, in whole tokens; as it is where there is none."""
    text = tokenizer.decode(drawn.tokens)
    places = [text.find(s) for s in stops if s in text]
    if not places:
        return drawn
    keep = 0
    while len(tokenizer.decode(drawn.tokens[: keep + 1])) <= min(places):
        keep += 1
    return Sampled(drawn.tokens[:keep], drawn.log_probs[:keep], True)


def sample(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    config: SamplingConfig,
    batch_rows: int = 16,
    draws: int = 1,
) -> list[Sampled]:
    """Prefills prompts and continues them.

    Args:
      model: the language model.
      prompts: token ids.
      config: how to draw.
      batch_rows: rows decoded together.
      draws: responses a prompt.

    Returns:
      One response a draw, a prompt's draws side by side, in the order of the prompts.

    Raises:
      UserError: a prompt is empty or has an id that the model does not have, or it and its response
        exceed the context window.
    """
    cache = PrefixCache(model, 0, CHUNK)
    return in_batches(
        prompts, batch_rows, draws, lambda part, rows: sample_from(
            model, [cache.prefix(prompts[i]) for i in part], config, draws, rows=rows
        )
    )  # fmt: skip


def in_batches(
    prompts: Sequence[Sequence[int]],
    batch_rows: int,
    draws: int,
    run: Callable[[list[int], int], list[Sampled]],
    expected: Sequence[int] | None = None,
) -> list[Sampled]:
    """Runs prompts of similar length together, and returns their responses in order.

    Args:
      prompts, batch_rows, draws: see `sample`.
      run: (indices of some prompts, prompts to fill up to) -> their responses.
      expected: about how long responses will be, if known: rows that end together waste no steps.
    """
    expected = expected or [0] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: (-expected[i], -len(prompts[i]), i))
    most = max(1, batch_rows // draws)
    drawn: dict[int, list[Sampled]] = {}
    for a in range(0, len(order), most):
        part = order[a : a + most]
        rows = min(most, 1 << (len(part) - 1).bit_length())  # few sizes, few programs
        responses = run(part, rows)
        for k, i in enumerate(part):
            drawn[i] = responses[k * draws : (k + 1) * draws]
    return [d for i in range(len(prompts)) for d in drawn[i]]
