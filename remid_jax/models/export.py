"""Models written back as Hugging Face directories, which transformers loads."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.files import path_of
from remid_jax.models import rope
from remid_jax.models.decoder import DecoderConfig, layer_shapes
from remid_jax.models.families import CONFIG, GGUF, HUGGING_FACE, LAYER_TENSORS, SIZES, TENSORS
from remid_jax.models.pretrained import DEFAULT, LanguageModel, fetch_default
from remid_jax.models.tokenizer import Tokenizer
from remid_jax.models.weights import INDEX, ModelFiles, open_files

# Copied from the source where they are there; the chat template is written from the model.
_TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "generation_config.json",
)  # fmt: skip
Tensor = tuple[str, Callable[[], np.ndarray]]


def export_hugging_face(
    model: LanguageModel,
    folder: str | Path,
    source: str | Path = DEFAULT,
    max_shard_bytes: int = 4 << 30,
) -> Path:
    """Writes config.json, safetensors and tokenizer files that transformers loads as this model.

    The weights keep their type (float32 or bfloat16). One file at a time is held in memory
    beside the model. The folder appears only when it is whole.

    Args:
      model: the model, with the parameters to write (trained further or not).
      folder: a folder that is not there yet, or is empty.
      source: what the model was loaded from: gives its family and its tokenizer files.
      max_shard_bytes: larger weights are split into several files with an index.

    Returns:
      The folder.

    Raises:
      UserError: the folder holds something or cannot be written, the source has another shape
        than the model, or its rotary frequencies have no form in config.json.
    """
    folder = path_of(folder, "export folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already; name a new folder for the export")
    files = open_files(fetch_default() if source == DEFAULT else source)
    if files.config != model.config:
        raise UserError(f"{files.path}: has another shape than the model to export")
    config = _config_json(files, model)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            part = Path(temporary) / "part"
            part.mkdir()
            _write_json(part / CONFIG, config)
            _write_tokenizer(part, files, model.tokenizer)
            _write_weights(part, list(_tensors(model)), max_shard_bytes)
            os.replace(part, folder)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written ({e.strerror})") from None
    return folder


def _config_json(files: ModelFiles, model: LanguageModel) -> dict[str, Any]:
    if files.source == HUGGING_FACE:
        config = {k: v for k, v in files.metadata[CONFIG].items() if k != "dtype"}
    else:
        config = _shape_json(files, model.config)
        config["eos_token_id"] = list(model.tokenizer.stop_ids)
        config["bos_token_id"] = files.metadata.get("tokenizer.ggml.bos_token_id")
    return {**config, "torch_dtype": model.dtype}


def _shape_json(files: ModelFiles, c: DecoderConfig) -> dict[str, Any]:
    try:
        frequencies = rope.to_hf(c.rope_theta, c.head_dim, c.rope_divisors)
    except UserError as e:
        raise UserError(f"{files.path}: {e}") from None
    return {
        "model_type": files.metadata["general.architecture"],
        "architectures": [files.family.hf_class],
        **{names[HUGGING_FACE]: getattr(c, size) for size, names in SIZES.items()},
        "rms_norm_eps": c.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": c.tie_embeddings,
        **frequencies,
    }


def _tensors(model: LanguageModel) -> Iterator[tuple[Tensor, int]]:
    """Every tensor by its Hugging Face name: how to make it ([out, in]), and its bytes."""
    arrays = nnx.to_pure_dict(model.params)
    for name, names in TENSORS.items():
        if name in arrays:
            x = arrays[name]
            turn = name != "embedding"
            yield (names[HUGGING_FACE], lambda x=x, turn=turn: _stored(x, turn)), x.nbytes
    for i in range(model.config.num_layers):
        for name in layer_shapes(model.config):
            x = arrays["layers"][name]
            file = LAYER_TENSORS[name][HUGGING_FACE].format(i)
            yield (file, lambda x=x, i=i: _stored(x[i], True)), x.nbytes // x.shape[0]


def _stored(x: Any, turn: bool) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(x).T if turn else np.asarray(x))


def _write_weights(folder: Path, tensors: list[tuple[Tensor, int]], limit: int) -> None:
    from safetensors.numpy import save_file

    shards: list[list[Tensor]] = [[]]
    room = limit
    for tensor, size in tensors:
        if size > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(tensor)
        room -= size
    where: dict[str, str] = {}
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        file = file if len(shards) > 1 else "model.safetensors"
        save_file({name: make() for name, make in shard}, folder / file, {"format": "pt"})
        where |= {name: file for name, _ in shard}
    if len(shards) > 1:
        total = sum(size for _, size in tensors)
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": where})


def _write_tokenizer(folder: Path, files: ModelFiles, tokenizer: Tokenizer) -> None:
    if files.source == GGUF:
        _write_gguf_tokenizer(folder, tokenizer)
    else:
        for name in _TOKENIZER_FILES:
            if (files.path / name).is_file():
                shutil.copyfile(files.path / name, folder / name)
    (folder / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")


def _write_gguf_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    import tokenizers
    from tokenizers.processors import TemplateProcessing

    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())  # a copy
    if tokenizer.bos is not None:  # transformers puts it before a text that is no chat, too
        bos = tokenizer.special["bos_token"]
        backend.post_processor = TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, tokenizer.bos)]
        )
    backend.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    _write_json(folder / "tokenizer_config.json", {**settings, **tokenizer.special})


def _write_json(file: Path, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=2)
    file.write_text(text + "\n", encoding="utf-8")
