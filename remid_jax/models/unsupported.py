"""What files may switch on that the decoder does not compute: refused by name, never passed over.

Features that come with tensors of their own (biases, more norms, experts) are also found by those
tensors; the keys here change the numbers of a model whose tensors look like any other's.
"""

import re
from typing import Any

from remid_jax.errors import UserError
from remid_jax.models.fields import Fields, shown

_NOTHING = (None, False, 0, "", [], {})
_ONE = (None, 1)
# Keys of config.json, as a pattern -> the values that change nothing; the first that fits counts.
_HF: dict[str, tuple[Any, ...]] = {
    r"(attention|attn|mlp|ffn)_bias|use_(attention_|mlp_)?bias|bias": _NOTHING,
    r"quantization_config|compression_config|quantization": _NOTHING,
    r"attention_multiplier|attn_scale|attention_scale|softmax_scale|kq_scale": (None,),
    r"query_pre_attn_scalar|query_scale": (None,),
    r"\w*multipliers?|scale_emb|embedding_scale": _ONE,
    r"(use_)?mup(_\w+)?|scale_embeddings?|scale_attn_by_inverse_layer_idx": _NOTHING,
    r"\w*logits?_(scale|scaling)|residual_scale|scale_depth": _ONE,
    r"\w*soft_?cap(ping)?|clip_qkv|clamp_kqv|normalize_embedding": _NOTHING,
    r"attn_temperature_tuning|use_logn_attn|use_dynamic_ntk": _NOTHING,
    r"sliding_window_pattern|window_size|attention_window|local_attention\w*": _NOTHING,
    r"attention_chunk_size|use_attention_sinks?": _NOTHING,
    r"no_rope_layers?|no_rope_layer_interval|nope_layer_interval": _NOTHING,
    r"use_nope|use_alibi|alibi|use_mrope|mrope_section": _NOTHING,
    r"rotary_(pct|percent|percentage)|rope_(pct|percent)": (None, 1),
    r"rotary_dim|rope_interleaved?|rope_local_base_freq|\w+_rope_theta": _NOTHING,
    r"rope_type": (*_NOTHING, "default"),
    r"position_embedding_type": (*_NOTHING, "rope", "rotary"),
    r"normalization|norm_type|normalization_type": (*_NOTHING, "rms", "rmsnorm", "rms_norm"),
    r"use_qk_norm|qk_layernorm|qk_norm|norm_after|post_norm|use_post_norm": _NOTHING,
    r"parallel_(attn|attention|residual)|use_parallel_residual": _NOTHING,
    r"apply_residual_connection_post_layernorm|\w*(attn|attention)_output_gate": _NOTHING,
    r"is_encoder_decoder|add_cross_attention|use_bidirectional_attention": _NOTHING,
    r"is_causal|use_causal_mask": (None, True),
    r"num_kv_shared_layers|block_configs|num_(local_)?experts|n_routed_experts": _NOTHING,
}
_SILU = ("silu", "swish")
# GGUF keys of the architecture that are read, or decide nothing of what is computed here.
_GGUF_READ = re.compile(
    r"vocab_size|context_length|embedding_length|block_count|feed_forward_length"
    r"|attention\.(head_count|head_count_kv|key_length|value_length|layer_norm_rms_epsilon)"
    r"|rope\.(dimension_count|freq_base|scale_linear|scaling\.(type|factor|finetuned))"
    r"|attention\.layer_norm_epsilon|expert_used_count|pooling_type|tensor_data_layout"
)
# Others -> the values that change nothing, where these are not `_NOTHING`.
_GGUF: dict[str, tuple[Any, ...]] = {
    "attention.causal": (True,), "logit_scale": (0, 1), "residual_scale": (0, 1),
    "embedding_scale": (0, 1), "rope.scaling.attn_factor": (1,),
    "rope.scaling.yarn_attn_factor": (1,),
}  # fmt: skip


def refuse_hf(fields: Fields, windows: bool) -> None:
    """Refuses keys of config.json that would change what is computed, by name and value.

    Args:
      fields: of config.json.
      windows: whether a `sliding_window` counts where `use_sliding_window` is absent.
    """
    act = fields.values.get("hidden_act", "silu")
    if act not in _SILU:
        raise UserError(f"{fields.where}: activation {shown(act)} is not supported, only 'silu'")
    for key in fields.values:
        pattern = next((p for p in _HF if re.fullmatch(p, key)), None)
        if pattern is not None:
            _refuse_unless(fields, key, _HF[pattern])
    kinds = fields.values.get("layer_types")
    if not isinstance(kinds, list | None):
        raise fields.error("layer_types", "a list of texts")
    other = next((kind for kind in kinds or () if kind != "full_attention"), None)
    if other is not None:
        raise UserError(
            f"{fields.where}: layer_types holds {shown(other)}; only 'full_attention' is "
            "supported, not attention within a sliding window"
        )
    window = fields.size("sliding_window", None)
    used = fields.flag("use_sliding_window", windows and window is not None)
    # A window in which the whole context lies changes nothing.
    if used and (window is None or window < fields.size("max_position_embeddings")):
        raise UserError(
            f"{fields.where}: attention within a sliding window is not supported (sliding_window "
            f"is {window}, use_sliding_window is on)"
        )


def refuse_gguf(fields: Fields) -> None:
    """`refuse_hf` of a GGUF file's keys of the architecture, where an unknown key counts too."""
    for key in fields.values:
        if not _GGUF_READ.fullmatch(key):
            _refuse_unless(fields, key, _GGUF.get(key, _NOTHING))


def _refuse_unless(fields: Fields, key: str, harmless: tuple[Any, ...]) -> None:
    value = fields.values[key]
    if value not in harmless:
        raise UserError(
            f"{fields.where}: {fields.prefix}{key} is not supported, and changes what is computed "
            f"(it is {shown(value)})"
        )
