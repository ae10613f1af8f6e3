"""The facts of a textual world: who is what, who recommends what, and what is talked about."""

import dataclasses
import itertools
import operator
from typing import Any

import numpy as np

from remid_jax.worlds.textual import words

Array = np.ndarray

SLOTS = (len(words.GREETINGS), len(words.VOICES), len(words.VERBS), len(words.ITEMS))
"""Number of words of each slot of a response: greeting, voice, verb, item."""

NUM_RESPONSES = int(np.prod(SLOTS))
SHORT, LONG = 4, 8  # user turns in-distribution, and in TurnLevelComposition
LEAST_ENTROPY = 0.5  # nats of H(Y|X), so that no context has a single answer


@dataclasses.dataclass(frozen=True, eq=False)
class TextualWorld:
    """The facts of a world; made by `textual_world`.

    Attributes:
      culture: [U] index into CULTURES.
      moods: [U, topics] index into MOODS: what a persona is like in each place.
      category: [C] index into CATEGORIES.
      voices: [C] index into VOICES.
      items: [C, moods] index into ITEMS: what a character recommends to each mood.
      topics: [D] index into TOPICS.
      verbs: [D] index into VERBS.
      user_turns: [D] number of user turns.
      noise: [4] probability that a slot of the response is not the right one.
    """

    culture: Array
    moods: Array
    category: Array
    voices: Array
    items: Array
    topics: Array
    verbs: Array
    user_turns: Array
    noise: Array

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of personas, characters and dialogues: (U, C, D)."""
        return len(self.culture), len(self.category), len(self.topics)

    @property
    def num_contexts(self) -> int:
        """X = U·C·D."""
        return int(np.prod(self.shape))


def textual_world(
    *,
    personas: int = 4,
    characters: int = 4,
    noise: float | tuple[float, float, float, float] = 0.15,
    seed: int = 0,
) -> TextualWorld:
    """A world with 6 cultures, 5 categories of characters and 24 dialogues.

    Args:
      personas: number for each culture, 1 to 16.
      characters: number for each category, 1 to 16.
      noise: probability that a slot is wrong: one for all, or (greeting, voice, verb, item).
      seed: of moods and items.

    Raises:
      ValueError: a number is out of its range, or the noise leaves less than .5 nats of H(Y|X).

    >>> textual_world().shape, NUM_RESPONSES
    ((24, 20, 24), 960)
    """
    for name, count in (("personas", personas), ("characters", characters)):
        if not 1 <= operator.index(count) <= words.GROUP_LIMIT:
            raise ValueError(f"{name} is {count}; it must lie in 1..{words.GROUP_LIMIT}")
    rng = np.random.default_rng(seed)
    culture = np.repeat(np.arange(len(words.CULTURES)), personas)
    category = np.repeat(np.arange(len(words.CATEGORIES)), characters)
    topics, verbs, turns = _dialogues()
    return TextualWorld(
        culture=culture,
        moods=np.concatenate([_distinct_orders(rng, personas) for _ in words.CULTURES]),
        category=category,
        voices=(_ranks(category) % 4 + category) % len(words.VOICES),  # the real: never the fifth
        items=np.stack([rng.permutation(len(words.ITEMS))[: len(words.MOODS)] for _ in category]),
        topics=topics,
        verbs=verbs,
        user_turns=turns,
        noise=_checked_noise(noise),
    )


def _ranks(group: Array) -> Array:
    """How many members of the same group come before each: [n] for a sorted group [n]."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def _distinct_orders(rng: np.random.Generator, count: int) -> Array:
    """Moods of `count` personas: each has all moods, one a topic, and no two the same order."""
    orders = np.array(list(itertools.permutations(range(len(words.MOODS)))))
    return orders[rng.permutation(len(orders))[:count]]


def _dialogues() -> tuple[Array, Array, Array]:
    """Topics, verbs and user turns of ID, then TurnLevel-, then WordLevelComposition dialogues.

    Topic and verb are of the same parity in-distribution; WordLevelComposition has the other
    pairs, each of whose words is in-distribution in another pair.
    """
    pairs = [(t, v) for t in range(len(words.TOPICS)) for v in range(len(words.VERBS))]
    seen = [p for p in pairs if sum(p) % 2 == 0]
    new = [p for p in pairs if sum(p) % 2 == 1]
    topics, verbs = np.array(seen + seen + new).T
    turns = np.repeat([SHORT, LONG, SHORT], [len(seen), len(seen), len(new)])
    return topics, verbs, turns


def _checked_noise(noise: Any) -> Array:
    noise = np.asarray(noise, np.float64)
    if noise.shape not in ((), (len(SLOTS),)):
        raise ValueError(f"noise of shape {noise.shape} must be a number or {len(SLOTS)} of them")
    noise = np.array(np.broadcast_to(noise, (len(SLOTS),)))
    if not ((noise > 0) & (noise < 1)).all():
        raise ValueError(f"noise of shape {noise.shape} is {noise.tolist()}; need (0, 1) in each")
    if noise_entropy(noise) < LEAST_ENTROPY:
        raise ValueError(
            f"noise {noise.tolist()} gives H(Y|X) = {noise_entropy(noise):.3f} < .5 nats"
        )
    return noise


def noise_entropy(noise: Array) -> float:
    """H(Y|X) = Σₛ [−(1 − εₛ) log(1 − εₛ) − εₛ log(εₛ/(nₛ − 1))], nats, of the noise [4]."""
    others = np.array(SLOTS) - 1
    return float(-np.sum((1 - noise) * np.log1p(-noise) + noise * np.log(noise / others)))
