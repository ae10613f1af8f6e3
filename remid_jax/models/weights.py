"""Weights from GGUF files and Hugging Face directories into the stacked parameters of `Decoder`."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.errors import UserError
from remid_jax.models import llama, qwen2, qwen3
from remid_jax.models.decoder import DecoderConfig

FAMILIES = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3}
GGUF, HUGGING_FACE = 0, 1
INDEX = "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its shape, and its tensors read when asked for.

    Attributes:
      path: file or directory.
      source: `GGUF` or `HUGGING_FACE`, the column of the family's name table.
      family: the module of the architecture.
      config: shape of the decoder.
      shapes: tensor name -> shape as stored.
      read: tensor name -> float array as stored ([out, in] for kernels).
      metadata: GGUF fields, or the parsed JSON files of the directory.
    """

    path: Path
    source: int
    family: Any
    config: DecoderConfig
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    metadata: dict[str, Any]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a GGUF file or a Hugging Face directory.

    Raises:
      UserError: nothing there, unreadable or truncated, or an unknown architecture.
    """
    path = Path(path)
    if path.is_dir():
        return _open_hugging_face(path)
    if not path.exists():
        raise UserError(f"model not found: {path} (a GGUF file or a Hugging Face directory)")
    return _open_gguf(path)


def _family(name: str, path: Path) -> Any:
    if name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UserError(f"{path}: architecture {name!r} is not supported; supported: {known}")
    return FAMILIES[name]


def _open_gguf(path: Path) -> Checkpoint:
    import gguf

    try:
        reader = gguf.GGUFReader(str(path))
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as e:  # the reader fails in many ways on a damaged file
        raise UserError(f"{path}: not a readable GGUF file, or truncated ({e})") from None
    architecture = fields.get("general.architecture")
    family = _family(str(architecture), path)
    tensors = {t.name: t for t in reader.tensors}

    def field(name: str, *default: Any) -> Any:
        key = f"{architecture}.{name}"
        if key in fields:
            return fields[key]
        if name == "vocab_size":
            return len(gguf_field(path, fields, "tokenizer.ggml.tokens"))
        return default[0] if default else gguf_field(path, fields, key)

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        try:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError:
            kind = tensor.tensor_type.name
            raise UserError(f"{path}: tensor {name!r}: cannot dequantise {kind}") from None
        return values.reshape(tuple(int(n) for n in tensor.shape[::-1]))

    try:
        config = family.config_from_gguf(field, set(tensors), read)
    except UserError as e:
        raise e if str(path) in str(e) else UserError(f"{path}: {e}") from None
    shapes = {name: tuple(int(n) for n in t.shape[::-1]) for name, t in tensors.items()}
    return Checkpoint(path, GGUF, family, config, shapes, read, fields)


def _open_hugging_face(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    metadata = {
        file: read_json_file(path / file)
        for file in ("config.json", "tokenizer_config.json", "generation_config.json")
        if (path / file).exists()
    }
    if "config.json" not in metadata:
        raise UserError(f"{path}: no config.json; give a Hugging Face model directory")
    config_json = metadata["config.json"]
    for file, content in metadata.items():
        if not isinstance(content, dict):
            raise UserError(f"{path / file}: must hold a JSON object")
    family = _family(str(config_json.get("model_type")), path)
    where: dict[str, Any] = {}
    for shard in weight_files(path):
        try:
            handle = safe_open(str(shard), framework="numpy")
            where.update(dict.fromkeys(handle.keys(), handle))
        except (SafetensorError, OSError) as e:
            raise UserError(
                f"{shard}: not a readable safetensors file, or truncated ({e})"
            ) from None

    def read(name: str) -> np.ndarray:
        try:
            return where[name].get_tensor(name).astype(np.float32)
        except TypeError as e:
            raise UserError(f"{path}: tensor {name!r} cannot be read ({e})") from None

    try:
        config = family.config_from_hf(config_json)
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    shapes = {name: tuple(h.get_slice(name).get_shape()) for name, h in where.items()}
    return Checkpoint(path, HUGGING_FACE, family, config, shapes, read, metadata)


def gguf_field(path: Path, fields: dict[str, Any], key: str) -> Any:
    """A field of GGUF metadata, or a `UserError` that names it."""
    if key not in fields:
        raise UserError(f"{path}: GGUF metadata lacks {key!r}")
    return fields[key]


def read_json_file(path: Path) -> Any:
    """Decodes a JSON file of a model directory, or raises a `UserError` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as JSON ({e})") from None


def tensor_names(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Parameter of `Decoder` -> the file's tensors: one, or one for each layer."""
    c, family, column = checkpoint.config, checkpoint.family, checkpoint.source
    names = {k: [v[column]] for k, v in family.TENSORS.items() if k in _shapes(c)}
    for name, files in family.LAYER_TENSORS.items():
        names[name] = [files[column].format(i) for i in range(c.num_layers)]
    return names


def check_tensors(checkpoint: Checkpoint) -> None:
    """Checks names and shapes of all tensors; reads none of them.

    Raises:
      UserError: a tensor is missing, unexpected, or of a wrong shape.
    """
    shapes, names = _shapes(checkpoint.config), tensor_names(checkpoint)
    expected = {file for files in names.values() for file in files}
    for file in sorted(expected - set(checkpoint.shapes)):
        raise UserError(f"{checkpoint.path}: tensor {file!r} is missing")
    for name, files in names.items():
        stored = shapes[name] if name == "embedding" else shapes[name][::-1]
        for file in files:
            if checkpoint.shapes[file] != stored:
                raise UserError(
                    f"{checkpoint.path}: tensor {file!r} has shape {checkpoint.shapes[file]}, "
                    f"not {stored}"
                )
    ignored = checkpoint.family.IGNORED
    extra = [n for n in checkpoint.shapes if n not in expected and not n.endswith(ignored)]
    if extra:
        raise UserError(f"{checkpoint.path}: unexpected tensors {_some(extra)}")


def read_parameters(
    checkpoint: Checkpoint, dtype: Any = np.float32
) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the parameters of `Decoder` one by one: kernels as [in, out], layers stacked.

    Args:
      checkpoint: an opened checkpoint.
      dtype: storage type of the result.

    Yields:
      The parameter's path (`embedding`, `layers/query`) and its value; those of layers lead with
      [num_layers].

    Raises:
      UserError: a tensor is missing, unexpected, of a wrong shape, or not finite.
    """
    check_tensors(checkpoint)
    shapes, names = _shapes(checkpoint.config), tensor_names(checkpoint)
    for name, files in names.items():
        if name not in checkpoint.family.LAYER_TENSORS:
            yield name, _tensor(checkpoint, files[0], name).astype(dtype)
            continue
        stacked = np.empty((checkpoint.config.num_layers, *shapes[name]), dtype)
        for i, file in enumerate(files):
            stacked[i] = _tensor(checkpoint, file, name)
        yield f"layers/{name}", stacked
        del stacked  # before the next one is made


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shapes(c: DecoderConfig) -> dict[str, tuple[int, ...]]:
    query, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    shapes = {
        "embedding": (c.vocab_size, c.width),
        "final_norm": (c.width,),
        "attention_norm": (c.width,),
        "query": (c.width, query),
        "key": (c.width, kv),
        "value": (c.width, kv),
        "output": (query, c.width),
        "mlp_norm": (c.width,),
        "gate": (c.width, c.mlp_width),
        "up": (c.width, c.mlp_width),
        "down": (c.mlp_width, c.width),
    }
    if c.attention_bias:
        shapes |= {"query_bias": (query,), "key_bias": (kv,), "value_bias": (kv,)}
    if c.qk_norm:
        shapes |= {"query_norm": (c.head_dim,), "key_norm": (c.head_dim,)}
    return shapes if c.tie_embeddings else {**shapes, "head": (c.width, c.vocab_size)}


def _tensor(checkpoint: Checkpoint, file: str, name: str) -> np.ndarray:
    values = checkpoint.read(file)
    if not np.isfinite(values).all():
        raise UserError(f"{checkpoint.path}: tensor {file!r} holds NaN or infinity")
    interleaved = checkpoint.source == GGUF and checkpoint.family.GGUF_INTERLEAVES_ROTARY
    if interleaved and name in ("query", "key"):
        values = _rotate_half_order(values, checkpoint.config.head_dim)
    return values if name == "embedding" else values.T


def _rotate_half_order(w: np.ndarray, head_dim: int) -> np.ndarray:
    """GGUF interleaves rotary pairs of query and key rows; this restores (i, i + head_dim/2)."""
    heads = w.shape[0] // head_dim
    return w.reshape(heads, head_dim // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a Hugging Face directory: those its index names, or all.

    Raises:
      UserError: no such file, or an index that is broken or names a file that is not there.
    """
    index = folder / INDEX
    if not index.exists():
        files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise UserError(f"{folder}: no *.safetensors file")
        return files
    content = read_json_file(index)
    where = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index}: must map tensors to files in 'weight_map'")
    names = sorted(set(map(str, where.values())))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise UserError(f"{index}: {name!r} is no plain file name")
        if not (folder / name).is_file():
            raise UserError(f"{index}: names {name!r}, which is not there; fetch the shard again")
    return [folder / name for name in names]


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def weights_identity(path: Path) -> str:
    """Hex digest of all weight files' content: equal exactly when the weights are."""
    files = weight_files(path) if path.is_dir() else [path]
    if len(files) == 1:
        return file_sha256(files[0])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file_sha256(file).encode())
    return digest.hexdigest()
