"""Whether half precision may score: the walk of a few contexts in both types, and what it changes.

Answers and thoughts are the same in both, so that likelihoods alone differ.
"""

import dataclasses
import functools
import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.analysis.contributions import contribution_records
from remid_jax.analysis.measures import Estimates
from remid_jax.errors import UserError
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.execution import execute
from remid_jax.evaluation.gather import gather
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.plan import make_plan
from remid_jax.evaluation.requests import key_of
from remid_jax.evaluation.runner import Part
from remid_jax.evaluation.swaps import Swaps
from remid_jax.evaluation.task import Task
from remid_jax.factor_names import FACTORS
from remid_jax.files import write_atomically
from remid_jax.inference.cost import probe
from remid_jax.json_files import read_json_object
from remid_jax.messages import log
from remid_jax.models.pretrained import HALF

CONTEXTS = 8  # of the in-distribution subset, that are scored in both types
MOST = 1 / 20  # of a standard error, that half precision may change
LEAST_GAIN = 1.2  # in the rate of products, that is worth a second scoring of these contexts
Value = Callable[[Mapping[str, Any]], float | None]  # of a context's record


def _lost(factor: str, record: Mapping[str, Any]) -> float | None:
    both = record[f"{factor}_golden"], record[factor]
    return None if None in both else both[0] - both[1]


VALUES: Mapping[str, Sequence[Value]] = {
    "r_emi": [operator.itemgetter("nats")],
    "lost": [functools.partial(_lost, factor) for factor in FACTORS],
}
NAMES = {"r_emi": "R-EMI", "lost": "golden's δ less the answers'"}
Records = Sequence[Mapping[str, Any]]


def choose_precision(task: Task, cache: Cache, file: Path) -> dict[str, Any]:
    """Lets the scorer's half score in its place, where it is faster and changes little enough.

    Args:
      task: what is evaluated; `task.models.scoring` is set.
      cache: of results.
      file: that keeps what was chosen, so that a resumed run chooses alike.

    Returns:
      `dtype` of likelihoods, `why`, and what was measured in so many `contexts`: for `r_emi` and
      `lost` (of the profile: δ of golden responses less that of answers), of the RPM's value that
      changes most for its standard error, `change` and `se` over all contexts, in nats.
    """
    models = task.models
    key = key_of(models.scorer.fingerprint, models.half.fingerprint, task.config.to_dict())
    found = read_json_object(file, "precision") if file.exists() else {}
    if found.get("key") != key:
        found = {"key": key, **_measured(task, cache)}
        write_atomically(file, [json.dumps(found, indent=1).encode()])
    models.scoring = models.half if found["dtype"] == HALF else models.scorer
    log.info("likelihoods in %s: %s", found["dtype"], found["why"])
    return {name: value for name, value in found.items() if name != "key"}


def _measured(task: Task, cache: Cache) -> dict[str, Any]:
    """What `choose_precision` returns, of scores in both types."""
    models, stays = task.models, {"dtype": task.models.scorer.dtype}
    gain = _rate(models.half) / _rate(models.scorer)
    if gain < LEAST_GAIN:
        return {**stays, "why": f"products in {HALF} are {gain:.2f} times as fast here"}
    pilot, n = _pilot(task), len(next(iter(task.selection.subsets.values())))
    try:
        log.info("comparing likelihoods in %s with %s", HALF, models.scorer.dtype)
        whole, half = (_scored(pilot, model, cache) for model in (models.scorer, models.half))
    except UserError as e:  # where all contexts meet it too, the run says so
        return {**stays, "why": f"the error of {HALF} could not be measured ({e})"}
    finally:
        models.scoring = models.scorer
    k = len(next(iter(pilot.selection.subsets.values())))
    found = {name: _most_changed(whole, half, of, n) for name, of in VALUES.items()}
    known = {name: cell for name, cell in found.items() if cell}
    if not known:
        return {**stays, "why": f"no standard error is known in {k} contexts"}
    share = max(cell["change"] / cell["se"] for cell in known.values())
    why = f"{HALF} changes {_said(known)}, {share:.1%} of a standard error, as {k} contexts say"
    return {**({"dtype": HALF} if share < MOST else stays), "why": why, "contexts": k, **known}


def _rate(model: Model) -> float:
    return probe(model.config, model.dtype).flops


def _pilot(task: Task) -> Task:
    """The task of a few contexts: requests of the whole one, but for pairs that it leaves out."""
    home, samples = next(iter(task.selection.subsets.items()))
    k = min(len(samples), max(CONTEXTS, task.config.profile.swaps + 1))
    config = task.config.copy_and_resolve_references()
    with config.unlocked():
        config.prediction.enabled = False
    return dataclasses.replace(
        task,
        config=config,
        settings=dataclasses.replace(task.settings, negatives="all"),
        encoder=None,
        selection=dataclasses.replace(task.selection, subsets={home: samples[:k]}),
        labels={home: None},
        swaps={home: _first(task.swaps[home], k)} if task.swaps else {},
        judgments={},
        judges={},
    )


def _first(swaps: Swaps, k: int) -> Swaps:
    """Those of the first k samples; what comes from a later one counts as the sample's own."""
    own = np.arange(k)[:, None]
    return dataclasses.replace(
        swaps,
        sources={f: np.where(js[:k] < k, js[:k], own) for f, js in swaps.sources.items()},
        weights={f: w[:k] for f, w in swaps.weights.items()},
        contexts=swaps.contexts[:k],
        whole=np.where(swaps.whole[:k] < k, swaps.whole[:k], -1),
    )


def _scored(pilot: Task, model: Model, cache: Cache) -> Records:
    """What each of the pilot's contexts adds and carries, by the scores of a model."""
    pilot.models.scoring = model
    plan = execute(pilot, make_plan(pilot, cache), cache, Part())
    found = gather(pilot, plan, cache)
    return contribution_records(Estimates(found.subsets, pilot.settings), found.swapped)


def _most_changed(
    whole: Records, half: Records, values: Sequence[Value], n: int
) -> dict[str, float] | None:
    """`change` and `se`, see `choose_precision`, of an RPM's value that changes most for its `se`.

    None where no value is known in two contexts.
    """
    cells = []
    for rpm in dict.fromkeys(r["rpm"] for r in whole):
        mine = [
            {r["sample_ID"]: r for r in records if r["rpm"] == rpm} for records in (whole, half)
        ]
        for value in values:
            both = [[value(of[name]) for of in mine] for name in mine[0]]
            known = np.array([pair for pair in both if None not in pair], float).reshape(-1, 2)
            if len(known) > 1 and np.ptp(known[:, 0]):
                cells.append(expected_change(*known.T, n))
    return max(cells, key=lambda cell: cell["change"] / cell["se"], default=None)


def expected_change(whole: np.ndarray, half: np.ndarray, n: int) -> dict[str, float]:
    """What half precision is to change in a mean over n contexts, told from k of them.

    The part of a change that differs between contexts averages out, the part that all have stays.

    Args:
      whole: [k] values of contexts, in nats.
      half: [k] the same in half precision.
      n: contexts of the mean.

    Returns:
      `change`, the root of the expected squared change, and `se` of the mean, both in nats.

    >>> expected_change(np.array([1.0, 3.0]), np.array([1.5, 3.5]), 8)["change"]
    0.5
    """
    d, k = half - whole, len(whole)
    varies = float(np.var(d, ddof=1))
    same = max(float(np.mean(d)) ** 2 - varies / k, 0.0)
    change = math.sqrt(same + varies / n)
    return {"change": change, "se": float(np.std(whole, ddof=1)) / math.sqrt(n)}


def _said(known: Mapping[str, Mapping[str, float]]) -> str:
    """What was measured, in words."""
    return " and ".join(
        f"{NAMES[name]} by {cell['change']:.2g} nats (s.e. {cell['se']:.2g})"
        for name, cell in known.items()
    )
