"""Every compiled program at the sizes of a configuration, on arrays that are only shapes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from benchmarks.model import SMOLLM2
from remid_jax.inference import decoding
from remid_jax.inference.likelihood import packed_log_probs
from remid_jax.inference.prefix import extend_prefix
from remid_jax.inference.sizes import (
    capacity_for,
    rows_that_fit,
    share_of,
    sizes_for,
    stepped,
)
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.inference.vocabulary import target_log_probs
from remid_jax.models.adapters import adapted_structure
from remid_jax.models.attention import PACKED_BLOCK
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import DTYPES
from remid_jax.models.sharding import ROWS, parts_of_mesh, path_name, spec_of
from remid_jax.training import rollout as rollouts
from remid_jax.training.corl import loss_of, optimiser_of
from remid_jax.training.groups import STEP, GroupedBatch
from remid_jax.training.grpo import Completions
from remid_jax.training.optimiser import init_state
from remid_jax.training.rollout_worker import sampling_of
from remid_jax.training.updates import grpo_update, score, sft_update

MODELS = {
    "qwen3-8b": DecoderConfig(
        vocab_size=151936, num_layers=36, width=4096, num_heads=32, num_kv_heads=8, head_dim=128,
        mlp_width=12288, max_positions=40960, rope_theta=1e6, norm_eps=1e-6, tie_embeddings=False,
        qk_norm=True,
    ),
    "llama3-8b": DecoderConfig(
        vocab_size=128256, num_layers=32, width=4096, num_heads=32, num_kv_heads=8, head_dim=128,
        mlp_width=14336, max_positions=8192, rope_theta=5e5, norm_eps=1e-5, tie_embeddings=False,
    ),
    "smollm2-135m": SMOLLM2,
}  # fmt: skip
Lower = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Abstract arrays of one model on one mesh."""

    config: DecoderConfig
    mesh: Mesh
    dtype: str

    def array(self, shape: Sequence[int], dtype: Any, *axes: Any) -> jax.ShapeDtypeStruct:
        """An array cut along the axes of the mesh where they divide its dimensions."""
        fits = [
            a if a is None or not n % parts_of_mesh(self.mesh, a) else None
            for n, a in zip(shape, axes, strict=False)
        ]
        sharding = NamedSharding(self.mesh, PartitionSpec(*fits))
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding)

    def laid(self, tree: Any, dtype: Any = None) -> Any:
        """Parameters (or an optimiser's moments of them) where the rules place them."""

        def one(path: Sequence[Any], leaf: Any) -> jax.ShapeDtypeStruct:
            name = path_name(path)
            return self.array(leaf.shape, dtype or leaf.dtype, *(spec_of(name) if name else ()))

        return jax.tree_util.tree_map_with_path(one, tree)

    def rows(self, tree: Any) -> Any:
        """A pytree of [B, ...] arrays spread by rows."""
        return jax.tree.map(lambda x: self.array(x.shape, x.dtype, ROWS), tree)

    def cache(self, tokens: int) -> jax.ShapeDtypeStruct:
        """Keys or values of so many tokens."""
        c = self.config
        shape = (c.num_layers, tokens, c.num_kv_heads, c.head_dim)
        return self.array(shape, DTYPES[self.dtype], None, None, "tensor", None)

    def base(self) -> tuple[Any, Any]:
        """The static half of the decoder, and its parameters."""
        graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(self.config, nnx.Rngs(0))))
        return graphdef, self.laid(state, DTYPES[self.dtype])


def scoring(
    s: Shapes, config: ConfigDict, longest: int, response: int, call: int = 0
) -> dict[str, Lower]:
    """Programs of the main job, in the sizes that its engine chooses.

    Args:
      s: of the model.
      config: of a diagnosis.
      longest: tokens of a context.
      response: tokens of a response.
      call: tokens of responses that run at once; 0: the engine's own choice.

    Raises:
      UserError: `config.limits.memory_bytes` is too little.
    """
    share = share_of(s.config, parts_of_mesh(s.mesh, "tensor"))
    sizes = sizes_for(share, config.limits.memory_bytes, longest, s.dtype, "tpu")
    tokens, most = longest + config.sampling.max_tokens, config.sampling.batch_rows
    b = rows_that_fit(share, sizes, tokens, s.dtype, most)
    graphdef, params = s.base()
    number, capacity = s.array((), jnp.int32), capacity_for(longest)
    chunk, call = min(sizes.chunk, capacity), call or sizes.call
    reply = SamplingConfig(max_tokens=1, temperature=config.sampling.temperature)
    parts = s.array((call,), jnp.int32)

    def sample() -> Any:
        c = s.config
        shape = (b, c.num_layers, capacity, c.num_kv_heads, c.head_dim)
        keys = s.array(shape, DTYPES[s.dtype], ROWS, None, None, "tensor", None)
        return _decode(s, graphdef, params, keys, b, config.sampling.max_tokens, reply)

    return {
        "prefill": lambda: extend_prefix.lower(
            params, s.cache(0), s.cache(0), number, s.array((chunk,), jnp.int32), number,
            graphdef=graphdef, capacity=capacity,
        ),
        "score": lambda: packed_log_probs.lower(
            params, s.cache(capacity), s.cache(capacity), number, *[parts] * 4,
            graphdef=graphdef, window=-(-response // PACKED_BLOCK), head=sizes.head,
        ),
        "sample": sample,
    }  # fmt: skip


def _key(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape))


def _decode(
    s: Shapes, graphdef: Any, params: Any, keys: Any, b: int, size: int, reply: SamplingConfig
) -> Any:
    c = s.config
    hidden = s.array((b, c.width), DTYPES[s.dtype], ROWS, None)
    seen, done = s.array((b, c.vocab_size), bool, ROWS, None), s.array((b,), bool, ROWS)
    state = jax.eval_shape(
        lambda *x: decoding.begin(*x, size=size, split=False), keys, hidden, seen, done
    )
    own = [
        s.array(x.shape, x.dtype, None, ROWS, "tensor", None, None) for x in state.own
    ]  # fmt: skip
    state = dataclasses.replace(
        jax.tree.map(lambda x: s.array(x.shape, x.dtype, *([ROWS] if x.ndim else [])), state),
        own=tuple(own),
    )
    rows = decoding.Rows(
        keys=keys, values=keys, valid=s.array((keys.shape[0], keys.shape[2]), bool, ROWS),
        lengths=s.array((keys.shape[0],), jnp.int32, ROWS),
        random=_key(b),
        limits=s.array((b,), jnp.int32, ROWS),
    )  # fmt: skip
    return decoding.decode.lower(
        params, rows, state, s.array((), jnp.int32), graphdef=graphdef, config=reply, stop_ids=(0,)
    )


def training(s: Shapes, config: ConfigDict, longest: int) -> dict[str, Lower]:
    """Programs of CoRL; the reasoner's, which are the larger ones.

    Args:
      s: of the base.
      config: of a CoRL run.
      longest: tokens of a prompt.
    """
    r, sft = config.reasoner, config.sft
    lora = LoraConfig(config.lora.rank, config.lora.alpha, config.lora.dropout, config.lora.targets)
    graphdef, adapter = adapted_structure(s.config, lora)
    adapter, frozen = s.laid(adapter), s.base()[1]
    drawn = stepped(r.max_tokens + 1, STEP)

    def state(part: ConfigDict) -> tuple[Any, Any]:
        optimiser = optimiser_of(part, 100)
        return optimiser, s.laid(jax.eval_shape(lambda p: init_state(p, optimiser), adapter))

    def groups(b: int, g: int, row: int) -> GroupedBatch:
        i32 = jnp.int32
        return s.rows(GroupedBatch(*(
            jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in (
                ((b, longest), i32), ((b,), i32), ((b, g, row), i32), ((b, g), i32),
                ((b, g, row), jnp.float32),
            )
        )))  # fmt: skip

    def sft_program() -> Any:
        optimiser, begun = state(sft)
        return sft_update.lower(
            frozen, begun, groups(sft.batch, 1, drawn), _key(), graphdef=graphdef,
            optimiser=optimiser, micro_batches=sft.micro_batches, remat=sft.remat,
        )  # fmt: skip

    def grpo_program() -> Any:
        optimiser, begun = state(r)
        shape = (r.prompts, r.group)
        f32 = jnp.float32
        known = Completions(*(
            jax.ShapeDtypeStruct((*shape, *more), dtype) for more, dtype in (
                ((drawn,), f32), ((drawn,), f32), ((), f32), ((drawn,), bool), ((), bool),
            )
        ))  # fmt: skip
        return grpo_update.lower(
            frozen, begun, groups(*shape, drawn), s.rows(known), graphdef=graphdef,
            optimiser=optimiser, micro_batches=r.micro_batches, remat=r.remat, grpo=loss_of(r),
            on_policy=True,
        )  # fmt: skip

    def rollout_program() -> Any:
        ids, lengths = s.rows((
            jax.ShapeDtypeStruct((r.prompts, longest), jnp.int32),
            jax.ShapeDtypeStruct((r.prompts,), jnp.int32),
        ))  # fmt: skip
        return rollouts.rollout.lower(
            nnx.merge_state(frozen, adapter), ids, lengths, _key(), graphdef=graphdef,
            sampling=sampling_of(r), draws=r.group, end=0, split=False,
            gather=config.rollout_weights == "gathered",
        )  # fmt: skip

    answers = stepped(config.policy.max_tokens + r.max_tokens, STEP)
    return {
        "rollout": rollout_program,
        "reward": lambda: score.lower(
            nnx.merge_state(frozen, adapter), groups(r.prompts, r.group, answers), graphdef=graphdef
        ),
        "sft": sft_program,
        "grpo": grpo_program,
    }


def head(s: Shapes, positions: int, chunk: int) -> Lower:
    """The log-probabilities of so many positions alone, logits of `chunk` tokens at once."""
    graphdef, params = s.base()

    def run(params: Any, hidden: jax.Array, targets: jax.Array) -> jax.Array:
        return target_log_probs(nnx.merge(graphdef, params), hidden, targets, chunk)

    hidden = s.array((positions, s.config.width), DTYPES[s.dtype], ROWS, None)
    return lambda: jax.jit(run).lower(params, hidden, s.array((positions,), jnp.int32, ROWS))
