"""Adapters as the library peft stores them: adapter_config.json and safetensors."""

import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.files import path_of
from remid_jax.json_files import read_json_object
from remid_jax.models.adapters import Adapter, adapted_structure, check_base
from remid_jax.models.decoder import DecoderConfig, layer_shapes
from remid_jax.models.families import HUGGING_FACE, LAYER_TENSORS
from remid_jax.models.fields import Fields, is_number, shown
from remid_jax.models.lora import KERNELS, LoraConfig, lora_names
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.tensor_files import (
    Tensors,
    check_finite,
    check_kind,
    check_shapes,
    open_tensors,
)

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
_PREFIX = "base_model.model."
_PARTS = ("lora_A", "lora_B")
# Kernel -> its Hugging Face module, `{}` for the layer; and its last name.
_MODULES = {k: LAYER_TENSORS[k][HUGGING_FACE].removesuffix(".weight") for k in KERNELS}
_TARGETS = {kernel: module.rpartition(".")[2] for kernel, module in _MODULES.items()}
# Keys that decide nothing of what a stored adapter computes.
_HARMLESS = frozenset((
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "megatron_core",
    "merge_weights", "peft_version", "qalora_group_size", "revision", "runtime_config",
))  # fmt: skip
_READ = frozenset(("peft_type", "r", "lora_alpha", "lora_dropout", "target_modules"))
# Keys with a default of their own; any other must be null, false or empty.
_EMPTY = (None, False, {}, [], "")
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "bias": ("none",), "init_lora_weights": (True, False, "gaussian"),
    "task_type": (None, "CAUSAL_LM"),
}  # fmt: skip
# What is written of other keys, as peft needs them.
_PLAIN = {
    "use_dora": False, "use_rslora": False, "bias": "none", "fan_in_fan_out": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "layers_to_transform": None,
    "layer_replication": None, "trainable_token_indices": None,
}  # fmt: skip


def export_peft(folder: str | Path, adapter: Adapter, base_name: str) -> Path:
    """Writes an adapter that peft loads on the base in transformers.

    Args:
      folder: made where it is missing.
      adapter: the adapter.
      base_name: path or hub name of the base, for `base_model_name_or_path`.

    Returns:
      The folder.

    Raises:
      UserError: the folder cannot be written.
    """
    from safetensors.numpy import save_file

    folder, lora = path_of(folder, "adapter folder"), adapter.lora
    layers, tensors = nnx.to_pure_dict(adapter.params)["layers"], {}
    for kernel in lora.kernels:
        for part, name in zip(_PARTS, lora_names(kernel), strict=True):
            for i, matrix in enumerate(np.asarray(layers[name], np.float32)):
                tensors[_tensor_name(kernel, part, i)] = np.ascontiguousarray(matrix.T)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name,
        "r": lora.rank, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout,
        "inference_mode": True, "target_modules": [_TARGETS[k] for k in lora.kernels], **_PLAIN,
    }  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in ((CONFIG, config), (BASE, {"identity": adapter.base})):
            text = json.dumps(content, indent=2)
            (folder / file).write_text(text + "\n", encoding="utf-8")
        save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror or e})") from None
    return folder


def _tensor_name(kernel: str, part: str, layer: int) -> str:
    return f"{_PREFIX}{_MODULES[kernel].format(layer)}.{part}.weight"


def import_peft(folder: str | Path, model: LanguageModel) -> Adapter:
    """Reads a LoRA adapter of peft for a base.

    Args:
      folder: with adapter_config.json and adapter_model.safetensors.
      model: the base. Where the adapter names its fingerprint (ours do), it must be this one.

    Raises:
      UserError: files that are missing or damaged, a kind of adapter that is not supported, a key
        that changes what it computes, tensors that are missing, unknown or of another shape, or
        another base.
    """
    folder = path_of(folder, "adapter folder")
    fields = Fields(read_json_object(folder / CONFIG, "adapter", finite=False), folder / CONFIG)
    _check_keys(fields)
    if (folder / BASE).exists():
        own = Fields(read_json_object(folder / BASE, "adapter"), folder / BASE)
        check_base(model, own.text("identity"), str(folder))
    file = folder / WEIGHTS
    if not file.is_file():
        pickled = (folder / "adapter_model.bin").exists()
        why = "only a pickle is there, which is never read" if pickled else "it is missing"
        raise UserError(f"{file}: cannot be read, {why}; save the adapter with safetensors")
    tensors = open_tensors([file])
    kernels = [kernel for kernel in KERNELS if _adapts(kernel, tensors)]
    if not kernels:
        raise UserError(f"{file}: adapts none of {', '.join(KERNELS)}")
    _check_targets(fields, kernels)
    lora = _lora(fields, kernels)
    stored = _stored(model.config, lora)
    expected = {key: shape for keys, shape in stored.values() for key in keys}
    check_shapes(tensors.shapes, expected, file)
    for key in sorted(tensors.shapes):
        if key not in expected:
            raise UserError(f"{file}: unknown tensor {key!r}")
        check_kind(key, tensors.kinds[key], file)
    layers = {
        name: jnp.asarray(np.stack([check_finite(tensors.read(k), k, file).T for k in keys]))
        for name, (keys, _) in stored.items()
    }
    _, abstract = adapted_structure(model.config, lora)
    nnx.replace_by_pure_dict(abstract, {"layers": layers})
    return Adapter(lora, abstract, model.fingerprint)


def _check_keys(fields: Fields) -> None:
    """Refuses every key of adapter_config.json that is not known to change nothing."""
    if fields.values.get("peft_type") != "LORA":
        kind = shown(fields.values.get("peft_type"))
        raise UserError(f"{fields.where}: peft_type {kind} is not LORA")
    for key in sorted(fields.values.keys() - _HARMLESS - _READ):
        value = fields.values[key]
        if is_number(value) or value not in _DEFAULTS.get(key, _EMPTY):  # 0 may be a layer
            raise UserError(
                f"{fields.where}: {key}={shown(value)} is not supported: it may change what the "
                "adapter computes"
            )


def _adapts(kernel: str, tensors: Tensors) -> bool:
    """Whether a tensor belongs to this kernel of some layer."""
    module = re.escape(_PREFIX + _MODULES[kernel]).replace(r"\{\}", r"\d+")
    pattern = re.compile(rf"{module}\.lora_[AB]\.weight")
    return any(map(pattern.fullmatch, tensors.shapes))


def _check_targets(fields: Fields, kernels: list[str]) -> None:
    """Refuses tensors of modules that `target_modules` does not name, and names without tensors.

    A text is a pattern of peft, which is not evaluated: the tensors say what is adapted.
    """
    targets = fields.values.get("target_modules")
    if isinstance(targets, str):
        return
    if not isinstance(targets, list) or not all(isinstance(t, str) for t in targets):
        raise fields.error("target_modules", "a list of names, or a pattern")
    last = {target.rpartition(".")[2] for target in targets}
    for kernel, module in _TARGETS.items():
        if kernel in kernels and module not in last:
            raise fields.error("target_modules", f"what the tensors adapt: {module} is not named")
        if module in last and kernel not in kernels and not fields.values.get("exclude_modules"):
            raise fields.error("target_modules", f"what the tensors adapt: {module} has none")


def _lora(fields: Fields, kernels: list[str]) -> LoraConfig:
    rank, alpha = fields.size("r"), fields.number("lora_alpha")
    dropout = fields.values.get("lora_dropout", 0.0)
    if not is_number(dropout):
        raise fields.error("lora_dropout", "a number from 0 to below 1")
    try:
        return LoraConfig(rank, alpha, float(dropout), "|".join(kernels))
    except UserError as e:
        raise UserError(f"{fields.where}: {e}") from None


def _stored(c: DecoderConfig, lora: LoraConfig) -> dict[str, tuple[list[str], tuple[int, int]]]:
    """Parameter of an adapter -> its tensors, one for each layer, and their shape."""
    found = {}
    for kernel in lora.kernels:
        width_in, width_out = layer_shapes(c)[kernel]
        shapes = (lora.rank, width_in), (width_out, lora.rank)
        for part, name, shape in zip(_PARTS, lora_names(kernel), shapes, strict=True):
            found[name] = [_tensor_name(kernel, part, i) for i in range(c.num_layers)], shape
    return found
