"""What work costs: floating-point operations of the matrix products, and bytes, by formula.

One multiply-add is two operations. Norms, rotations and softmaxes are left out: they are a few
percent, and no unit of a machine that is made for products does them.
"""

from remid_jax.models.decoder import DecoderConfig

BYTES = {"float32": 4, "bfloat16": 2}


def layer_parameters(c: DecoderConfig) -> int:
    """Weights of all layers that take part in a matrix product, embedding and head left out."""
    attention = 2 * c.width * c.head_dim * (c.num_heads + c.num_kv_heads)
    return c.num_layers * (attention + 3 * c.width * c.mlp_width)


def num_parameters(c: DecoderConfig) -> int:
    """Weights in all: those of the layers, embedding and head (norms and biases left out)."""
    return layer_parameters(c) + c.width * c.vocab_size * (1 if c.tie_embeddings else 2)


def extend_flops(c: DecoderConfig, new: int, before: int = 0) -> float:
    """Operations of `new` tokens that stand after `before` cached ones, without the head."""
    keys = new * before + new * (new + 1) / 2
    attention = 4 * c.num_layers * c.num_heads * c.head_dim * keys
    return 2.0 * layer_parameters(c) * new + attention


def head_flops(c: DecoderConfig, positions: int) -> float:
    """Operations of the logits at so many positions."""
    return 2.0 * c.width * c.vocab_size * positions


def score_flops(c: DecoderConfig, before: int, length: int) -> float:
    """Operations of scoring one response of `length` tokens after `before` cached ones.

    The last token is never run: nothing follows it.
    """
    return extend_flops(c, length - 1, before) + head_flops(c, length - 1)


def cache_bytes(c: DecoderConfig, tokens: int, dtype: str = "float32") -> int:
    """Bytes of the keys and values of so many tokens."""
    return 2 * c.num_layers * c.num_kv_heads * c.head_dim * BYTES[dtype] * tokens
