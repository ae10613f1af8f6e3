"""A reasoner of the textual world with a chosen error rate.

A thought r names five facts: the user's mood, and the four slots of the right response. With
probability e exactly one of them, each alike, is replaced by another word of its kind, each alike:

    q(r|x) = 1 − e                     all facts right,
             e / (5 (nₖ − 1))          fact k alone wrong,
             0                         otherwise.

Given x, the response does not depend on the thought: p(y|x, r) = p(y|x). An index out of range is a
ValueError.
"""

from typing import Any

import numpy as np

from remid_jax.worlds.textual import facts, truth
from remid_jax.worlds.textual.facts import Array, TextualWorld
from remid_jax.worlds.textual.words import MOODS

FACTS = (len(MOODS), *facts.SLOTS)
"""Number of words of each fact: mood, greeting, voice, verb, item."""

NUM_THOUGHTS = int(np.prod(FACTS))


def right_thought(world: TextualWorld, x: Any) -> Array:
    """The flat thought that names the right facts; shape of x."""
    return np.ravel_multi_index(np.moveaxis(_right_facts(world, x), -1, 0), FACTS)


def thought_facts(r: Any) -> Array:
    """The facts of flat thoughts: [...] -> [..., 5] int."""
    r = truth.checked_index(r, NUM_THOUGHTS, "r")
    return np.stack(np.unravel_index(r, FACTS), axis=-1)


def _right_facts(world: TextualWorld, x: Any) -> Array:
    mood = truth.right_mood(world, x)[..., None]
    return np.concatenate([mood, truth.right_slots(world, x)], axis=-1)


def sample_thoughts(world: TextualWorld, x: Any, error: float, seed: Any = 0) -> Array:
    """Draws r ~ q(r|x): [n] flat thoughts of contexts [n].

    Raises:
      ValueError: a context or the error rate is out of range.
    """
    if not 0 <= error <= 1:
        raise ValueError(f"error is {error}; it must lie in [0, 1]")
    rng = np.random.default_rng(seed)
    facts = _right_facts(world, x)
    fact = rng.integers(len(FACTS), size=len(facts))
    offset = rng.integers(1, np.array(FACTS)[fact])  # 1..n−1 steps from the right word: a wrong one
    offset *= rng.random(len(facts)) < error
    rows = np.arange(len(facts))
    facts[rows, fact] = (facts[rows, fact] + offset) % np.array(FACTS)[fact]
    return np.ravel_multi_index(facts.T, FACTS)
