"""Directories that transformers saves are read to the same logits."""

import numpy as np
import pytest
from parity.tiny_transformers import assert_same_logits, save, torch

from remid_jax.inference.likelihood import score_responses
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
    prefix = prefill(model, prompt)
    (got,) = score_responses(model, prefix, [y])
    with torch.no_grad():
        logits = reference(torch.tensor([prompt + y])).logits[0, 332:]
    logs = torch.log_softmax(logits.double(), -1).numpy()
    assert np.abs(got - logs[np.arange(51), [*y, 2]]).max() <= 1e-4
