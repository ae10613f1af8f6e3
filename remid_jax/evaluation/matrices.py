"""Scores of responses under prompts, as requests, and the numbers that they become."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from remid_jax.evaluation.answers import Response
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.requests import UNKNOWN, About, Score, Tokens
from remid_jax.information.mixture import effective_components, thought_mixture


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Scores of responses under prompts.

    Attributes:
      requests: [N], one a prompt, or None where nothing of its row is wanted.
      columns: [M] responses; None is never scored.
      wanted: [N, M] bool.
    """

    requests: Sequence[Score | None]
    columns: Sequence[Response | None]
    wanted: np.ndarray

    def values(self, cache: Cache) -> np.ndarray:
        """[N, M] float64 sums of log q over a response's tokens in nats, NaN where not wanted."""
        out = np.full(self.wanted.shape, np.nan)
        for i in range(len(out)):
            found = self.log_probs(cache, i)
            for j in np.flatnonzero(self.wanted[i]):
                if (y := self.columns[j]) is not None:
                    out[i, j] = found[y.tokens][y.skip :].sum()
        return out

    def log_probs(self, cache: Cache, i: int) -> dict[Tokens, np.ndarray]:
        """Response -> float64 log q of each of its tokens under prompt i, in nats."""
        if (request := self.requests[i]) is None:
            return {}
        scores = (x.astype(np.float64) for x in cache.scored(request))
        return dict(zip(request.responses, scores, strict=True))


@dataclasses.dataclass(frozen=True)
class Asked:
    """The scorer's prompts about the contexts of one subset.

    Attributes:
      tag: of the subset.
      ids: [N], of the samples.
      thoughts: [N], the distinct prompts with a thought, and how many of the draws give each.
      plain: [N], the prompts without a thought.
      points: [N], for each prompt with a thought, then for the one without, the lengths of the
        beginnings that it shares with others of its sample.
    """

    tag: str
    ids: Sequence[str]
    thoughts: Sequence[Mapping[Tokens, int]]
    plain: Sequence[Tokens]
    points: Sequence[Sequence[Tokens]]

    def take(self, rows: Sequence[int]) -> "Asked":
        """Of some of the contexts."""
        lists = (self.ids, self.thoughts, self.plain, self.points)
        return Asked(self.tag, *([one[i] for i in rows] for one in lists))


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Scores with reasoning: the log of a mean of q over the thoughts of each context.

    Attributes:
      thoughts: for each of N samples the matrix of its distinct thoughts.
      counts: for each sample how often each of them was drawn.
      plain: [N, M], the prompts without a thought.
      thought_free: weight of these prompts in the mean; where it is above 0, `plain` holds all that
        is wanted of `thoughts`.
    """

    thoughts: Sequence[Matrix]
    counts: Sequence[Sequence[int]]
    plain: Matrix
    thought_free: float = 0.0

    @property
    def wanted(self) -> np.ndarray:
        """[N, M] bool, the pairs that are scored with reasoning."""
        return np.stack([matrix.wanted[0] for matrix in self.thoughts])

    @property
    def requests(self) -> list[Score]:
        """All of them, those with a thought first."""
        matrices = (*self.thoughts, self.plain)
        return [r for matrix in matrices for r in matrix.requests if r is not None]

    def values(self, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores with reasoning, without, and how many thoughts carry each context's mixture.

        Returns:
          [N, M] and [N, M] float64 in nats, NaN where not wanted; [N] `effective_components` for
          the response of the same index, golden's, NaN where it is not scored.
        """
        plain = self.plain.values(cache)
        scores, effective = np.full(plain.shape, np.nan), np.full(len(plain), np.nan)
        for i, (matrix, counts) in enumerate(zip(self.thoughts, self.counts, strict=True)):
            parts = matrix.values(cache)
            effective[i] = effective_components(parts[:, i], counts)
            scores[i] = thought_mixture(parts, plain[i], self.thought_free, np.array(counts))
        return scores, plain, effective


def matrix_of(
    model: Model, stage: str, tag: str, names: Sequence[str], rows: Sequence[Tokens],
    prefix_lengths: Sequence[Tokens], columns: Sequence[Response | None], wanted: np.ndarray,
) -> Matrix:  # fmt: skip
    """One request a prompt for the distinct responses that are wanted under it.

    Args:
      model: q.
      stage, tag, names: what requests are for; `names` [N] are ids of samples.
      rows: [N] prompts.
      prefix_lengths: [N], of beginnings that each prompt shares.
      columns, wanted: see `Matrix`.
    """
    requests = []
    for row, lengths, sample, keep in zip(rows, prefix_lengths, names, wanted, strict=True):
        chosen = [y.tokens for y, k in zip(columns, keep, strict=True) if k and y is not None]
        known = dict.fromkeys(y for y in chosen if UNKNOWN not in y)
        responses = (*known, *(y for y in chosen if UNKNOWN in y))
        about = About(stage, tag, sample)
        requests.append(Score(model, row, lengths, responses, about) if responses else None)
    return Matrix(requests, columns, wanted)


def mixture_of(
    model: Model, stages: tuple[str, str], asked: Asked, columns: Sequence[Response | None],
    wanted: np.ndarray, plainly: np.ndarray, thought_free: float,
) -> Mixture:  # fmt: skip
    """The requests for responses under the prompts of one subset.

    Args:
      model: q.
      stages: what requests with reasoning and those without are for.
      asked: the prompts.
      columns: [M] responses; None is never scored.
      wanted: [N, M] bool, the pairs to score with reasoning.
      plainly: [N, M] bool, those to score without; what a mixture needs is added.
      thought_free: weight in the mixture of the prompt without a thought.
    """
    if thought_free:
        plainly = plainly | wanted
    reasoned, beside = [], []
    for i, (name, thoughts, points) in enumerate(
        zip(asked.ids, asked.thoughts, asked.points, strict=True)
    ):
        k = len(thoughts)
        keep = wanted[i : i + 1].repeat(k, axis=0)
        rows = list(thoughts), points[:k]
        reasoned.append(matrix_of(model, stages[0], asked.tag, [name] * k, *rows, columns, keep))
        beside.append(points[k])
    counts = [list(thoughts.values()) for thoughts in asked.thoughts]
    rows = asked.ids, asked.plain, beside
    without = matrix_of(model, stages[1], asked.tag, *rows, columns, plainly)
    return Mixture(reasoned, counts, without, thought_free)
