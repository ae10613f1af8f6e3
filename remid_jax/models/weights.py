"""Weights from GGUF files and Hugging Face directories into the stacked parameters of `Decoder`."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.errors import UserError
from remid_jax.files import file_sha256, path_of
from remid_jax.json_files import read_json_object
from remid_jax.models import llama, qwen2, qwen3
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.fields import Fields, shown
from remid_jax.models.llama import CONFIG
from remid_jax.models.tensor_files import as_float32, check_finite, check_kind, open_tensors

FAMILIES = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3}
GGUF, HUGGING_FACE = 0, 1
INDEX = "model.safetensors.index.json"
_INTEGERS = ("I8", "I16", "I32", "I64")  # of GGUF


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: its shape, and its tensors read when asked for.

    Attributes:
      path: file or directory.
      source: `GGUF` or `HUGGING_FACE`, the column of the family's name table.
      family: the module of the architecture.
      config: shape of the decoder.
      shapes: tensor name -> shape as stored.
      kinds: tensor name -> type as stored (`BF16`, `Q4_1` ...).
      read: tensor name -> float array as stored ([out, in] for kernels).
      metadata: GGUF fields, or the parsed JSON files of the directory.
    """

    path: Path
    source: int
    family: Any
    config: DecoderConfig
    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    read: Callable[[str], np.ndarray]
    metadata: dict[str, Any]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens a GGUF file or a Hugging Face directory.

    Raises:
      UserError: nothing there, unreadable or truncated, an unknown architecture, or a configuration
        that the decoder does not compute.
    """
    path = path_of(path, "model path")
    try:
        if path.is_dir():
            return _open_hugging_face(path)
        if path.is_file():
            return _open_gguf(path)
    except OSError as e:
        raise UserError(f"model {shown(str(path))}: {e.strerror or e}") from None
    raise UserError(f"model not found: {path} (a GGUF file or a Hugging Face directory)")


def _family(name: Any, path: Path) -> Any:
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise UserError(
            f"{path}: architecture {shown(str(name))} is not supported; supported: {known}"
        )
    return FAMILIES[name]


def _open_gguf(path: Path) -> Checkpoint:
    import gguf

    try:
        reader = gguf.GGUFReader(str(path))
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as e:  # the reader fails in many ways on a damaged file
        raise UserError(f"{path}: not a readable GGUF file, or truncated ({e})") from None
    _refuse_part(path, fields)
    family = _family(fields.get("general.architecture"), path)
    tensors = {t.name: t for t in reader.tensors}

    def read(name: str) -> np.ndarray:
        tensor, kind = tensors[name], tensors[name].tensor_type
        try:
            plain = kind.name == "F64"
            values = tensor.data if plain else gguf.quants.dequantize(tensor.data, kind)
        except NotImplementedError:
            raise UserError(f"{path}: tensor {name!r}: cannot dequantise {kind.name}") from None
        return as_float32(values).reshape(tuple(int(n) for n in tensor.shape[::-1]))

    try:
        config = family.config_from_gguf(_architecture(path, fields), set(tensors), read)
    except UserError as e:
        raise e if str(path) in str(e) else UserError(f"{path}: {e}") from None
    shapes = {name: tuple(int(n) for n in t.shape[::-1]) for name, t in tensors.items()}
    kinds = {name: t.tensor_type.name for name, t in tensors.items()}
    return Checkpoint(path, GGUF, family, config, shapes, kinds, read, fields)


def _refuse_part(path: Path, fields: Mapping[str, Any]) -> None:
    """Refuses one of several GGUF files, which llama.cpp reads together."""
    name = re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path.name)
    count = fields.get("split.count", int(name[2]) if name else 1)
    if count not in (0, 1):
        which = fields.get("split.no", int(name[1]) - 1 if name else None)
        number = f"part {which + 1}" if isinstance(which, int) else "one"
        first = path.name.replace(f"-{name[1]}-of-", "-00001-of-") if name else "FIRST.gguf"
        raise UserError(
            f"{path}: is {number} of {shown(count)} files; merge them with llama.cpp's "
            f"`llama-gguf-split --merge {first} MERGED.gguf`, and name the merged file"
        )


def _architecture(path: Path, fields: Mapping[str, Any]) -> Fields:
    """The fields of the architecture, without its name before them."""
    prefix = f"{fields['general.architecture']}."
    own = {k.removeprefix(prefix): v for k, v in fields.items() if k.startswith(prefix)}
    if "vocab_size" not in own:
        tokens = gguf_field(path, fields, "tokenizer.ggml.tokens")
        own["vocab_size"] = len(tokens) if isinstance(tokens, list) else tokens
    return Fields(own, "GGUF metadata", prefix)


def _open_hugging_face(path: Path) -> Checkpoint:
    metadata = {
        file: read_json_object(path / file, "model", finite=False)
        for file in (CONFIG, "tokenizer_config.json", "generation_config.json")
        if (path / file).exists()
    }
    if CONFIG not in metadata:
        raise UserError(f"{path}: no {CONFIG}; give a Hugging Face model directory")
    family = _family(metadata[CONFIG].get("model_type"), path)
    tensors = open_tensors(weight_files(path))
    try:
        config = family.config_from_hf(metadata[CONFIG])
    except UserError as e:
        raise UserError(f"{path}: {e}") from None
    return Checkpoint(
        path, HUGGING_FACE, family, config, tensors.shapes, tensors.kinds, tensors.read, metadata
    )


def gguf_field(path: Path, fields: dict[str, Any], key: str) -> Any:
    """A field of GGUF metadata, or a `UserError` that names it."""
    if key not in fields:
        raise UserError(f"{path}: GGUF metadata lacks {key!r}")
    return fields[key]


def tensor_names(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Parameter of `Decoder` -> the file's tensors: one, or one for each layer."""
    c, family, column = checkpoint.config, checkpoint.family, checkpoint.source
    names = {k: [v[column]] for k, v in family.TENSORS.items() if k in parameter_shapes(c)}
    for name, files in family.LAYER_TENSORS.items():
        names[name] = [files[column].format(i) for i in range(c.num_layers)]
    return names


def check_tensors(checkpoint: Checkpoint) -> None:
    """Checks number, names, types and shapes of all tensors; reads none of them.

    Raises:
      UserError: a tensor is missing, unexpected, or of a wrong type or shape.
    """
    _check_kinds(checkpoint)
    _check_layers(checkpoint)  # before a name for each is made
    shapes, names = parameter_shapes(checkpoint.config), tensor_names(checkpoint)
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
    extra = [n for n in _used(checkpoint) if n not in expected]
    if extra:
        raise UserError(f"{checkpoint.path}: unexpected tensors {_some(extra)}")


def _used(checkpoint: Checkpoint) -> Iterator[str]:
    """Names of the tensors that are not passed over."""
    needed = checkpoint.family.TENSORS.values()
    untied = () if checkpoint.config.tie_embeddings else {n[checkpoint.source] for n in needed}
    for name in checkpoint.shapes:
        if name in untied or not name.endswith(checkpoint.family.IGNORED):
            yield name


def _check_kinds(checkpoint: Checkpoint) -> None:
    for name in _used(checkpoint):
        kind = checkpoint.kinds[name]
        if checkpoint.source == HUGGING_FACE or kind in _INTEGERS:
            check_kind(name, kind, checkpoint.path)


def _check_layers(checkpoint: Checkpoint) -> None:
    """Refuses a number of layers that the tensors' names cannot hold."""
    column, found = checkpoint.source, set()
    patterns = [re.escape(files[column]) for files in checkpoint.family.LAYER_TENSORS.values()]
    pattern = re.compile("|".join(p.replace(r"\{\}", r"(\d+)") for p in patterns))
    for name in checkpoint.shapes:
        match = pattern.fullmatch(name)
        found |= {n for n in match.groups() if n} if match else set()
    said = checkpoint.config.num_layers
    if said > len(found):
        key = llama.SIZES["num_layers"][column]
        raise UserError(
            f"{checkpoint.path}: {key} is {said:,}, but there are tensors of {len(found)} layers; "
            "fetch the model again"
        )


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
    shapes, names = parameter_shapes(checkpoint.config), tensor_names(checkpoint)
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


def parameter_shapes(c: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Parameter of `Decoder`, or of one of its layers -> its shape."""
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
    check_finite(values, file, checkpoint.path)
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
    where = read_json_object(index, "index").get("weight_map")
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index}: must map tensors to files in 'weight_map'")
    names = sorted(set(map(str, where.values())))
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise UserError(f"{index}: {name!r} is no plain file name")
        if not (folder / name).is_file():
            raise UserError(f"{index}: names {name!r}, which is not there; fetch the shard again")
    return [folder / name for name in names]


def weights_fingerprint(path: Path) -> str:
    """Hex digest of all weight files' content: equal exactly when the weights are."""
    files = weight_files(path) if path.is_dir() else [path]
    if len(files) == 1:
        return file_sha256(files[0])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file_sha256(file).encode())
    return digest.hexdigest()
