"""Which contexts a diagnosis looks at, and whether they fit the models."""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from remid_jax.benchmark import prompts, shifts
from remid_jax.benchmark.contexts import choose_contexts
from remid_jax.benchmark.reading import Benchmark
from remid_jax.benchmark.samples import Sample
from remid_jax.diagnosis.config import MIN_CONTEXTS
from remid_jax.errors import UserError
from remid_jax.models.pretrained import ModelCard


@dataclasses.dataclass(frozen=True)
class Selection:
    """The chosen contexts.

    Attributes:
      subsets: tag -> samples, `IDTest` first.
      absent: chosen tags that the benchmark does not have.
      available: tag -> number of samples in the benchmark.
      shortened: (sample id, dropped user turns) where `drop_oldest_turns` was at work.
    """

    subsets: Mapping[str, tuple[Sample, ...]]
    absent: tuple[str, ...]
    available: Mapping[str, int]
    shortened: tuple[tuple[str, int], ...] = ()


def select(benchmark: Benchmark, config: ConfigDict) -> Selection:
    """Takes `limits.contexts` samples of each chosen subset; see `choose_contexts`.

    Raises:
      UserError: IDTest or all chosen subsets are absent, or a subset has too few samples.
    """
    chosen = choose_contexts(benchmark, config.shifts, config.limits.contexts)
    for tag, samples in chosen.items():
        if len(samples) < MIN_CONTEXTS:
            raise UserError(
                f"benchmark {benchmark.name}: subset {tag!r} gives {len(samples)} contexts; "
                f"a standard error needs at least {MIN_CONTEXTS}"
            )
    absent = tuple(t for t in shifts.resolve_shifts(config.shifts) if t not in chosen)
    return Selection(chosen, absent, {tag: len(benchmark.subsets[tag]) for tag in chosen})


def fit_window(
    selection: Selection, model: ModelCard, config: ConfigDict, longest_given: Mapping[str, int]
) -> Selection:
    """Checks that every prompt, thought and response fits the context window, before any work.

    Args:
      selection: the chosen contexts.
      model: the policy.
      config: `limits.too_long` says what to do where one does not fit.
      longest_given: tag -> tokens of the longest response that is already known.

    Raises:
      UserError: naming the first sample that does not fit, under `too_long='error'`, or when even
        the last user turn does not fit.
    """
    shortened, subsets = [], {}
    for tag, samples in selection.subsets.items():
        room = max(longest_given[tag], config.sampling.max_tokens) + config.reasoning.max_tokens
        fitting = []
        for sample in samples:
            current, dropped = fit_sample(sample, model, config, room)
            fitting.append(current)
            if dropped:
                shortened.append((sample.sample_id, dropped))
        subsets[tag] = tuple(fitting)
    return dataclasses.replace(selection, subsets=subsets, shortened=tuple(shortened))


def fit_sample(
    sample: Sample, model: ModelCard, config: ConfigDict, room: int
) -> tuple[Sample, int]:
    """The sample without as many of its oldest turns as the context window cannot hold.

    Args:
      sample: the context.
      model: the policy.
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
            raise UserError(
                f"sample {sample.sample_id!r} is {excess} tokens too long for the context "
                f"window of {model.name} ({model.config.max_positions}); set "
                "config.limits.too_long='drop_oldest_turns' or choose another model"
            )
        current, dropped = shorter, dropped + 1
    return current, dropped


def _excess(sample: Sample, model: ModelCard, room: int) -> int:
    prompt = len(model.tokenizer.encode_chat(prompts.policy_messages(sample, thought="")))
    # A thought that is decoded and tokenised again may take a few tokens more.
    return prompt + room + 16 - model.config.max_positions
