"""Adapters: what they compute, and that they are merged, stored and refused rightly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_model import filled

from remid_jax.errors import UserError
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.models.adapters import (
    load_adapter,
    merged,
    new_adapter,
    save_adapter,
    with_adapter,
)
from remid_jax.models.lora import KERNELS, LoraConfig, drop, low_rank

LORA = LoraConfig(rank=3, alpha=6.0, dropout=0.5)
PROMPTS, RESPONSES = [[3, 4, 5, 6, 7], [5, 9, 11]], [[6, 7, 8], [8], [12, 13]]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def adapter(model):
    return filled(new_adapter(model, LORA, jax.random.key(0)))


def sums(model) -> np.ndarray:
    return pair_log_likelihoods(model, PROMPTS, RESPONSES).sums


def test_a_new_adapter_changes_nothing_and_a_trained_one_does(model, adapter):
    fresh = new_adapter(model, LORA, jax.random.key(0))
    np.testing.assert_array_equal(sums(with_adapter(model, fresh)), sums(model))
    assert abs(sums(with_adapter(model, adapter)) - sums(model)).max() > 0.01


def test_merged_equals_beside(model, adapter):
    beside, inside = with_adapter(model, adapter), merged(model, adapter)
    np.testing.assert_allclose(sums(inside), sums(beside), atol=2e-4)
    assert beside.fingerprint != inside.fingerprint != model.fingerprint
    assert inside.graphdef == model.graphdef


def test_two_adapters_share_one_base(model, adapter):
    other = filled(adapter, 2)
    a, b = with_adapter(model, adapter), with_adapter(model, other)
    assert a.graphdef == b.graphdef and a.fingerprint != b.fingerprint
    assert abs(sums(a) - sums(b)).max() > 0.01
    embedding = [nnx.to_pure_dict(m.params)["embedding"] for m in (a, b, model)]
    assert embedding[0] is embedding[2] or (
        embedding[0].unsafe_buffer_pointer() == embedding[2].unsafe_buffer_pointer()
    )


def test_low_rank_is_scaled_and_drops_inputs():
    x = jnp.arange(12.0).reshape(2, 6) / 7
    a, b = jnp.ones((6, 3)) * 0.5, jnp.arange(12.0).reshape(3, 4)
    want = np.asarray(x) @ np.asarray(a) @ np.asarray(b) * 2
    np.testing.assert_allclose(low_rank(x, a, b, LORA, None), want, rtol=1e-6)
    dropped = drop(jnp.ones((200, 200)), 0.25, jax.random.key(0))
    np.testing.assert_allclose(np.unique(dropped), [0.0, 4 / 3], rtol=1e-6)
    assert abs(float(dropped.mean()) - 1) < 0.02
    noisy = low_rank(x, a, b, LORA, jax.random.key(1))
    assert not np.allclose(noisy, want)


def test_targets_choose_kernels(model):
    assert LoraConfig(targets="query|value").kernels == ("query", "value")
    assert LoraConfig().kernels == KERNELS
    some = new_adapter(model, LoraConfig(rank=2, targets="query"), jax.random.key(0))
    names = set(nnx.to_pure_dict(some.params)["layers"])
    assert names == {"query_lora_a", "query_lora_b"}


@pytest.mark.parametrize(
    "changes, said",
    [({"rank": 0}, "lora.rank is 0"), ({"dropout": 1.0}, "lora.dropout is 1.0"),
     ({"alpha": 0.0}, "lora.alpha is 0.0"),
     ({"targets": "q_proj"}, "matches no kernel"), ({"targets": "("}, "no regular expression")],
)  # fmt: skip
def test_bad_shapes_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        LoraConfig(**changes)


def test_stored_by_orbax_and_refused_by_another_base(model, make_model, adapter, tmp_path):
    folder = save_adapter(tmp_path / "adapter", adapter)
    again = load_adapter(folder, model)
    assert again.lora == adapter.lora
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(adapter.params), strict=True):
        np.testing.assert_array_equal(a, b)
    other = make_model(seed=9)
    for use in (lambda: load_adapter(folder, other), lambda: with_adapter(other, adapter)):
        with pytest.raises(UserError, match="another base"):
            use()
    with pytest.raises(UserError, match="no checkpoint"):
        load_adapter(tmp_path / "nothing", model)
