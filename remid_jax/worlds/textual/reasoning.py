"""A reasoner of the textual world with a chosen error rate, and its exact law q(r|x).

A thought r names five facts: the user's mood, and the four slots of the right response. With
probability e exactly one of them, each alike, is replaced by another word of its kind, each alike:

    q(r|x) = 1 − e                     all facts right,
             e / (5 (nₖ − 1))          fact k alone wrong,
             0                         otherwise.

Given x, the response does not depend on the thought: p(y|x, r) = p(y|x).
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
    """The flat thought that names the right facts; shape of x.

    Raises:
      ValueError: a context is out of range.
    """
    return np.ravel_multi_index(np.moveaxis(_right_facts(world, x), -1, 0), FACTS)


def thought_facts(r: Any) -> Array:
    """The facts of flat thoughts: [...] -> [..., 5] int.

    Raises:
      ValueError: a thought is out of range.
    """
    r = truth.checked_index(r, NUM_THOUGHTS, "r")
    return np.stack(np.unravel_index(r, FACTS), axis=-1)


def _right_facts(world: TextualWorld, x: Any) -> Array:
    mood = truth.right_mood(world, x)[..., None]
    return np.concatenate([mood, truth.right_slots(world, x)], axis=-1)


def thought_log_prob(world: TextualWorld, r: Any, x: Any, error: float) -> Array:
    """log q(r|x) of a reasoner with error rate e, nats; −∞ where it never writes r.

    Args:
      world: the world.
      r: [...] flat thoughts.
      x: [...] flat contexts; r and x broadcast.
      error: e in [0, 1], the probability that one fact is wrong.

    Raises:
      ValueError: an index or the error rate is out of range.
    """
    _check_error(error)
    wrong = thought_facts(r) != _right_facts(world, x)
    with np.errstate(divide="ignore"):
        none = np.log1p(-np.float64(error))
        one = np.log(error / len(FACTS) / (np.array(FACTS) - 1))
    single = np.where(wrong, one, 0).sum(axis=-1)
    count = wrong.sum(axis=-1)
    return np.where(count == 0, none, np.where(count == 1, single, -np.inf))


def reasoner(world: TextualWorld, x: Any, error: float) -> Array:
    """Rows q(r|x): [n, R] of the given contexts [n]; 31 kB a row.

    Raises:
      ValueError: a context or the error rate is out of range.
    """
    thoughts = np.arange(NUM_THOUGHTS)
    return np.exp(thought_log_prob(world, thoughts, np.asarray(x)[:, None], error))


def sample_thoughts(world: TextualWorld, x: Any, error: float, seed: Any = 0) -> Array:
    """Draws r ~ q(r|x): [n] flat thoughts of contexts [n].

    Raises:
      ValueError: a context or the error rate is out of range.
    """
    _check_error(error)
    rng = np.random.default_rng(seed)
    facts = _right_facts(world, x)
    fact = rng.integers(len(FACTS), size=len(facts))
    offset = rng.integers(1, np.array(FACTS)[fact])  # 1..n−1 steps from the right word: a wrong one
    offset *= rng.random(len(facts)) < error
    rows = np.arange(len(facts))
    facts[rows, fact] = (facts[rows, fact] + offset) % np.array(FACTS)[fact]
    return np.ravel_multi_index(facts.T, FACTS)


def _check_error(error: float) -> None:
    if not 0 <= error <= 1:
        raise ValueError(f"error is {error}; it must lie in [0, 1]")
