"""Contestants that take turns in one process, plain matrix products beside them, and the report."""

import dataclasses
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
GEMM_SHARE = "our FLOP/s / those of plain JAX products of these shapes"
Flops = tuple[float, float]  # operations of the layers, and of the head
Shape = tuple[int, int, int]  # [m, k] x [k, n]


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
    products: "ModelProducts",
    agree: Callable[[int, Mapping[str, Any]], None] = lambda r, found: None,
) -> dict[str, Timed]:
    """Warms up, compares what the contestants find, and lets them take turns.

    `agree` raises `UserError` where contestants (name -> what was found in a round) differ. It is
    asked with each setting in the warm-up, before anything is timed, and after every round, each of
    which begins with another contestant. `products` are measured at the beginning of each round.
    """
    names = list(contestants)
    settings = [(i, n, s) for n, c in contestants.items() for i, s in enumerate(c.settings)]
    warm: dict[str, dict[str, float]] = {n: {} for n in names}
    compiled = dict.fromkeys(names, 0.0)
    found: dict[str, Any] = {}
    with progress(title, len(settings) + rounds * len(names)) as advance:

        def turn(name: str, label: str, r: int) -> float:
            seconds, found[name], compiling = _turn(contestants[name].settings[label], r)
            compiled[name] += compiling
            advance(1)
            return seconds

        for _, name, label in sorted(settings, key=lambda s: s[0] > 0):  # the first of each first
            warm[name][label] = turn(name, label, 0)
            if len(found) == len(names):
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

    def ratio(self, key: str, over: Sequence[float], under: Sequence[float], meaning: str) -> None:
        """Adds `over` / `under`, of each round."""
        self.figure(key, quotients(over, under), meaning)

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


def layer_shapes(c: DecoderConfig, rows: int, keys: int) -> list[Shape]:
    """The products of one layer for so many tokens, those of attention to `keys` keys included."""
    query, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    kernels = [(c.width, query), (c.width, kv), (c.width, kv), (query, c.width)]
    kernels += [(c.width, c.mlp_width)] * 2 + [(c.mlp_width, c.width)]
    queries = rows * c.num_heads // c.num_kv_heads
    attention = [(queries, c.head_dim, keys), (queries, keys, c.head_dim)] * c.num_kv_heads
    return [(rows, *kernel) for kernel in kernels] + attention


def head_shape(c: DecoderConfig, rows: int) -> Shape:
    """The product of the head for so many positions, as it is computed at once."""
    return (rows, c.width, min(HEAD, c.vocab_size))


def product_flops(shapes: Sequence[Shape]) -> float:
    """Operations of products."""
    return sum(2.0 * m * k * n for m, k, n in shapes)


_multiply = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))


def _product(shape: Shape) -> Callable[[], object]:
    """A product of random matrices, which has been compiled and run once."""
    m, k, n = shape
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal(s, np.float32)) for s in ((m, k), (k, n)))
    _multiply(a, b).block_until_ready()
    return lambda: _multiply(a, b).block_until_ready()


class ModelProducts:
    """JAX's rate of a model's products, to be measured in each round beside the contestants."""

    def __init__(self, config: DecoderConfig, rows: int = CALL, keys: int = KEYS):
        """Compiles the products of `rows` tokens through a layer, and of the head."""
        self._shapes = layer_shapes(config, rows, keys), [head_shape(config, rows)]
        self._made = {shape: _product(shape) for shapes in self._shapes for shape in shapes}

    def measure(self) -> Flops:
        """FLOP/s of the layers' products, each weighted as a layer uses it, and of the head."""
        layers, head = (
            product_flops(shapes) / sum(map(self._seconds, shapes)) for shapes in self._shapes
        )
        return layers, head

    def _seconds(self, shape: Shape) -> float:
        return min(timeit.repeat(self._made[shape], number=1, repeat=REPEATS))
