"""Grouped log-probabilities against sequences that are run one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models.adapters import adapted_structure, new_adapter, with_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.training.groups import (
    Example,
    GroupedBatch,
    group_examples,
    group_statistics,
    micro_batches_of,
)
from remid_jax.training.updates import score

SHARED, OTHER = [3, 4, 5, 6, 7, 8, 9], [10, 11, 12]
ROWS = [
    [Example([*SHARED, 13, 14], [15, 16, 17, 2]), Example([*SHARED, 18], [19, 2])],
    [Example(OTHER, [20, 21, 22, 23, 24, 25, 2]), Example([*OTHER, 26, 27, 28], [29])],
]


def one_by_one(model, row: Example) -> np.ndarray:
    """log q of the scored tokens from the logits of the whole sequence, nothing shared."""
    decoder = nnx.merge(model.graphdef, model.params)
    tokens = jnp.array([[*row.prompt, *row.scored]])
    c = model.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim))
    with jax.default_matmul_precision("highest"):
        hidden, _ = decoder.extend(tokens, (empty, empty), jnp.int32(0))
        log_probs = jax.nn.log_softmax(decoder.logits(hidden))[0]
    n = len(row.prompt)
    return np.array([float(log_probs[n - 1 + i, t]) for i, t in enumerate(row.scored)])


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


def test_log_probs_are_those_of_whole_sequences(model):
    groups = group_examples(ROWS, 100)
    got = np.asarray(score(model.params, groups, graphdef=model.graphdef))
    with jax.default_matmul_precision("highest"):
        decoder = nnx.merge(model.graphdef, model.params)
        pieces = np.asarray(group_statistics(decoder, groups, head=20)[0])
    for b, members in enumerate(ROWS):
        for g, row in enumerate(members):
            n = len(row.scored)
            alone = one_by_one(model, row)
            np.testing.assert_allclose(got[b, g, :n], alone, atol=5e-5)
            np.testing.assert_allclose(pieces[b, g, :n], alone, atol=5e-5)
            assert (got[b, g, n:] == 0).all()


def test_what_rows_share_is_the_prompt(model):
    groups = group_examples(ROWS, 100)
    assert groups.lengths.tolist() == [len(SHARED), len(OTHER)]
    assert groups.starts.tolist() == [[2, 1], [0, 3]]
    assert groups.prompts[0, : len(SHARED)].tolist() == SHARED
    assert groups.weights.sum(-1).tolist() == [[4, 2], [7, 1]]
    wider = group_examples(ROWS, 100, (40, 33, 20))
    assert wider.prompts.shape[1] == 40 and wider.rows.shape[2] == 33
    assert wider.weights.shape[2] == 20
    a, b = (score(model.params, x, graphdef=model.graphdef) for x in (groups, wider))
    np.testing.assert_allclose(np.asarray(b)[..., : a.shape[-1]], a, atol=5e-5)


def gradient(model, groups: GroupedBatch, remat: bool) -> dict:
    def loss(params):
        decoder = nnx.merge(model.graphdef, params)
        log_probs, _ = group_statistics(decoder, groups, head=20, remat=remat)
        return jnp.sum(groups.weights * log_probs)

    with jax.default_matmul_precision("highest"):
        return nnx.to_pure_dict(jax.jit(jax.grad(loss))(model.params))


def test_gradients_are_those_of_whole_sequences(model):
    """Forward and backward through the shared prompt."""
    rows = [row for members in ROWS for row in members]
    alone = gradient(model, group_examples([[row] for row in rows], 100), False)
    for remat in (False, True):
        shared = gradient(model, group_examples(ROWS, 100), remat)
        for a, b in zip(jax.tree.leaves(shared), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5 * max(1, float(abs(b).max())))


def test_entropy(model):
    groups = group_examples(ROWS, 100)
    decoder = nnx.merge(model.graphdef, model.params)
    with jax.default_matmul_precision("highest"):
        _, pieces = group_statistics(decoder, groups, head=20, entropy=True)
        _, whole = group_statistics(decoder, groups, entropy=True)
    np.testing.assert_allclose(pieces, whole, atol=1e-4)
    row = ROWS[0][1]
    tokens = jnp.array([[*row.prompt, *row.scored]])
    c = model.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim))
    hidden, _ = decoder.extend(tokens, (empty, empty), jnp.int32(0))
    log_q = jax.nn.log_softmax(decoder.logits(hidden))[0, len(row.prompt) - 1]
    np.testing.assert_allclose(pieces[0, 1, 0], -jnp.sum(jnp.exp(log_q) * log_q), atol=1e-4)


def test_dropout_changes_training_only(model):
    lora = LoraConfig(rank=2, dropout=0.5)
    adapter = new_adapter(model, lora, jax.random.key(0))
    ones = jax.tree.map(lambda x: jnp.full_like(x, 0.1), adapter.params)
    adapted = with_adapter(model, type(adapter)(lora, ones, adapter.base))
    graphdef, _ = adapted_structure(model.config, lora)
    assert graphdef == adapted.graphdef
    decoder, groups = nnx.merge(graphdef, adapted.params), group_examples(ROWS, 100)
    plain, _ = group_statistics(decoder, groups)
    first, _ = group_statistics(decoder, groups, key=jax.random.key(1))
    again, _ = group_statistics(decoder, groups, key=jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    assert abs(np.asarray(plain - first)).max() > 1e-3


def test_parts():
    groups = group_examples([*ROWS, *ROWS], 100)
    parts = micro_batches_of(groups, 2)
    assert parts.prompts.shape[:2] == (2, 2)
    # Every second row, so that devices that hold neighbouring rows have some of each part.
    np.testing.assert_array_equal(parts.prompts[1], groups.prompts[1::2])


@pytest.mark.parametrize(
    "rows, window, said",
    [([[Example([1], [])]], 10, "at least one token"), ([[Example([], [1])]], 10, "needs a prompt"),
     ([[Example([1] * 8, [1] * 3)]], 10, "11 tokens"),
     ([[Example([1], [1]), Example([2], [1])]], 10, "begin alike")],
)  # fmt: skip
def test_what_cannot_be_laid_out(rows, window, said):
    with pytest.raises(UserError, match=said):
        group_examples(rows, window)
