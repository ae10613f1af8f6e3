"""What the policy reads of thoughts, and the figures of an evaluation."""

import math

import numpy as np
import pytest

from remid_jax.training.evaluation import Predicted, ratio_of_sums
from remid_jax.training.notes import notes_of

THOUGHTS = [
    ["[User Facts] a [Core Features of the Golden Response] one two", "no marks"],
    ["[Core Features of the Golden Response] three", "[User Facts] b"],
]


def test_own_notes_are_the_core_or_everything():
    assert notes_of(THOUGHTS, "own")[0] == ["one two", "no marks"]
    assert notes_of(THOUGHTS, "own")[1][0] == "three"


def test_controls():
    own = notes_of(THOUGHTS, "own")
    assert notes_of(THOUGHTS, "none") == [[None, None], [None, None]]
    assert notes_of(THOUGHTS, "shuffled") == [own[1], own[0]]
    assert notes_of(THOUGHTS, "filler")[0] == [". .", ". ."]


def test_ratio_of_sums():
    rng = np.random.default_rng(0)
    sets = rng.gamma(2.0, size=(2000, 60, 2))
    sets[..., 1] += 1
    sets[..., 0] += sets[..., 1]
    found = [ratio_of_sums(s[:, 0], s[:, 1]) for s in sets]
    spread = np.std([r for r, _ in found])
    assert np.mean([e for _, e in found]) == pytest.approx(spread, rel=0.05)
    assert ratio_of_sums(np.array([3.0]), np.array([2.0])) == (1.5, 0.0)


def test_summary():
    sums, tokens = np.array([-4.0, -8.0]), np.array([2, 4])
    said = Predicted(["a", "b"], sums, tokens, sums * 2, np.array([0.0, 1.0])).summary()
    assert said["perplexity"] == pytest.approx(math.exp(2)) and said["perplexity_se"] == 0
    assert said["perplexity_other_thought"] == pytest.approx(math.exp(4))
    assert said["overlap"] == 0.5 and said["log_q"] == -6 and said["n"] == 2
