"""Adam with warm-up, a schedule and clipping; gradients summed over micro-batches."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from remid_jax.settings import check_fields, key
from remid_jax.training.groups import micro_batches_of

Array = jax.Array
# Share of the steps -> factor of the rate: optax takes a traced share, but no traced number.
_DECAYS = {
    "cosine": optax.cosine_decay_schedule(1.0, 1),
    "constant": optax.constant_schedule(1.0),
    "linear": optax.linear_schedule(1.0, 0.0, 1),
}
SCHEDULES = tuple(_DECAYS)
# (trainable, part of the batch, key) -> sum, (denominator, metric -> (sum, denominator))
Loss = Callable[[Any, Any, Array], tuple[Array, tuple[Array, dict[str, tuple[Array, Array]]]]]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("learning_rate", "steps", "warmup"),
    meta_fields=("schedule", "clip", "weight_decay", "b1", "b2"),
)
@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """How parameters follow their gradients.

    A pytree in which the schedule's numbers are leaves: stages of other lengths or rates share one
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
        if np.isscalar(self.steps):  # otherwise a leaf while JAX transforms, which nothing may ask
            check_fields(self, "optimiser")

    def rate(self, step: Array) -> Array:
        """The learning rate of an update, counted from 0."""
        step, steps = (jnp.asarray(x, jnp.float32) for x in (step, self.steps))
        rising = jnp.round(self.warmup * steps)
        # The first update moves too: a rate of 0 would waste it.
        up = (1 + step) / (1 + rising)
        share = jnp.clip((step - rising) / jnp.maximum(1.0, steps - rising), 0.0, 1.0)
        return self.learning_rate * jnp.where(step < rising, up, _DECAYS[self.schedule](share))

    def transformation(self) -> optax.GradientTransformation:
        """The optimiser as optax knows it."""
        clip = [optax.clip_by_global_norm(self.clip)] if self.clip else []
        adam = optax.adamw(self.rate, b1=self.b1, b2=self.b2, weight_decay=self.weight_decay)
        return optax.chain(*clip, adam)


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


def init_state(params: Any, config: OptimiserConfig) -> TrainState:
    """The state before the first update."""
    return TrainState(params, config.transformation().init(params), jnp.int32(0))


def gradient_step(
    loss: Loss, state: TrainState, batch: Any, key: Array, config: OptimiserConfig,
    micro_batches: int,
) -> tuple[TrainState, Array, dict[str, Array]]:  # fmt: skip
    """One step along the gradient of Σ loss / Σ denominator, summed over micro-batches first.

    A gradient that is not finite leaves the state as it is, the step's number included. `batch` is
    a pytree of [B, ...] arrays, and `micro_batches` divides B.

    Returns:
      The new state, the denominator, and metrics: `loss`, those of the loss, `grad_norm` before
      clipping, `learning_rate`, and `finite` (1 or 0).
    """
    with jax.default_matmul_precision("highest"):
        gradient, total, denominator, sums = _accumulated(
            loss, state.params, batch, micro_batches, key
        )
    gradient = jax.tree.map(lambda g: g / jnp.maximum(denominator, 1e-9).astype(g.dtype), gradient)
    norm = optax.tree.norm(gradient)
    finite = jnp.isfinite(norm)
    with jax.numpy_dtype_promotion("standard"):  # optax counts in int32 and mixes it with floats
        moves, moments = config.transformation().update(gradient, state.moments, state.params)
    new = TrainState(optax.apply_updates(state.params, moves), moments, state.step + 1)
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
    sums = {"loss": (total, denominator), **sums}
    return kept, denominator, {
        **{name: a / jnp.maximum(b, 1e-9) for name, (a, b) in sums.items()},
        "grad_norm": norm,
        "learning_rate": config.rate(state.step),
        "finite": finite.astype(jnp.float32),
    }  # fmt: skip


def _accumulated(loss: Loss, params: Any, batch: Any, micro_batches: int, key: Array) -> Any:
    """Gradient, loss, denominator and metrics, each summed over micro-batches."""
    value = jax.value_and_grad(loss, has_aux=True)
    keys = jax.random.split(key, micro_batches)

    def one(part: Any, key: Array) -> Any:
        (total, (denominator, metrics)), gradient = value(params, part, key)
        return gradient, total, denominator, metrics

    if micro_batches == 1:
        return one(batch, keys[0])
    parts = micro_batches_of(batch, micro_batches)
    shapes = jax.eval_shape(one, jax.tree.map(lambda x: x[0], parts), keys[0])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(carry: Any, part: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, carry, one(*part)), None

    return jax.lax.scan(add, zeros, (parts, keys))[0]
