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
from configs import corl_paper, rpgbench_qwen3_8b
from remid_jax.inference import decoding, likelihood, prefix, sizes, vocabulary
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.adapters import adapted_structure
from remid_jax.models.attention import PACKED_BLOCK
from remid_jax.models.decoder import Decoder, DecoderConfig
from remid_jax.models.lora import LoraConfig
from remid_jax.models.sharding import ROWS, parts_of_mesh, path_name, spec_of
from remid_jax.settings import made_from
from remid_jax.training import loop, optimiser, updates
from remid_jax.training import rollout as rollouts
from remid_jax.training.groups import STEP, GroupedBatch
from remid_jax.training.grpo import Completions, GrpoConfig

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
SCORING, TRAINING = ("prefill", "score", "sample"), ("rollout", "reward", "sft", "grpo")
HEADS = ("head", "head-full")
PROGRAMS = (*SCORING, *TRAINING, *HEADS)
RESPONSE = 256  # tokens of a response
DTYPE = jnp.bfloat16
I32, F32 = jnp.int32, jnp.float32
Lower = Callable[[], Any]


def lowering(model: str, program: str, mesh: Mesh, context: int, call: int = 0) -> Lower:
    """What lowers a program of a model in `MODELS`.

    Args:
      model: its name; program: one of `PROGRAMS`; mesh: over the chips of a topology.
      context: tokens of a context that is scored, and positions of a head.
      call: tokens of responses that run at once; 0 for as many as the engine chooses.
    """
    s = Shapes(MODELS[model], mesh)
    if program in HEADS:
        return _head(s, context, sizes.HEAD if program == "head" else s.config.vocab_size)
    if program in SCORING:
        return _scoring(s, rpgbench_qwen3_8b.get_config(), context, call)[program]
    return _training(s, corl_paper.get_config())[program]


@dataclasses.dataclass(frozen=True)
class Shapes:
    """Abstract arrays of one model on one mesh."""

    config: DecoderConfig
    mesh: Mesh

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
        """Arrays, or pairs of shape and type, spread by rows; scalars have none."""
        return jax.tree.map(
            lambda x: self.array(x.shape, x.dtype, *([ROWS] if x.ndim else [])), tree
        )

    def cache(self, tokens: int, rows: int = 0) -> jax.ShapeDtypeStruct:
        """Keys or values of so many tokens, those of `rows` prompts where they are given."""
        c = self.config
        shape = (c.num_layers, tokens, c.num_kv_heads, c.head_dim)
        axes = (None, None, "tensor", None)
        if rows:
            shape, axes = (rows, *shape), (ROWS, *axes)
        return self.array(shape, DTYPE, *axes)

    def base(self) -> tuple[Any, Any]:
        """The static half of the decoder, and its parameters."""
        graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(self.config, nnx.Rngs(0))))
        return graphdef, self.laid(state, DTYPE)


def _keys(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), shape))


def _scoring(s: Shapes, config: ConfigDict, longest: int, call: int) -> dict[str, Lower]:
    """Programs of a diagnosis, in the sizes that its engine chooses."""
    share = sizes.share_of(s.config, parts_of_mesh(s.mesh, "tensor"))
    chosen = sizes.sizes_for(share, config.limits.memory_bytes, longest, "bfloat16", "tpu")
    most, new = config.sampling.batch_rows, config.sampling.max_tokens
    rows = sizes.rows_that_fit(share, chosen, longest + new, "bfloat16", most)
    graphdef, params = s.base()
    number, capacity = s.array((), I32), sizes.capacity_for(longest)
    chunk, parts = min(chosen.chunk, capacity), s.array((call or chosen.call,), I32)
    cache = [s.cache(capacity)] * 2
    return {
        "prefill": lambda: prefix.extend_prefix.lower(
            params, s.cache(0), s.cache(0), number, s.array((chunk,), I32), number,
            graphdef=graphdef, capacity=capacity,
        ),
        "score": lambda: likelihood.packed_log_probs.lower(
            params, *cache, number, *[parts] * 4,
            graphdef=graphdef, window=-(-RESPONSE // PACKED_BLOCK), head=chosen.head,
        ),
        "sample": lambda: _sample(s, rows, capacity, new, config.sampling.temperature),
    }  # fmt: skip


def _sample(s: Shapes, b: int, capacity: int, size: int, temperature: float) -> Any:
    """Lowers the loop that continues `b` prompts, the same for any number of tokens."""
    c, (graphdef, params) = s.config, s.base()
    keys = s.cache(capacity, rows=b)
    hidden = s.array((b, c.width), DTYPE, ROWS, None)
    seen, done = s.array((b, c.vocab_size), bool, ROWS, None), s.array((b,), bool, ROWS)
    state = jax.eval_shape(
        lambda *x: decoding.init_state(*x, size=size, split=False), keys, hidden, seen, done
    )
    own = tuple(s.array(x.shape, x.dtype, None, ROWS, "tensor", None, None) for x in state.own)
    rows = decoding.DecodeBatch(
        keys=keys, values=keys, valid=s.array((b, capacity), bool, ROWS),
        lengths=s.array((b,), I32, ROWS), random=_keys(b), limits=s.array((b,), I32, ROWS),
    )  # fmt: skip
    reply = SamplingConfig(max_tokens=1, temperature=temperature)
    return decoding.decode.lower(
        params, rows, dataclasses.replace(s.rows(state), own=own), s.array((), I32),
        graphdef=graphdef, config=reply, stop_ids=(0,),
    )  # fmt: skip


def _training(s: Shapes, config: ConfigDict) -> dict[str, Lower]:
    """Programs of CoRL; the reasoner's, which are the larger ones."""
    r, sft, longest = config.reasoner, config.sft, config.max_prompt_tokens
    lora = made_from(LoraConfig, config.lora)
    graphdef, adapter = adapted_structure(s.config, lora)
    adapter, frozen = s.laid(adapter), s.base()[1]
    new, answers = (
        sizes.stepped(n, STEP) for n in (r.max_tokens + 1, config.policy.max_tokens + r.max_tokens)
    )

    def arrays(make: Callable[..., Any], *shapes: tuple[tuple[int, ...], Any]) -> Any:
        return s.rows(make(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)))

    def groups(b: int, g: int, row: int) -> GroupedBatch:
        shapes = ((b, longest), I32), ((b,), I32), ((b, g, row), I32), ((b, g), I32)
        return arrays(GroupedBatch, *shapes, ((b, g, row), F32))

    def update(program: Any, part: ConfigDict, *given: Any, **static: Any) -> Any:
        chosen = loop.optimiser_of(part, 100)
        state = s.laid(jax.eval_shape(lambda p: optimiser.init_state(p, chosen), adapter))
        return program.lower(
            frozen, state, *given, graphdef=graphdef, optimiser=chosen,
            micro_batches=part.micro_batches, remat=part.remat, **static,
        )  # fmt: skip

    def grpo() -> Any:
        one, each = (r.prompts, r.group), (r.prompts, r.group, new)
        kinds = ((each, F32), (each, F32), (one, F32), (each, bool), (one, bool))
        given = (groups(*each), arrays(Completions, *kinds))
        return update(updates.grpo_update, r, *given, grpo=made_from(GrpoConfig, r), on_policy=True)

    def rollout() -> Any:
        ids = arrays(lambda *x: x, ((r.prompts, longest), I32), ((r.prompts,), I32))
        return rollouts.rollout.lower(
            nnx.merge_state(frozen, adapter), *ids, _keys(), graphdef=graphdef,
            sampling=made_from(SamplingConfig, r), draws=r.group, end=0, split=False,
            gather=config.rollout_weights == "gathered",
        )  # fmt: skip

    return {
        "rollout": rollout,
        "reward": lambda: updates.score.lower(
            nnx.merge_state(frozen, adapter), groups(r.prompts, r.group, answers), graphdef=graphdef
        ),
        "sft": lambda: update(updates.sft_update, sft, groups(sft.batch, 1, new), _keys()),
        "grpo": grpo,
    }


def _head(s: Shapes, positions: int, chunk: int) -> Lower:
    """The log-probabilities of so many positions alone, logits of `chunk` tokens at once."""
    graphdef, params = s.base()

    def run(params: Any, hidden: jax.Array, targets: jax.Array) -> jax.Array:
        return vocabulary.target_log_probs(nnx.merge(graphdef, params), hidden, targets, chunk)

    hidden = s.array((positions, s.config.width), DTYPE, ROWS, None)
    return lambda: jax.jit(run).lower(params, hidden, s.array((positions,), I32, ROWS))
