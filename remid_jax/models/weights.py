"""Weights from GGUF files and Hugging Face directories into the stacked parameters of `Decoder`."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.errors import UserError
from remid_jax.files import file_sha256, path_of
from remid_jax.json_files import read_json_object
from remid_jax.models import families
from remid_jax.models.decoder import DecoderConfig, layer_shapes
from remid_jax.models.families import CONFIG, GGUF, HUGGING_FACE, LAYER_TENSORS, TENSORS
from remid_jax.models.fields import Fields, shown
from remid_jax.models.tensor_files import (
    as_float32,
    check_finite,
    check_kind,
    check_shapes,
    open_tensors,
)

INDEX = "model.safetensors.index.json"
_INTEGERS = ("I8", "I16", "I32", "I64")  # of GGUF


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """The opened files of a model: its shape, and its tensors read when asked for.

    Attributes:
      path: GGUF file or directory.
      source: `GGUF` or `HUGGING_FACE`, the column of the tables of names.
      family: the architecture.
      config: shape of the decoder.
      shapes: tensor name -> shape as stored.
      kinds: tensor name -> type as stored (`BF16`, `Q4_1` ...).
      read: tensor name -> float array as stored ([out, in] for kernels).
      metadata: GGUF fields, or the parsed JSON files of the directory.
    """

    path: Path
    source: int
    family: families.Family
    config: DecoderConfig
    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, str]
    read: Callable[[str], np.ndarray]
    metadata: dict[str, Any]


def open_files(path: str | Path) -> ModelFiles:
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


def _family(name: Any, path: Path) -> families.Family:
    if not isinstance(name, str) or name not in families.FAMILIES:
        known = ", ".join(sorted(families.FAMILIES))
        raise UserError(
            f"{path}: architecture {shown(str(name))} is not supported; supported: {known}"
        )
    return families.FAMILIES[name]


def _open_gguf(path: Path) -> ModelFiles:
    import gguf

    try:
        reader = gguf.GGUFReader(str(path))
        metadata = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as e:  # the reader fails in many ways on a damaged file
        raise UserError(f"{path}: not a readable GGUF file, or truncated ({e})") from None
    _refuse_part(path, metadata)
    family = _family(metadata.get("general.architecture"), path)
    tensors = {t.name: t for t in reader.tensors}
    shapes = {name: tuple(int(n) for n in t.shape[::-1]) for name, t in tensors.items()}

    def read(name: str) -> np.ndarray:
        data, kind = tensors[name].data, tensors[name].tensor_type
        try:
            values = data if kind.name == "F64" else gguf.quants.dequantize(data, kind)
        except NotImplementedError:
            raise UserError(f"{path}: tensor {name!r}: cannot dequantise {kind.name}") from None
        return as_float32(values).reshape(shapes[name])

    try:
        config = family.config_from_gguf(_architecture(path, metadata), set(tensors), read)
    except UserError as e:
        raise e if str(path) in str(e) else UserError(f"{path}: {e}") from None
    kinds = {name: t.tensor_type.name for name, t in tensors.items()}
    return ModelFiles(path, GGUF, family, config, shapes, kinds, read, metadata)


def _refuse_part(path: Path, metadata: Mapping[str, Any]) -> None:
    """Refuses one of several GGUF files, which llama.cpp reads together."""
    name = re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path.name)
    count = metadata.get("split.count", int(name[2]) if name else 1)
    if count not in (0, 1):
        which = metadata.get("split.no", int(name[1]) - 1 if name else None)
        number = f"part {which + 1}" if isinstance(which, int) else "one"
        first = path.name.replace(f"-{name[1]}-of-", "-00001-of-") if name else "FIRST.gguf"
        raise UserError(
            f"{path}: is {number} of {shown(count)} files; merge them with llama.cpp's "
            f"`llama-gguf-split --merge {first} MERGED.gguf`, and name the merged file"
        )


def _architecture(path: Path, metadata: Mapping[str, Any]) -> Fields:
    """The fields of the architecture, without its name before them."""
    prefix = f"{metadata['general.architecture']}."
    own = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    if "vocab_size" not in own:
        tokens = Fields(metadata, f"{path}: GGUF metadata").get("tokenizer.ggml.tokens")
        own["vocab_size"] = len(tokens) if isinstance(tokens, list) else tokens
    return Fields(own, "GGUF metadata", prefix)


def _open_hugging_face(path: Path) -> ModelFiles:
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
    return ModelFiles(
        path, HUGGING_FACE, family, config, tensors.shapes, tensors.kinds, tensors.read, metadata
    )


def _outer_shapes(c: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Parameter of `Decoder` outside of its layers -> its shape."""
    shapes = {"embedding": (c.vocab_size, c.width), "final_norm": (c.width,)}
    return shapes if c.tie_embeddings else {**shapes, "head": (c.width, c.vocab_size)}


def _names(files: ModelFiles, parameter: str) -> list[str]:
    """The file's tensors of a parameter: one, or one for each layer."""
    if parameter in TENSORS:
        return [TENSORS[parameter][files.source]]
    name = LAYER_TENSORS[parameter][files.source]
    return [name.format(i) for i in range(files.config.num_layers)]


def check_tensors(files: ModelFiles) -> None:
    """Checks number, names, types and shapes of all tensors; reads none of them.

    Raises:
      UserError: a tensor is missing, unexpected, or of a wrong type or shape.
    """
    for name in _used(files):
        kind = files.kinds[name]
        if files.source == HUGGING_FACE or kind in _INTEGERS:
            check_kind(name, kind, files.path)
    _check_layers(files)  # before a name for each is made
    expected = {}
    for parameter, shape in (_outer_shapes(files.config) | layer_shapes(files.config)).items():
        stored = shape if parameter == "embedding" else shape[::-1]
        expected |= dict.fromkeys(_names(files, parameter), stored)
    check_shapes(files.shapes, expected, files.path)
    extra = sorted(n for n in _used(files) if n not in expected)
    if extra:
        more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
        raise UserError(f"{files.path}: unexpected tensors {', '.join(extra[:3])}{more}")


def _used(files: ModelFiles) -> Iterator[str]:
    """Names of the tensors that are not passed over."""
    column, tied = files.source, files.config.tie_embeddings
    needed = () if tied else {names[column] for names in TENSORS.values()}
    return (n for n in files.shapes if n in needed or not n.endswith(families.IGNORED))


def _check_layers(files: ModelFiles) -> None:
    """Refuses a number of layers that the tensors' names cannot hold."""
    column, said = files.source, files.config.num_layers
    patterns = [re.escape(LAYER_TENSORS[p][column]) for p in layer_shapes(files.config)]
    pattern = re.compile("|".join(p.replace(r"\{\}", r"(\d+)") for p in patterns))
    matches = filter(None, map(pattern.fullmatch, files.shapes))
    found = {n for match in matches for n in match.groups() if n}
    if said > len(found):
        key = families.SIZES["num_layers"][column]
        raise UserError(
            f"{files.path}: {key} is {said:,}, but there are tensors of {len(found)} layers; "
            "fetch the model again"
        )


def read_parameters(files: ModelFiles, dtype: Any = np.float32) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the parameters of `Decoder` one by one: kernels as [in, out], layers stacked.

    Args:
      files: of the model.
      dtype: storage type of the result.

    Yields:
      The parameter's path (`embedding`, `layers/query`) and its value; those of layers lead with
      [num_layers].

    Raises:
      UserError: a tensor is missing, unexpected, of a wrong shape, or not finite.
    """
    check_tensors(files)
    for parameter in _outer_shapes(files.config):
        (name,) = _names(files, parameter)
        yield parameter, _tensor(files, name, parameter).astype(dtype)
    for parameter, shape in layer_shapes(files.config).items():
        stacked = np.empty((files.config.num_layers, *shape), dtype)
        for i, name in enumerate(_names(files, parameter)):
            stacked[i] = _tensor(files, name, parameter)
        yield f"layers/{parameter}", stacked
        del stacked  # before the next one is made


def _tensor(files: ModelFiles, name: str, parameter: str) -> np.ndarray:
    values = check_finite(files.read(name), name, files.path)
    interleaved = files.source == GGUF and files.family.gguf_interleaves_rotary
    if interleaved and parameter in ("query", "key"):
        values = _rotate_half_order(values, files.config.head_dim)
    return values if parameter == "embedding" else values.T


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
    digests = [file_sha256(file) for file in files]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
