"""The line: samples -> prompts -> answers and thoughts -> pair matrices -> estimates -> report."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.benchmark import prompts
from remid_jax.benchmark.reading import load_benchmark, load_responses
from remid_jax.benchmark.samples import Sample
from remid_jax.diagnosis import comparisons, estimates, report
from remid_jax.diagnosis.config import check_config
from remid_jax.diagnosis.cross_columns import add_cross_information
from remid_jax.diagnosis.divergences import check_divergences, estimate_divergences
from remid_jax.diagnosis.expected_kl import add_expected_kl, own_log_probs
from remid_jax.diagnosis.factor_information import factor_rows
from remid_jax.diagnosis.factor_swaps import Scores, Swaps, plan_swaps, score_swaps
from remid_jax.diagnosis.generation import Answer, Trunks, generate
from remid_jax.diagnosis.rows import estimate_by_language, estimate_rows
from remid_jax.diagnosis.sample_contributions import write_contributions
from remid_jax.diagnosis.scoring import Block, row_cost, score_subset, to_response
from remid_jax.diagnosis.selection import Selection, fit_window, select
from remid_jax.diagnosis.shift_shares import estimate_by_shift
from remid_jax.diagnosis.store import Store, open_workdir
from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.inference.likelihood import Response
from remid_jax.inference.sampling import SamplingConfig
from remid_jax.models.pretrained import LanguageModel, load_language_model
from remid_jax.progress import progress

Answers = dict[str, dict[str, Answer]]
Advance = Callable[[float], None]


def diagnose(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Runs a diagnosis, or completes one that was interrupted.

    Args:
      config: see `remid_jax.default_config`.
      workdir: where finished pieces and results are kept; a second run in it reuses them.

    Returns:
      The content of `workdir/results.json`: `provenance`, `excluded`,
      `cut_at_max_tokens` (answers that did not end by themselves), `rows`, `by_language`,
      `worst`, `comparisons`, `warnings`, `by_shift` (see `estimate_by_shift`), `divergences` (see
      `estimate_divergences`), `contributions` (name of their file in `workdir`, or None),
      `factors` (see `factor_rows`).

    Raises:
      UserError: anything in the configuration, the files or the environment that cannot be used.
    """
    check_config(config)
    reply, reason = _sampling(config)
    origin = report.provenance(config, sys.argv)  # now: the checkout may change during a long run
    folder = open_workdir(workdir)
    benchmark = load_benchmark(config.benchmark)
    selection = select(benchmark, config)
    labels = {
        tag: estimates.cluster_labels(tag, chosen, config)
        for tag, chosen in selection.subsets.items()
    }
    for tag, chosen in selection.subsets.items():  # refuses what cannot be drawn, before work
        estimates.negatives_for(len(chosen), config, labels[tag])
    check_divergences(selection.subsets, labels, config)
    samples = [s for subset in selection.subsets.values() for s in subset]
    given = load_responses(config.responses, samples) if config.responses else None
    for name in estimates.ANCHORS:
        if name in (given or config.rpms):
            raise UserError(f"a policy cannot be called {name!r}: the table has a row of that name")
    model = load_language_model(
        config.model.path, config.model.dtype, config.model.chat_template or None
    )
    longest = _longest_given(selection, given, model)
    selection = fit_window(selection, model, config, longest)
    swaps = plan_swaps(selection, model, config, longest)
    _say_plan(selection, given, swaps, config)

    store = Store(folder / "store")
    divergences = estimate_divergences(selection.subsets, labels, model, store, config)
    trunks = Trunks(model, config.limits.cache_bytes)
    models = _Models(model, trunks, config)
    excluded: list[dict[str, str]] = []
    subsets = []
    cut: dict[str, dict[str, int]] = {}
    texts: dict[str, tuple[Answers, dict[str, str]]] = {}
    swapped: dict[str, Scores] = {}
    log_p: dict[str, dict[str, np.ndarray]] = {}
    for tag, chosen in selection.subsets.items():
        answers, thoughts = _generate(tag, chosen, given, models, store, config, reply, reason)
        cut[tag] = {p: sum(not a.stopped for a in by_id.values()) for p, by_id in answers.items()}
        texts[tag] = (answers, thoughts)
        subset = _score(
            tag, chosen, answers, thoughts, models, store, config, excluded, labels[tag]
        )
        subsets.append(estimates.with_anchors(subset))
        report.write_matrices(folder, subset)
        log_p[tag] = own_log_probs(chosen, answers, model.tokenizer, config)
        if swaps:
            parts = (tag, chosen, answers, swaps[tag], model, trunks, store)
            swapped[tag] = score_swaps(*parts, config.estimator.span)
    _write_texts(folder, selection, texts)

    rows = estimate_rows(subsets, config)
    add_cross_information(rows, subsets, config)
    add_expected_kl(rows, subsets, log_p)
    counts = {
        tag: {"available": selection.available[tag], "used": len(chosen)}
        for tag, chosen in selection.subsets.items()
    }
    origin |= {
        "benchmark": benchmark.name,
        "model": {"name": model.name, "identity": model.identity, "dtype": model.dtype},
        "counts": counts,
        "shifts": list(selection.subsets)[1:],
        "absent_subsets": list(selection.absent),
        "shortened": [list(s) for s in selection.shortened],
        "swapped_contexts": {
            tag: {"contexts": s.size, "shortened": s.shortened} for tag, s in swaps.items()
        },
        "unit": "nats",
    }
    results = {
        "provenance": origin,
        "excluded": excluded,
        "cut_at_max_tokens": cut,
        "rows": rows,
        "by_language": estimate_by_language(subsets, config),
        "by_shift": estimate_by_shift(rows, subsets, config),
        "worst": comparisons.worst_shifts(rows, subsets, config),
        "comparisons": comparisons.compare_policies(subsets, config),
        "warnings": comparisons.find_warnings(rows, config),
        "divergences": divergences,
        "contributions": write_contributions(folder, subsets, config),
        "factors": factor_rows(subsets, swaps, swapped, config),
    }
    report.write_results(folder, results)
    return results


def _sampling(config: ConfigDict) -> tuple[SamplingConfig, SamplingConfig]:
    """How the evaluated models answer, and how the reasoner notes."""
    s, r, seed = config.sampling, config.reasoning, config.seed
    reply = SamplingConfig(s.max_tokens, s.temperature, s.top_p, s.repetition_penalty, seed=seed)
    return reply, SamplingConfig(r.max_tokens, r.temperature, 1.0, r.repetition_penalty, seed=seed)


class _Models:
    """The policy and the evaluated models; weights named twice are loaded once."""

    def __init__(self, policy: LanguageModel, trunks: Trunks, config: ConfigDict):
        self.policy, self.trunks = policy, trunks
        self._config = config
        self._loaded = {"": (policy, trunks), config.model.path: (policy, trunks)}

    def of(self, path: str) -> tuple[LanguageModel, Trunks]:
        if path not in self._loaded:
            model = load_language_model(path, self._config.model.dtype)
            self._loaded[path] = (model, Trunks(model, self._config.limits.cache_bytes))
        return self._loaded[path]


def _longest_given(
    selection: Selection, given: Mapping[str, Mapping[str, str]] | None, model: LanguageModel
) -> dict[str, int]:
    longest = {}
    for tag, samples in selection.subsets.items():
        texts = [s.golden for s in samples]
        texts += [column[s.sample_id] for column in (given or {}).values() for s in samples]
        longest[tag] = max(len(model.tokenizer.encode(t)) for t in texts)
    return longest


def _say_plan(
    selection: Selection, given: Any, swaps: Mapping[str, Swaps], config: ConfigDict
) -> None:
    contexts = sum(len(s) for s in selection.subsets.values())
    policies = len(given) if given else len(config.rpms)
    pairs = sum((1 + policies) * len(s) ** 2 for s in selection.subsets.values())
    print(
        f"{len(selection.subsets)} subsets, {contexts} contexts, {policies} evaluated models, "
        f"up to {pairs} pairs with reasoning and as many without",
        file=sys.stderr,
    )
    if swaps:
        print(
            f"{sum(s.size for s in swaps.values())} more contexts with one factor swapped, "
            f"{1 + policies} responses to each",
            file=sys.stderr,
        )
    for tag in selection.absent:
        print(f"note: the benchmark has no subset {tag!r}; it is left out", file=sys.stderr)
    for sample_id, turns in selection.shortened:
        print(f"note: {sample_id}: {turns} oldest turns dropped to fit", file=sys.stderr)


def _generate(
    tag: str,
    samples: Sequence[Sample],
    given: Mapping[str, Mapping[str, str]] | None,
    models: _Models,
    store: Store,
    config: ConfigDict,
    reply: SamplingConfig,
    reason: SamplingConfig,
) -> tuple[Answers, dict[str, str]]:
    """Responses of every policy, and thoughts, of one subset."""
    batch_rows = config.sampling.batch_rows
    rpms = {} if given else config.rpms
    answers: Answers = {
        name: {x.sample_id: Answer(column[x.sample_id]) for x in samples}
        for name, column in (given or {}).items()
    }
    with progress(f"{tag}: answers and thoughts", len(samples) * (len(rpms) + 1)) as advance:
        for name, spec in rpms.items():
            chats = {x.sample_id: (x, prompts.reply_messages(x, spec.view)) for x in samples}
            model, trunks = models.of(spec.path)
            answers[name] = generate(
                model, trunks, store, "responses", chats, reply, batch_rows, advance
            )
        chats = {x.sample_id: (x, prompts.reason_messages(x)) for x in samples}
        thoughts = generate(
            models.policy, models.trunks, store, "thoughts", chats, reason, batch_rows, advance
        )
    return answers, {i: a.text for i, a in thoughts.items()}


def _score(
    tag: str,
    samples: Sequence[Sample],
    answers: Answers,
    thoughts: Mapping[str, str],
    models: _Models,
    store: Store,
    config: ConfigDict,
    excluded: list[dict[str, str]],
    labels: estimates.Labels | None,
) -> estimates.Subset:
    """The pair matrices of one subset, with and without reasoning."""
    n = len(samples)
    with_r, without_r = estimates.negatives_for(n, config, labels)
    tokenizer, span = models.policy.tokenizer, config.estimator.span
    columns: list[Response | None] = [
        to_response(tokenizer, Answer(s.golden), span) for s in samples
    ]
    for name, by_id in answers.items():
        for sample in samples:
            answer = by_id[sample.sample_id]
            if answer.text:
                columns.append(to_response(tokenizer, answer, span))
            else:
                columns.append(None)
                reason = "the model answered with no text"
                excluded.append({"policy": name, "sample_ID": sample.sample_id, "reason": reason})
    wanted, plain_wanted = (
        np.concatenate([x.wanted(golden=True)] + [x.wanted(golden=False)] * len(answers), axis=1)
        for x in (with_r, without_r)
    )
    total = sum(row_cost(columns, w) for w in [*wanted, *plain_wanted])
    with progress(f"{tag}: likelihoods", total) as advance:
        parts = (models.policy, models.trunks, store, samples)
        scores = score_subset(*parts, thoughts, columns, wanted, advance)
        plain = score_subset(*parts, None, columns, plain_wanted, advance)
    blocks = [
        Block(
            scores[:, a : a + n],
            plain[:, a : a + n],
            np.array([r.scored if r else 1 for r in columns[a : a + n]]),
            np.array([r is not None for r in columns[a : a + n]]),
        )
        for a in range(0, len(columns), n)
    ]
    return estimates.Subset(
        tag=tag,
        sample_ids=tuple(s.sample_id for s in samples),
        pair_ids=tuple(s.pair_id for s in samples),
        languages=tuple(s.extra.get("language") for s in samples),
        golden=blocks[0],
        policies=dict(zip(answers, blocks[1:], strict=True)),
        negatives=(with_r, without_r),
        labels=labels,
    )


def _write_texts(
    folder: Path, selection: Selection, texts: Mapping[str, tuple[Answers, dict[str, str]]]
) -> None:
    """responses.jsonl, which `config.responses` reads again, with the thought of each sample."""
    lines = []
    for tag, samples in selection.subsets.items():
        answers, thoughts = texts[tag]
        for sample in samples:
            i = sample.sample_id
            responses = {name: by_id[i].text for name, by_id in answers.items()}
            record = {
                **sample.to_record(), "model_response": responses, "thought": thoughts[i]
            }  # fmt: skip
            lines.append(json.dumps(record, ensure_ascii=False))
    write_atomically(folder / "responses.jsonl", [("\n".join(lines) + "\n").encode()])
