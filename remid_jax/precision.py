"""Whether half precision may score: the walk of a few contexts in both types, and what it changes.

Answers and thoughts are the same in both, so that likelihoods alone differ.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.analysis.measures import Estimates
from remid_jax.analysis.profile import profile_records
from remid_jax.analysis.rows import estimate_rows
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
from remid_jax.files import write_atomically
from remid_jax.inference.cost import probe
from remid_jax.json_files import read_json_object
from remid_jax.messages import log
from remid_jax.models.pretrained import HALF

CONTEXTS = 8  # of the in-distribution subset, that are scored in both types
MOST = 1 / 20  # of a standard error, that half precision may change
LEAST_GAIN = 1.2  # in the rate of products, that is worth a second scoring of these contexts
VALUES = {"r_emi": "R-EMI", "info": "δ", "lost": "golden's δ less δ"}  # column -> its name
Records = Sequence[Mapping[str, Any]]


def choose_precision(task: Task, cache: Cache, file: Path) -> dict[str, Any]:
    """Lets the scorer's half score in its place, where it is faster and changes little enough.

    Args:
      task: what is evaluated; `task.models.scoring` is set.
      cache: of results.
      file: that keeps what was chosen, for `recorded_precision`.

    Returns:
      `dtype` of likelihoods, `why`, and what was measured in so many `contexts`: for each of
      `VALUES`, of the RPM and factor that change most for their standard error, `change` in nats
      and `se`, the standard error that all contexts in distribution leave.
    """
    found = _measured(task, cache)
    content = {"key": _key(task), **found}
    write_atomically(file, [json.dumps(content, indent=1).encode()])
    _take(task, found)
    return found


def recorded_precision(task: Task, file: Path) -> dict[str, Any] | None:
    """What was chosen for the same task before, which then scores so; None where nothing was.

    A resumed run, whose machine may be another one, goes on in the type in which it began.
    """
    found = read_json_object(file, "precision") if file.exists() else {}
    if found.pop("key", None) != _key(task) or not {"dtype", "why"} <= found.keys():
        return None
    _take(task, found)
    return found


def _key(task: Task) -> str:
    models, home = task.models, next(iter(task.selection.subsets.values()))
    config = {name: v for name, v in task.config.to_dict().items() if name != "dry_run"}
    samples = [s.to_record() for s in home]
    return key_of(models.scorer.fingerprint, models.half.fingerprint, config, samples)


def _take(task: Task, found: Mapping[str, Any]) -> None:
    models = task.models
    models.scoring = models.half if found["dtype"] == HALF else models.scorer
    if models.scoring is models.scorer:
        models.drop_half()


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
    k = max((r["n"] for r in whole), default=0)
    known = {name: cell for name in VALUES if (cell := _most_changed(whole, half, name, n))}
    if not known:
        return {**stays, "why": f"no standard error is known in {k} contexts"}
    share = max(cell["change"] / cell["se"] for cell in known.values())
    said = ", ".join(
        f"{VALUES[name]} by {cell['change']:.2g} nats (s.e. {cell['se']:.2g})"
        for name, cell in known.items()
    )
    why = f"in {k} contexts in distribution {HALF} changes {said}: at most {share:.0%} of an s.e."
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


def _scored(pilot: Task, model: Model, cache: Cache) -> list[Mapping[str, Any]]:
    """R-EMI and profile of each RPM in the pilot's contexts, by the scores of a model."""
    pilot.models.scoring = model
    plan = execute(pilot, make_plan(pilot, cache), cache, Part())
    found = gather(pilot, plan, cache)
    estimates = Estimates(found.subsets, pilot.settings)
    profile, _ = profile_records(estimates, found.swapped)
    rows = estimate_rows(estimates, found.log_p)
    return [r for r in (*rows, *profile) if r["rpm"] in estimates.rpms]


def _most_changed(whole: Records, half: Records, name: str, n: int) -> dict[str, float] | None:
    """`change` and `se` of a column, see `choose_precision`; None where no error is known.

    A standard error of few contexts is brought to n. Of a change it is not known how much contexts
    share, so all of it is taken to stay.
    """
    cells = [
        {
            "change": abs(b[name] - a[name]),
            "se": a[f"{name}_se"] * math.sqrt(a["n"] / max(n, a["n"])),
        }
        for a, b in zip(whole, half, strict=True)
        if name in a and None not in (a[name], b[name]) and a[f"{name}_se"]
    ]
    return max(cells, key=lambda cell: cell["change"] / cell["se"], default=None)
