"""Configurations of the wrong types, sizes that are not there, and features that are not computed.

Each is refused in one line that names the file, the key and its value; nothing is built before.
"""

import json

import pytest

from remid_jax.errors import UserError
from remid_jax.models.families import FAMILIES
from remid_jax.models.pretrained import load_language_model, open_language_model

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "intermediate_size", "max_position_embeddings", "head_dim",
)  # fmt: skip
NO_SIZES = ("2", [2, 2], [], {"a": 2}, True, 0, -1, 2.0, float("nan"), 2**31, 10**12)
GGUF_SIZES = (
    "vocab_size", "block_count", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "context_length", "rope.dimension_count",
)  # fmt: skip


def refused(path) -> str:
    with pytest.raises(UserError) as caught:
        open_language_model(str(path))
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def configured(tmp_path, tiny_llama):
    """configured(family, **changes): a Hugging Face directory, its weights written once."""

    def write(family="llama", **changes):
        folder = tmp_path / family
        if not folder.exists():
            named = tiny_llama.family_config(family)
            tiny_llama.hugging_face(folder, tiny_llama.tensors(0, family), named)
            (folder / "plain.json").write_text((folder / "config.json").read_text())
        plain = json.loads((folder / "plain.json").read_text())
        (folder / "config.json").write_text(json.dumps({**plain, **changes}))
        return folder

    return write


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("key", SIZES)
def test_sizes_are_whole_numbers(configured, family, key):
    for value in NO_SIZES:
        said = refused(configured(family, **{key: value}))
        assert f"config.json: {key} is {value!r}; it must be " in said
    optional = key in ("head_dim", "num_key_value_heads")
    if not optional:
        assert f"config.json: {key} is null; it must be " in refused(
            configured(family, **{key: None})
        )


@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
def test_numbers_are_finite_and_positive(configured, key):
    for value in (None, "1e-5", [1e-5], True, 0, -1e-5, float("nan"), float("inf"), 1e-300, 1e300):
        said = refused(configured(**{key: value}))
        shown = "null" if value is None else repr(value)
        assert f"config.json: {key} is {shown}; it must be a number from" in said
    assert "rope_theta is 0.5; it must be a number from 1" in refused(configured(rope_theta=0.5))
    assert "rms_norm_eps is 1.0" in refused(configured(rms_norm_eps=1.0))
    assert open_language_model(str(configured(rope_theta=10000))).config.rope_theta == 1e4


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_key_value_heads": 3}, "num_attention_heads is 4; it must be a multiple of num_key"),
        ({"num_attention_heads": 6, "num_key_value_heads": 2},
         "hidden_size is 64; it must be a multiple of num_attention_heads, 6"),
        ({"head_dim": 15}, "the width of one head is 15"),
        ({"hidden_size": 2**30, "num_attention_heads": 2}, "the width of one head is 536870912"),
        ({"num_attention_heads": 64, "num_key_value_heads": 64}, "the width of one head is 1 "),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings is 1; it must be true or false"),
        ({"tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'; it must be true or"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear'; it must be an object"),
        ({"rope_scaling": [1]}, "rope_scaling is [1]; it must be an object"),
        ({"rope_scaling": {"type": 3}}, "rope_scaling.type is 3; it must be a text"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling.factor (2.0) is not supported"),
        ({"rope_scaling": {"rope_type": "default", "mrope_section": [1, 2]}},
         "rope_scaling.mrope_section ([1, 2]) is not supported"),
        ({"rope_scaling": {**LLAMA3, "attention_factor": 1.2}}, "rope_scaling.attention_factor"),
        ({"rope_scaling": {**LLAMA3, "factor": 1e-300}}, "rope_scaling.factor is 1e-300; it must"),
        ({"rope_scaling": {**LLAMA3, "factor": "8"}}, "rope_scaling.factor is '8'; it must be a n"),
        ({"rope_scaling": {**LLAMA3, "type": "yarn"}}, "rope_scaling.type is 'yarn'; it must be"),
        ({"rope_scaling": LLAMA3, "rope_parameters": {"rope_theta": 5000.0}},
         "it must be the same as rope_parameters"),
        ({"rope_parameters": {"rope_theta": 1e6}}, "rope_parameters.rope_theta is 1000000.0; it"),
        ({"rope_parameters": {"full_attention": LLAMA3}}, "rope_parameters.full_attention"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(configured, changes, message):
    assert message in refused(configured(**changes))


def test_a_key_that_stands_twice(configured):
    folder = configured()
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text[:-1] + ', "rope_theta": 10000.0}')
    assert "the key 'rope_theta' stands twice" in refused(folder)


CHANGES = [
    {"attention_multiplier": 0.0078}, {"attention_multiplier": 1.0}, {"logits_scaling": 8.0},
    {"logit_scale": 0.0625}, {"embedding_multiplier": 12.0}, {"residual_multiplier": 0.22},
    {"lm_head_multiplier": 0.5}, {"attn_logit_softcapping": 50.0}, {"final_logit_softcapping": 30},
    {"query_pre_attn_scalar": 256}, {"scale_emb": 12}, {"clip_qkv": 8.0}, {"mup_scale": 2.0},
    {"partial_rotary_factor": 0.5}, {"partial_rotary_factor": 0}, {"rotary_pct": 0.25},
    {"partial_rotary_factor": "1"}, {"no_rope_layers": [1, 1, 0]}, {"is_causal": False},
    {"use_qk_norm": True}, {"attention_chunk_size": 8192}, {"rope_interleaved": True},
    {"quantization_config": {"quant_method": "fp8"}}, {"quantization_config": {"bits": 4}},
    {"compression_config": {"format": "pack-quantized"}}, {"position_embedding_type": "alibi"},
    {"hidden_act": None}, {"hidden_act": ["silu"]}, {"mlp_bias": "yes"}, {"num_local_experts": 8},
    {"layer_types": ["full_attention", "chunked_attention"]}, {"layer_types": "full_attention"},
]  # fmt: skip


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_changes_the_computation_is_refused_by_name(configured, family):
    for change in CHANGES:
        said = refused(configured(family, **change))
        (key,) = change
        assert {"hidden_act": "activation"}.get(key, key) in said, said


HARMLESS = [
    {"pretraining_tp": 4}, {"use_cache": False}, {"_name_or_path": "x"}, {"my_own_key": [1, {}]},
    {"attention_dropout": 0.1}, {"initializer_range": 0.02}, {"quantization_config": None},
    {"embedding_multiplier": 1.0}, {"logit_scale": None}, {"attn_logit_softcapping": None},
    {"partial_rotary_factor": 1.0}, {"rope_scaling": {}}, {"rope_scaling": None},
    {"rope_scaling": {"rope_type": "default", "factor": 1.0}}, {"rope_interleaved": False},
    {"layer_types": ["full_attention"] * 2}, {"sliding_window": None}, {"is_causal": True},
    {"attention_bias": False}, {"tie_word_embeddings": None}, {"sliding_window": 128},
    {"max_window_layers": 21}, {"torch_dtype": "float8_e4m3fn"}, {"hidden_act": "swish"},
    {"use_sliding_window": False, "sliding_window": 16},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
]  # fmt: skip


@pytest.mark.parametrize("family", list(FAMILIES))
def test_what_changes_nothing_is_allowed(configured, family):
    plain = open_language_model(str(configured(family))).config
    for change in HARMLESS:
        assert open_language_model(str(configured(family, **change))).config == plain, change


def test_a_window_counts_where_the_family_says(configured):
    assert "sliding_window is 16" in refused(configured(sliding_window=16))
    assert open_language_model(str(configured("qwen2", sliding_window=16))).config
    both = {"use_sliding_window": True, "sliding_window": 16}
    assert "sliding_window is 16" in refused(configured("qwen2", **both))
    assert "sliding_window is -1; it must" in refused(configured(sliding_window=-1))
    assert "use_sliding_window is 1; it must" in refused(configured(use_sliding_window=1))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"num_hidden_layers": 2**31 - 1}, "num_hidden_layers is 2,147,483,647, but there are ten"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, but there are tensors of 2 layers"),
        ({"num_hidden_layers": 1}, "unexpected tensors model.layers.1."),
        ({"vocab_size": 2**31 - 1}, "'model.embed_tokens.weight' has shape (262, 64), not (2147"),
        ({"intermediate_size": 2**31 - 1}, "has shape (96, 64), not (2147483647, 64)"),
        ({"hidden_size": 2**31 - 1, "head_dim": 16}, "has shape (262, 64), not (262, 2147483647)"),
    ],
)
def test_sizes_are_those_of_the_tensors(configured, change, message):
    assert message in refused(configured(**change))


def test_gguf_sizes(tmp_path, tiny_llama):
    tensors, path = tiny_llama.tensors(), tmp_path / "a.gguf"
    for name in GGUF_SIZES:
        for value in ("2", [4, 4], True, 0, -1, 2.0, float("nan")):
            tiny_llama.gguf(path, tensors, raw={f"llama.{name}": value})
            assert f"GGUF metadata: llama.{name} is {value!r}; it must be" in refused(path)
    tiny_llama.gguf(path, tensors, raw={"llama.attention.head_count_kv": [2, 2]})
    assert "sizes that differ by layer are not supported" in refused(path)
    tiny_llama.gguf(path, tensors, raw={"llama.block_count": 2**31 - 1})
    assert "block_count is 2,147,483,647, but there are tensors of 2 layers" in refused(path)
    for value in ("1e-5", [1.0], float("nan"), 0.0, -1.0):
        tiny_llama.gguf(path, tensors, raw={"llama.attention.layer_norm_rms_epsilon": value})
        assert "layer_norm_rms_epsilon is" in refused(path)


@pytest.mark.parametrize(
    "raw, message",
    [
        ({"llama.rope.scaling.factor": 4.0},
         "rotary scaling 'linear', which rope.scaling.factor 4 without a type means, is not"),
        ({"llama.rope.scale_linear": 0.5}, "which rope.scale_linear 0.5 without a type means"),
        ({"llama.rope.scaling.factor": "4"}, "llama.rope.scaling.factor is '4'; it must"),
        ({"llama.rope.scaling.type": 3}, "llama.rope.scaling.type is 3; it must be a text"),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0},
         "rotary scaling 'linear' is not supported"),
        ({"llama.rope.scaling.attn_factor": 0.8}, "llama.rope.scaling.attn_factor is not support"),
        ({"llama.rope.scaling.original_context_length": 64}, "scaling.original_context_length is"),
        ({"llama.rope.scaling.yarn_beta_fast": 32.0}, "llama.rope.scaling.yarn_beta_fast is not"),
        ({"llama.attention.sliding_window": 64}, "llama.attention.sliding_window is not supported"),
        ({"llama.attention.scale": 0.1}, "llama.attention.scale is not supported"),
        ({"llama.attention.causal": False}, "llama.attention.causal is not supported"),
        ({"llama.attn_logit_softcapping": 50.0}, "llama.attn_logit_softcapping is not supported"),
        ({"llama.logit_scale": 0.1}, "llama.logit_scale is not supported"),
        ({"llama.expert_count": 8}, "llama.expert_count is not supported"),
        ({"llama.altogether_new": True}, "llama.altogether_new is not supported"),
        ({"split.count": 2, "split.no": 1}, "is part 2 of 2 files; merge them with llama"),
        ({"split.count": "2"}, "is one of '2' files"),
    ],
)  # fmt: skip
def test_gguf_keys_that_change_the_computation(tmp_path, tiny_llama, raw, message):
    path = tiny_llama.gguf(tmp_path / "a.gguf", tiny_llama.tensors(), raw=raw)
    assert message in refused(path)


def test_gguf_keys_that_change_nothing(tmp_path, tiny_llama):
    raw = {
        "llama.rope.scaling.factor": 1.0, "llama.rope.scale_linear": 0.0, "llama.expert_count": 0,
        "llama.rope.scaling.attn_factor": 1.0, "llama.logit_scale": 1.0, "split.count": 0,
        "llama.pooling_type": 1, "llama.tensor_data_layout": "Meta AI original pth",
        "llama.attention.causal": True, "general.name": "anything", "anybody.key": [1, 2],
    }  # fmt: skip
    one = open_language_model(str(tiny_llama.gguf(tmp_path / "a.gguf", tiny_llama.tensors())))
    path = tiny_llama.gguf(tmp_path / "b.gguf", tiny_llama.tensors(), raw=raw)
    assert open_language_model(str(path)).config == one.config
    none = {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}  # no scaling then
    path = tiny_llama.gguf(tmp_path / "c.gguf", tiny_llama.tensors(), raw=none)
    assert open_language_model(str(path)).config == one.config


def test_the_first_of_several_gguf_files(tmp_path, tiny_llama):
    whole = tiny_llama.tensors()
    part = dict(list(whole.items())[:-6])
    raw = {"split.no": 0, "split.count": 2, "split.tensors.count": len(whole)}
    path = tiny_llama.gguf(tmp_path / "m-00001-of-00002.gguf", part, raw=raw)
    said = refused(path)
    assert "is part 1 of 2 files" in said
    assert "`llama-gguf-split --merge m-00001-of-00002.gguf MERGED.gguf`" in said
    second = tiny_llama.gguf(tmp_path / "m-00002-of-00002.gguf", part)  # by its name alone
    said = refused(second)
    assert "is part 2 of 2 files" in said and "--merge m-00001-of-00002.gguf" in said
    one = tiny_llama.gguf(tmp_path / "m-00001-of-00001.gguf", whole)
    assert load_language_model(str(one)).config.num_layers == 2
