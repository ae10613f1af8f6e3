"""Adapters against the library peft: ours read there, and its own read here."""

import warnings

import jax
import numpy as np
import pytest
from flax import nnx
from parity.tiny_transformers import assert_same_logits, save, torch
from tiny_model import filled

from remid_jax.errors import UserError
from remid_jax.models.adapters import new_adapter, with_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.peft import BASE, export_peft, import_peft
from remid_jax.models.pretrained import load_language_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("targets", [".*", "query|value|down"])
def test_peft_reads_ours_to_the_same_logits(tmp_path, family, targets):
    reference, _ = save(tmp_path / "base", family=family)
    model = load_language_model(str(tmp_path / "base"))
    adapter = filled(new_adapter(model, LoraConfig(4, 10.0, 0.1, targets), jax.random.key(0)))
    export_peft(tmp_path / "adapter", adapter, str(tmp_path / "base"))
    read = peft.PeftModel.from_pretrained(reference, str(tmp_path / "adapter")).eval()
    assert_same_logits(with_adapter(model, adapter), read)
    again = import_peft(tmp_path / "adapter", model)
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(adapter.params), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.lora.kernels == adapter.lora.kernels and again.lora.scale == adapter.lora.scale


def test_ours_reads_peft_to_the_same_logits(tmp_path):
    reference, _ = save(tmp_path / "base")
    model = load_language_model(str(tmp_path / "base"))
    config = peft.LoraConfig(r=5, lora_alpha=7, target_modules=["q_proj", "up_proj"])
    made = peft.get_peft_model(reference, config)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "lora_" in name:
                p.copy_(0.2 * torch.randn_like(p))
    made.save_pretrained(str(tmp_path / "adapter"))
    adapter = import_peft(tmp_path / "adapter", model)
    assert set(nnx.to_pure_dict(adapter.params)["layers"]) == {
        f"{k}_lora_{x}" for k in ("query", "up") for x in "ab"
    }
    assert_same_logits(with_adapter(model, adapter), made.eval())


def test_another_base_is_refused(tmp_path):
    save(tmp_path / "base")
    save(tmp_path / "other", seed=1)
    model, other = (load_language_model(str(tmp_path / n)) for n in ("base", "other"))
    folder = export_peft(
        tmp_path / "a", filled(new_adapter(model, LoraConfig(2), jax.random.key(0))), "base"
    )
    with pytest.raises(UserError, match="another base"):
        import_peft(folder, other)
    (folder / BASE).unlink()  # one of peft's own says nothing of its base
    import_peft(folder, other)
