"""Adapter files as peft has them: what is written, and what is refused."""

import json

import jax
import pytest
from safetensors.numpy import load_file, save_file

from remid_jax.errors import UserError
from remid_jax.models import llama
from remid_jax.models.adapters import new_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.peft import CONFIG, WEIGHTS, export_peft, import_peft


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def folder(model, tmp_path):
    adapter = new_adapter(model, LoraConfig(rank=3, targets="query|gate"), jax.random.key(0))
    return export_peft(tmp_path / "adapter", adapter, llama, "some/base")


def test_names_and_shapes(folder, model):
    tensors = load_file(folder / WEIGHTS)
    c = model.config
    key = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"
    assert len(tensors) == 2 * 2 * c.num_layers and tensors[key].shape == (3, c.width)
    assert tensors[key.replace("lora_A", "lora_B")].shape == (c.num_heads * c.head_dim, 3)
    config = json.loads((folder / CONFIG).read_text())
    assert config["target_modules"] == ["q_proj", "gate_proj"] and config["r"] == 3


def edit(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "changes, said",
    [({"use_dora": True}, "use_dora=True is not supported"), ({"bias": "all"}, "bias='all'"),
     ({"peft_type": "IA3"}, "not LORA"), ({"r": None}, "r is missing"),
     ({"rank_pattern": {"q_proj": 2}}, "rank_pattern")],
)  # fmt: skip
def test_kinds_that_are_not_supported(folder, model, changes, said):
    edit(folder, **changes)
    with pytest.raises(UserError, match=said):
        import_peft(folder, model, llama)


def test_damaged_tensors(folder, model):
    whole = load_file(folder / WEIGHTS)
    name = min(whole)
    for tensors, said in (
        ({k: v for k, v in whole.items() if k != name}, "is missing"),
        ({**whole, "extra": whole[name]}, "unknown tensor 'extra'"),
        ({**whole, name: whole[name][:, :-1].copy()}, "not"),
        ({"other": whole[name]}, "adapts none"),
    ):
        save_file(tensors, folder / WEIGHTS)
        with pytest.raises(UserError, match=said):
            import_peft(folder, model, llama)
    (folder / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read"):
        import_peft(folder, model, llama)


def test_another_base(folder, make_model):
    with pytest.raises(UserError, match="another base"):
        import_peft(folder, make_model(seed=5), llama)
