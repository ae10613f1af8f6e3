"""The embedded default: its shape, its pinned content, and its first fetch."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from children import answer
from tiny_checkpoint import TOKENS, tiny_tensors, write_hugging_face

from remid_jax.errors import UserError
from remid_jax.models import pretrained
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import (
    cache_folder,
    fetch_default,
    load_language_model,
    open_language_model,
)

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_shape_of_the_default(smollm2):
    assert smollm2.config == DecoderConfig(
        vocab_size=49152, num_layers=30, width=576, num_heads=9, num_kv_heads=3, head_dim=64,
        mlp_width=1536, max_positions=8192, rope_theta=1e5, norm_eps=pytest.approx(1e-5),
        tie_embeddings=True,
    )  # fmt: skip
    leaves = jax.tree.leaves(smollm2.params)
    assert sum(x.size for x in leaves) == 134_515_008
    assert {str(x.dtype) for x in leaves} == {"float32"}
    assert smollm2.name == "smollm2-135m-instruct"


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("REMID_JAX_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REMID_JAX_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("REMID_JAX_CACHE", "")  # as if it were not there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "remid_jax"


def test_a_damaged_copy_is_refused(smollm2, monkeypatch, tmp_path):
    whole = fetch_default()
    monkeypatch.setenv("REMID_JAX_CACHE", str(tmp_path))
    copy = bytearray(whole.read_bytes())
    copy[len(copy) // 2] ^= 1
    (tmp_path / FILE).write_bytes(copy)
    with pytest.raises(UserError, match=r"SHA-256 is .*, not the pinned b179c9523d0e") as caught:
        load_language_model()
    assert str(tmp_path / FILE) in str(caught.value)
    assert "delete the file and run again" in str(caught.value)


def test_no_network_at_the_first_fetch(tmp_path):
    program = (
        "from remid_jax.errors import UserError\n"
        "from remid_jax.models.pretrained import load_language_model\n"
        "try: load_language_model()\n"
        "except UserError as e: print(e)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment |= {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
        "REMID_JAX_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("cannot fetch the default model with pip (ERROR: ")
    assert "--config.model.path" in line
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_folder_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REMID_JAX_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cache folder .* is not writable .*set REMID_JAX_CACHE"):
        fetch_default()


def test_arguments(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unknown dtype 'float99'; choose among float32, bfloat16"):
        load_language_model(dtype="float99")
    with pytest.raises(UserError, match=r"chat template file not found: .*none.jinja"):
        load_language_model(chat_template=str(tmp_path / "none.jinja"))
    with pytest.raises(UserError, match="model not found: smollm3"):
        load_language_model("smollm3")


def test_default_names_are_consistent():
    assert pretrained.DTYPES["bfloat16"] == np.dtype("bfloat16")
    assert pretrained.DEFAULT == "smollm2-135m-instruct"


PEAK = """
import json, resource, sys
import jax
import remid_jax.models.pretrained as pretrained
import safetensors, gguf, tokenizers  # what loading imports is not what it loads

jax.numpy.zeros(3).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = pretrained.load_language_model(sys.argv[1], sys.argv[2])
size = sum(x.nbytes for x in jax.tree.leaves(model.params))
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(json.dumps([size, grown]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="units of ru_maxrss")
@pytest.mark.parametrize("shards", [1, 4])
def test_weights_never_stand_twice_in_memory(tmp_path, shards):
    """Loading grows the process by the weights and one stacked array of them, not by two sets."""
    width, mlp, layers = 512, 4096, 8
    layer = {
        "self_attn.q_proj": (width, width), "self_attn.k_proj": (width, width),
        "self_attn.v_proj": (width, width), "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (mlp, width), "mlp.up_proj": (mlp, width), "mlp.down_proj": (width, mlp),
        "input_layernorm": (width,), "post_attention_layernorm": (width,),
    }  # fmt: skip
    shapes = {"model.embed_tokens.weight": (len(TOKENS), width), "model.norm.weight": (width,)}
    for i in range(layers):
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    tensors = {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}
    changes = {
        "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers,
        "num_attention_heads": 8, "num_key_value_heads": 8, "tie_word_embeddings": True,
    }  # fmt: skip
    folder = write_hugging_face(tmp_path / "model", tensors, changes, shards)
    del tensors
    size, grown = answer(PEAK, str(folder), "float32")
    largest = 4 * layers * width * mlp
    assert size > 200e6 and grown < size + 1.25 * largest + 100e6 < 1.9 * size


def test_a_card_reads_no_weights(tmp_path):
    """Everything that can be refused is refused from names and shapes."""
    folder = write_hugging_face(tmp_path / "model", tiny_tensors())
    card = open_language_model(str(folder))
    assert card.config.num_layers == 2 and card.tokenizer.encode("ab")
    file = next(folder.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-400:] = b"\xff" * 400  # NaN in the last tensor
    file.write_bytes(content)
    assert open_language_model(str(folder)).config == card.config
    with pytest.raises(UserError, match="NaN or infinity"):
        load_language_model(card)
    tensors = tiny_tensors()
    tensors["model.norm.weight"] = np.ones(3, np.float32)
    with pytest.raises(UserError, match=r"'model.norm.weight' has shape \(3,\), not \(64,\)"):
        open_language_model(str(write_hugging_face(tmp_path / "wrong", tensors)))
