"""Contexts with one factor of another sample: which, how many, and their log-likelihoods.

Each context is scored again with its user persona, its character or its dialogue taken from other
samples of the subset. No reasoning is read, neither under the own context nor under these: a
thought belongs to the context it was written for.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data import prompts
from remid_jax.data.factors import Factor, differing, swapped
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import Answer, golden_answer
from remid_jax.evaluation.scoring import GOLDEN, Response, find_rows, score_rows, to_response
from remid_jax.evaluation.selection import Selection, fit_sample
from remid_jax.evaluation.store import Store
from remid_jax.inference.engine import Engine
from remid_jax.inference.prefix import branch_points
from remid_jax.models.pretrained import Checkpoint
from remid_jax.progress import OPERATIONS, progress

Scores = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Swaps:
    """The contexts of one subset with one factor swapped.

    Attributes:
      sources: factor -> int [N, K − 1], the sample that the factor is taken from; −1 throughout
        the row of a context for which fewer than K − 1 samples have another one.
      contexts: [N], each sample's swapped ones, factor by factor.
      shortened: how many of them lost turns under `drop_oldest_turns`.
    """

    sources: Mapping[str, np.ndarray]
    contexts: tuple[tuple[Sample, ...], ...]
    shortened: int = 0

    @property
    def size(self) -> int:
        """Number of swapped contexts."""
        return sum(len(c) for c in self.contexts)


def plan_swaps(
    selection: Selection, model: Checkpoint, config: ConfigDict, longest_given: Mapping[str, int]
) -> dict[str, Swaps]:
    """The swapped contexts of every subset, checked to fit the context window; none when off.

    The K − 1 samples are the next in cyclic order whose factor differs, so that each sample's
    factors are used equally often where all differ.

    Args:
      selection: the chosen contexts, as they fit.
      model: the policy.
      config: of the diagnosis.
      longest_given: tag -> tokens of the longest response that is already known.

    Raises:
      UserError: a subset has too few contexts, or a swapped context does not fit.
    """
    swaps, plans = config.factors.swaps, {}
    if not swaps:
        return plans
    for tag, samples in selection.subsets.items():
        if swaps > len(samples) - 1:
            raise UserError(
                f"config.factors.swaps is {swaps}, but subset {tag!r} has {len(samples)} contexts; "
                f"set it to at most {len(samples) - 1}, or take more config.limits.contexts"
            )
    total = sum(len(s) for s in selection.subsets.values())
    with progress("lengths of contexts with a swapped factor", total) as advance:
        for tag, samples in selection.subsets.items():
            room = max(longest_given[tag], config.sampling.max_tokens)
            sources = {f: _sources(samples, f, swaps) for f in Factor}
            contexts, dropped = [], 0
            for i, sample in enumerate(samples):
                pairs = [(samples[j], f) for f in Factor for j in sources[f][i] if j >= 0]
                made = [_fitting(swapped(sample, s, f), f, model, config, room) for s, f in pairs]
                contexts.append(tuple(s for s, _ in made))
                dropped += sum(turns > 0 for _, turns in made)
                advance(1)
            plans[tag] = Swaps(sources, tuple(contexts), dropped)
    return plans


def _fitting(
    sample: Sample, factor: Factor, model: Checkpoint, config: ConfigDict, room: int
) -> tuple[Sample, int]:
    try:
        return fit_sample(sample, model, config, room)
    except UserError as e:
        raise UserError(f"config.factors.swaps: with the {factor} of another sample, {e}") from None


def _sources(samples: Sequence[Sample], factor: Factor, swaps: int) -> np.ndarray:
    rows = np.full((len(samples), swaps), -1)
    for i in range(len(samples)):
        found = list(itertools.islice(differing(samples, i, factor), swaps))
        if len(found) == swaps:
            rows[i] = found
    return rows


def score_swaps(
    tag: str,
    samples: Sequence[Sample],
    answers: Mapping[str, Mapping[str, Answer]],
    swaps: Swaps,
    model: Engine,
    store: Store,
    span: str,
) -> Scores:
    """log q(y_i | x_i with one factor swapped) of the golden and every policy's own response.

    All responses to a context are scored against one cached prompt, and stored with it; persona and
    character that swapped contexts share are computed once.

    Args:
      tag: of the subset.
      samples: its N contexts.
      answers: policy -> sample id -> answer.
      swaps: of `plan_swaps`.
      model: q.
      store: finished rows.
      span: `config.estimator.span`.

    Returns:
      policy (or `golden`) -> factor -> [N, K − 1] in nats, NaN where there is none.
    """
    texts = [{GOLDEN: golden_answer(s)} for s in samples]
    for s, row in zip(samples, texts, strict=True):
        row |= {policy: by_id[s.sample_id] for policy, by_id in answers.items()}
    columns: list[list[Response | None]] = [
        [to_response(model.tokenizer, a, span) if a.text else None for a in row.values()]
        for row in texts
    ]
    shape = next(iter(swaps.sources.values())).shape
    scores = {p: {f: np.full(shape, np.nan) for f in Factor} for p in texts[0]}
    rows = []
    for contexts, responses in zip(swaps.contexts, columns, strict=True):
        asked = [model.tokenizer.encode_chat(prompts.scorer_messages(c)) for c in contexts]
        wanted = np.ones((len(asked), len(responses)), bool)
        names = [c.sample_id for c in contexts]
        rows.append(find_rows(model, store, names, asked, branch_points(asked), responses, wanted))
    total = sum(sum(r.flops) for r in rows)
    with progress(f"{tag}: contexts with a swapped factor", total, OPERATIONS) as advance:
        blocks = score_rows(model, store, rows, advance)
    for i, block in enumerate(blocks):
        place = 0
        for factor in (f for f in Factor if swaps.sources[f][i, 0] >= 0):
            for policy, column in zip(scores, block[place : place + shape[1]].T, strict=True):
                scores[policy][factor][i] = column
            place += shape[1]
    return scores
