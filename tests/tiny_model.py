"""A small random language model, its tokens words `w0`, `w1`, ..., and random adapters."""

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from flax import nnx

from remid_jax.models.adapters import Adapter
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.tokenizer import Tokenizer

VOCAB = 48
END = 2
SHAPE = {
    "vocab_size": VOCAB,
    "num_layers": 2,
    "width": 32,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 8,
    "mlp_width": 48,
    "max_positions": 1024,
    "rope_theta": 1e4,
    "norm_eps": 1e-5,
    "tie_embeddings": False,
}


def build_model(seed: int = 0, stop_ids: tuple[int, ...] = (END,), **changes) -> LanguageModel:
    config = DecoderConfig(**{**SHAPE, **changes})
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    rng = np.random.default_rng(seed)

    def weight(path, like):
        values = rng.standard_normal(like.shape)
        if "norm" in str(path):  # other than one, so that leaving one out or swapping two shows
            values = 1 + 0.3 * values
        elif "embedding" not in str(path):
            values *= like.shape[-2] ** -0.5
        return jnp.asarray(values, jnp.float32)

    state = jax.tree_util.tree_map_with_path(weight, state)
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({f"w{i}": i for i in range(config.vocab_size)}, "w0")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = Tokenizer(backend, "{{ messages }}", END, stop_ids, None, {}, "tiny")
    return LanguageModel("tiny", config, graphdef, state, tokenizer, "float32", f"tiny-{seed}")


def filled(adapter: Adapter, seed: int = 1, scale: float = 0.2) -> Adapter:
    """The adapter with random numbers everywhere, B no longer zero."""
    leaves, structure = jax.tree.flatten(adapter.params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return Adapter(adapter.lora, jax.tree.unflatten(structure, drawn), adapter.base)
