"""What predicting the worst case takes beside a diagnosis: answers of q, and pairs across subsets.

No golden response to a shifted context enters a prediction: responses that q draws there stand in
for them. Golden ones are scored where there are any, for the sampled linear bound beside it.
"""

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from ml_collections import ConfigDict

from remid_jax.evaluation.answers import Response
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.matrices import Asked, Mixture, mixture_of
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.requests import UNKNOWN, About, Generate, Request, Tokens, is_drawn
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.information.bound_estimates import BoundBlocks, PredictionBlocks
from remid_jax.information.pairs import GOLDEN, MIN_CONTEXTS, REFERENCE_ROWS

STAND_INS = "answers of q for the prediction"
PAIRS = "likelihoods of the prediction"
Column = tuple[str | None, str]  # who answers, None for q; tag of the contexts that are answered


class Scored(Protocol):
    """The parts of a subset's plan that a prediction takes."""

    asked: Asked
    scores: Mixture
    responses: Mapping[str, Sequence[Response | None]]


@dataclasses.dataclass(frozen=True)
class Extra:
    """Scores under contexts of one subset, beside those that its diagnosis has.

    Attributes:
      rows: indices of the contexts.
      columns: the responses under them.
      scores: the pairs of both that the diagnosis lacks.
    """

    rows: Sequence[int]
    columns: Mapping[Column, Sequence[Response | None]]
    scores: Mixture

    def values(self, cache: Cache) -> dict[Column, np.ndarray]:
        """[rows, responses] float64 in nats, NaN where the diagnosis has the pair."""
        ends = np.cumsum([len(column) for column in self.columns.values()])[:-1]
        parts = np.split(self.scores.values(cache)[0], ends, axis=1)
        return dict(zip(self.columns, parts, strict=True))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Requests of a prediction.

    Attributes:
      home: tag of the in-distribution subset.
      draws: shifted tag -> requests for responses of q, one a chosen context.
      stand_ins: shifted tag -> these responses; None is empty.
      extras: tag -> scores under its contexts.
    """

    home: str
    draws: Mapping[str, Sequence[Generate]]
    stand_ins: Mapping[str, Sequence[Response | None]]
    extras: Mapping[str, Extra]

    @property
    def drawn(self) -> list[Generate]:
        """All requests for responses of q."""
        return [r for some in self.draws.values() for r in some]

    @property
    def requests(self) -> list[Request]:
        """All of them."""
        scores = (r for extra in self.extras.values() for r in extra.scores.requests)
        return [*self.drawn, *scores]

    @property
    def is_final(self) -> bool:
        """Whether all responses of q are there."""
        return all(is_drawn(y.tokens) for some in self.stand_ins.values() for y in some if y)


def spread_evenly(n: int, most: int) -> list[int]:
    """Indices of at most `most` of n contexts, at even distances; 0: all."""
    k = min(n, most) if most else n
    return [i * n // k for i in range(k)]


def prompt_drawn_from(asked: Asked, i: int, thought_free: float, seed: int) -> Tokens:
    """The prompt of context i of a component of its mixture, drawn by weight.

    A response to it is a draw from the mixture.
    """
    counts = asked.thoughts[i].values()
    weights = [thought_free, *((1 - thought_free) * c / sum(counts) for c in counts)]
    prompts = [asked.plain[i], *asked.thoughts[i]]
    return random.Random(f"{seed} {asked.ids[i]}").choices(prompts, weights)[0]


def plan_prediction(
    scorer: Model, scoring: Model, config: ConfigDict, subsets: Mapping[str, Scored],
    reply: SamplingConfig, prefix_lengths: Callable[[str, int, Tokens], Tokens], cache: Cache,
) -> Prediction:  # fmt: skip
    """Responses of q to shifted contexts, and the pairs of `BoundBlocks` that a diagnosis lacks.

    Responses are drawn from q's own law, and are no longer than the longest golden one in
    distribution, whatever `sampling.max_tokens` of the evaluated models.

    Args:
      scorer: q, which draws.
      scoring: q as likelihoods are asked of it.
      config: of the diagnosis.
      subsets: tag -> its plan, the in-distribution one first.
      reply: how the evaluated models answer, of which seed and stop strings are kept.
      prefix_lengths: of a subset's tag, a context's index and a prompt about it: the beginnings
        that other prompts share.
      cache: of results, empty until all thoughts are known.
    """
    home, *shifted = subsets
    longest = max(len(y.tokens) for y in subsets[home].responses[GOLDEN] if y)
    own_law = dataclasses.replace(
        reply, max_tokens=longest, temperature=1.0, top_p=1.0, repetition_penalty=1.0
    )
    draws: dict[str, list[Generate]] = {}
    for tag in shifted:
        asked, draws[tag] = subsets[tag].asked, []
        for i in spread_evenly(len(asked.ids), config.prediction.contexts):
            prompt = prompt_drawn_from(asked, i, config.reasoning.thought_free, config.seed)
            about = About(STAND_INS, tag, asked.ids[i])
            shared = prefix_lengths(tag, i, prompt)
            draws[tag].append(Generate(scorer, prompt, shared, own_law, about))
    stand_ins = {tag: _stand_ins(some, cache) for tag, some in draws.items()}
    extras = _extras(scoring, config, subsets, stand_ins)
    return Prediction(home, draws, stand_ins, extras)


def _stand_ins(draws: Sequence[Generate], cache: Cache) -> list[Response | None]:
    """Responses of q as they were drawn, None where empty; of unknown tokens until all are."""
    if not all(r in cache for r in draws):
        return [Response((UNKNOWN,) * r.sampling.max_tokens) for r in draws]
    drawn = (tuple(cache.generated(r)[0].tokens) for r in draws)
    return [Response(tokens) if tokens else None for tokens in drawn]


def _extras(
    scorer: Model, config: ConfigDict, subsets: Mapping[str, Scored],
    stand_ins: Mapping[str, Sequence[Response | None]],
) -> dict[str, Extra]:  # fmt: skip
    """Tag -> the pairs to score under its contexts."""
    home, *shifted = subsets
    rows = {
        tag: spread_evenly(len(s.asked.ids), config.prediction.contexts)
        for tag, s in subsets.items()
    }

    def answers(name: str, tag: str) -> list[Response | None]:
        return [subsets[tag].responses[name][i] for i in rows[tag]]

    columns: dict[str, dict[Column, Sequence[Response | None]]] = {tag: {} for tag in subsets}
    columns[home][GOLDEN, home] = answers(GOLDEN, home)
    for tag in shifted:
        columns[home][None, tag] = columns[tag][None, tag] = stand_ins[tag]
        columns[home][GOLDEN, tag] = answers(GOLDEN, tag)
        for rpm in rpms_of(subsets[tag]):
            columns[tag] |= {(rpm, t): answers(rpm, t) for t in (home, tag)}
    extras = {}
    for tag, subset in subsets.items():
        parts = [_lacking(subset, rows[tag], tag, column) for column in columns[tag]]
        sizes = [len(responses) for responses in columns[tag].values()]
        wanted = np.concatenate(
            [np.ones((len(rows[tag]), n), bool) if p is None else p
             for p, n in zip(parts, sizes, strict=True)],
            axis=1,
        )  # fmt: skip
        scores = mixture_of(
            scorer, (PAIRS, PAIRS), subset.asked.take(rows[tag]),
            [y for responses in columns[tag].values() for y in responses],
            wanted, np.zeros_like(wanted), config.reasoning.thought_free,
        )  # fmt: skip
        extras[tag] = Extra(rows[tag], columns[tag], scores)
    return extras


def _lacking(subset: Scored, rows: Sequence[int], tag: str, column: Column) -> np.ndarray | None:
    """[rows, rows] bool, the pairs to score of a subset's own contexts; None for others: all."""
    name, of = column
    if of != tag:
        return None
    if name is None:
        return np.eye(len(rows), dtype=bool)
    return ~_own(subset, name, subset.scores.wanted, rows)


def _own(subset: Scored, name: str, matrix: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """The part of a subset's matrix [N, M] that holds chosen answers of one name."""
    first = list(subset.responses).index(name) * len(matrix)
    return matrix[np.ix_(rows, [first + i for i in rows])]


def rpms_of(subset: Scored) -> list[str]:
    """Names of the evaluated models."""
    return [name for name in subset.responses if name not in REFERENCE_ROWS]


def prediction_blocks(
    prediction: Prediction, subsets: Mapping[str, Scored], values: Mapping[str, np.ndarray],
    cache: Cache,
) -> dict[str, dict[str, PredictionBlocks]]:  # fmt: skip
    """Shifted tag -> rpm -> blocks, of contexts whose answers can all be used.

    Args:
      prediction: what was planned.
      subsets: tag -> its plan, the in-distribution one first.
      values: tag -> the matrix of its diagnosis, [N, M] in nats.
      cache: that holds every result.
    """
    extra = {tag: e.values(cache) for tag, e in prediction.extras.items()}
    rows = {tag: e.rows for tag, e in prediction.extras.items()}

    def there(name: str, tag: str) -> np.ndarray:
        """[rows] bool, which contexts have an answer."""
        return np.array([subsets[tag].responses[name][i] is not None for i in rows[tag]])

    def own(name: str, tag: str) -> np.ndarray:
        """[rows, rows], answers of a subset under its contexts, as far as they are scored."""
        known = _own(subsets[tag], name, values[tag], rows[tag])
        more = extra[tag].get((name, tag))
        return known if more is None else np.where(np.isnan(known), more, known)

    home, found = prediction.home, {}
    for tag in prediction.draws:
        found[tag] = {}
        drawn = np.array([y is not None for y in prediction.stand_ins[tag]])
        for rpm in rpms_of(subsets[tag]):
            p = np.flatnonzero(there(rpm, home) & there(GOLDEN, home))
            q = np.flatnonzero(there(rpm, tag) & drawn)
            predicted = bound = None
            if min(len(p), len(q)) >= MIN_CONTEXTS:
                predicted = BoundBlocks(
                    np.diagonal(own(rpm, home))[p],
                    extra[tag][rpm, home][np.ix_(q, p)],
                    own(rpm, tag)[np.ix_(q, q)],
                    own(GOLDEN, home)[np.ix_(p, p)],
                    np.diagonal(extra[tag][None, tag])[q],
                    extra[home][None, tag][np.ix_(p, q)],
                )
                if there(GOLDEN, tag)[q].all():
                    bound = predicted._replace(
                        golden_Q_own=np.diagonal(own(GOLDEN, tag))[q],
                        golden_Q_under_P=extra[home][GOLDEN, tag][np.ix_(p, q)],
                    )
            found[tag][rpm] = PredictionBlocks(len(q), len(p), predicted, bound)
    return found
