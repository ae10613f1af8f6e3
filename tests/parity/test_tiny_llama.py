"""Directories that transformers saves are read to the same logits."""

import os
import warnings

import numpy as np
import pytest
import tokenizers
from flax import nnx

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

from remid_jax.inference.likelihood import Response, score_responses
from remid_jax.inference.prefix import prefill
from remid_jax.models.pretrained import load_language_model

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]
VARIANTS = {
    "untied, grouped": {},
    "tied": {"tie_word_embeddings": True},
    "all heads": {"num_key_value_heads": 4},
    "one key head, wide heads": {"num_key_value_heads": 1, "head_dim": 24},
    "theta, eps": {"rope_parameters": {"rope_type": "default", "rope_theta": 77.0},
                   "rms_norm_eps": 0.03},
}  # fmt: skip


def save(folder, dtype=torch.float32, shard="10GB", seed=0, **changes):
    """A random Llama as transformers saves it; returns it in float32."""
    shape = {
        "vocab_size": 90, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "tie_word_embeddings": False, "initializer_range": 0.15, "eos_token_id": 2,
        "bos_token_id": 1, "attn_implementation": "eager",
    }  # fmt: skip
    torch.manual_seed(seed)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**shape, **changes}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.add_(0.3 * torch.randn_like(p))
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, **{f"w{i}": i for i in range(3, 90)}}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<pad>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", bos_token="<s>", pad_token="<pad>"
    )
    tokenizer.chat_template = "{{ bos_token }} {{ messages[0].content }}"
    tokenizer.save_pretrained(folder)
    # Read back: `.to(dtype)` rounds the rotary frequencies too, which the file does not hold.
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), tokenizer


def assert_same_logits(model, reference):
    tokens = np.random.default_rng(1).integers(3, 90, (3, 40))
    with torch.no_grad():
        expected = reference(torch.tensor(tokens)).logits.numpy()
    decoder = nnx.merge(model.graphdef, model.params)
    c = model.config
    empty = np.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), np.float32)
    hidden, _ = decoder.extend(tokens, (empty, empty), 0)
    assert expected.std() > 0.5  # far from a constant
    np.testing.assert_allclose(decoder.logits(hidden), expected, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(tmp_path, name):
    reference, tokenizer = save(tmp_path, **VARIANTS[name])
    model = load_language_model(str(tmp_path))
    assert_same_logits(model, reference)
    text = "w4 w5 w80"
    assert model.tokenizer.encode(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    chat = [{"role": "user", "content": text}]
    ids = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=False)
    assert model.tokenizer.encode_chat(chat) == list(ids) == [1, 4, 5, 80]
    assert model.tokenizer.end_of_turn == 2


def test_several_shards(tmp_path):
    reference, _ = save(tmp_path, shard="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_same_logits(load_language_model(str(tmp_path)), reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_storage_types(tmp_path, dtype):
    reference, _ = save(tmp_path, dtype=dtype)
    assert_same_logits(load_language_model(str(tmp_path)), reference)


def test_scores_after_a_long_prompt(tmp_path):
    reference, _ = save(tmp_path, seed=3)
    model = load_language_model(str(tmp_path))
    rng = np.random.default_rng(2)
    prompt, y = rng.integers(3, 90, 333).tolist(), rng.integers(3, 90, 50).tolist()
    (prefix,) = prefill(model, [prompt])
    (got,) = score_responses(model, prefix, [Response(tuple(y))])
    with torch.no_grad():
        logits = reference(torch.tensor([prompt + y])).logits[0, 332:]
    logs = torch.log_softmax(logits.double(), -1).numpy()
    assert np.abs(got - logs[np.arange(51), [*y, 2]]).max() <= 1e-4
