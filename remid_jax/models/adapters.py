"""Adapters: made, joined to the one base to which they belong, merged into it, and stored."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from remid_jax.checkpoints import RECORD, load_tree, read_record, save_tree
from remid_jax.errors import UserError
from remid_jax.files import path_of
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.fields import Fields, shown
from remid_jax.models.lora import LoraConfig, LoraParam, lora_names
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.sharding import place

Array = jax.Array


class Base(Protocol):
    """What an adapter must know of its base; a `LanguageModel` is one."""

    name: str  # for messages
    config: DecoderConfig
    fingerprint: str  # digest of everything that decides its numbers


@dataclasses.dataclass(frozen=True)
class Adapter:
    """Low-rank matrices for one base."""

    lora: LoraConfig
    params: Any  # pytree of `LoraParam`s, as `nnx.split(decoder, LoraParam, ...)` gives it
    base: str  # fingerprint of the model that it was trained on


def adapted_structure(config: DecoderConfig, lora: LoraConfig) -> tuple[Any, Any]:
    """The static half of a decoder with adapters, and the shapes of an adapter's parameters."""
    decoder = nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0), lora))
    return nnx.split(decoder, LoraParam, ...)[:2]


def new_params(config: DecoderConfig, lora: LoraConfig, key: Array) -> Any:
    """Parameters of an adapter that changes nothing yet."""

    def made() -> Any:
        decoder = Decoder(config, nnx.Rngs(params=key), lora)
        return nnx.split(decoder, LoraParam, ...)[1]

    return jax.jit(made)()


def new_adapter(model: LanguageModel, lora: LoraConfig, key: Array) -> Adapter:
    """An adapter of a model that changes nothing yet."""
    return Adapter(lora, new_params(model.config, lora, key), model.fingerprint)


def with_adapter(model: LanguageModel, adapter: Adapter) -> LanguageModel:
    """The model as the adapter changes it, its arrays shared; a `UserError` for another base."""
    check_base(model, adapter.base, "the adapter")
    graphdef, _ = adapted_structure(model.config, adapter.lora)
    params = nnx.merge_state(model.params, place(adapter.params, model.mesh))
    return dataclasses.replace(
        model, graphdef=graphdef, params=params, fingerprint=adapted_fingerprint(adapter)
    )


def check_base(model: Base, base: str, what: str) -> None:
    """Refuses an adapter (`what`) that was trained on a base of another fingerprint."""
    if base != model.fingerprint:
        raise UserError(
            f"{what} was trained on another base ({base[:12]}...) than {model.name} as it is "
            f"loaded here ({model.fingerprint[:12]}...): give the same weights, template and dtype"
        )


def adapted_fingerprint(adapter: Adapter) -> str:
    """Digest of base, shape and values."""
    digest = hashlib.sha256(f"{adapter.base}/{adapter.lora}".encode())
    for leaf in jax.tree.leaves(adapter.params):
        digest.update(jax.device_get(leaf).tobytes())
    return digest.hexdigest()


def merged(model: LanguageModel, adapter: Adapter) -> LanguageModel:
    """A plain model whose kernels are W + (alpha / rank) A B; errors as of `with_adapter`."""
    check_base(model, adapter.base, "the adapter")
    base = nnx.to_pure_dict(model.params)
    delta = nnx.to_pure_dict(adapter.params)["layers"]
    layers = dict(base["layers"])
    for name in adapter.lora.kernels:
        a, b = (delta[part] for part in lora_names(name))
        with jax.default_matmul_precision("highest"):
            share = jnp.einsum("lir,lro->lio", a, b) * adapter.lora.scale
        layers[name] = layers[name] + share.astype(layers[name].dtype)
    state = jax.tree.map(lambda x: x, model.params)
    nnx.replace_by_pure_dict(state, {**base, "layers": layers})
    return dataclasses.replace(
        model, params=state, fingerprint=adapted_fingerprint(adapter) + "/merged"
    )


def save_adapter(
    folder: str | Path, adapter: Adapter, scoring: Mapping[str, Any] | None = None
) -> Path:
    """Writes an adapter by orbax, with the fingerprint of its base.

    Args:
      folder: what it holds is replaced.
      adapter: low-rank matrices.
      scoring: how it is to be used, as `saved_scoring` gives it back.
    """
    record = {"kind": "adapter", "base": adapter.base, "lora": dataclasses.asdict(adapter.lora)}
    if scoring is not None:
        record["scoring"] = dict(scoring)
    return save_tree(folder, adapter.params, record)


def saved_scoring(folder: str | Path) -> dict[str, Any] | None:
    """How an adapter is to be used, as `save_adapter` was told; None where it was told nothing.

    Raises:
      UserError: there is no adapter, or its record was altered.
    """
    folder = path_of(folder, "adapter folder")
    record = Fields(read_record(folder), folder / RECORD)
    if "scoring" not in record.values:
        return None
    scoring = record.group("scoring")
    if scoring is None:
        raise record.error("scoring", "a group of keys")
    return dict(scoring.values)


def load_adapter(folder: str | Path, model: Base) -> Adapter:
    """Reads what `save_adapter` wrote; a `UserError` unless it is an adapter of this base."""
    folder = path_of(folder, "adapter folder")
    record = Fields(read_record(folder), folder / RECORD)
    kind = record.values.get("kind", "something else")
    if kind != "adapter":
        raise UserError(f"{folder}: no adapter, but {shown(kind)}")
    base, shape = record.text("base"), record.group("lora")
    check_base(model, base, str(folder))
    if shape is None:
        raise record.error("lora", "the shape of an adapter")
    try:
        lora = LoraConfig(**shape.values)
    except (TypeError, UserError) as e:
        raise UserError(f"{record.where}: lora is no shape of an adapter ({e})") from None
    _, abstract = adapted_structure(model.config, lora)
    return Adapter(lora, load_tree(folder, abstract), base)
