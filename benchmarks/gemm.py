"""How fast plain matrix products run here: what a model that is made of them can reach."""

import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.sizes import HEAD
from remid_jax.models.decoder import DecoderConfig

Shape = tuple[int, int, int]  # [m, k] x [k, n]
Prepare = Callable[[np.ndarray, np.ndarray], Callable[[], object]]
CALL, KEYS = 512, 1024  # tokens of a call on a CPU, and the keys that its queries see
SQUARE = 2048
REPEATS = 3


def layer_shapes(c: DecoderConfig, rows: int = CALL, keys: int = KEYS) -> list[Shape]:
    """The products of one layer for so many tokens, those of attention to `keys` keys included."""
    query, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    kernels = [(c.width, query), (c.width, kv), (c.width, kv), (query, c.width)]
    kernels += [(c.width, c.mlp_width)] * 2 + [(c.mlp_width, c.width)]
    queries = rows * c.num_heads // c.num_kv_heads
    attention = [(queries, c.head_dim, keys), (queries, keys, c.head_dim)] * c.num_kv_heads
    return [(rows, *kernel) for kernel in kernels] + attention


def head_shape(c: DecoderConfig, rows: int = CALL, tokens: int = HEAD) -> Shape:
    """The product of some tokens' logits at so many positions."""
    return (rows, c.width, min(tokens, c.vocab_size))


def flops(shape: Shape) -> float:
    """Operations of a product."""
    return 2.0 * shape[0] * shape[1] * shape[2]


_multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))


def jax_product(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    """Prepares a float32 product in JAX."""
    x, y = jnp.asarray(a), jnp.asarray(b)
    return lambda: _multiply(x, y).block_until_ready()


def numpy_product(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    """Prepares a float32 product in NumPy."""
    out = np.empty((a.shape[0], b.shape[1]), np.float32)
    return lambda: np.matmul(a, b, out=out)


def prepared(shape: Shape, prepare: Prepare = jax_product) -> Callable[[], object]:
    """A product of random matrices of a shape, run once: memory is at hand, and code compiled."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s, np.float32) for s in ((m, k), (k, n)))
    product = prepare(a, b)
    product()
    return product


def _best_seconds(product: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


class ModelProducts:
    """JAX's rate of a model's products, to be measured once a round beside the contestants."""

    def __init__(self, config: DecoderConfig, rows: int = CALL, keys: int = KEYS):
        """Compiles the products of `rows` tokens through a layer, and of the head."""
        layers, head = layer_shapes(config, rows, keys), head_shape(config, rows)
        self.layer_flops, self.head_flops = sum(map(flops, layers)), flops(head)
        made = {shape: prepared(shape) for shape in {*layers, head}}
        self.layers, self.head = [made[s] for s in layers], made[head]

    def measure(self) -> tuple[float, float]:
        """FLOP/s of the layers' products, each weighted as a layer uses it, and of the head."""
        layers = self.layer_flops / sum(map(_best_seconds, self.layers))
        return layers, self.head_flops / _best_seconds(self.head)


def engine_products(engine: JaxEngine) -> ModelProducts:
    """The products that an engine makes, at the sizes of its calls."""
    return ModelProducts(engine.config, engine.sizes.call)


def blended(rates: tuple[float, float], layers: float, head: float) -> float:
    """FLOP/s over work of so many FLOPs in the layers and in the head.

    >>> blended((10.0, 20.0), 100.0, 200.0)
    15.0
    """
    return (layers + head) / (layers / rates[0] + head / rates[1])


def best_rate(
    config: DecoderConfig, libraries: Mapping[str, Prepare], square: int = SQUARE
) -> dict[str, object]:
    """The fastest float32 product of this machine: large squares, and the model's own shapes.

    Args:
      config: for the shapes.
      libraries: name -> how to prepare a product, beside JAX and NumPy.
      square: side of the squares.

    Returns:
      "flops_per_s", and the "library" and "shape" that reach it.
    """
    found = []
    for name, prepare in {"jax": jax_product, "numpy": numpy_product, **libraries}.items():
        for shape in {(square,) * 3, *layer_shapes(config), head_shape(config)}:
            rate = flops(shape) / _best_seconds(prepared(shape, prepare))
            found.append({"flops_per_s": rate, "library": name, "shape": list(shape)})
    return max(found, key=lambda f: f["flops_per_s"])
