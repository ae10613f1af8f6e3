"""The Qwen3 family (dense models): Llama with an RMS norm on each head's query and key."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from remid_jax.models import llama
from remid_jax.models.decoder import DecoderConfig

HF_CLASS = "Qwen3ForCausalLM"
GGUF_INTERLEAVES_ROTARY = False
LAYER_TENSORS = llama.LAYER_TENSORS | {
    "query_norm": ("blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"),
    "key_norm": ("blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"),
}
TENSORS, IGNORED = llama.TENSORS, llama.IGNORED
_HEAD_DIM = 128  # where config.json names none: not the width over the heads


def config_from_gguf(*source: Any) -> DecoderConfig:
    """Reads the shape from GGUF metadata; arguments and errors as for Llama."""
    return dataclasses.replace(llama.config_from_gguf(*source), qk_norm=True)


def config_from_hf(config: Mapping[str, Any]) -> DecoderConfig:
    """Reads the shape from a Hugging Face config.json.

    Raises:
      UserError: as for Qwen2.
    """
    shape = llama.config_from_hf({"head_dim": _HEAD_DIM, **config}, windows=False)
    return dataclasses.replace(shape, qk_norm=True)
