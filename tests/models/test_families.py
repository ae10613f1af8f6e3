"""Each family against a plain NumPy decoder in float64 that reads Hugging Face names."""

import dataclasses
import json

import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models import rope
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.families import FAMILIES
from remid_jax.models.pretrained import load_language_model

TOKENS = np.random.default_rng(0).integers(3, 200, 40)
HEADS, KV_HEADS, LAYERS = 4, 2, 2
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
CASES = [("llama", {}), ("llama", {"rope_scaling": LLAMA3}), ("qwen2", {}), ("qwen3", {})]
IDS = ["llama", "llama3", "qwen2", "qwen3"]


def frequencies(head_dim, scaling):
    """Rotary frequencies one by one, as Llama 3.1 scales them."""
    out = []
    for i in range(head_dim // 2):
        f = 5000.0 ** (-2 * i / head_dim)
        if scaling:
            wave, old = 2 * np.pi / f, scaling["original_max_position_embeddings"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            if wave > old / low:
                f /= scaling["factor"]
            elif wave > old / high:
                s = (old / wave - low) / (high - low)
                f = (1 - s) * f / scaling["factor"] + s * f
        out.append(f)
    return np.array(out)


def plain_logits(tensors, head_dim, scaling=None):
    """[T, V] logits: biases and head norms apply where the tensors are there."""
    w = {k: v.astype(np.float64) for k, v in tensors.items()}
    norm = lambda x, s: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * s  # noqa: E731
    n = len(TOKENS)
    turn = np.exp(1j * np.arange(n)[:, None, None] * frequencies(head_dim, scaling))

    def heads(y, at, kind, count, turned):
        z = y @ w[f"{at}self_attn.{kind}_proj.weight"].T + w.get(
            f"{at}self_attn.{kind}_proj.bias", 0
        )
        z = z.reshape(n, count, head_dim)
        if f"{at}self_attn.{kind}_norm.weight" in w:
            z = norm(z, w[f"{at}self_attn.{kind}_norm.weight"])
        half = head_dim // 2
        pair = (z[..., :half] + 1j * z[..., half:]) * turn
        return np.concatenate([pair.real, pair.imag], -1) if turned else z

    x = w["model.embed_tokens.weight"][TOKENS]
    for i in range(LAYERS):
        at = f"model.layers.{i}."
        y = norm(x, w[at + "input_layernorm.weight"])
        q = heads(y, at, "q", HEADS, True)
        k = heads(y, at, "k", KV_HEADS, True).repeat(HEADS // KV_HEADS, 1)
        v = heads(y, at, "v", KV_HEADS, False).repeat(HEADS // KV_HEADS, 1)
        score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(head_dim)
        score[:, *np.triu_indices(n, 1)] = -np.inf
        weight = np.exp(score - score.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        seen = np.einsum("hqk,khd->qhd", weight, v).reshape(n, -1)
        x = x + seen @ w[at + "self_attn.o_proj.weight"].T
        y = norm(x, w[at + "post_attention_layernorm.weight"])
        gate, up = y @ w[at + "mlp.gate_proj.weight"].T, y @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"]) @ w["lm_head.weight"].T


def logits(model):
    c = model.config
    decoder = nnx.merge(model.graphdef, model.params)
    empty = np.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), np.float32)
    return np.asarray(decoder.logits(decoder.extend(TOKENS[None], (empty, empty), 0)[0])[0])


def error(path) -> str:
    with pytest.raises(UserError) as caught:
        load_language_model(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family, config", CASES, ids=IDS)
def test_logits(tmp_path, tiny_llama, family, config):
    tensors = tiny_llama.tensors(0, family)
    config = {**tiny_llama.family_config(family), **config}
    model = load_language_model(str(tiny_llama.hugging_face(tmp_path / "hf", tensors, config)))
    expected = plain_logits(tensors, model.config.head_dim, config.get("rope_scaling"))
    assert expected.std() > 0.3
    np.testing.assert_allclose(logits(model), expected, atol=5e-5)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied"])
def test_gguf_equals_hugging_face(tmp_path, tiny_llama, family, tied):
    tensors = tiny_llama.tensors(0, family)
    if tied:
        del tensors["lm_head.weight"]
    config = {**tiny_llama.family_config(family), "tie_word_embeddings": tied}
    one = load_language_model(
        str(tiny_llama.gguf(tmp_path / "a.gguf", tensors, family=family, fields=[("pre", "qwen2")]))
    )
    two = load_language_model(str(tiny_llama.hugging_face(tmp_path / "hf", tensors, config)))
    assert dataclasses.replace(one.config, norm_eps=two.config.norm_eps) == two.config
    np.testing.assert_allclose(logits(one), logits(two), atol=1e-6)
    assert one.config.head_dim == {"qwen2": 16, "qwen3": 24}[family]


def test_gguf_divisors_are_those_of_the_configuration(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()
    divisors = 1 / (frequencies(16, LLAMA3) / frequencies(16, None))
    assert divisors.min() == 1.0 and divisors.max() == 8.0 and len(set(divisors)) > 3
    freqs = {"rope_freqs.weight": divisors.astype(np.float32)}
    one = load_language_model(str(tiny_llama.gguf(tmp_path / "a.gguf", {**tensors, **freqs})))
    folder = tiny_llama.hugging_face(tmp_path / "hf", tensors, {"rope_scaling": LLAMA3})
    two = load_language_model(str(folder))
    np.testing.assert_allclose(one.config.rope_divisors, two.config.rope_divisors, rtol=2e-7)
    np.testing.assert_allclose(logits(one), logits(two), atol=1e-5)
    plain = load_language_model(str(tiny_llama.hugging_face(tmp_path / "plain", tensors)))
    assert np.abs(logits(plain) - logits(two)).max() > 0.1


def test_both_ways_to_write_scaling_are_read(tmp_path, tiny_llama):
    old = FAMILIES["llama"].config_from_hf
    shape = json.loads(
        (tiny_llama.hugging_face(tmp_path / "hf", {}, {}) / "config.json").read_text()
    )
    del shape["rope_theta"]
    first = old({**shape, "rope_theta": 5e5, "rope_scaling": LLAMA3})
    kind = {"type": "llama3", **{k: v for k, v in LLAMA3.items() if k != "rope_type"}}
    assert old({**shape, "rope_theta": 5e5, "rope_scaling": kind}) == first
    assert old({**shape, "rope_parameters": {**LLAMA3, "rope_theta": 5e5}}) == first
    assert first.rope_theta == 5e5 and first.rope_divisors[0] == 1.0
    assert old(shape).rope_divisors is None and old(shape).rope_theta == 1e4


def test_released_scalings_survive_the_way_back():
    for factor in (8.0, 32.0):  # Llama 3.1 and 3.3; 3.2
        divisors = rope.llama3_divisors(5e5, 128, factor, 1.0, 4.0, 8192)
        written = rope.to_hf(5e5, 128, divisors)
        assert rope.from_hf(written, 128) == (5e5, divisors)
        assert written["rope_scaling"]["factor"] == factor
    with pytest.raises(UserError, match="no known form"):
        rope.to_hf(5e5, 128, (2.0,) * 64)


def test_what_a_family_has():
    shape = {
        "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 8, "max_position_embeddings": 16, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    found = {name: family.config_from_hf(shape) for name, family in FAMILIES.items()}
    assert {k: (c.attention_bias, c.qk_norm, c.head_dim) for k, c in found.items()} == {
        "llama": (False, False, 16), "qwen2": (True, False, 16), "qwen3": (False, True, 128),
    }  # fmt: skip
    assert FAMILIES["qwen3"].config_from_hf({**shape, "head_dim": 32}).head_dim == 32


def test_the_text_of_a_plain_shape_names_no_feature():
    plain = DecoderConfig(9, 1, 8, 2, 1, 4, 8, 16, 1e4, 1e-5, True)
    assert repr(plain) == (
        "DecoderConfig(vocab_size=9, num_layers=1, width=8, num_heads=2, num_kv_heads=1, "
        "head_dim=4, mlp_width=8, max_positions=16, rope_theta=10000.0, norm_eps=1e-05, "
        "tie_embeddings=True)"
    )
    assert repr(dataclasses.replace(plain, qk_norm=True)).endswith("=True, qk_norm=True)")


@pytest.mark.parametrize(
    "family, name",
    [("qwen2", "self_attn.k_proj.bias"), ("qwen3", "self_attn.q_norm.weight")],
)
def test_damaged_tensors(tmp_path, tiny_llama, family, name):
    tensors, config = tiny_llama.tensors(0, family), tiny_llama.family_config(family)
    whole = f"model.layers.1.{name}"
    wrong = {**tensors, whole: np.ones(7, np.float32)}
    folder = tiny_llama.hugging_face(tmp_path / "wrong", wrong, config)
    assert f"tensor '{whole}' has shape (7,)" in error(folder)
    del tensors[whole]
    folder = tiny_llama.hugging_face(tmp_path / "missing", tensors, config)
    assert f"tensor '{whole}' is missing" in error(folder)
    file = tiny_llama.gguf(tmp_path / "a.gguf", tensors, family=family)
    assert f"tensor '{tiny_llama.gguf_name(whole)}' is missing" in error(file)


def test_tensors_of_another_family(tmp_path, tiny_llama):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors(0, "qwen2"))
    assert "unexpected tensors model.layers.0.self_attn.k_proj.bias" in error(folder)
    assert "and 3 more" in error(folder)


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
@pytest.mark.parametrize(
    "config, message",
    [
        ({"use_sliding_window": True}, "attention within a sliding window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "within a sliding window"),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rotary scaling 'yarn' is not"),
        ({"attention_bias": True}, "attention_bias is not supported"),
        ({"hidden_size": "64"}, "config.json: hidden_size is '64'; it must be a whole number"),
    ],
)
def test_unsupported_configurations(tmp_path, tiny_llama, family, config, message):
    config = {**tiny_llama.family_config(family), "head_dim": None, **config}
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors(0, family), config)
    assert message in error(folder)


def test_qwen_numerals_and_composed_characters(tmp_path, tiny_llama):
    file = tiny_llama.gguf(
        tmp_path / "a.gguf", tiny_llama.tensors(0, "qwen2"), family="qwen2",
        fields=[("pre", "qwen2")],
    )  # fmt: skip
    encode = load_language_model(str(file)).tokenizer.encode
    assert encode("12") == [*encode("1"), *encode("2")]  # although "12" is a token
    assert encode("e\u0301") == encode("\u00e9") and len(encode("\u00e9")) == 2  # two bytes
    assert len(encode("ab")) == 1 and len(encode(" ab")) == 1
