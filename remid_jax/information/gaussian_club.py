"""vCLUB on feature vectors with a fitted Gaussian q(y | x) in place of a language model.

    split = n // 2
    model = fit_gaussian(x[:split], y[:split])
    value = gaussian_club(model, x[split:], y[split:])

On the vectors it was fitted to, q is too good and the value too high: fit on one part, evaluate on
another.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from remid_jax.information.checking import check_finite
from remid_jax.information.mutual_information import club

Array = jax.Array

LOG_VARIANCE_LIMIT = 8.0  # of standardised features: keeps constant ones from an infinite density
ROWS_AT_ONCE = 16


class GaussianRegression(nnx.Module):
    """A perceptron x [..., dx] -> mean and log variance of y, each [..., dy]."""

    def __init__(self, dx: int, dy: int, width: int, rngs: nnx.Rngs):
        self.first = nnx.Linear(dx, width, rngs=rngs)
        self.second = nnx.Linear(width, width, rngs=rngs)
        self.mean = nnx.Linear(width, dy, rngs=rngs)
        self.log_variance = nnx.Linear(
            width, dy, kernel_init=nnx.initializers.zeros_init(), rngs=rngs
        )

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Mean, and log variance within ±`LOG_VARIANCE_LIMIT`."""
        hidden = jax.nn.silu(self.second(jax.nn.silu(self.first(x))))
        free = self.log_variance(hidden) / LOG_VARIANCE_LIMIT
        return self.mean(hidden), LOG_VARIANCE_LIMIT * jnp.tanh(free)


@dataclasses.dataclass(frozen=True)
class GaussianModel:
    """A fitted q(y | x) = N(μ(x), diag σ²(x)).

    Attributes:
      graphdef: the static half of `nnx.split(GaussianRegression)`; params: the array half.
      x_scale: (mean, s.d.) of x in the training part, each [dx]; y_scale: of y, [dy].
      losses: [steps] −log q of the minibatches, nats per vector, of standardised y.
    """

    graphdef: Any
    params: Any
    x_scale: tuple[np.ndarray, np.ndarray]
    y_scale: tuple[np.ndarray, np.ndarray]
    losses: np.ndarray


def _check_pairs(x: Any, y: Any, dx: int | None = None, dy: int | None = None) -> None:
    for name, value, width in (("x", x, dx), ("y", y, dy)):
        shape = np.shape(value)
        if len(shape) != 2 or shape[0] < 2 or shape[1] != (width or shape[1]) or not shape[1]:
            expected = f"{width} features" if width else "features"
            raise ValueError(f"{name} must be [n >= 2 vectors, {expected}], got shape {shape}")
        check_finite(value, name=name)
    if len(x) != len(y):
        raise ValueError(f"x and y must pair up, got shapes {np.shape(x)} and {np.shape(y)}")


def _scale(values: Any) -> tuple[np.ndarray, np.ndarray]:
    values = np.asarray(values, np.float64)
    deviation = values.std(axis=0)
    return values.mean(axis=0), np.where(deviation > 0, deviation, 1)


def _standardised(values: Any, scale: tuple[np.ndarray, np.ndarray]) -> Array:
    return jnp.asarray((np.asarray(values, np.float64) - scale[0]) / scale[1], float)


def gaussian_log_density(mean: Array, log_variance: Array, y: Array) -> Array:
    """log N(y; μ, diag σ²) = −½ Σ_d [(y_d − μ_d)²/σ_d² + log σ_d² + log 2π], in nats.

    Args:
      mean: [..., dy]; log_variance: likewise, log σ²; y: likewise, or what broadcasts with them.

    Returns:
      [...].

    >>> round(float(gaussian_log_density(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2))), 4)
    -1.8379
    """
    distance = jnp.square(y - mean) * jnp.exp(-log_variance)
    return -0.5 * jnp.sum(distance + log_variance + math.log(2 * math.pi), axis=-1)


@functools.partial(jax.jit, static_argnames=("graphdef", "steps", "batch", "rate", "decay"))
def _train(
    graphdef: Any, params: Any, x: Array, y: Array, key: Array, *,
    steps: int, batch: int, rate: float, decay: float,
) -> tuple[Any, Array]:  # fmt: skip
    """Adam with weight decay and a cosine schedule; [steps] losses beside the parameters."""
    schedule = optax.cosine_decay_schedule(rate, steps)
    optimiser = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adamw(schedule, weight_decay=decay)
    )

    def loss_of(params: Any, rows: Array) -> Array:
        mean, log_variance = nnx.merge(graphdef, params)(x[rows])
        return -jnp.mean(gaussian_log_density(mean, log_variance, y[rows]))

    def step(carry: Any, key: Array) -> tuple[Any, Array]:
        params, state = carry
        rows = jax.random.randint(key, (batch,), 0, len(x))
        loss, gradient = jax.value_and_grad(loss_of)(params, rows)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    carry, losses = jax.lax.scan(
        step, (params, optimiser.init(params)), jax.random.split(key, steps)
    )
    return carry[0], losses


def fit_gaussian(
    x: Any,
    y: Any,
    *,
    steps: int = 2000,
    seed: int = 0,
    width: int = 64,
    batch: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 1e-3,
) -> GaussianModel:
    """Fits q(y | x) = N(μ(x), diag σ²(x)) by maximum likelihood (Cheng et al., arXiv 2006.12013).

    Args:
      x: [n, dx] features of contexts; y: [n, dy] features of their responses.
      steps: of AdamW.
      seed: of the weights and minibatches.
      width: of the two hidden layers.
      batch: vectors a step, drawn with replacement.
      learning_rate: at the first step; falls to 0 along a cosine.
      weight_decay: of AdamW.

    Returns:
      The fitted model; give `gaussian_club` vectors that it was not fitted to.

    Raises:
      ValueError: shapes that do not pair up, an entry that is not finite, steps or batch below 1.
    """
    _check_pairs(x, y)
    if steps < 1 or batch < 1:
        raise ValueError(f"steps and batch must be at least 1, got {steps} and {batch}")
    x_scale, y_scale = _scale(x), _scale(y)
    key_weights, key_batches = jax.random.split(jax.random.key(seed))
    module = GaussianRegression(np.shape(x)[1], np.shape(y)[1], width, nnx.Rngs(key_weights))
    graphdef, params = nnx.split(module)
    inputs, targets = _standardised(x, x_scale), _standardised(y, y_scale)
    params = jax.tree.map(lambda p: p.astype(inputs.dtype), params)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes its counter with floats
        params, losses = _train(
            graphdef, params, inputs, targets, key_batches,
            steps=steps, batch=batch, rate=learning_rate, decay=weight_decay,
        )  # fmt: skip
    return GaussianModel(graphdef, params, x_scale, y_scale, np.asarray(losses))


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _pair_scores(graphdef: Any, params: Any, x: Array, y: Array) -> Array:
    mean, log_variance = nnx.merge(graphdef, params)(x)
    # [rows, M, dy] stands in memory for a few rows at a time. Differences are squared as they
    # are: squares multiplied out would cancel where σ is small.
    return jax.lax.map(
        lambda row: gaussian_log_density(*row, y), (mean, log_variance), batch_size=ROWS_AT_ONCE
    )


def gaussian_pair_scores(model: GaussianModel, x: Any, y: Any) -> Array:
    """S[i, j] = log q(y_j | x_i) in nats, [n, n], computed in blocks of rows.

    Any estimator of a pair matrix takes it, and so does the jackknife.

    Args:
      model: from `fit_gaussian`.
      x: [n, dx]; y: [n, dy], not among the vectors of the fit.

    Raises:
      ValueError: shapes that do not fit, or an entry that is not finite.
    """
    _check_pairs(x, y, len(model.x_scale[0]), len(model.y_scale[0]))
    inputs, outputs = _standardised(x, model.x_scale), _standardised(y, model.y_scale)
    scores = _pair_scores(model.graphdef, model.params, inputs, outputs)
    return scores - float(np.log(model.y_scale[1]).sum())


def gaussian_club(model: GaussianModel, x: Any, y: Any, *, where: Any = None) -> Array:
    """mean_i log q(y_i|x_i) − mean_{i≠j} log q(y_j|x_i) under the fitted Gaussian q, in nats.

    With the exact q this is mutual plus lautum information of the features, for Gaussians with
    correlation r in each of d pairs of coordinates d·r²/(1 − r²); with a misfit q it can fall on
    either side of I.

    Args:
      model: from `fit_gaussian`.
      x: [n, dx]; y: [n, dy], not among the vectors of the fit.
      where: [n] bool, pairs to keep.

    Returns:
      A scalar.

    Raises:
      ValueError: shapes that do not fit, or an entry that is not finite.
    """
    return club(gaussian_pair_scores(model, x, y), where=where)
