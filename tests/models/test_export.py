"""What is exported reads back to the same model; what cannot be exported says why."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models import rope
from remid_jax.models.export import export_hugging_face
from remid_jax.models.pretrained import load_language_model

CHAT = [{"role": "user", "content": "ab 12 é"}]


def assert_same(one, two):
    a, b = (nnx.to_pure_dict(m.params) for m in (one, two))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert one.config == two.config
    assert one.tokenizer.encode_chat(CHAT) == two.tokenizer.encode_chat(CHAT)
    assert one.tokenizer.stop_ids == two.tokenizer.stop_ids


def write(tiny_llama, folder, kind, family, **changes):
    tensors = tiny_llama.tensors(0, family)
    if kind == "gguf":
        return tiny_llama.gguf(folder / "a.gguf", tensors, family=family, **changes)
    config = {**tiny_llama.family_config(family), **changes}
    return tiny_llama.hugging_face(folder / "hf", tensors, config)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", ["gguf", "hf"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(tmp_path, tiny_llama, kind, family, dtype):
    source = write(tiny_llama, tmp_path, kind, family)
    model = load_language_model(str(source), dtype)
    out = export_hugging_face(model, tmp_path / "new" / "out", source)
    assert out == tmp_path / "new" / "out"
    again = load_language_model(str(out), dtype)
    assert_same(model, again)
    assert [p.name for p in out.parent.iterdir()] == ["out"]  # nothing temporary stays
    config = json.loads((out / "config.json").read_text())
    assert (config["model_type"], config["torch_dtype"]) == (family, dtype)
    weights = {p.name for p in out.glob("*.safetensors*")}
    assert weights == {"model.safetensors"}
    if kind == "hf":
        assert (out / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_several_files(tmp_path, tiny_llama):
    source = write(tiny_llama, tmp_path, "hf", "qwen2")
    model = load_language_model(str(source))
    out = export_hugging_face(model, tmp_path / "out", source, max_shard_bytes=70_000)
    files = sorted(out.glob("*.safetensors"))
    assert len(files) > 3 and files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {f.name for f in files}
    assert max(f.stat().st_size for f in files) < 90_000
    assert_same(model, load_language_model(str(out)))
    files[1].unlink()
    with pytest.raises(UserError, match=f"names '{files[1].name}', which is not there"):
        load_language_model(str(out))


def test_changed_parameters_and_another_template_are_what_is_written(tmp_path, tiny_llama):
    source = write(tiny_llama, tmp_path, "hf", "llama")
    template = tmp_path / "t.jinja"
    template.write_text("mine: {{ messages[0].content }}")
    model = load_language_model(str(source), chat_template=str(template))
    trained = dataclasses.replace(model, params=jax.tree.map(lambda x: x + 0.5, model.params))
    again = load_language_model(str(export_hugging_face(trained, tmp_path / "out", source)))
    assert_same(trained, again)
    assert again.tokenizer.render(CHAT) == "mine: ab 12 é"


def test_scaled_rotary_frequencies(tmp_path, tiny_llama):
    divisors = rope.llama3_divisors(5000.0, 16, 8.0, 1.0, 4.0, 8192)
    for i, values in enumerate((divisors, np.linspace(1, 3, 8))):
        freqs = {"rope_freqs.weight": np.asarray(values, np.float32)}
        source = tiny_llama.gguf(tmp_path / f"{i}.gguf", {**tiny_llama.tensors(), **freqs})
        model = load_language_model(str(source))
        if i == 0:
            out = export_hugging_face(model, tmp_path / "out", source)
            assert_same(model, load_language_model(str(out)))
            continue
        with pytest.raises(UserError, match=r"1\.gguf: the rotary divisors .* no known form"):
            export_hugging_face(model, tmp_path / "other", source)
        assert not (tmp_path / "other").exists()


def test_refusals(tmp_path, tiny_llama):
    source = write(tiny_llama, tmp_path, "hf", "llama")
    model = load_language_model(str(source))
    with pytest.raises(UserError, match=f"{source}: is there already; name a new folder"):
        export_hugging_face(model, source, source)
    (tmp_path / "two").mkdir()
    other = write(tiny_llama, tmp_path / "two", "hf", "qwen3")
    with pytest.raises(UserError, match=f"{other}: has another shape than the model"):
        export_hugging_face(model, tmp_path / "out", other)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        export_hugging_face(model, tmp_path / "file" / "out", source)
    (tmp_path / "empty").mkdir()
    assert export_hugging_face(model, tmp_path / "empty", source) == tmp_path / "empty"
