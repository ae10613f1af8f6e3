"""Adapter files as peft has them: what is written, and what is refused."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from remid_jax.errors import UserError
from remid_jax.models.adapters import new_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.peft import BASE, CONFIG, WEIGHTS, export_peft, import_peft


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def folder(model, tmp_path):
    adapter = new_adapter(model, LoraConfig(rank=3, targets="query|gate"), jax.random.key(0))
    return export_peft(tmp_path / "adapter", adapter, "some/base")


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
     ({"peft_type": "IA3"}, "not LORA"), ({"r": None}, "r is null; it must be a whole number"),
     ({"rank_pattern": {"q_proj": 2}}, "rank_pattern")],
)  # fmt: skip
def test_kinds_that_are_not_supported(folder, model, changes, said):
    edit(folder, **changes)
    with pytest.raises(UserError, match=said):
        import_peft(folder, model)


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
            import_peft(folder, model)
    (folder / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        import_peft(folder, model)


def test_another_base(folder, make_model):
    with pytest.raises(UserError, match="another base"):
        import_peft(folder, make_model(seed=5))


@pytest.fixture
def read(folder, model):
    def again():
        return import_peft(folder, model)

    return again


# What peft 0.6 to 0.21 write in adapter_config.json beside what `export_peft` writes.
WRITTEN_BY_PEFT = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None,
    "auto_mapping": None, "corda_config": None, "ensure_weight_tying": False, "eva_config": None,
    "exclude_modules": None, "init_lora_weights": True, "kasa_config": None,
    "layers_pattern": None, "loftq_config": {}, "lora_bias": False, "lora_ga_config": None,
    "megatron_config": None, "megatron_core": "megatron.core", "monteclora_config": None,
    "peft_version": "0.21.2", "qalora_group_size": 16, "revision": None, "target_parameters": None,
    "use_bdlora": None, "use_qalora": False, "velora_config": None,
}  # fmt: skip


def test_what_is_written_is_read(folder, read, model):
    adapter = new_adapter(model, LoraConfig(rank=3, targets="query|gate"), jax.random.key(0))
    for changes in ({}, WRITTEN_BY_PEFT, {"auto_mapping": {"base_model_class": "X"}},
                    {"init_lora_weights": False}, {"init_lora_weights": "gaussian"},
                    {"revision": "main"}, {"runtime_config": {"ephemeral_gpu_offload": True}},
                    {"target_modules": "all-linear"}, {"task_type": None},
                    {"target_modules": ["q_proj", "model.layers.0.mlp.gate_proj", "c_attn"]},
                    {"target_modules": ["q_proj", "gate_proj", "v_proj"],
                     "exclude_modules": ["v_proj"]}):  # fmt: skip
        edit(folder, **changes)
        found = read()
        assert (found.lora.rank, found.lora.alpha, found.lora.kernels) == (
            3,
            32.0,
            ("query", "gate"),
        )
        jax.tree.map(np.testing.assert_array_equal, found.params, adapter.params)


@pytest.mark.parametrize(
    "key, values",
    [
        ("init_lora_weights", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "eva", "mica",
                               "orthogonal", "lora_ga", None, 1, "Gaussian", "", []]),
        ("alora_invocation_tokens", [[1, 2], 1]), ("target_parameters", [["mlp.experts"]]),
        ("loftq_config", [{"loftq_bits": 4}]), ("eva_config", [{"rho": 2.0}]),
        ("corda_config", [{"corda_method": "ipm"}]), ("lora_ga_config", [{"direction": "x"}]),
        ("arrow_config", [{"top_k": 3}]), ("megatron_config", [{"hidden_size": 8}]),
        ("use_qalora", [True, "yes"]), ("use_rslora", [True, 1]), ("use_dora", [True, "no"]),
        ("lora_bias", [True]), ("ensure_weight_tying", [True]), ("layers_pattern", ["layers"]),
        ("layers_to_transform", [0, 1, [0]]), ("layer_replication", [[[0, 2]]]),
        ("alpha_pattern", [{"q_proj": 64}]), ("modules_to_save", [["lm_head"]]),
        ("trainable_token_indices", [[5]]), ("fan_in_fan_out", [True]), ("bias", ["all", None]),
        ("task_type", ["SEQ_CLS", "FEATURE_EXTRACTION", 3]), ("peft_type", ["IA3", None, []]),
        ("of_a_later_version", [True, 1, 0.5, "on", [0], {"a": 0}, float("nan")]),
    ],
)  # fmt: skip
def test_keys_that_change_what_an_adapter_computes(folder, read, key, values):
    for value in values:
        edit(folder, **{key: value})
        with pytest.raises(UserError, match=f"{CONFIG}: {key}[= ].*(not supported|not LORA)"):
            read()


@pytest.mark.parametrize(
    "key, values",
    [
        ("r", [3.5, 3.0, "3", None, 0, -1, True, [3], {"q": 3}, 10**12, float("nan")]),
        ("lora_alpha", [None, "6", [6], True, 0, -1.0, float("nan"), float("inf"), 10**300]),
        ("lora_dropout", [None, "0", [0], True, -0.1, 1.0, float("nan")]),
        ("target_modules", [None, 3, {"q_proj": 1}, ["q_proj", 3], [], ["q_proj"],
                            ["q_proj", "gate_proj", "v_proj"]]),
    ],
)  # fmt: skip
def test_values_of_wrong_types(folder, read, key, values):
    for value in values:
        edit(folder, **{key: value})
        with pytest.raises(UserError) as caught:
            read()
        assert str(folder / CONFIG) in str(caught.value)
        assert key.replace("lora_", "lora.") in str(caught.value) or key in str(caught.value)


def test_a_rank_is_that_of_the_tensors(folder, read):
    edit(folder, r=2**31 - 1)
    with pytest.raises(UserError, match=r"has shape \(3, 32\), not \(2147483647, 32\)"):
        read()


@pytest.mark.parametrize("text", ["[]", "null", "3", '"LORA"', "{", "[" * 3000, '{"a": 1, "a": 2}'])
def test_files_that_are_no_objects(folder, read, text):
    for name in (CONFIG, BASE):
        kept = (folder / name).read_text()
        (folder / name).write_text(text)
        with pytest.raises(UserError, match=str(folder / name)):
            read()
        (folder / name).write_text(kept)
    for identity in (None, 3, ["x"], True):
        (folder / BASE).write_text(json.dumps({"identity": identity}))
        with pytest.raises(UserError, match="identity is"):
            read()


def test_values_of_tensors(folder, read):
    whole = load_file(folder / WEIGHTS)
    name = min(whole)
    for value, said in (
        (np.full_like(whole[name], np.nan), "holds NaN or infinity"),
        (np.ones(whole[name].shape, np.int8), "is stored as I8, which is no weight"),
        (np.full(whole[name].shape, 1e200), "holds NaN or infinity"),
    ):
        save_file({**whole, name: value}, folder / WEIGHTS)
        with pytest.raises(UserError, match=f"tensor '{name}' {said}"):
            read()
    save_file({k: v.astype(ml_dtypes.bfloat16) for k, v in whole.items()}, folder / WEIGHTS)
    assert read().lora.rank == 3


def test_paths(folder, model, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert import_peft(f"~/{folder.name}", model).lora.rank == 3
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    with pytest.raises(UserError, match="only a pickle is there, which is never read"):
        import_peft(folder, model)
    for path, said in (("a\0b", "NUL"), ("x" * 300, "too long"), ("nowhere", "not found")):
        with pytest.raises(UserError, match=said):
            import_peft(path, model)
