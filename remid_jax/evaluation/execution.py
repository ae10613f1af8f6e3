"""Executes a plan in the order in which results make further requests possible."""

import dataclasses
from collections.abc import Callable, Sequence

from remid_jax.data.responses import Answers
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.judging import ask_judges, calibrate_judges
from remid_jax.evaluation.plan import Plan, make_plan
from remid_jax.evaluation.requests import Ask
from remid_jax.evaluation.runner import Part, run
from remid_jax.evaluation.task import Task


def calibrate(task: Task, plan: Plan, cache: Cache, part: Part) -> None:
    """Asks judges what calibrates them, before anything else: a wrong key or name ends the run."""
    probe = _asking(task, cache, part if part.together else Part())
    calibrate_judges(task, _texts_of(plan), cache, _asking(task, cache, part), probe)


def execute(task: Task, plan: Plan, cache: Cache, part: Part) -> Plan:
    """Executes a plan, and those that its answers and thoughts make possible.

    Returns:
      The last plan: final, unless it waits for other parts.
    """
    rows, ask = task.config.sampling.batch_rows, _asking(task, cache, part)
    calibrate(task, plan, cache, part)
    run("answers and thoughts", plan.first, cache, rows, part)
    if not plan.is_final:
        plan = make_plan(task, cache)
    if not plan.is_final and plan.second:
        run("answers of the scorer", plan.second, cache, rows, part)
        plan = make_plan(task, cache)
    if plan.is_final:
        run("likelihoods", plan.scores, cache, rows, part)
    return dataclasses.replace(plan, judging=ask_judges(task, _texts_of(plan), cache, ask))


def _asking(task: Task, cache: Cache, part: Part) -> Callable[[str, Sequence[Ask]], None]:
    """Asks servers: (name of the work, requests)."""

    def ask(what: str, asked: Sequence[Ask]) -> None:
        run(what, asked, cache, task.config.sampling.batch_rows, part)

    return ask


def _texts_of(plan: Plan) -> dict[str, Answers]:
    return {tag: subset.texts.answers for tag, subset in plan.subsets.items()}
