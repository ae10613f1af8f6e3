"""Which contexts a diagnosis looks at, and whether they fit the models."""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from remid_jax.data import prompts
from remid_jax.data.contexts import absent_subsets, choose_contexts
from remid_jax.data.reading import Benchmark
from remid_jax.data.responses import Answer, Answers
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.models import Model
from remid_jax.information.pairs import MIN_CONTEXTS
from remid_jax.models.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Selection:
    """The chosen contexts.

    Attributes:
      benchmark: its name.
      subsets: tag -> samples, the in-distribution one first.
      absent: chosen tags that the benchmark does not have.
      available: tag -> number of samples in the benchmark.
      shift_of: tag of a shifted subset -> its shift.
      shortened: (sample id, dropped user turns) where `drop_oldest_turns` was at work.
      unpaired: (sample id, pair id) of chosen contexts whose pair id names no sample in
        distribution.
    """

    benchmark: str
    subsets: Mapping[str, tuple[Sample, ...]]
    absent: tuple[str, ...]
    available: Mapping[str, int]
    shift_of: Mapping[str, str]
    shortened: tuple[tuple[str, int], ...] = ()
    unpaired: tuple[tuple[str, str], ...] = ()


def select(benchmark: Benchmark, config: ConfigDict) -> Selection:
    """Takes `limits.contexts` samples of each chosen subset; see `choose_contexts`.

    Raises:
      UserError: the in-distribution or all chosen subsets are absent, or one has too few samples.
    """
    chosen = choose_contexts(
        benchmark, config.shifts, config.limits.contexts, config.limits.in_distribution_contexts
    )
    for tag, samples in chosen.items():
        if len(samples) < MIN_CONTEXTS:
            raise UserError(
                f"benchmark {benchmark.name}: subset {tag!r} gives {len(samples)} contexts; "
                f"a standard error needs at least {MIN_CONTEXTS}"
            )
    available = {tag: len(benchmark.subsets[tag]) for tag in chosen}
    absent = absent_subsets(benchmark, config.shifts)
    known = {s.sample_id for s in benchmark.subsets[benchmark.in_distribution]}
    shifted = (s for tag, part in chosen.items() if tag != benchmark.in_distribution for s in part)
    unpaired = tuple((s.sample_id, s.pair_id) for s in shifted if s.pair_id not in {None, *known})
    shift_of = benchmark.shift_of
    return Selection(benchmark.name, chosen, absent, available, shift_of, unpaired=unpaired)


def fit_window(
    selection: Selection, model: Model, config: ConfigDict, longest_golden: Mapping[str, int]
) -> Selection:
    """Checks that every prompt, thought and response fits the context window, before any work.

    Args:
      selection: the chosen contexts.
      model: the scorer.
      config: `limits.too_long` says what to do where one does not fit.
      longest_golden: tag -> tokens of the longest golden response.

    Raises:
      UserError: naming the first sample that does not fit, under `too_long='error'`, or when even
        the last user turn does not fit.
    """
    shortened, subsets = [], {}
    for tag, samples in selection.subsets.items():
        room = max(longest_golden[tag], config.sampling.max_tokens) + config.reasoning.max_tokens
        fitting = []
        for sample in samples:
            current, dropped = fit_sample(sample, model, config, room)
            fitting.append(current)
            if dropped:
                shortened.append((sample.sample_id, dropped))
        subsets[tag] = tuple(fitting)
    return dataclasses.replace(selection, subsets=subsets, shortened=tuple(shortened))


def without_too_long(
    selection: Selection, given: Answers, model: Model, config: ConfigDict,
    longest_golden: Mapping[str, int],
) -> Answers:  # fmt: skip
    """Collected answers, of which those are failures that no longer fit beside their contexts.

    Contexts are not shortened for an answer that is longer than `sampling.max_tokens`: one that
    loops would take turns from all others.

    Args:
      selection: the contexts as they fit.
      given: rpm -> sample id -> answer.
      model: the scorer.
      config: of the diagnosis.
      longest_golden: with which `fit_window` fitted the contexts.
    """
    table = {name: dict(column) for name, column in given.items()}
    for tag, samples in selection.subsets.items():
        fitted = max(longest_golden[tag], config.sampling.max_tokens)
        longer = [
            (column, s.sample_id)
            for column in table.values()
            for s in samples
            if any(count_tokens(a, model.tokenizer) > fitted for a in column[s.sample_id].draws)
        ]
        if not longer:  # no prompt needs to be tokenised again
            continue
        room = -max(_excess(s, model, config.reasoning.max_tokens) for s in samples)
        for column, i in longer:
            column[i] = column[i].each(lambda a, room=room: _within(a, room, model))
    return table


def _within(answer: Answer, room: int, model: Model) -> Answer:
    """An answer, or a failure where it has more tokens than there is room for."""
    if (n := count_tokens(answer, model.tokenizer)) <= room:
        return answer
    why = (
        f"the answer has {n} tokens, and the window of {model.name} leaves {room} beside its "
        "subset's contexts and thoughts"
    )
    return dataclasses.replace(answer, text="", failure=why)


def count_tokens(answer: Answer, tokenizer: Tokenizer) -> int:
    """Tokens of an answer."""
    return len(answer.tokens or tokenizer.encode(answer.text))


def fit_sample(sample: Sample, model: Model, config: ConfigDict, room: int) -> tuple[Sample, int]:
    """The sample without as many of its oldest turns as the context window cannot hold.

    Args:
      sample: the context.
      model: the scorer.
      config: `limits.too_long` says what to do where it does not fit.
      room: tokens that follow the prompt.

    Returns:
      The sample, and how many user turns were dropped.

    Raises:
      UserError: it does not fit, under `too_long='error'`, or when even the last user turn does
        not fit.
    """
    current, dropped = sample, 0
    while (excess := _excess(current, model, room)) > 0:
        shorter = prompts.drop_oldest_turn(current)
        if config.limits.too_long == "error" or shorter is None:
            remedy = "set config.limits.too_long='drop_oldest_turns'"
            if shorter is None:
                remedy = _remedy(excess, room, config)
            raise UserError(
                f"sample {sample.sample_id!r} is {excess} tokens too long for the context "
                f"window of {model.name} ({model.config.max_positions}), with {room} tokens kept "
                f"for thought and response; {remedy} or choose another model"
            )
        current, dropped = shorter, dropped + 1
    return current, dropped


def _remedy(excess: int, room: int, config: ConfigDict) -> str:
    """What helps a sample of which no turn can be dropped."""
    answer = config.sampling.max_tokens
    if excess < answer and room <= answer + config.reasoning.max_tokens:
        return "lower config.sampling.max_tokens"
    return "shorten its persona, character or last turn"


def _excess(sample: Sample, model: Model, room: int) -> int:
    prompt = len(model.tokenizer.encode_chat(prompts.scorer_messages(sample, thought="")))
    # A thought that is decoded and tokenised again may take a few tokens more.
    return prompt + room + 16 - model.config.max_positions
