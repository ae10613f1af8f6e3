"""From judgments one by one to arrays: who was judged, in which order, how often."""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.judgments import (
    FIRST,
    SECOND,
    TIE,
    Judgment,
    Rating,
    Verdict,
    read_judgments,
)
from remid_jax.data.responses import Answer
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.information.judgments import PAIRWISE, POINTWISE, Judgments
from remid_jax.information.pairs import GOLDEN, REFERENCE_ROWS, SHUFFLED

POINTS = {FIRST: 1.0, SECOND: -1.0, TIE: 0.0, None: np.nan}  # of the first
Subsets = Mapping[str, Sequence[Sample]]
Texts = Mapping[str, Mapping[str, Sequence[str]]]  # see `reference_texts`
Place = tuple[str, str, str | None]  # tag, name, what it is held against


def read_judges(
    config: ConfigDict, subsets: Subsets, rpms: Sequence[str]
) -> dict[str, list[Judgment]]:
    """Name -> judgments of each judge whose judgments are in a file.

    Args:
      config: of the diagnosis.
      subsets: tag -> the chosen samples.
      rpms: names of the evaluated models.

    Raises:
      UserError: a file that cannot be used, see `read_judgments`; or one that holds each pair in
        one order alone.
    """
    ids = [s.sample_id for samples in subsets.values() for s in samples]
    names = (*rpms, *REFERENCE_ROWS)
    found = {}
    for name, keys in config.judges.items():
        if keys.precomputed:
            found[name] = read_judgments(keys.precomputed, ids, names)
            _check_orders(found[name], keys.precomputed)
    return found


def _check_orders(judgments: Sequence[Judgment], file: str) -> None:
    pairs = [j for j in judgments if isinstance(j, Verdict)]
    seen = {(j.sample_id, j.first, j.second) for j in pairs}
    if pairs and not any((i, b, a) in seen for i, a, b in seen):
        raise UserError(
            f"judgment file {file} holds every pair in one order alone; judge each in both, as "
            "'first' and as 'second': what changes with the order is no verdict"
        )


def reference_texts(
    subsets: Subsets, golden: Mapping[str, Answer], references: Mapping[str, Mapping[str, Answer]]
) -> dict[str, dict[str, list[str]]]:
    """Tag -> reference row -> texts, one a sample, empty where there is none.

    Args:
      subsets: tag -> the chosen samples.
      golden: sample id -> golden response.
      references: name -> sample id -> response of the other rows.
    """
    found = {}
    for tag, samples in subsets.items():
        own = [golden[s.sample_id].text for s in samples]
        more = {n: [by_id[s.sample_id].text for s in samples] for n, by_id in references.items()}
        found[tag] = {GOLDEN: own, SHUFFLED: [*own[1:], *own[:1]], **more}
    return found


def tells(texts: Mapping[str, Sequence[str]], reference: str) -> np.ndarray:
    """[N] bool, whether a reference row can be compared with golden: both are there and differ."""
    both = zip(texts[GOLDEN], texts.get(reference, [""] * len(texts[GOLDEN])), strict=True)
    return np.array([bool(golden) and bool(other) and golden != other for golden, other in both])


def mode_of(judgments: Sequence[Judgment]) -> str:
    """Of the judgments of a file, all of one kind."""
    return PAIRWISE if isinstance(judgments[0], Verdict) else POINTWISE


def to_arrays(
    name: str, mode: str, source: str, judgments: Sequence[Judgment], subsets: Subsets,
    rpms: Sequence[str], texts: Texts, stopped: bool = False,
) -> Judgments:  # fmt: skip
    """What a judge said, by subset and row; what compares a text with itself is left out.

    Args:
      name: of the judge.
      mode: `pairwise` or `pointwise`.
      source: where its judgments come from.
      judgments: in any order, repeated ones as further calls.
      subsets: tag -> the chosen samples.
      rpms: names of the evaluated models.
      texts: see `reference_texts`.
      stopped: see `Judgments`.
    """
    places = {
        s.sample_id: (tag, i) for tag, samples in subsets.items() for i, s in enumerate(samples)
    }
    rank = {row: k for k, row in enumerate((*rpms, *REFERENCE_ROWS))}
    calls: dict[Place, dict[tuple[int, int], list[float]]] = {}
    unscored = 0
    for j in judgments:
        tag, i = places[j.sample_id]
        if isinstance(j, Rating):
            place, order, value = (tag, j.rpm, None), 0, np.nan if j.score is None else j.score
        else:
            a, b = sorted((j.first, j.second), key=rank.__getitem__)
            order = int(j.first != a)
            place, value = (tag, a, b), POINTS[j.winner] * (-1 if order else 1)
        unscored += not np.isfinite(value)
        calls.setdefault(place, {}).setdefault((i, order), []).append(value)
    arrays = {
        place: _array(some, len(subsets[place[0]]), place, texts[place[0]])
        for place, some in calls.items()
    }
    verdicts, scores = {}, {}
    for (tag, row, other), array in arrays.items():
        if mode == PAIRWISE:
            verdicts.setdefault(tag, {})[row, other] = array
        else:
            scores.setdefault(tag, {})[row] = array[:, 0]
    return Judgments(name, mode, source, verdicts, scores, len(judgments), unscored, stopped)


def _array(
    calls: Mapping[tuple[int, int], Sequence[float]], n: int, place: Place,
    texts: Mapping[str, Sequence[str]],
) -> np.ndarray:  # fmt: skip
    """[N, 2, R] of a place's calls; NaN where there is none, or nothing to compare."""
    found = np.full((n, 2, max(map(len, calls.values()))), np.nan)
    for (i, order), values in calls.items():
        found[i, order, : len(values)] = values
    _, row, other = place
    for name in {row, other} & {*REFERENCE_ROWS} - {GOLDEN}:
        found[~tells(texts, name)] = np.nan
    return found
