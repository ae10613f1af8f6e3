"""The decoder of all families as Flax NNX modules whose layers are stacked and scanned."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from remid_jax.models.attention import causal_attention, packed_attention, rotary
from remid_jax.models.lora import KERNELS, LoraConfig, lora_names, low_rank, new_pair
from remid_jax.models.products import product
from remid_jax.models.sharding import pinned
from remid_jax.models.slices import scan_layers

Array = jax.Array
KeyValue = tuple[Array, Array]
Attend = Callable[[Array, Array, Array, Any], tuple[Array, Any]]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Shape of a decoder."""

    vocab_size: int  # rows of the embedding
    num_layers: int  # transformer blocks
    width: int  # residual stream
    num_heads: int  # query heads
    num_kv_heads: int  # key and value heads; divides `num_heads`
    head_dim: int  # width of one head, even
    mlp_width: int  # hidden width of the SwiGLU
    max_positions: int  # context window in tokens
    rope_theta: float  # base of the rotary frequencies
    norm_eps: float  # epsilon of the RMS norms
    tie_embeddings: bool  # whether the output head is the embedding
    attention_bias: bool = False  # whether queries, keys and values have biases
    qk_norm: bool = False  # whether heads' queries and keys pass an RMS norm before the rotation
    rope_divisors: tuple[float, ...] | None = None  # head_dim/2, of the rotary frequencies

    def __repr__(self) -> str:
        """Names what a family adds only where it is on: it is part of every cache key."""
        fields = ((f, getattr(self, f.name)) for f in dataclasses.fields(self))
        shown = (f"{f.name}={value!r}" for f, value in fields if value != f.default)
        return f"DecoderConfig({', '.join(shown)})"


def layer_shapes(c: DecoderConfig) -> dict[str, tuple[int, ...]]:
    """Parameter of one layer -> its shape; kernels are [in, out]."""
    query, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    shapes = {
        "attention_norm": (c.width,),
        "query": (c.width, query),
        "key": (c.width, kv),
        "value": (c.width, kv),
        "output": (query, c.width),
        "mlp_norm": (c.width,),
        "gate": (c.width, c.mlp_width),
        "up": (c.width, c.mlp_width),
        "down": (c.mlp_width, c.width),
    }
    if c.attention_bias:
        shapes |= {"query_bias": (query,), "key_bias": (kv,), "value_bias": (kv,)}
    if c.qk_norm:
        shapes |= {"query_norm": (c.head_dim,), "key_norm": (c.head_dim,)}
    return shapes


def _weight(rngs: nnx.Rngs, *shape: int) -> nnx.Param:
    return nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32) * shape[0] ** -0.5)


def rms_norm(x: Array, scale: Array, eps: float) -> Array:
    """x / sqrt(mean(x²) + eps) · scale over the last axis, computed in float32."""
    y = x.astype(jnp.float32)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + eps)
    return (y * scale.astype(jnp.float32)).astype(x.dtype)


# What costs few operations a gradient computes again rather than keeps. Layers are scanned, so that
# nothing need keep XLA from sharing it with the forward pass.
_again = functools.partial(jax.checkpoint, prevent_cse=False)
_norm_again = _again(rms_norm, static_argnums=(2,))


@_again
def _gated(gate: Array, up: Array) -> Array:
    return jax.nn.silu(gate) * up


class Block(nnx.Module):
    """One pre-norm layer: grouped-query attention, then SwiGLU."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs, lora: LoraConfig | None = None):
        self.config, self.lora = config, lora
        shapes = layer_shapes(config)
        for name, shape in shapes.items():
            if name in KERNELS:
                setattr(self, name, _weight(rngs, *shape))
            else:
                fill = jnp.ones if name.endswith("norm") else jnp.zeros
                setattr(self, name, nnx.Param(fill(shape)))
        for name in lora.kernels if lora else ():
            pair = new_pair(rngs.params(), *shapes[name], lora.rank)
            for part, value in zip(lora_names(name), pair, strict=True):
                setattr(self, part, value)

    def project(self, name: str, y: Array, key: Array | None) -> Array:
        """y [..., in] times a kernel, and the adapter's share where it has one; key: dropout's."""
        kernel = getattr(self, name)[...]
        out = product("...i,io->...o", y, kernel)
        if self.lora is None or name not in self.lora.kernels:
            return out
        a, b = (getattr(self, part)[...] for part in lora_names(name))
        key = None if key is None else jax.random.fold_in(key, self.lora.kernels.index(name))
        return out + low_rank(y.astype(kernel.dtype), a, b, self.lora, key)

    def heads(
        self, y: Array, positions: Array, key: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Normalised states [..., S, width] -> float32 q [..., S, H, d], k [..., S, KV, d], v."""
        c = self.config
        q, k, v = (
            pinned(self.project(name, y, key), "tensor") for name in ("query", "key", "value")
        )
        if c.attention_bias:
            q, k, v = (
                x + getattr(self, bias)[...].astype(x.dtype)
                for x, bias in ((q, "query_bias"), (k, "key_bias"), (v, "value_bias"))
            )
        q, k, v = (x.reshape(*y.shape[:-1], -1, c.head_dim) for x in (q, k, v))
        if c.qk_norm:
            q = rms_norm(q, self.query_norm[...], c.norm_eps)
            k = rms_norm(k, self.key_norm[...], c.norm_eps)
        turn = functools.partial(
            rotary, positions=positions, theta=c.rope_theta, divisors=c.rope_divisors
        )
        dtype = self.key[...].dtype  # keys and values are kept, and read, in the weights' type
        return turn(q), turn(k).astype(dtype), v.astype(dtype)

    def __call__(
        self, x: Array, positions: Array, attend: Attend, cache: Any, key: Array | None = None
    ):
        """Applies the layer: the new x, and what `attend` hands back.

        Args:
          x: [..., S, width].
          positions: [..., S].
          attend: (q [..., S, H, d], k [..., S, KV, d], v, cache) -> the attended values
            [..., S, H, d], and what to hand back of this layer (new keys and values).
          cache: whatever `attend` needs of this layer.
          key: for the adapter's dropout; None: nothing is dropped.
        """
        eps = self.config.norm_eps
        y = _norm_again(x, self.attention_norm[...], eps)
        attended, kept = attend(*self.heads(y, positions, key), cache)
        attended = pinned(attended.reshape(*y.shape[:-1], -1), "tensor")
        x = pinned(x + self.project("output", attended, key), None)
        y = _norm_again(x, self.mlp_norm[...], eps)
        inner = _gated(self.project("gate", y, key), self.project("up", y, key))
        return pinned(x + self.project("down", pinned(inner, "tensor"), key), None), kept


def logits_of(hidden: Array, kernel: Array, axis: int) -> Array:
    """Float32 logits of hidden states [..., width] by an output kernel; axis: that of tokens."""
    return product("...d,vd->...v" if axis == 0 else "...d,dv->...v", hidden, kernel)


class Decoder(nnx.Module):
    """Embedding, layers (one `Block` whose weights lead with [num_layers]), and final norm."""

    def __init__(self, config: DecoderConfig, rngs: nnx.Rngs, lora: LoraConfig | None = None):
        self.config = config
        self.embedding = _weight(rngs, config.vocab_size, config.width)
        keys = jax.random.split(rngs.params(), config.num_layers)

        stacked = jax.vmap(lambda k: nnx.split(Block(config, nnx.Rngs(params=k), lora))[1])(keys)
        graphdef, _ = nnx.split(Block(config, rngs, lora))
        self.layers = nnx.merge(graphdef, stacked)
        self.final_norm = nnx.Param(jnp.ones((config.width,)))
        if not config.tie_embeddings:
            self.head = _weight(rngs, config.width, config.vocab_size)

    def embed(self, tokens: Array) -> Array:
        """Token ids [...] -> [..., width] float32: between products nothing is rounded."""
        return pinned(self.embedding[...][tokens].astype(jnp.float32), None)

    def run_layers(
        self, x: Array, positions: Array, attend: Attend, cache: Any, key: Array | None = None,
        remat: bool = False,
    ):  # fmt: skip
        """Scans the layers; `cache`, and what comes back beside x, lead with [num_layers].

        Arguments as of `Block`; `remat`: a gradient computes layers again rather than keeps what
        they held, and within them attention row by row.
        """
        graphdef, stacked = nnx.split(self.layers)
        keys = None if key is None else jax.random.split(key, self.config.num_layers)

        def step(x: Array, layer: Any):
            state, layer_cache, layer_key = layer
            return nnx.merge(graphdef, state)(x, positions, attend, layer_cache, layer_key)

        return scan_layers(step, x, (stacked, cache, keys), remat)

    def split_layers(self) -> list[nnx.State]:
        """The layers one by one, for `run_split_layers`."""
        stacked = nnx.split(self.layers)[1]
        return [jax.tree.map(lambda w, i=i: w[i], stacked) for i in range(self.config.num_layers)]

    def run_split_layers(
        self, layers: Sequence[nnx.State], x: Array, positions: Array, attend: Attend,
        caches: Sequence[Any],
    ):  # fmt: skip
        """`run_layers` as straight code: `caches`, and what comes back beside x, are lists.

        Twice as fast on CPU in a loop of small steps, at twice the memory for layers.
        """
        graphdef, kept = nnx.split(self.layers)[0], []
        for layer, cache in zip(layers, caches, strict=True):
            x, what = nnx.merge(graphdef, layer)(x, positions, attend, cache)
            kept.append(what)
        return x, kept

    def normalise(self, x: Array) -> Array:
        """The final norm, before the head."""
        return rms_norm(x, self.final_norm[...], self.config.norm_eps)

    def logits(self, hidden: Array) -> Array:
        """Normalised hidden states [..., width] -> float32 logits [..., vocab_size]."""
        return logits_of(hidden, *self.head_kernel())

    def head_kernel(self) -> tuple[Array, int]:
        """The output kernel, and which of its two axes is that of tokens."""
        if self.config.tie_embeddings:
            return self.embedding[...], 0
        return self.head[...], 1

    def extend(
        self, tokens: Array, prefix: KeyValue, prefix_length: Array, key: Array | None = None,
        remat: bool = False,
    ):  # fmt: skip
        """Runs R rows of S tokens that all continue one cached prefix.

        Args:
          tokens: [R, S].
          prefix: keys and values, each [num_layers, T, KV, d]; T may be 0.
          prefix_length: scalar, how many of T are valid.
          key, remat: see `run_layers`.

        Returns:
          Normalised hidden states [R, S, width], and the rows' (k, v), [num_layers, R, S, KV, d].
        """
        positions = prefix_length + jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)

        def attend(q: Array, k: Array, v: Array, cache: KeyValue) -> tuple[Array, KeyValue]:
            return causal_attention(q, k, v, *cache, prefix_length, remat), (k, v)

        x, written = self.run_layers(self.embed(tokens), positions, attend, prefix, key, remat)
        return self.normalise(x), written

    def extend_packed(
        self, tokens: Array, positions: Array, segments: Array, window: int, prefix: KeyValue,
        prefix_length: Array,
    ) -> Array:  # fmt: skip
        """Normalised states [B, width] of packed responses that all continue one cached prefix.

        Args:
          tokens: [B].
          positions: [B], of each token in its own sequence.
          segments, window: see `packed_attention`.
          prefix, prefix_length: see `extend`.
        """

        def attend(q: Array, k: Array, v: Array, cache: KeyValue) -> tuple[Array, None]:
            return packed_attention(q, k, v, segments, window, *cache, prefix_length), None

        x, _ = self.run_layers(self.embed(tokens), positions, attend, prefix)
        return self.normalise(x)
