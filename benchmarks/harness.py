"""Contestants that take turns in one process, and medians of their ratios."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import gemm
from remid_jax.inference.compilations import count_compilations
from remid_jax.progress import progress

PAUSE = 0.3  # seconds between turns, in which the last one's worker threads cease to spin
ATTEMPTS = 5  # of a turn in which nothing has to be compiled any more


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to do the work.

    Attributes:
      settings: label -> function of the round's number that does the work and returns what it
        found on the host; the fastest setting of the warm-up is timed.
      flops: round -> (layers, head), operations that this way needs for what `settings` run.
      part: share of the whole work that `settings` run; seconds are divided by it.
    """

    settings: Mapping[str, Callable[[int], Any]]
    flops: Callable[[int], tuple[float, float]]
    part: float = 1.0


@dataclasses.dataclass
class Timed:
    """What a contest measured; lists hold one entry a round.

    Attributes:
      seconds: contestant -> seconds of the whole work.
      rates: contestant -> FLOP/s.
      gemm: contestant -> FLOP/s of plain JAX products of the same shapes, each weighted alike.
      setting: contestant -> label of the setting that was timed.
      compile_seconds: contestant -> what XLA took to compile, which no round holds.
    """

    seconds: dict[str, list[float]]
    rates: dict[str, list[float]]
    gemm: dict[str, list[float]]
    setting: dict[str, str]
    compile_seconds: dict[str, float]

    def ratio(self, slower: str, faster: str) -> list[float]:
        """Seconds of one contestant over those of another in each round."""
        pairs = zip(self.seconds[slower], self.seconds[faster], strict=True)
        return [a / b for a, b in pairs]

    def share(self, name: str, rate: float | None = None) -> list[float]:
        """A contestant's FLOP/s over those of plain products, or over a given rate."""
        below = self.gemm[name] if rate is None else [rate] * len(self.rates[name])
        return [a / b for a, b in zip(self.rates[name], below, strict=True)]


def _turn(run: Callable[[int], Any], number: int) -> tuple[float, Any, float]:
    """(seconds, what was found, seconds of compilation), timed when nothing had to be compiled."""
    compiling = 0.0
    for _ in range(ATTEMPTS):
        time.sleep(PAUSE)
        with count_compilations() as programs:
            start = time.perf_counter()
            found = run(number)
            seconds = time.perf_counter() - start
        if not programs.seconds:
            return seconds, found, compiling
        compiling += programs.seconds
    raise RuntimeError(f"XLA compiles something in each of {ATTEMPTS} runs of the same work")


def contest(
    title: str,
    contestants: Mapping[str, Contestant],
    rounds: int,
    agree: Callable[[int, Mapping[str, Any]], None],
    products: gemm.ModelProducts,
) -> Timed:
    """Warms up, compares what the contestants find, and lets them take turns.

    Args:
      title: shown with the progress.
      contestants: by name; who begins changes from round to round.
      rounds: how many are timed.
      agree: raises `UserError` where contestants (name -> what was found in a round) differ; asked
        with each setting in the warm-up before anything is timed, and after every round.
      products: measured at the beginning of each round.
    """
    names = list(contestants)
    extra = [(n, s) for n in names for s in list(contestants[n].settings)[1:]]
    took: dict[tuple[str, str], float] = {}
    found: dict[str, Any] = {}
    compiling = dict.fromkeys(names, 0.0)

    def warm_up(name: str, label: str) -> None:
        run = contestants[name].settings[label]
        took[name, label], found[name], compiled = _turn(run, 0)
        compiling[name] += compiled

    with progress(title, len(names) * (rounds + 1) + len(extra)) as advance:
        for name in names:
            warm_up(name, next(iter(contestants[name].settings)))
            advance(1)
        agree(0, found)
        for name, label in extra:
            warm_up(name, label)
            agree(0, found)
            advance(1)
        setting = {
            n: min(c.settings, key=lambda s, n=n: took[n, s]) for n, c in contestants.items()
        }
        seconds, rates, plain = ({n: [] for n in names} for _ in range(3))
        for r in range(rounds):
            measured = products.measure()
            for name in names[r % len(names) :] + names[: r % len(names)]:
                c = contestants[name]
                took_now, found[name], compiled = _turn(c.settings[setting[name]], r)
                compiling[name] += compiled
                layers, head = c.flops(r)
                seconds[name].append(took_now / c.part)
                rates[name].append((layers + head) / took_now)
                plain[name].append(gemm.blended(measured, layers, head))
                advance(1)
            agree(r, found)
    return Timed(seconds, rates, plain, setting, compiling)


def medians(per_round: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """name -> values of the rounds, as name -> median, and "ranges": name -> [least, most]."""
    ranges = {name: [min(v), max(v)] for name, v in per_round.items()}
    return {**{n: statistics.median(v) for n, v in per_round.items()}, "ranges": ranges}
