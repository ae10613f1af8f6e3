"""The random model and the random token lists that all benchmarks run on."""

import argparse
import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from flax import nnx

from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.pretrained import LanguageModel
from remid_jax.models.tokenizer import Tokenizer

SMOLLM2 = DecoderConfig(
    vocab_size=49152, num_layers=30, width=576, num_heads=9, num_kv_heads=3, head_dim=64,
    mlp_width=1536, max_positions=8192, rope_theta=1e5, norm_eps=1e-5, tie_embeddings=True,
)  # fmt: skip
SMALL = dataclasses.replace(
    SMOLLM2, vocab_size=200, num_layers=2, width=64, num_heads=4, num_kv_heads=2, head_dim=16,
    mlp_width=96, max_positions=512,
)  # fmt: skip
NO_TOKEN = 10**6  # the stop token: none that the model can draw, so that lengths are prescribed


def model_of(args: argparse.Namespace) -> LanguageModel:
    """The random model of the size that a command line asks for."""
    return random_model(SMALL if args.small else SMOLLM2)


def random_model(config: DecoderConfig, seed: int = 0) -> LanguageModel:
    """A float32 model of random weights: logits spread by about 1, and no token ends a response."""
    rng = np.random.default_rng(seed)

    def fill(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        values = rng.standard_normal(leaf.shape, np.float32)
        name = next(p.key for p in reversed(path) if isinstance(getattr(p, "key", None), str))
        if "norm" in name:
            return jnp.asarray(1 + 0.1 * values)
        inputs = leaf.shape[-1] if name == "embedding" else leaf.shape[-2]
        return jnp.asarray(values * np.float32(inputs**-0.5))

    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: Decoder(config, nnx.Rngs(0))))
    params = jax.tree_util.tree_map_with_path(fill, abstract)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<e>": 0}, "<e>"))
    tokenizer = Tokenizer(
        words, "{{ messages }}", 0, (NO_TOKEN,), None, {"eos_token": "<e>"}, "words"
    )
    fingerprint = f"random/{seed}/{config!r}"
    return LanguageModel("random", config, graphdef, params, tokenizer, "float32", fingerprint)


def random_tokens(model: LanguageModel, lengths: Sequence[int], seed: int) -> list[list[int]]:
    """A list of random token ids of each length; nothing is shared between them."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, model.config.vocab_size, n).tolist() for n in lengths]
