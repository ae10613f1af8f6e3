"""The Llama family (Llama 2 and 3, SmolLM2): its configuration and tensor names for `Decoder`.

A further family is one more file like this one, registered in `FAMILIES` of `weights.py`; where
it differs from Llama by a feature only, it starts from what this file reads.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from remid_jax.errors import UserError
from remid_jax.models import rope
from remid_jax.models.decoder import DecoderConfig

HF_CLASS = "LlamaForCausalLM"
GGUF_INTERLEAVES_ROTARY = True  # query and key rows (2i, 2i+1) of a head are a rotary pair there

# Parameter of `Decoder` -> (GGUF tensor, Hugging Face tensor); `{}` is the layer.
LAYER_TENSORS: dict[str, tuple[str, str]] = {
    "attention_norm": ("blk.{}.attn_norm.weight", "model.layers.{}.input_layernorm.weight"),
    "query": ("blk.{}.attn_q.weight", "model.layers.{}.self_attn.q_proj.weight"),
    "key": ("blk.{}.attn_k.weight", "model.layers.{}.self_attn.k_proj.weight"),
    "value": ("blk.{}.attn_v.weight", "model.layers.{}.self_attn.v_proj.weight"),
    "output": ("blk.{}.attn_output.weight", "model.layers.{}.self_attn.o_proj.weight"),
    "mlp_norm": ("blk.{}.ffn_norm.weight", "model.layers.{}.post_attention_layernorm.weight"),
    "gate": ("blk.{}.ffn_gate.weight", "model.layers.{}.mlp.gate_proj.weight"),
    "up": ("blk.{}.ffn_up.weight", "model.layers.{}.mlp.up_proj.weight"),
    "down": ("blk.{}.ffn_down.weight", "model.layers.{}.mlp.down_proj.weight"),
}
TENSORS: dict[str, tuple[str, str]] = {
    "embedding": ("token_embd.weight", "model.embed_tokens.weight"),
    "final_norm": ("output_norm.weight", "model.norm.weight"),
    "head": ("output.weight", "lm_head.weight"),
}
# Tensors that files may hold and the decoder computes or shares.
IGNORED = ("rope_freqs.weight", "lm_head.weight", "rotary_emb.inv_freq")


def config_from_gguf(
    field: Callable[..., Any], names: set[str], read: Callable[[str], np.ndarray]
) -> DecoderConfig:
    """Reads the shape from GGUF metadata.

    Args:
      field: name without the architecture's prefix -> value, raising `UserError` where absent and
        no default is given.
      names: names of the file's tensors.
      read: tensor name -> values, for the divisors of the rotary frequencies.

    Raises:
      UserError: a field is absent, or a feature that the decoder does not have is on.
    """
    kind = field("rope.scaling.type", "none")
    if kind != "none":
        raise UserError(f"rotary scaling {kind!r} is not supported yet")
    width, heads = int(field("embedding_length")), int(field("attention.head_count"))
    head_dim = int(field("attention.key_length", field("rope.dimension_count", width // heads)))
    for name in ("rope.dimension_count", "attention.value_length"):
        if int(field(name, head_dim)) != head_dim:
            raise UserError(f"{name} {field(name)} other than the heads' {head_dim}: not supported")
    return DecoderConfig(
        vocab_size=int(field("vocab_size")),
        num_layers=int(field("block_count")),
        width=width,
        num_heads=heads,
        num_kv_heads=int(field("attention.head_count_kv", heads)),
        head_dim=head_dim,
        mlp_width=int(field("feed_forward_length")),
        max_positions=int(field("context_length")),
        rope_theta=float(field("rope.freq_base", 10000.0)),
        norm_eps=float(field("attention.layer_norm_rms_epsilon")),
        tie_embeddings=TENSORS["head"][0] not in names,
        rope_divisors=rope.divisors_from_gguf(names, read, head_dim),
    )


def config_from_hf(config: Mapping[str, Any]) -> DecoderConfig:
    """Reads the shape from a Hugging Face config.json.

    Raises:
      UserError: a required key is absent, or a feature that the decoder does not have is on.
    """
    if config.get("hidden_act", "silu") != "silu":
        raise UserError(f"activation {config['hidden_act']!r} is not supported, only 'silu'")
    for bias in ("attention_bias", "mlp_bias"):
        if config.get(bias):
            raise UserError(f"{bias} is not supported yet")
    try:
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        theta, divisors = rope.from_hf(config, head_dim)
        return DecoderConfig(
            vocab_size=config["vocab_size"],
            num_layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=head_dim,
            mlp_width=config["intermediate_size"],
            max_positions=config["max_position_embeddings"],
            rope_theta=theta,
            norm_eps=config["rms_norm_eps"],
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            rope_divisors=divisors,
        )
    except KeyError as e:
        raise UserError(f"config.json lacks {e.args[0]!r}") from None
    except (TypeError, ValueError, ZeroDivisionError) as e:
        raise UserError(f"config.json holds a value that is no size ({e})") from None
