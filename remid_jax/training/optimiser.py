"""Adam with warm-up, a schedule and clipping; gradients summed over micro-batches."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from remid_jax.settings import check_fields, key
from remid_jax.training.groups import parts_of

Array = jax.Array
SCHEDULES = ("cosine", "constant", "linear")
# (trainable, part of the batch, key) -> sum, (denominator, metric -> (sum, denominator))
Loss = Callable[[Any, Any, Array], tuple[Array, tuple[Array, dict[str, tuple[Array, Array]]]]]


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """How parameters follow their gradients.

    A pytree whose numbers of the schedule are leaves: stages of other lengths or rates share one
    compiled program.

    Raises:
      UserError: a value out of range.
    """

    learning_rate: float = key(dataclasses.MISSING, "at its height", "(0, inf)")
    steps: int = key(dataclasses.MISSING, "updates in all", "[1, inf)", configured=False)
    warmup: float = key(0.03, "share of a stage's steps over which the rate rises", "[0, 1)")
    schedule: str = key("cosine", "how the rate falls to 0, or stays `constant`", SCHEDULES)
    clip: float = key(1.0, "largest norm of the gradient; 0: none", "[0, inf)")
    weight_decay: float = key(0.0, "of AdamW", "[0, inf)")
    b1: float = key(0.9, "decay of the first moment", "[0, 1)", configured=False)
    b2: float = key(0.999, "decay of the second moment", "[0, 1)", configured=False)

    def __post_init__(self):
        check_fields(self, "optimiser")

    def rate(self, step: Array) -> Array:
        """The learning rate of an update, counted from 0."""
        step, steps = (jnp.asarray(x, jnp.float32) for x in (step, self.steps))
        rising = jnp.round(self.warmup * steps)
        # The first update moves too: a rate of 0 would waste it.
        up = (1 + step) / (1 + rising)
        share = jnp.clip((step - rising) / jnp.maximum(1.0, steps - rising), 0.0, 1.0)
        down = {
            "cosine": (1 + jnp.cos(jnp.pi * share)) / 2,
            "linear": 1 - share,
            "constant": jnp.ones_like(share),
        }[self.schedule]
        return self.learning_rate * jnp.where(step < rising, up, down)

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser as optax knows it."""
        clip = [optax.clip_by_global_norm(self.clip)] if self.clip else []
        adam = optax.adamw(self.rate, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay)
        return optax.chain(*clip, adam)


_TRACED = ("learning_rate", "steps", "warmup")
_STATIC = tuple(f.name for f in dataclasses.fields(OptimiserConfig) if f.name not in _TRACED)


def _unflatten(static: tuple, traced: Iterable[Any]) -> OptimiserConfig:
    made = object.__new__(OptimiserConfig)  # leaves can be tracers, which no check may ask
    for name, value in zip((*_STATIC, *_TRACED), (*static, *traced), strict=True):
        object.__setattr__(made, name, value)
    return made


jax.tree_util.register_pytree_node(
    OptimiserConfig,
    lambda c: ([getattr(c, n) for n in _TRACED], tuple(getattr(c, n) for n in _STATIC)),
    _unflatten,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What training changes.

    Attributes:
      params: the trainable parameters, a pytree.
      moments: the optimiser's state.
      step: scalar int32, updates so far.
    """

    params: Any
    moments: Any
    step: Array


def begin(params: Any, config: OptimiserConfig) -> TrainState:
    """The state before the first update."""
    return TrainState(params, config.transformation().init(params), jnp.int32(0))


def accumulated(
    loss: Loss, params: Any, batch: Any, micro_batches: int, key: Array
) -> tuple[Any, Array, Array, dict[str, tuple[Array, Array]]]:
    """Gradients of sums, added up over micro-batches; who divides does it once, afterwards.

    Args:
      loss: returns sums and denominators, never means.
      params: what is differentiated.
      batch: pytree of [B, ...] arrays.
      micro_batches: parts that run one after the other; divides B.
      key: each part draws with a key of its own.

    Returns:
      Gradient of the summed loss, its sum, its denominator, and metric -> (sum, denominator).
    """
    value = jax.value_and_grad(loss, has_aux=True)
    keys = jax.random.split(key, micro_batches)

    def one(part: Any, key: Array) -> Any:
        (total, (denominator, metrics)), gradient = value(params, part, key)
        return gradient, total, denominator, metrics

    if micro_batches == 1:
        return one(batch, keys[0])
    parts = parts_of(batch, micro_batches)
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts), keys[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, carry, one(*part)), None

    return jax.lax.scan(add, zeros, (parts, keys))[0]


def updated(
    state: TrainState, gradient: Any, denominator: Array, config: OptimiserConfig
) -> tuple[TrainState, dict[str, Array]]:
    """One step along a summed gradient divided by its denominator.

    A gradient that is not finite leaves everything as it is, the step's number included.

    Returns:
      The new state; `grad_norm` before clipping, `learning_rate`, and `finite` (1 or 0).
    """
    gradient = jax.tree.map(lambda g: g / jnp.maximum(denominator, 1e-9).astype(g.dtype), gradient)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    with jax.numpy_dtype_promotion("standard"):  # optax counts in int32 and mixes it with floats
        moves, moments = config.transformation().update(gradient, state.moments, state.params)
    new = TrainState(optax.apply_updates(state.params, moves), moments, state.step + 1)
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    rate = config.rate(state.step)
    return kept, {"grad_norm": norm, "learning_rate": rate, "finite": finite.astype(jnp.float32)}
