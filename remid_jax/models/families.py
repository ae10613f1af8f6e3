"""Llama, Qwen2 and Qwen3: what their files call things, and their shapes for `Decoder`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from remid_jax.errors import UserError
from remid_jax.models import rope, unsupported
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.fields import Fields

CONFIG = "config.json"
GGUF, HUGGING_FACE = 0, 1  # columns of the tables of names

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
    "query_bias": ("blk.{}.attn_q.bias", "model.layers.{}.self_attn.q_proj.bias"),
    "key_bias": ("blk.{}.attn_k.bias", "model.layers.{}.self_attn.k_proj.bias"),
    "value_bias": ("blk.{}.attn_v.bias", "model.layers.{}.self_attn.v_proj.bias"),
    "query_norm": ("blk.{}.attn_q_norm.weight", "model.layers.{}.self_attn.q_norm.weight"),
    "key_norm": ("blk.{}.attn_k_norm.weight", "model.layers.{}.self_attn.k_norm.weight"),
}
TENSORS: dict[str, tuple[str, str]] = {
    "embedding": ("token_embd.weight", "model.embed_tokens.weight"),
    "final_norm": ("output_norm.weight", "model.norm.weight"),
    "head": ("output.weight", "lm_head.weight"),
}
# Tensors that files may hold and the decoder computes or shares.
IGNORED = ("rope_freqs.weight", "lm_head.weight", "rotary_emb.inv_freq")

# Size of `DecoderConfig` -> (GGUF key, Hugging Face key).
SIZES: dict[str, tuple[str, str]] = {
    "vocab_size": ("vocab_size", "vocab_size"),
    "num_layers": ("block_count", "num_hidden_layers"),
    "width": ("embedding_length", "hidden_size"),
    "num_heads": ("attention.head_count", "num_attention_heads"),
    "mlp_width": ("feed_forward_length", "intermediate_size"),
    "max_positions": ("context_length", "max_position_embeddings"),
    "num_kv_heads": ("attention.head_count_kv", "num_key_value_heads"),
    "head_dim": ("attention.key_length", "head_dim"),
}
_LARGEST_HEAD = 2**16  # the frequencies of a head are listed before a tensor is looked at


@dataclasses.dataclass(frozen=True)
class Family:
    """An architecture, by what it adds to Llama's.

    Attributes:
      hf_class: its class in transformers.
      gguf_interleaves_rotary: whether rows (2i, 2i+1) of a GGUF head are a rotary pair.
      attention_bias: whether queries, keys and values have biases.
      qk_norm: whether each head's query and key are normalised.
      head_dim: width of a head where config.json names none; None: the width over the heads.
      windows: whether a `sliding_window` counts where `use_sliding_window` is absent.
    """

    hf_class: str
    gguf_interleaves_rotary: bool = False
    attention_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None
    windows: bool = False

    def config_from_gguf(
        self, fields: Fields, names: set[str], read: Callable[[str], np.ndarray]
    ) -> DecoderConfig:
        """Reads the shape from GGUF metadata.

        Args:
          fields: the keys of the architecture, without its name before them.
          names: names of the file's tensors.
          read: tensor name -> values, for the divisors of the rotary frequencies.

        Raises:
          UserError: a field is absent or of a wrong type, or a feature that the decoder does not
            have is on.
        """
        unsupported.refuse_gguf(fields)
        rope.refuse_gguf_scaling(fields)
        sizes = _sizes(fields, GGUF, fields.size("rope.dimension_count", None))
        head_dim = sizes["head_dim"]
        for name in ("rope.dimension_count", "attention.value_length"):
            said = fields.size(name, head_dim)
            if said != head_dim:
                raise UserError(f"{name} {said} other than the heads' {head_dim}: not supported")
        return DecoderConfig(
            **sizes,
            rope_theta=fields.number("rope.freq_base", 10000.0, least=1.0),
            norm_eps=fields.number("attention.layer_norm_rms_epsilon", below=1.0),
            tie_embeddings=TENSORS["head"][GGUF] not in names,
            attention_bias=self.attention_bias,
            qk_norm=self.qk_norm,
            rope_divisors=rope.divisors_from_gguf(names, read, head_dim),
        )

    def config_from_hf(self, config: Mapping[str, Any]) -> DecoderConfig:
        """Reads the shape from the content of a Hugging Face config.json.

        Raises:
          UserError: as for `config_from_gguf`.
        """
        fields = Fields({"head_dim": self.head_dim, **config}, CONFIG)
        sizes = _sizes(fields, HUGGING_FACE, None)
        unsupported.refuse_hf(fields, self.windows)
        theta, divisors = rope.from_hf(config, sizes["head_dim"])
        return DecoderConfig(
            **sizes,
            rope_theta=theta,
            norm_eps=fields.number("rms_norm_eps", below=1.0),
            tie_embeddings=fields.flag("tie_word_embeddings"),
            attention_bias=self.attention_bias,
            qk_norm=self.qk_norm,
            rope_divisors=divisors,
        )


FAMILIES = {
    "llama": Family("LlamaForCausalLM", gguf_interleaves_rotary=True, windows=True),
    "qwen2": Family("Qwen2ForCausalLM", attention_bias=True),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, head_dim=128),
}


def _sizes(fields: Fields, column: int, head_dim: int | None) -> dict[str, int]:
    """The sizes of a shape, which fit each other; head_dim: where the file names none."""
    keys = {name: names[column] for name, names in SIZES.items()}
    width, heads, kv = keys["width"], keys["num_heads"], keys.pop("num_kv_heads")
    own = keys.pop("head_dim")
    sizes = {name: fields.size(key) for name, key in keys.items()}
    sizes["num_kv_heads"] = fields.size(kv, sizes["num_heads"])
    if sizes["num_heads"] % sizes["num_kv_heads"]:
        raise fields.error(heads, f"a multiple of {kv}, {sizes['num_kv_heads']}")
    head_dim = fields.size(own, head_dim)
    if head_dim is None and sizes["width"] % sizes["num_heads"]:
        raise fields.error(width, f"a multiple of {heads}, {sizes['num_heads']}")
    sizes["head_dim"] = head_dim or sizes["width"] // sizes["num_heads"]
    if sizes["head_dim"] % 2 or sizes["head_dim"] > _LARGEST_HEAD:
        raise UserError(
            f"{fields.where}: the width of one head is {sizes['head_dim']} "
            f"({own}, or {width} / {heads}); it must be even, and at most {_LARGEST_HEAD:,}"
        )
    return sizes
