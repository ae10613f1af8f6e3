"""What a run evaluates: samples, models, collected answers and swaps, checked before any work."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data import prompts
from remid_jax.data.judgments import Judgment
from remid_jax.data.reading import load_benchmark
from remid_jax.data.responses import Answer, Answers, read_responses
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import golden_answers, reference_answers, with_own_tokens
from remid_jax.evaluation.config import refuse_draws, specs_of
from remid_jax.evaluation.excluded import check_excluded
from remid_jax.evaluation.features import encoder_of
from remid_jax.evaluation.judgments import read_judges
from remid_jax.evaluation.models import Model, Models
from remid_jax.evaluation.requests import Tokens
from remid_jax.evaluation.scoring import with_scoring
from remid_jax.evaluation.selection import (
    Selection,
    count_tokens,
    fit_window,
    select,
    without_too_long,
)
from remid_jax.evaluation.servers import judge_servers_of, room_of, servers_of
from remid_jax.evaluation.swaps import Swaps, plan_swaps
from remid_jax.inference.engine import Engine
from remid_jax.inference.prefix import LEAST_SHARED, common_prefix_length
from remid_jax.information import pairs
from remid_jax.information.pairs import GOLDEN, EstimatorSettings
from remid_jax.servers.chat import Server

FULL, THOUGHTS = "full", "thoughts"  # roles in which prompts are read
LEAST_FOLDS = 3  # of the classifier of divergences


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run evaluates, settled before any of it.

    Attributes:
      config: of the diagnosis.
      settings: how information is estimated.
      models: all of them.
      encoder: makes features of contexts, or None.
      selection: the chosen contexts, as they fit.
      labels: tag -> clusters of its contexts, or None.
      golden: sample id -> golden response of every chosen context.
      references: name -> sample id -> response of a reference row that the matrices do not hold.
      given: collected answers, or None.
      swaps: tag -> contexts with one factor swapped.
      servers: RPM -> the server that answers for it, of those that have one.
      judgments: judge -> its judgments from a file.
      judges: judge -> its server, of the others.
    """

    config: ConfigDict
    settings: EstimatorSettings
    models: Models
    encoder: Model | None
    selection: Selection
    labels: Mapping[str, pairs.Labels | None]
    golden: Mapping[str, Answer]
    references: Answers
    given: Answers | None
    swaps: Mapping[str, Swaps]
    servers: Mapping[str, Server]
    judgments: Mapping[str, Sequence[Judgment]]
    judges: Mapping[str, Server]
    _encoded: dict[Any, Tokens] = dataclasses.field(default_factory=dict, repr=False)
    _shared: dict[Any, Tokens] = dataclasses.field(default_factory=dict, repr=False)

    def encode(self, model: Model, sample: Sample, role: str, messages: Any) -> Tokens:
        """Prompt of a model in a role about a sample, tokenised once."""
        place = (model.tokenizer.fingerprint, id(sample), role)
        if place not in self._encoded:
            self._encoded[place] = tuple(model.tokenizer.encode_chat(messages))
        return self._encoded[place]

    def prefix_lengths(self, model: Model, sample: Sample, prompt: Tokens) -> Tokens:
        """Where a prompt is cut so that its sample's beginning is computed once for all roles."""
        place = (model.tokenizer.fingerprint, id(sample))
        if place not in self._shared:
            full = self.encode(model, sample, FULL, prompts.reply_messages(sample))
            reason = self.encode(model, sample, THOUGHTS, prompts.reason_messages(sample))
            self._shared[place] = full[: common_prefix_length(full, reason)]
        n = len(self._shared[place])
        shares = LEAST_SHARED <= n < len(prompt) and prompt[:n] == self._shared[place]
        return (n,) if shares else ()


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What a run evaluates, as far as no model is needed to tell.

    Attributes:
      selection: the chosen contexts.
      home: all in-distribution samples, of which `pair_id` names one.
      settings: how information is estimated.
      labels: tag -> clusters of its contexts, or None.
      collected: answers from a file, or None.
      servers: RPM -> the server that answers for it.
      judgments: judge -> its judgments from a file.
    """

    selection: Selection
    home: Sequence[Sample]
    settings: EstimatorSettings
    labels: Mapping[str, pairs.Labels | None]
    collected: Answers | None
    servers: Mapping[str, Server]
    judgments: Mapping[str, Sequence[Judgment]]


def choose(config: ConfigDict) -> Chosen:
    """Reads and checks the samples and answers of a run.

    Args:
      config: of the diagnosis, checked.

    Raises:
      UserError: anything in them that cannot be used, whatever the model.
    """
    benchmark = load_benchmark(config.benchmark, config.in_distribution, config.subset_shifts)
    selection = select(benchmark, config)
    settings = EstimatorSettings.from_config(config)
    labels = _labels(selection, settings, config)
    collected = _collected(selection, config)
    for tag, samples in selection.subsets.items() if collected is not None else ():
        check_excluded(tag, samples, collected, config)
    home = benchmark.subsets[config.in_distribution]
    judgments = read_judges(config, selection.subsets, list(collected or specs_of(config)))
    servers = servers_of(config)
    return Chosen(selection, home, settings, labels, collected, servers, judgments)


def make_task(config: ConfigDict, engine: Engine | None, lockstep: bool) -> Task:
    """Reads and checks everything that a run rests on.

    Args:
      config: of the diagnosis, checked.
      engine: in place of the model that `config.model` names, or None.
      lockstep: whether one mesh lies over all processes.

    Raises:
      UserError: anything in configuration or files that cannot be used.
    """
    config = with_scoring(config)
    chosen = choose(config)
    selection, collected, home = chosen.selection, chosen.collected, chosen.home
    models = Models(config, engine, collected is not None, lockstep)
    encoder = encoder_of(config, models)
    scorer = models.scorer
    golden = golden_answers(s for part in selection.subsets.values() for s in part)
    _check_measurable(selection, golden, config)
    longest = _longest(selection, {GOLDEN: golden}, scorer)
    if config.prediction.enabled:  # q answers everywhere at the length of golden ones at home
        _check_golden_at_home(selection.subsets[config.in_distribution], golden)
        longest = {tag: max(n, longest[config.in_distribution]) for tag, n in longest.items()}
    if chosen.servers:  # whose tokens are others than q's
        longest = {tag: max(n, room_of(config)) for tag, n in longest.items()}
    selection = fit_window(selection, scorer, config, longest)
    references = reference_answers(selection.subsets, home)
    references = without_too_long(selection, references, scorer, config, longest)
    given = None
    if collected is not None:
        given = _given(collected, selection, longest, scorer, config)
    known = _longest(selection, {**references, **(given or {})}, scorer)
    longest = {tag: max(n, known[tag]) for tag, n in longest.items()}
    swaps = plan_swaps(selection, scorer, config, longest)
    return Task(
        config, chosen.settings, models, encoder, selection, chosen.labels, golden, references,
        given, swaps, chosen.servers, chosen.judgments, judge_servers_of(config),
    )  # fmt: skip


def _check_measurable(
    selection: Selection, golden: Mapping[str, Answer], config: ConfigDict
) -> None:
    """Refuses a run that could compare with nothing: no golden responses, and no swapped factor."""
    if config.profile.swaps:
        return
    counts = [sum(bool(golden[s.sample_id].text) for s in x) for x in selection.subsets.values()]
    if max(counts) < pairs.MIN_CONTEXTS:
        raise UserError(
            "config.profile.swaps is 0, and no subset has golden responses to "
            f"{pairs.MIN_CONTEXTS} contexts: nothing would be measured; set config.profile.swaps=1"
        )


def _check_golden_at_home(samples: Sequence[Sample], golden: Mapping[str, Answer]) -> None:
    """Refuses a prediction that has too few golden responses to rest on."""
    count = sum(bool(golden[s.sample_id].text) for s in samples)
    if count < pairs.MIN_CONTEXTS:
        raise UserError(
            f"config.prediction needs golden responses in distribution: {count} of the samples of "
            f"{samples[0].tag!r} have one, and {pairs.MIN_CONTEXTS} are needed; set "
            "config.prediction.enabled=False"
        )


def _labels(
    selection: Selection, settings: EstimatorSettings, config: ConfigDict
) -> dict[str, pairs.Labels | None]:
    """The clusters of each subset; refuses what cannot be drawn from them."""
    labels = {
        tag: pairs.cluster_labels(tag, samples, config.estimator.clusters)
        for tag, samples in selection.subsets.items()
    }
    for tag, samples in selection.subsets.items():
        pairs.negatives_for(len(samples), settings, labels[tag])
    _check_folds(selection, labels, config)
    return labels


def _check_folds(
    selection: Selection, labels: Mapping[str, pairs.Labels | None], config: ConfigDict
) -> None:
    """Refuses divergences of contexts that form too few clusters for a classifier."""
    (home, first), *shifted = selection.subsets.items()
    for tag, samples in shifted if config.divergences.features != "none" else ():
        paired = [s.pair_id for s in samples] == [s.sample_id for s in first]
        both = labels[home], labels[tag]
        groups = pairs.common_groups(paired, len(first), len(samples), both)
        if (folds := pairs.folds_of(groups)) < LEAST_FOLDS:
            raise UserError(
                f"config.divergences: the contexts of {tag!r} and {home} form {folds} clusters "
                f"by {config.estimator.clusters}, and the classifier needs {LEAST_FOLDS}; set "
                "config.divergences.features='none' or config.estimator.clusters='none'"
            )


def _collected(selection: Selection, config: ConfigDict) -> Answers | None:
    """Collected responses, where the configuration names a file of them."""
    samples = [s for subset in selection.subsets.values() for s in subset]
    found = read_responses(config.responses, samples) if config.responses else None
    reserved = {_plain(name): name for name in pairs.REFERENCE_ROWS}
    for name in found or specs_of(config):
        if row := reserved.get(_plain(name)):
            raise UserError(f"an RPM cannot be called {name!r}: the table has a row {row!r}")
    _check_draws(found or {}, config)
    return found


def _plain(name: str) -> str:
    """A name without what two spellings of it may differ in."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _check_draws(answers: Answers, config: ConfigDict) -> None:
    """Refuses several collected answers to a context where no mean over them can be taken."""
    for rpm, column in answers.items():
        for sample_id, answer in column.items():
            if answer.further:
                said = f"sample {sample_id!r} has {len(answer.draws)} answers of {rpm!r}"
                refuse_draws(config, f"{config.responses}: {said}", "keep one of them")


def _given(
    collected: Answers, selection: Selection, longest_golden: Mapping[str, int],
    scorer: Model, config: ConfigDict,
) -> Answers:  # fmt: skip
    """Collected responses as they can be scored; refuses an RPM of which too many cannot."""
    answers = {
        rpm: {
            i: answer.each(lambda a: with_own_tokens(a, scorer.tokenizer))
            for i, answer in column.items()
        }
        for rpm, column in collected.items()
    }
    answers = without_too_long(selection, answers, scorer, config, longest_golden)
    for tag, samples in selection.subsets.items():
        check_excluded(tag, samples, answers, config)
    return answers


def _longest(selection: Selection, answers: Answers, scorer: Model) -> dict[str, int]:
    """Tag -> tokens of the longest of these answers; 0 where there is none."""
    longest = {}
    for tag, samples in selection.subsets.items():
        known = (column[s.sample_id] for column in answers.values() for s in samples)
        drawn = (draw for answer in known for draw in answer.draws)
        longest[tag] = max((count_tokens(a, scorer.tokenizer) for a in drawn), default=0)
    return longest
