"""Adapters as the library peft stores them: adapter_config.json and safetensors."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models.adapters import Adapter, adapted_structure, check_base
from remid_jax.models.lora import KERNELS, LoraConfig, lora_names
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.weights import HUGGING_FACE, read_json_file

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "base.json"
_PREFIX = "base_model.model."
_PARTS = ("lora_A", "lora_B")
# Settings of peft that change what an adapter computes, and the value that is understood here.
_PLAIN = {
    "use_dora": False, "use_rslora": False, "bias": "none", "fan_in_fan_out": False,
    "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, "layers_to_transform": None,
    "layer_replication": None, "trainable_token_indices": None,
}  # fmt: skip


def _names(family: Any) -> dict[str, str]:
    """Kernel -> its Hugging Face module, `{}` for the layer."""
    return {k: family.LAYER_TENSORS[k][HUGGING_FACE].removesuffix(".weight") for k in KERNELS}


def export_peft(folder: str | Path, adapter: Adapter, family: Any, base_name: str) -> Path:
    """Writes an adapter that peft loads on the base in transformers.

    Args:
      folder: made where it is missing.
      adapter: the adapter.
      family: module of the base's architecture, see `weights.FAMILIES`.
      base_name: path or hub name of the base, for `base_model_name_or_path`.

    Returns:
      The folder.

    Raises:
      UserError: the folder cannot be written.
    """
    from safetensors.numpy import save_file

    folder, names = Path(folder), _names(family)
    layers = nnx.to_pure_dict(adapter.params)["layers"]
    tensors = {}
    for kernel in adapter.lora.kernels:
        for part, name in zip(_PARTS, lora_names(kernel), strict=True):
            stacked = np.asarray(layers[name], np.float32)
            for i, matrix in enumerate(stacked):
                key = f"{_PREFIX}{names[kernel].format(i)}.{part}.weight"
                tensors[key] = np.ascontiguousarray(matrix.T)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_name,
        "r": adapter.lora.rank, "lora_alpha": adapter.lora.alpha,
        "lora_dropout": adapter.lora.dropout, "inference_mode": True,
        "target_modules": [names[k].rpartition(".")[2] for k in adapter.lora.kernels], **_PLAIN,
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


def import_peft(folder: str | Path, model: LanguageModel, family: Any) -> Adapter:
    """Reads a LoRA adapter of peft for a base.

    Args:
      folder: with adapter_config.json and adapter_model.safetensors.
      model: the base. Where the adapter names its identity (ours do), it must be this one.
      family: module of the base's architecture.

    Raises:
      UserError: files that are missing or damaged, a kind of adapter that is not supported,
        tensors that are missing, unknown or of another shape, or another base.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    config = read_json_file(folder / CONFIG)
    _check_plain(config, folder)
    if (folder / BASE).exists():
        check_base(model, read_json_file(folder / BASE).get("identity", ""), str(folder))
    try:
        tensors = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as e:
        raise UserError(f"{folder / WEIGHTS}: cannot be read ({e})") from None
    names = _names(family)
    kernels = [k for k in KERNELS if any(_kernel_pattern(names[k]).fullmatch(t) for t in tensors)]
    if not kernels:
        raise UserError(f"{folder / WEIGHTS}: adapts none of {', '.join(KERNELS)}")
    lora = LoraConfig(
        config["r"], float(config["lora_alpha"]), float(config.get("lora_dropout", 0.0)),
        "|".join(kernels),
    )  # fmt: skip
    _, abstract = adapted_structure(model.config, lora)
    shapes = nnx.to_pure_dict(abstract)["layers"]
    layers = {}
    for kernel in kernels:
        for part, name in zip(_PARTS, lora_names(kernel), strict=True):
            keys = [f"{_PREFIX}{names[kernel].format(i)}.{part}.weight"
                    for i in range(model.config.num_layers)]  # fmt: skip
            found = [_taken(tensors, key, shapes[name].shape[1:], folder) for key in keys]
            layers[name] = jnp.asarray(np.stack(found))
    if tensors:
        raise UserError(f"{folder / WEIGHTS}: unknown tensor {min(tensors)!r}")
    nnx.replace_by_pure_dict(abstract, {"layers": layers})
    return Adapter(lora, abstract, model.identity)


def _kernel_pattern(name: str) -> re.Pattern[str]:
    module = re.escape(_PREFIX + name).replace(r"\{\}", r"\d+")
    return re.compile(rf"{module}\.lora_[AB]\.weight")


def _taken(
    tensors: dict[str, np.ndarray], key: str, shape: tuple[int, ...], folder: Path
) -> np.ndarray:
    if key not in tensors:
        raise UserError(f"{folder / WEIGHTS}: tensor {key!r} is missing")
    value = np.asarray(tensors.pop(key), np.float32).T
    if value.shape != tuple(shape):
        raise UserError(
            f"{folder / WEIGHTS}: tensor {key!r} is {value.T.shape}, not {tuple(shape[::-1])}"
        )
    return value


def _check_plain(config: Mapping[str, Any], folder: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise UserError(f"{folder / CONFIG}: peft_type {config.get('peft_type')!r} is not LORA")
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), (int, float)):
            raise UserError(f"{folder / CONFIG}: {key} is missing or no number")
    for key, plain in _PLAIN.items():
        value = config.get(key, plain)
        if value != plain and (value or plain):
            raise UserError(f"{folder / CONFIG}: {key}={value!r} is not supported")
