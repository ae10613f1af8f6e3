"""GGUF files and Hugging Face directories give the same parameters; damage gives clear errors."""

import dataclasses
import json
import os

import gguf
import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from remid_jax.errors import UserError
from remid_jax.models.pretrained import load_language_model, open_language_model
from remid_jax.models.weights import open_files, read_parameters, weights_fingerprint

QUERY = "model.layers.1.self_attn.q_proj.weight"
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def parameters(model):
    return {jax.tree_util.keystr(k): np.asarray(v) for k, v in jax.tree.leaves_with_path(
        nnx.to_pure_dict(model.params))}  # fmt: skip


def assert_same_parameters(a, b):
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def error(path, **changes) -> str:
    with pytest.raises(UserError) as caught:
        load_language_model(str(path), **changes)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_1", "BF16"])
@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied"])
def test_gguf_equals_hugging_face(tmp_path, tiny_llama, kind, tied):
    tensors = tiny_llama.tensors()
    if tied:
        del tensors["lm_head.weight"]
    stored = {
        name: gguf.quants.dequantize(*tiny_llama.quantised(w, kind)) for name, w in tensors.items()
    }
    one = load_language_model(str(tiny_llama.gguf(tmp_path / "a.gguf", tensors, kind)))
    two = load_language_model(
        str(tiny_llama.hugging_face(tmp_path / "hf", stored, {"tie_word_embeddings": tied}))
    )
    assert one.config.norm_eps == pytest.approx(1e-5)  # float32 in GGUF
    assert dataclasses.replace(one.config, norm_eps=two.config.norm_eps) == two.config
    assert_same_parameters(parameters(one), parameters(two))
    if kind != "F32":
        assert not np.array_equal(stored[QUERY], tensors[QUERY])
    query = parameters(one)["['layers']['query']"]
    np.testing.assert_array_equal(query[1], stored[QUERY].T)
    text = "ab ab 12 é <u>x<e>"
    assert one.tokenizer.encode(text) == two.tokenizer.encode(text)
    assert one.tokenizer.stop_ids == two.tokenizer.stop_ids == (2,)
    chat = [{"role": "user", "content": "hi"}]
    assert one.tokenizer.encode_chat(chat) == two.tokenizer.encode_chat(chat)


def test_shards_equal_one_file(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()
    one = load_language_model(str(tiny_llama.hugging_face(tmp_path / "one", tensors)))
    three = load_language_model(str(tiny_llama.hugging_face(tmp_path / "three", tensors, shards=3)))
    assert_same_parameters(parameters(one), parameters(three))


def test_bfloat16_and_float16_files(tmp_path, tiny_llama):
    for dtype in (ml_dtypes.bfloat16, np.float16):
        stored = {k: v.astype(dtype) for k, v in tiny_llama.tensors().items()}
        model = load_language_model(
            str(tiny_llama.hugging_face(tmp_path / np.dtype(dtype).name, stored))
        )
        query = parameters(model)["['layers']['query']"]
        assert query.dtype == np.float32
        np.testing.assert_array_equal(query[1], stored[QUERY].astype(np.float32).T)


def test_float64_files(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()
    plain = parameters(load_language_model(str(tiny_llama.hugging_face(tmp_path / "a", tensors))))
    wide = {k: v.astype(np.float64) for k, v in tensors.items()}
    model = load_language_model(str(tiny_llama.hugging_face(tmp_path / "b", wide)))
    assert_same_parameters(parameters(model), plain)
    wide["model.norm.weight"][0] = 1e300  # no float32
    folder = tiny_llama.hugging_face(tmp_path / "c", wide)
    assert "tensor 'model.norm.weight' holds NaN or infinity" in error(folder)


def rename_kind(file, old, new):
    """Writes another type into the header of a safetensors file, for types that NumPy lacks."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


@pytest.mark.parametrize(
    "kind", ["F8_E4M3", "F8_E5M2", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "BOOL"]
)
@pytest.mark.parametrize("scaled", [False, True])
def test_types_that_are_no_weights(tmp_path, tiny_llama, kind, scaled):
    tensors = tiny_llama.tensors()
    number = kind.replace("I", "int").replace("U", "uint")
    plain = {"B": "bool", "F": "uint8"}.get(kind[0], number)
    tensors[QUERY] = np.zeros(tensors[QUERY].shape, plain)
    if scaled:  # what such models hold besides is not what is named
        tensors[QUERY.replace("weight", "weight_scale_inv")] = np.ones((1, 1), np.float32)
    folder = tiny_llama.hugging_face(tmp_path / "hf", tensors)
    if kind.startswith("F"):
        rename_kind(next(folder.glob("*.safetensors")), "U8", kind)
    with pytest.raises(UserError) as caught:
        open_language_model(str(folder))
    said = f"{folder}: tensor '{QUERY}' is stored as {kind}, which is no weight by itself"
    assert said in str(caught.value)


def test_a_head_that_is_not_used_may_be_of_any_type(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()
    tensors["lm_head.weight"] = np.zeros((2, 2), np.int8)
    tied = {"tie_word_embeddings": True}
    assert load_language_model(str(tiny_llama.hugging_face(tmp_path / "a", tensors, tied)))
    assert "'lm_head.weight' is stored as I8" in error(
        tiny_llama.hugging_face(tmp_path / "b", tensors)
    )


def test_gguf_integers_and_doubles(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()
    plain = load_language_model(str(tiny_llama.gguf(tmp_path / "a.gguf", tensors)))
    for kind in (np.int8, np.int16, np.int32, np.int64, np.float64):
        path = tmp_path / f"{np.dtype(kind).name}.gguf"
        tiny_llama.gguf(path, tensors, stored_as={QUERY: kind})
        if kind != np.float64:
            assert f"'blk.1.attn_q.weight' is stored as I{8 * np.dtype(kind).itemsize}" in error(
                path
            )
            continue
        assert_same_parameters(parameters(load_language_model(str(path))), parameters(plain))


def test_bfloat16_parameters(tmp_path, tiny_llama):
    folder = str(tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors()))
    full, half = load_language_model(folder), load_language_model(folder, dtype="bfloat16")
    for name, value in parameters(full).items():
        np.testing.assert_array_equal(value.astype(ml_dtypes.bfloat16), parameters(half)[name])
    assert full.fingerprint != half.fingerprint


def test_identity_follows_the_content(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()
    a = tiny_llama.hugging_face(tmp_path / "a", tensors)
    b = tiny_llama.hugging_face(tmp_path / "b", tensors)
    c = tiny_llama.hugging_face(tmp_path / "c", tiny_llama.tensors(1))
    assert weights_fingerprint(a) == weights_fingerprint(b) != weights_fingerprint(c)
    theta = tiny_llama.hugging_face(tmp_path / "d", tensors, {"rope_theta": 1e6})
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}")
    identities = [load_language_model(str(f)).fingerprint for f in (a, b, c, theta)]
    identities.append(load_language_model(str(a), chat_template=str(template)).fingerprint)
    assert identities[0] == identities[1] and len(set(identities)) == 4


@pytest.mark.parametrize("write", ["gguf", "hugging_face"])
def test_damaged_tensors(tmp_path, tiny_llama, write):
    name = QUERY if write == "hugging_face" else "blk.1.attn_q.weight"

    def message(change):
        tensors = tiny_llama.tensors()
        change(tensors)
        path = tmp_path / f"m{len(list(tmp_path.iterdir()))}"
        return error(getattr(tiny_llama, write)(path, tensors))

    assert f"tensor '{name}' is missing" in message(lambda t: t.pop(QUERY))
    extra = message(lambda t: t.update({"blk.9.attn_q.weight": np.ones((4, 4), np.float32)}))
    assert "unexpected tensors blk.9.attn_q.weight" in extra
    norm = "model.layers.0.input_layernorm.weight"
    shape = message(lambda t: t.update({norm: np.ones(32, np.float32)}))
    assert "has shape (32,), not (64,)" in shape
    wide = message(lambda t: t.update({QUERY: np.ones((64, 96), np.float32)}))
    assert f"'{name}' has shape (64, 96), not (64, 64)" in wide
    for bad in (np.nan, np.inf):
        broken = message(lambda t, bad=bad: t[QUERY].__setitem__((0, 0), bad))
        assert f"tensor '{name}' holds NaN or infinity" in broken


def test_a_query_of_uneven_rows(tmp_path, tiny_llama):
    tensors = {**tiny_llama.tensors(), "blk.0.attn_q.weight": np.ones((40, 64), np.float32)}
    del tensors["model.layers.0.self_attn.q_proj.weight"]
    assert "has shape" in error(tiny_llama.gguf(tmp_path / "a.gguf", tensors))


@pytest.mark.parametrize("keep", [0, 3, 30, 2000, 0.5, 0.99])
def test_truncated_files(tmp_path, tiny_llama, keep):
    file = tiny_llama.gguf(tmp_path / "a.gguf", tiny_llama.tensors(), "Q8_0")
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors())
    for damaged in (file, next(folder.glob("*.safetensors"))):
        content = damaged.read_bytes()
        damaged.write_bytes(content[: int(keep * len(content)) if keep < 1 and keep else int(keep)])
        assert "truncated" in error(damaged if damaged == file else folder)


def test_files_that_are_no_model(tmp_path, tiny_llama):
    text = tmp_path / "notes.txt"
    text.write_text("hello " * 1000)
    assert "not a readable GGUF file" in error(text)
    assert "model not found" in error(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in error(empty)
    (empty / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert "no *.safetensors" in error(empty)
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors())
    (folder / "config.json").write_text("{'model_type'")
    assert "config.json is no valid JSON" in error(folder)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"model_type": "mamba"}, "architecture 'mamba' is not supported; supported: llama,"),
        ({"model_type": None}, "architecture 'None' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "rotary scaling 'yarn' is not"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rotary scaling 'linear' is not"),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
            "rotary scaling 'llama3' in config.json lacks 'low_freq_factor'",
        ),
        (
            {"rope_scaling": {**LLAMA3, "low_freq_factor": 4.0}},
            "rotary scaling 'llama3' needs positive numbers, low < high",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"attention_bias": True}, "attention_bias is not supported"),
        ({"mlp_bias": True}, "mlp_bias is not supported"),
    ],
)
def test_unsupported_configurations(tmp_path, tiny_llama, config, message):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors(), config)
    assert message in error(folder)


def test_a_configuration_that_lacks_a_key(tmp_path, tiny_llama):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors())
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    assert "config.json lacks 'hidden_size'" in error(folder)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"fields": [("arch", "mamba")]},
            "architecture 'mamba' is not supported; supported: llama, qwen2, qwen3",
        ),
        ({"drop": ["block_count"]}, "GGUF metadata lacks 'llama.block_count'"),
        ({"drop": ["eos"]}, "GGUF metadata lacks 'tokenizer.ggml.eos_token_id'"),
        ({"drop": ["tokens"]}, "GGUF metadata lacks 'tokenizer.ggml.tokens'"),
        ({"drop": ["template"]}, "no chat template"),
        ({"fields": [("tokenizer", "llama")]}, "tokenizer kind 'llama' is not supported"),
        ({"fields": [("pre", "qwen9")]}, "pre-tokenizer 'qwen9' is not supported"),
        ({"fields": [("scaling", "yarn")]}, "rotary scaling 'yarn' is not supported"),
        (
            {"fields": [("rope.dimension_count", 8), ("attention.key_length", 16)]},
            "rope.dimension_count 8 other than the heads' 16",
        ),
        (
            {"fields": [("attention.value_length", 32)]},
            "attention.value_length 32 other than the heads' 16",
        ),
    ],
    ids=str,
)
def test_gguf_metadata(tmp_path, tiny_llama, changes, message):
    assert message in error(tiny_llama.gguf(tmp_path / "a.gguf", tiny_llama.tensors(), **changes))


@pytest.mark.parametrize(
    "values, message",
    [
        (np.ones(7), "tensor 'rope_freqs.weight' has shape (7,), not (8,)"),
        (np.arange(8), "tensor 'rope_freqs.weight' holds values that are no divisors"),
        (np.full(8, np.nan), "tensor 'rope_freqs.weight' holds values that are no divisors"),
    ],
)
def test_damaged_rotary_divisors(tmp_path, tiny_llama, values, message):
    tensors = {**tiny_llama.tensors(), "rope_freqs.weight": values.astype(np.float32)}
    assert message in error(tiny_llama.gguf(tmp_path / "a.gguf", tensors))


@pytest.mark.parametrize(
    "index, message",
    [
        ("{", "index.json is no valid JSON"),
        ("[]", "index.json must hold a JSON object, not list"),
        ('{"weight_map": [1]}', "index.json: must map tensors to files in 'weight_map'"),
        ('{"weight_map": {}}', "index.json: must map tensors to files in 'weight_map'"),
        ('{"weight_map": {"a": "lost.safetensors"}}', "names 'lost.safetensors', which is not"),
        ('{"weight_map": {"a": "../hf/model.safetensors"}}', "is no plain file name"),
        ('{"weight_map": {"a": 3}}', "names '3', which is not there"),
    ],
)
def test_damaged_indices(tmp_path, tiny_llama, index, message):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors())
    (folder / "model.safetensors.index.json").write_text(index)
    assert message in error(folder)


def test_only_the_files_of_the_index_are_read(tmp_path, tiny_llama):
    one = tiny_llama.hugging_face(tmp_path / "one", tiny_llama.tensors(), shards=2)
    two = tiny_llama.hugging_face(tmp_path / "two", tiny_llama.tensors(), shards=2)
    names = sorted(tiny_llama.tensors())
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": {name: files[i % 2] for i, name in enumerate(names)}}
    (two / "model.safetensors.index.json").write_text(json.dumps(index))
    (two / "consolidated.safetensors").write_bytes(b"another form of the same weights")
    models = [load_language_model(str(folder)) for folder in (one, two)]
    assert_same_parameters(*map(parameters, models))
    assert models[0].fingerprint == models[1].fingerprint


def test_two_files_that_hold_the_same_tensor(tmp_path, tiny_llama):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors(), shards=2)
    first, second = sorted(folder.glob("*.safetensors"))
    name = min(load_file(second))
    save_file({**load_file(first), name: load_file(second)[name] + 1}, first)
    said = error(folder)
    assert f"{first} and {second.name} both hold tensor '{name}'" in said
    (folder / "copy.safetensors").write_bytes(second.read_bytes())
    assert f"copy.safetensors and {first.name} both hold tensor" in error(folder)
    index = {"weight_map": dict.fromkeys(load_file(first), first.name)}
    index["weight_map"] |= dict.fromkeys(load_file(second), second.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "both hold tensor" in error(folder)


def test_what_may_be_ignored(tmp_path, tiny_llama):
    tensors = tiny_llama.tensors()  # a tied model whose file repeats the head
    folder = tiny_llama.hugging_face(tmp_path / "hf", tensors, {"tie_word_embeddings": True})
    names = [name for name, _ in read_parameters(open_files(folder))]
    assert len(names) == len(set(names)) == 2 + 9
    assert {n for n in names if not n.startswith("layers/")} == {"embedding", "final_norm"}


def test_paths(tmp_path, tiny_llama, monkeypatch):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors())
    file = tiny_llama.gguf(tmp_path / "a.gguf", tiny_llama.tensors())
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (folder, file):
        assert open_language_model(f"~/{path.name}").files.path == path
        assert open_files(f"~/{path.name}").path == path
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, said in (
        ("a\0b", "holds a NUL character"), ("x" * 300, "is too long"), ("", "is empty"),
        ("y/" * 3000, "is too long"), ("~nobody-here/m", "no such home folder"),
        ("\udcff", "is no UTF-8"), (tmp_path / "pipe", "model not found"),
        (tmp_path / "loop", "model not found"), (file / "inner", "model not found"),
    ):  # fmt: skip
        for use in (open_files, open_language_model):
            with pytest.raises(UserError, match=said):
                use(str(path))


def test_tokenizer_files(tmp_path, tiny_llama):
    folder = tiny_llama.hugging_face(tmp_path / "hf", tiny_llama.tensors())
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({"eos_token": "<e>"}))
    assert "the tokenizer has no chat template; name a jinja file" in error(folder)
    template = tmp_path / "t.jinja"
    template.write_text("mine{% for m in messages %}{{ m.content }}{% endfor %}")
    model = load_language_model(str(folder), chat_template=str(template))
    assert model.tokenizer.render([]) == "mine"
    (folder / "chat_template.jinja").write_text(template.read_text().replace("mine", "file"))
    assert load_language_model(str(folder)).tokenizer.render([]) == "file"
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer.json is no valid JSON" in error(folder)
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer.json: not a tokenizer" in error(folder)
    (folder / "tokenizer.json").unlink()
    assert "no tokenizer.json" in error(folder)
