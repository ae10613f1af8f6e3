"""Contestants that take turns in one process, plain matrix products beside them, and the report."""

import dataclasses
import functools
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from remid_jax.inference.compilations import count_compilations
from remid_jax.inference.sizes import HEAD
from remid_jax.models.decoder import DecoderConfig
from remid_jax.progress import progress
from remid_jax.report.tables import new_table

PAUSE = 0.3  # seconds between turns, in which the last one's worker threads cease to spin
ATTEMPTS = 5  # of a turn in which nothing has to be compiled any more
REPEATS = 3  # of a plain product, the fastest of which counts
CALL, KEYS = 512, 1024  # tokens of a call on a CPU, and the keys that its queries see
SQUARE = 2048
GEMM_SHARE = "our FLOP/s / those of plain JAX products of these shapes"
Flops = tuple[float, float]  # operations of the layers, and of the head
Shape = tuple[int, int, int]  # [m, k] x [k, n]
Prepare = Callable[[np.ndarray, np.ndarray], Callable[[], object]]


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to do the work.

    Attributes:
      settings: label -> function of the round's number that does the work and returns what it
        found on the host; the fastest setting of the warm-up is timed.
      flops: round -> operations that this way needs.
      part: share of the whole work that `settings` run; seconds are divided by it.
    """

    settings: Mapping[str, Callable[[int], Any]]
    flops: Callable[[int], Flops]
    part: float = 1.0


@dataclasses.dataclass
class Timed:
    """What was measured of a contestant; lists hold one entry a round.

    Attributes:
      setting: label of the setting that was timed.
      compile_seconds: what XLA took to compile, which no round holds.
      seconds: of the whole work.
      flops_per_s: rate of the operations.
      gemm_flops_per_s: rate of plain JAX products of the same shapes, each weighted alike.
    """

    setting: str
    compile_seconds: float = 0.0
    seconds: list[float] = dataclasses.field(default_factory=list)
    flops_per_s: list[float] = dataclasses.field(default_factory=list)
    gemm_flops_per_s: list[float] = dataclasses.field(default_factory=list)

    @property
    def gemm_share(self) -> list[float]:
        """Rate of the operations over that of plain products."""
        return quotients(self.flops_per_s, self.gemm_flops_per_s)


def quotients(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """a / b of each round."""
    return [x / y for x, y in zip(a, b, strict=True)]


def contest(
    title: str,
    contestants: Mapping[str, Contestant],
    rounds: int,
    agree: Callable[[int, Mapping[str, Any]], None],
    products: "ModelProducts",
) -> dict[str, Timed]:
    """Warms up, compares what the contestants find, and lets them take turns.

    `agree` raises `UserError` where contestants (name -> what was found in a round) differ. It is
    asked with each setting in the warm-up, before anything is timed, and after every round, each of
    which begins with another contestant. `products` are measured at the beginning of each round.
    """
    names = list(contestants)
    first = [(n, next(iter(c.settings))) for n, c in contestants.items()]
    others = [(n, label) for n, c in contestants.items() for label in list(c.settings)[1:]]
    warm: dict[str, dict[str, float]] = {n: {} for n in names}
    compiled = dict.fromkeys(names, 0.0)
    found: dict[str, Any] = {}
    with progress(title, len(first) + len(others) + rounds * len(names)) as advance:

        def turn(name: str, label: str, r: int) -> float:
            seconds, found[name], compiling = _turn(contestants[name].settings[label], r)
            compiled[name] += compiling
            advance(1)
            return seconds

        for name, label in first:
            warm[name][label] = turn(name, label, 0)
        agree(0, found)
        for name, label in others:
            warm[name][label] = turn(name, label, 0)
            agree(0, found)
        timed = {name: Timed(min(took, key=took.__getitem__)) for name, took in warm.items()}
        for r in range(rounds):
            layer_rate, head_rate = products.measure()
            begins = r % len(names)
            for name in names[begins:] + names[:begins]:
                t, (layers, head) = timed[name], contestants[name].flops(r)
                seconds = turn(name, t.setting, r)
                t.seconds.append(seconds / contestants[name].part)
                t.flops_per_s.append((layers + head) / seconds)
                plain = layers / layer_rate + head / head_rate
                t.gemm_flops_per_s.append((layers + head) / plain)
            agree(r, found)
    for name, t in timed.items():
        t.compile_seconds = compiled[name]
    return timed


def _turn(run: Callable[[int], Any], r: int) -> tuple[float, Any, float]:
    """(seconds, what was found, seconds of compilation), timed when nothing had to be compiled."""
    compiling = 0.0
    for _ in range(ATTEMPTS):
        time.sleep(PAUSE)
        with count_compilations() as programs:
            start = time.perf_counter()
            found = run(r)
            seconds = time.perf_counter() - start
        if not programs.seconds:
            return seconds, found, compiling
        compiling += programs.seconds
    raise RuntimeError(f"XLA compiles something in each of {ATTEMPTS} runs of the same work")


class Report:
    """What a benchmark found: content of the JSON file, tables and lines for the terminal."""

    def __init__(self) -> None:
        self.json: dict[str, Any] = {"ranges": {}}
        self.tables: list[Table] = []
        self.lines: list[str] = []

    def figure(self, key: str, rounds: Sequence[float], meaning: str) -> None:
        """Adds the median over rounds, with the smallest and the largest."""
        middle, low, high = statistics.median(rounds), min(rounds), max(rounds)
        self.json[key], self.json["ranges"][key] = middle, [low, high]
        self.lines.append(f"{key} {middle:.3g} ({low:.3g} to {high:.3g}): {meaning}")

    def table(self, key: str, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds records with the same keys, which head the columns."""
        self.json[key] = rows
        cells = [[f"{v:.4g}" if isinstance(v, float) else v for v in r.values()] for r in rows]
        self.tables.append(new_table(title, list(rows[0]), cells))

    def contest(self, key: str, title: str, timed: Mapping[str, Timed]) -> None:
        """Adds what was measured of contestants."""
        self.table(key, title, [
            {
                "contestant": name, "setting": t.setting, **spread(t.seconds),
                "GFLOP/s": statistics.median(t.flops_per_s) / 1e9,
                "of GEMM": statistics.median(t.gemm_share), "compiling, s": t.compile_seconds,
            }
            for name, t in timed.items()
        ])  # fmt: skip
        self.json[key] = {name: dataclasses.asdict(t) for name, t in timed.items()}


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Two cells of a table: the median over rounds, and the range."""
    return {"s": statistics.median(seconds), "min-max": f"{min(seconds):.4g}-{max(seconds):.4g}"}


# How fast plain products run here: what a model that is made of them can reach.


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


def product_flops(shapes: Sequence[Shape]) -> float:
    """Operations of products."""
    return sum(2.0 * m * k * n for m, k, n in shapes)


_multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))


def _jax_product(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    x, y = jnp.asarray(a), jnp.asarray(b)
    return lambda: _multiply(x, y).block_until_ready()


def _numpy_product(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    return functools.partial(np.matmul, a, b, out=np.empty((len(a), b.shape[1]), np.float32))


def _prepared(shape: Shape, prepare: Prepare = _jax_product) -> Callable[[], object]:
    """A product of random matrices, run once: memory is at hand, and code compiled."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    product = prepare(*(rng.standard_normal(s, np.float32) for s in ((m, k), (k, n))))
    product()
    return product


def _seconds(product: Callable[[], object]) -> float:
    return min(timeit.repeat(product, number=1, repeat=REPEATS))


class ModelProducts:
    """JAX's rate of a model's products, to be measured in each round beside the contestants."""

    def __init__(self, config: DecoderConfig, rows: int = CALL, keys: int = KEYS):
        """Compiles the products of `rows` tokens through a layer, and of the head."""
        self._shapes = layer_shapes(config, rows, keys), [head_shape(config, rows)]
        self._made = {shape: _prepared(shape) for shapes in self._shapes for shape in shapes}

    def measure(self) -> Flops:
        """FLOP/s of the layers' products, each weighted as a layer uses it, and of the head."""
        layers, head = (
            product_flops(shapes) / sum(_seconds(self._made[s]) for s in shapes)
            for shapes in self._shapes
        )
        return layers, head


def fastest_product(
    config: DecoderConfig, libraries: Mapping[str, Prepare], square: int = SQUARE
) -> tuple[float, str, Shape]:
    """FLOP/s, library and shape of the fastest float32 product: large squares, a model's shapes.

    `libraries` are those beside JAX and NumPy, each with how to prepare a product.
    """
    return max(
        (product_flops([shape]) / _seconds(_prepared(shape, prepare)), name, shape)
        for name, prepare in {"jax": _jax_product, "numpy": _numpy_product, **libraries}.items()
        for shape in {(square,) * 3, *layer_shapes(config), head_shape(config)}
    )
