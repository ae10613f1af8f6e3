"""The samples that lose most, in words: their texts, and what each word of an answer loses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.data.characters import character_name, character_text
from remid_jax.data.factors import Factor
from remid_jax.data.own_words import WITHOUT_SPACES
from remid_jax.evaluation.answers import Response, copied_in
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.plan import Plan, Task
from remid_jax.information.pairs import GOLDEN
from remid_jax.models.tokenizer_offsets import token_offsets

DIGITS = 4  # of nats: sums over the words of an answer keep three
Record = dict[str, Any]


def with_texts(
    chosen: Sequence[Mapping[str, Any]], task: Task, plan: Plan, cache: Cache
) -> list[Record]:
    """Chosen samples with their texts and words, as `examples.json` holds them.

    Args:
      chosen: records with `rpm`, `subset` and `sample_ID`; see `analysis.examples`.
      task: what was evaluated.
      plan: of it, final.
      cache: that holds every result.
    """
    places = {
        tag: {s.sample_id: i for i, s in enumerate(samples)}
        for tag, samples in task.selection.subsets.items()
    }
    return [
        {**row, **_texts(row["rpm"], row["subset"], i, task, plan, cache)}
        for row in chosen
        for i in [places[row["subset"]][row["sample_ID"]]]
    ]


def _texts(rpm: str, tag: str, i: int, task: Task, plan: Plan, cache: Cache) -> Record:
    sample, responses = task.selection.subsets[tag][i], plan.subsets[tag].responses
    answer = plan.subsets[tag].texts.answers[rpm][sample.sample_id]
    words = {
        key: _words(response, tag, i, task, plan, cache) if response else []
        for key, response in (
            ("words", responses[rpm][i]),
            ("words_golden", responses[GOLDEN][i]),
        )
    }
    return {
        "user": sample.persona,
        "character": character_text(sample.character),
        "character_name": character_name(sample.character),
        "dialogue": [{"speaker": role, "text": text} for role, text in sample.dialogue],
        "golden": task.golden[sample.sample_id].text or None,
        "answer": answer.text,
        **words,
    }


def _words(
    response: Response, tag: str, i: int, task: Task, plan: Plan, cache: Cache
) -> list[Record]:
    """The words of a response to sample i, and what each loses with the factors of partners."""
    tokenizer, sample = task.models.scorer.tokenizer, task.selection.subsets[tag][i]
    text = tokenizer.decode(response.tokens)
    offsets = token_offsets(tokenizer, response.tokens, text)[response.skip :]
    (copied,) = copied_in(response, sample, tokenizer, [{}])
    gaps = _token_gaps(response, tag, i, task, plan, cache)
    return [
        {
            "text": text[offsets[a, 0] : offsets[b - 1, 1]],
            "copied": bool(copied[a]),
            "nats": {
                str(f): None if x is None else round(float(x[a:b].sum()), DIGITS)
                for f, x in gaps.items()
            },
        }
        for a, b in _spans(text, offsets, copied)
    ]


def _token_gaps(
    response: Response, tag: str, i: int, task: Task, plan: Plan, cache: Cache
) -> dict[Factor, np.ndarray | None]:
    """Factor -> [T] log q of each counted token minus its mean over swapped contexts, in nats."""
    swaps, found = task.swaps[tag], plan.subsets[tag]
    own = found.scores.plain.log_probs(cache, i)[response.tokens][response.skip :]
    under: dict[Factor, list[np.ndarray]] = {factor: [] for factor in swaps.sources}
    for row, (factor, _) in enumerate(swaps.places(i)):
        scores = found.swapped[i].log_probs(cache, row)[response.tokens]
        under[factor].append(scores[response.skip :])
    return {f: own - np.mean(rows, axis=0) if rows else None for f, rows in under.items()}


def _spans(text: str, offsets: np.ndarray, copied: np.ndarray) -> Iterator[tuple[int, int]]:
    """First token and end of each word, whose tokens are all copied or all its own.

    A word begins at the space before it, and in scripts without spaces at each token.
    """
    first = 0
    for k in range(1, len(offsets)):
        said, after = text[offsets[first, 0] : offsets[k, 0]], text[offsets[k, 0] :][:1]
        apart = after.isspace() or said[-1:].isspace() or bool(WITHOUT_SPACES.match(after))
        if copied[k] != copied[first] or (said.strip() and apart):
            yield first, k
            first = k
    if len(offsets):
        yield first, len(offsets)
