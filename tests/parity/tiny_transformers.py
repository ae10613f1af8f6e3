"""Tiny random models as transformers saves them, and the comparison of logits with ours."""

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

CLASSES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config"),
}


def save(folder, dtype=torch.float32, shard="10GB", seed=0, family="llama", **changes):
    """A random model as transformers saves it; returns it in float32, and its tokenizer."""
    shape = {
        "vocab_size": 90, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "tie_word_embeddings": False, "initializer_range": 0.15, "eos_token_id": 2,
        "bos_token_id": 1, "attn_implementation": "eager",
    }  # fmt: skip
    torch.manual_seed(seed)
    model_class, config_class = (getattr(transformers, name) for name in CLASSES[family])
    model = model_class(config_class(**{**shape, **changes}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or "bias" in name:
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
    model = model_class.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), tokenizer


def assert_same_logits(model, reference, spread=0.5):
    tokens = np.random.default_rng(1).integers(3, 90, (3, 40))
    with torch.no_grad():
        expected = reference(torch.tensor(tokens)).logits.numpy()
    decoder = nnx.merge(model.graphdef, model.params)
    c = model.config
    empty = np.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), np.float32)
    hidden, _ = decoder.extend(tokens, (empty, empty), 0)
    assert expected.std() > spread  # far from a constant
    np.testing.assert_allclose(decoder.logits(hidden), expected, atol=1e-4)
