"""The line: samples -> prompts -> answers and thoughts -> pair matrices -> estimates -> report."""

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from remid_jax.analysis import comparisons, measures
from remid_jax.analysis.by_shift import estimate_by_shift
from remid_jax.analysis.contributions import write_contributions
from remid_jax.analysis.cross_information import add_cross_information
from remid_jax.analysis.divergences import check_divergences, estimate_divergences
from remid_jax.analysis.expected_kl import add_expected_kl
from remid_jax.analysis.factor_information import factor_rows
from remid_jax.analysis.rows import estimate_by_language, estimate_rows
from remid_jax.data.reading import load_benchmark
from remid_jax.data.responses import DETAILS, RESPONSE, Column, counts_of, read_responses
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import Answer, answer_of, golden_answer
from remid_jax.evaluation.config import check_config
from remid_jax.evaluation.factor_swaps import Swaps, plan_swaps
from remid_jax.evaluation.measure import (
    Estimator,
    Measured,
    Measurement,
    check_excluded,
    sampling_of,
)
from remid_jax.evaluation.plan import Plan, make_plan, memory_lines
from remid_jax.evaluation.scoring import GOLDEN
from remid_jax.evaluation.selection import (
    Answers,
    Selection,
    count_tokens,
    fit_window,
    select,
    without_too_long,
)
from remid_jax.evaluation.store import Store
from remid_jax.files import open_workdir, write_atomically
from remid_jax.inference.engine import Engine, JaxEngine
from remid_jax.inference.programs import Programs, count_programs
from remid_jax.models.pretrained import (
    Checkpoint,
    LanguageModel,
    check_mesh,
    load_language_model,
    open_language_model,
)
from remid_jax.models.sharding import MeshConfig, make_mesh
from remid_jax.report import terminal
from remid_jax.training.scorers import load_scorers


def diagnose(
    config: ConfigDict, workdir: str | Path, engine: Engine | None = None
) -> dict[str, Any]:
    """Runs a diagnosis, or completes one that was interrupted.

    Args:
      config: see `remid_jax.default_config`.
      workdir: where finished pieces and results are kept; a second run in it reuses them.
      engine: the reasoner and the policy, in place of the model that `config.model` names.

    Returns:
      The content of `workdir/results.json`: `provenance`, `excluded`,
      `cut_at_max_tokens` (answers that did not end by themselves), `answers` (see `counts_of`, by
      policy), `rows`, `by_language`,
      `worst`, `comparisons`, `warnings`, `by_shift` (see `estimate_by_shift`), `divergences` (see
      `estimate_divergences`), `contributions` (name of their file in `workdir`, or None),
      `factors` (see `factor_rows`). With `config.dry_run` only `plan`, and nothing is written.

    Raises:
      UserError: anything in the configuration, the files or the environment that cannot be used.
    """
    check_config(config)
    sampling = sampling_of(config)
    origin = terminal.provenance(config)  # now: the checkout may change during a long run
    folder = Path(workdir) if config.dry_run else open_workdir(workdir)
    benchmark = load_benchmark(config.benchmark, config.in_distribution, config.subset_shifts)
    selection = select(benchmark, config)
    labels = _labels(selection, config)
    collected = _collected(selection, config)
    cards = _cards(config, collected is not None, engine)
    mesh = _mesh(cards, config)
    golden = {s.sample_id: golden_answer(s) for part in selection.subsets.values() for s in part}
    longest = _longest(selection, {GOLDEN: golden}, cards[""])
    selection = fit_window(selection, cards[""], config, longest)
    given = collected and _given(collected, selection, longest, cards[""], config)
    known = _longest(selection, given or {}, cards[""])
    longest = {tag: max(n, known[tag]) for tag, n in longest.items()}
    swaps = plan_swaps(selection, cards[""], config, longest)
    plan = make_plan(selection, labels, given, swaps, cards, config)
    if config.dry_run:
        return {"plan": plan}
    _say_plan(selection, plan, cards)

    store = Store(folder / "store")
    with count_programs() as programs:
        load = functools.partial(_load, cards, plan, config, mesh)
        estimator = _estimator(engine or load(""), plan, config)
        policy = estimator.policy
        own = policy if isinstance(policy, JaxEngine) else None
        features = own and own.model
        shift_of = selection.shift_of
        divergences = estimate_divergences(
            selection.subsets, shift_of, labels, features, store, config
        )
        measurement = Measurement(estimator, load, given, sampling, shift_of, store, config)
        measured: dict[str, Measured] = {}
        for tag, samples in selection.subsets.items():
            measured[tag] = measurement.of(tag, samples, labels[tag], swaps.get(tag))
            terminal.write_matrices(folder, measured[tag].subset)
        _write_texts(folder, measured)

    _say_cost(programs, own)
    origin |= {
        "benchmark": benchmark.name,
        "model": {"name": policy.name, "identity": policy.identity, "dtype": config.model.dtype},
        "sizes": dataclasses.asdict(own.sizes if own else plan.sizes),
        "planned_flops": plan.flops,
        "programs": dataclasses.asdict(programs),
        "work": own and dataclasses.asdict(own.work),
        **_counts(selection, swaps),
        "templates": _templates(cards),
        "unit": "nats",
    }
    results = {
        "provenance": origin,
        "excluded": [x for m in measured.values() for x in m.excluded],
        "answers": _answer_counts(measured),
        "cut_at_max_tokens": {tag: m.cut for tag, m in measured.items()},
        **_estimate(measured, swaps, config),
        "divergences": divergences,
        "contributions": write_contributions(folder, [m.subset for m in measured.values()], config),
    }
    terminal.write_results(folder, results)
    return results


def _cards(
    config: ConfigDict, collected: bool, engine: Engine | None
) -> dict[str, Checkpoint | Engine]:
    """Every model of the run by its path, opened and checked; under "" the policy."""
    dtype, template = config.model.dtype, config.model.chat_template or None
    variables = config.model.template_variables.to_dict()
    foreign = engine is not None and not isinstance(engine, JaxEngine)
    if foreign and config.divergences.features == "hidden":
        raise UserError(f"{engine.name} has no hidden states; set divergences.features='none'")
    policy = engine or open_language_model(config.model.path, dtype, template, variables)
    cards = dict.fromkeys(("", config.model.path), policy)
    for spec in {} if collected else config.rpms.values():
        if spec.path not in cards:
            cards[spec.path] = open_language_model(spec.path, dtype, None, variables)
    return cards


def _mesh(cards: Mapping[str, Checkpoint | Engine], config: ConfigDict) -> Mesh | None:
    """The devices of the run; refuses what does not divide the models, before any work."""
    mesh = make_mesh(MeshConfig(**config.mesh), own=True)
    for card in cards.values():
        if isinstance(card, Checkpoint):
            check_mesh(card.config, mesh)
    return mesh


def _load(
    cards: Mapping[str, Checkpoint], plan: Plan, config: ConfigDict, mesh: Mesh | None, path: str
) -> JaxEngine:
    """The engine of an opened model."""
    return _engine(load_language_model(cards[path], mesh=mesh), plan, config)


def _engine(model: LanguageModel, plan: Plan, config: ConfigDict) -> JaxEngine:
    rows, dtype = config.sampling.batch_rows, config.model.cache_dtype
    return JaxEngine(model, config.limits.memory_bytes, plan.longest, dtype, rows)


def _estimator(base: Engine, plan: Plan, config: ConfigDict) -> Estimator:
    """The base as it is, or with the adapters that CoRL trained on it."""
    folder = config.estimator.checkpoint
    if not folder:
        return Estimator(base, base, base)
    if not isinstance(base, JaxEngine):
        raise UserError("config.estimator.checkpoint needs the project's own engine")
    roles = load_scorers(folder, base.model)
    policy, reasoner = (_engine(roles[role], plan, config) for role in ("policy", "reasoner"))
    return Estimator(policy, reasoner, base, trained=True)


def _labels(selection: Selection, config: ConfigDict) -> dict[str, measures.Labels | None]:
    """The clusters of each subset; refuses what cannot be drawn from them, before any work."""
    labels = {
        tag: measures.cluster_labels(tag, samples, config)
        for tag, samples in selection.subsets.items()
    }
    for tag, samples in selection.subsets.items():
        measures.negatives_for(len(samples), config, labels[tag])
    check_divergences(selection.subsets, labels, config)
    return labels


def _collected(selection: Selection, config: ConfigDict) -> dict[str, Column] | None:
    """Collected responses, where the configuration names a file of them."""
    samples = [s for subset in selection.subsets.values() for s in subset]
    found = read_responses(config.responses, samples) if config.responses else None
    for name in measures.ANCHORS:
        if name in (found or config.rpms):
            raise UserError(f"a policy cannot be called {name!r}: the table has a row of that name")
    return found


def _given(
    collected: Mapping[str, Column], selection: Selection, longest_golden: Mapping[str, int],
    model: Checkpoint | Engine, config: ConfigDict,
) -> Answers:  # fmt: skip
    """Collected responses as they can be scored; refuses a policy of which too many cannot."""
    answers = {
        policy: {i: answer_of(a, model.tokenizer) for i, a in column.items()}
        for policy, column in collected.items()
    }
    answers = without_too_long(selection, answers, model, config, longest_golden)
    for tag, samples in selection.subsets.items():
        check_excluded(tag, samples, answers, config)
    return answers


def _templates(cards: Mapping[str, Checkpoint | Engine]) -> dict[str, dict[str, Any]]:
    """Model -> variables of its chat template, and what was assumed on the template's behalf."""
    return {
        card.name: {
            "variables": card.tokenizer.template_variables,
            "notes": list(card.tokenizer.template_notes),
        }
        for card in cards.values()
    }


def _counts(selection: Selection, swaps: Mapping[str, Swaps]) -> dict[str, Any]:
    """What was taken, left out and changed."""
    return {
        "counts": {
            tag: {"available": selection.available[tag], "used": len(samples)}
            for tag, samples in selection.subsets.items()
        },
        "shifts": list(selection.subsets)[1:],
        "absent_subsets": list(selection.absent),
        "shortened": [list(s) for s in selection.shortened],
        "swapped_contexts": {
            tag: {"contexts": s.size, "shortened": s.shortened} for tag, s in swaps.items()
        },
    }


def _estimate(
    measured: Mapping[str, Measured], swaps: Mapping[str, Swaps], config: ConfigDict
) -> dict[str, Any]:
    """Everything that is estimated from the scores."""
    subsets = [m.subset for m in measured.values()]
    rows = estimate_rows(subsets, config)
    add_cross_information(rows, subsets, config)
    add_expected_kl(rows, subsets, {tag: m.log_p for tag, m in measured.items()})
    swapped = {tag: m.swapped for tag, m in measured.items() if m.swapped is not None}
    return {
        "rows": rows,
        "by_language": estimate_by_language(subsets, config),
        "by_shift": estimate_by_shift(rows, subsets, config),
        "worst": comparisons.worst_shifts(rows, subsets, config),
        "comparisons": comparisons.compare_policies(subsets, config),
        "warnings": comparisons.find_warnings(rows, config),
        "factors": factor_rows(subsets, swaps, swapped, config),
    }


def _longest(selection: Selection, answers: Answers, model: Checkpoint | Engine) -> dict[str, int]:
    """Tag -> tokens of the longest of these answers; 0 where there is none."""
    longest = {}
    for tag, samples in selection.subsets.items():
        known = (column[s.sample_id] for column in answers.values() for s in samples)
        longest[tag] = max((count_tokens(a, model.tokenizer) for a in known), default=0)
    return longest


def _answer_counts(measured: Mapping[str, Measured]) -> dict[str, dict[str, Any]]:
    """Policy -> what its answers in all subsets went through."""
    answers: dict[str, list[Answer]] = {}
    for m in measured.values():
        for policy, by_id in m.answers.items():
            answers.setdefault(policy, []).extend(by_id.values())
    return {policy: counts_of(found) for policy, found in answers.items()}


def _say_plan(selection: Selection, plan: Plan, cards: Mapping[str, Checkpoint | Engine]) -> None:
    for stage in plan.stages:
        pairs = f", {stage.pairs:,} pairs" if stage.pairs else ""
        work = f"{stage.contexts:,} contexts{pairs}, at most {stage.flops / 1e12:.2f} TFLOP"
        print(f"{stage.what}: {work}", file=sys.stderr)
    for line in memory_lines(plan):
        print(line, file=sys.stderr)
    for tag in selection.absent:
        print(f"note: the benchmark has no subset {tag!r}; it is left out", file=sys.stderr)
    for name, template in _templates(cards).items():
        for note in template["notes"]:
            print(f"note: {name}: {note}", file=sys.stderr)
    for sample_id, turns in selection.shortened:
        print(f"note: {sample_id}: {turns} oldest turns dropped to fit", file=sys.stderr)


def _say_cost(programs: Programs, engine: JaxEngine | None) -> None:
    line = f"{programs.compiled} programs compiled and {programs.found} found in the cache"
    line += f", {programs.seconds:.0f} s"
    if engine and engine.work.positions:
        padding = 1 - engine.work.tokens / engine.work.positions
        line += f"; {padding:.0%} of {engine.work.positions:,} positions read were padding"
    print(line, file=sys.stderr)


def _write_texts(folder: Path, measured: Mapping[str, Measured]) -> None:
    """responses.jsonl, which `config.responses` reads again, with the thought of each sample."""
    lines = []
    for m in measured.values():
        for sample in m.samples:
            i = sample.sample_id
            answers = {name: by_id[i] for name, by_id in m.answers.items()}
            record = {
                **sample.to_record(),
                RESPONSE: {name: a.text for name, a in answers.items() if a.text},
                DETAILS: {name: d for name, a in answers.items() if (d := a.details())},
                "thought": m.thoughts[i],
            }
            lines.append(json.dumps(record, ensure_ascii=False))
    write_atomically(folder / "responses.jsonl", [("\n".join(lines) + "\n").encode()])
