"""The walk of a number: samples -> requests -> cache -> arrays -> records -> report."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.analysis import schema
from remid_jax.analysis.contrast import number
from remid_jax.analysis.divergences import estimate_divergences
from remid_jax.analysis.doubt import doubt_records
from remid_jax.analysis.examples import choose_examples
from remid_jax.analysis.records import analyse
from remid_jax.data.responses import Answers, counts_of
from remid_jax.data.samples import Sample
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import AUTO, check_config
from remid_jax.evaluation.cost import (
    Stage,
    context_cost,
    cost_record,
    left_of,
    longest_of,
    memory_record,
    sizes_of,
    stages_of,
)
from remid_jax.evaluation.examples import with_texts
from remid_jax.evaluation.excluded import find_excluded
from remid_jax.evaluation.execution import calibrate, execute
from remid_jax.evaluation.gather import Gathered, gather
from remid_jax.evaluation.judging import judgments_of
from remid_jax.evaluation.outputs import (
    write_contributions,
    write_examples,
    write_matrices,
    write_texts,
)
from remid_jax.evaluation.plan import Plan, Task, make_plan
from remid_jax.evaluation.requests import Ask
from remid_jax.evaluation.runner import part_of
from remid_jax.evaluation.scoring import with_scoring
from remid_jax.evaluation.servers import asked_record, server_notes, server_records
from remid_jax.evaluation.task import make_task
from remid_jax.files import open_workdir
from remid_jax.inference.compilations import Compilations, count_compilations
from remid_jax.inference.cost import probe
from remid_jax.inference.engine import Engine, JaxEngine
from remid_jax.information.pairs import GOLDEN, MIN_CONTEXTS
from remid_jax.messages import log
from remid_jax.models.sharding import MeshConfig
from remid_jax.precision import choose_precision, recorded_precision
from remid_jax.processes import check_folder, is_primary
from remid_jax.progress import progress
from remid_jax.provenance import provenance
from remid_jax.report.cost import asked_line, memory_line
from remid_jax.report.files import write_report
from remid_jax.report.notes import precision_lines
from remid_jax.report.results_file import write_results
from remid_jax.report.text import WIDTH, fit, wrapped

CACHE = "cache"  # folder of results in the work folder
PRECISION = "precision.json"  # type of likelihoods that a run has chosen
WORTH_A_PROBE = 1e12  # operations: measuring the machine takes a second


def diagnose(
    config: ConfigDict, workdir: str | Path, engine: Engine | None = None
) -> dict[str, Any]:
    """Runs a diagnosis, or completes one that was interrupted.

    Processes that JAX has joined share the work, or one mesh where the model needs it; process 0
    analyses. With `config.shard` only that part is executed.

    Args:
      config: see `remid_jax.default_config`.
      workdir: where finished results are kept; a second run in it reuses them.
      engine: the reasoner and the scorer, in place of the model that `config.model` names.

    Returns:
      The content of `workdir/results.json`, whose keys are documented in `analysis.schema`. With
      `config.dry_run` only `plan` (see `cost_record`), and nothing is written. In a process other
      than 0, and for a part that is not the last, `unfinished`: requests that are left.

    Raises:
      UserError: anything in the configuration, the files or the environment that cannot be used.
    """
    started = time.monotonic()
    check_config(config)
    config = with_scoring(config)
    origin = provenance(config)  # now: the checkout may change during a long run
    folder = Path(workdir) if config.dry_run else open_workdir(workdir)
    part = part_of(config.shard, MeshConfig(**config.mesh).size)
    if part.together:
        check_folder(folder)
    task = make_task(config, engine, part.lockstep)
    most = make_plan(task, Cache())
    longest = task.models.longest = longest_of(most)
    sizes = sizes_of(task, longest)
    cache = Cache(folder / CACHE)
    precision, chooses = None, config.model.dtype == AUTO
    if chooses:
        precision = recorded_precision(task, folder / PRECISION)
    plan = make_plan(task, cache)
    if config.dry_run:
        return {"plan": cost_record(task, plan, longest, cache)}
    todo = left_of(plan.requests, cache)
    stages = stages_of(todo, config.sampling.batch_rows)
    _say_plan(task, stages, longest)
    for one in asked_record(todo):
        log.info("%s", "\n".join(wrapped(asked_line(one))))
    for model in {r.model for r in todo if not isinstance(r, Ask)}:
        _ = model.engine  # its weights: reading them is no work on requests
    with count_compilations() as programs:
        began = time.monotonic()
        if chooses and precision is None:
            calibrate(task, plan, cache, part)
            precision = choose_precision(task, cache, folder / PRECISION)
            plan = make_plan(task, cache)
        if precision:
            log.info("%s", "\n".join(precision_lines(precision)))
        plan = execute(task, plan, cache, part)
        ended = time.monotonic()
    left = len(left_of(plan.requests, cache))
    if left or not is_primary():
        return {"unfinished": left}
    engine = task.models.scoring.loaded
    seconds = {
        "start_up": began - started + programs.seconds,
        "work": ended - began - programs.seconds,
    }
    _say_cost(programs, engine, sum(s.flops for s in stages), seconds["work"])
    origin |= _numbers_of(task) | {
        "precision": precision,
        "servers": server_records(_asked(task, plan), cache),
        "judges": server_records({one.name: one.asked for one in plan.judging}, cache, "judge"),
        "sizes": dataclasses.asdict(getattr(engine, "sizes", sizes)),
        "planned_flops": sum(s.flops for s in stages_of(most.requests, 1)),
        "programs": dataclasses.asdict(programs),
        "work": dataclasses.asdict(engine.work) if hasattr(engine, "work") else None,
        "seconds": seconds,
    }
    return _finish(folder, task, plan, cache, origin)


def _finish(
    folder: Path, task: Task, plan: Plan, cache: Cache, origin: dict[str, Any]
) -> dict[str, Any]:
    """Gathers what is in the cache, analyses it, and writes everything."""
    found = gather(task, plan, cache)
    for subset in found.subsets:
        write_matrices(folder, subset)
    write_texts(folder, task, plan)
    selection = task.selection
    texts = {tag: plan.subsets[tag].texts for tag in selection.subsets}
    if task.config.reasoning.draws > 1:
        origin |= {"effective_thoughts": {t: _mean(x) for t, x in found.effective.items()}}
        level = task.config.estimator.confidence
        origin |= {"thought_agreement": doubt_records(found.agreement, level)}
    tables = analyse(
        found.subsets, task.settings, found.log_p, found.swapped, found.prediction,
        context_cost(plan), judgments_of(task, plan.judging, cache),
    )  # fmt: skip
    contributions = tables["contributions"]
    examples = with_texts(choose_examples(contributions), task, plan, cache)
    results = {
        "schema": schema.VERSION,
        "provenance": origin,
        "excluded": [
            x
            for tag, samples in selection.subsets.items()
            for x in find_excluded(samples, {**texts[tag].answers, **_compared(task, samples)})
        ],
        "answers": _answer_counts(plan),
        "cut_at_max_tokens": {tag: _unfinished(texts[tag].answers) for tag in selection.subsets},
        **tables,
        "divergences": _divergences(found, task.config),
        "contributions": write_contributions(folder, contributions),
        "examples": write_examples(folder, examples, schema.VERSION),
    }
    schema.check_results(results)
    write_results(folder, results)
    shown = {"schema": schema.VERSION, "examples": examples} if examples else None
    write_report(folder, results, contributions, shown)
    return results


def _compared(task: Task, samples: Sequence[Sample]) -> Answers:
    """The golden responses of a subset, where it has enough of them to compare with."""
    known = sum(bool(task.golden[s.sample_id].text) for s in samples)
    return {GOLDEN: task.golden} if known >= MIN_CONTEXTS else {}


def _mean(values: np.ndarray) -> dict[str, Any]:
    """Mean of the values [N] that are known, its standard error, and how many there are."""
    known = values[np.isfinite(values)]
    error, n = np.nan, len(known)
    if n > 1:
        error = known.std(ddof=1) / np.sqrt(n)
    return {"mean": number(known.mean() if n else np.nan), "se": number(error), "n": n}


def _divergences(found: Gathered, config: ConfigDict) -> list[dict[str, Any]]:
    """Of the contexts from those in distribution, where their features are there."""
    if not found.features:
        return []
    kind, permutations = config.divergences.features, config.divergences.permutations
    total = sum(len(found.features[s.tag]) for s in found.subsets[1:])
    with progress("divergences", total) as advance:
        records = estimate_divergences(
            found.subsets, found.features, permutations=permutations, seed=config.seed,
            advance=advance,
        )  # fmt: skip
    return [{**r, "features": kind} for r in records]


def _unfinished(answers: Answers) -> dict[str, int]:
    """rpm -> answers that did not end by themselves."""
    return {
        rpm: sum(not draw.stopped for a in by_id.values() for draw in a.draws)
        for rpm, by_id in answers.items()
    }


def _numbers_of(task: Task) -> dict[str, Any]:
    """Provenance: models, and what was taken, left out and changed."""
    selection, scoring = task.selection, task.models.scoring
    return {
        "benchmark": selection.benchmark,
        "model": {
            "name": scoring.name, "identity": scoring.fingerprint, "dtype": scoring.dtype,
        },
        "templates": task.models.templates(),
        "unit": "nats",
        "counts": {
            tag: {"available": selection.available[tag], "used": len(samples)}
            for tag, samples in selection.subsets.items()
        },
        "shifts": list(selection.subsets)[1:],
        "absent_subsets": list(selection.absent),
        "shortened": [list(s) for s in selection.shortened],
        "swapped_contexts": {
            tag: {"contexts": s.size, "shortened": s.shortened} for tag, s in task.swaps.items()
        },
    }  # fmt: skip


def _answer_counts(plan: Plan) -> dict[str, dict[str, Any]]:
    """rpm -> what its answers in all subsets went through."""
    answers: dict[str, list[Any]] = {}
    for subset in plan.subsets.values():
        for rpm, by_id in subset.texts.answers.items():
            answers.setdefault(rpm, []).extend(by_id.values())
    return {rpm: counts_of(found) for rpm, found in answers.items()}


def _asked(task: Task, plan: Plan) -> dict[str, list[Ask]]:
    """RPM -> what its server was asked in all subsets."""
    return {
        rpm: [r for subset in plan.subsets.values() for r in subset.answers[rpm]]
        for rpm in task.servers
    }


def _say_plan(task: Task, stages: Sequence[Stage], longest: int) -> None:
    for stage in stages:
        pairs = f", {stage.pairs:,} pairs" if stage.pairs else ""
        work = f"{stage.contexts:,} contexts{pairs}, at most {stage.flops / 1e12:.2f} TFLOP"
        log.info("%s: %s", stage.what, work)
    log.info("%s", "\n".join(wrapped(memory_line(memory_record(task, longest)))))
    for note in (*_selection_notes(task), *server_notes(task.servers, task.config)):
        log.warning("note: %s", note)
    for name, template in task.models.templates().items():
        for note in template["notes"]:
            log.warning("note: %s: %s", name, note)
    for sample_id, turns in task.selection.shortened:
        log.warning("note: %s: %d oldest turns dropped to fit", sample_id, turns)


def _selection_notes(task: Task) -> Iterator[str]:
    """What was chosen otherwise than the configuration and the file say."""
    selection, most = task.selection, task.settings.emi_shifts
    if selection.absent:
        names = [repr(tag) for tag in selection.absent]
        yield fit("the benchmark lacks these subsets, which are left out: ", names, width=WIDTH - 6)
    if selection.unpaired:
        sample_id, pair_id = selection.unpaired[0]
        yield (
            f"{len(selection.unpaired)} contexts have a pair_id that names no sample of "
            f"{next(iter(selection.subsets))!r}, first {pair_id!r} of {sample_id!r}; they count as "
            "unpaired"
        )
    few = {tag: len(s) for tag, s in selection.subsets.items() if 0 < len(s) <= most}
    if few:
        names = [f"all {n - 1} of {tag!r}" for tag, n in few.items()]
        start = f"EMI takes fewer cyclic shifts than config.estimator.emi_shifts = {most}: "
        yield fit(start, names, width=WIDTH - 6)


def _say_cost(
    programs: Compilations, engine: Engine | None, planned: float, seconds: float
) -> None:
    """Says what was compiled and padded, and how far real work was from the machine's rate."""
    line = str(programs)
    if (work := getattr(engine, "work", None)) and work.positions:
        padding = 1 - work.tokens / work.positions
        line += f"; {padding:.0%} of {work.positions:,} positions read were padding"
    log.info("%s", line)
    if planned >= WORTH_A_PROBE and isinstance(engine, JaxEngine):
        rate = probe(engine.model.config, engine.model.dtype).flops
        log.info(
            "work: at most %.2f TFLOP in %.0f s, %.0f of the %.0f GFLOP/s of matrix products alone",
            planned / 1e12, seconds, planned / seconds / 1e9, rate / 1e9,
        )  # fmt: skip
