"""The Qwen2 and Qwen2.5 family: Llama with biases on queries, keys and values."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from remid_jax.models import llama
from remid_jax.models.decoder import DecoderConfig

HF_CLASS = "Qwen2ForCausalLM"
GGUF_INTERLEAVES_ROTARY = False
LAYER_TENSORS = llama.LAYER_TENSORS | {
    "query_bias": ("blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias"),
    "key_bias": ("blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias"),
    "value_bias": ("blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias"),
}
TENSORS, IGNORED = llama.TENSORS, llama.IGNORED


def config_from_gguf(*source: Any) -> DecoderConfig:
    """Reads the shape from GGUF metadata; arguments and errors as for Llama."""
    return dataclasses.replace(llama.config_from_gguf(*source), attention_bias=True)


def config_from_hf(config: Mapping[str, Any]) -> DecoderConfig:
    """Reads the shape from a Hugging Face config.json.

    Raises:
      UserError: as for Llama; a `sliding_window` counts only where `use_sliding_window` is true.
    """
    return dataclasses.replace(llama.config_from_hf(config, windows=False), attention_bias=True)
