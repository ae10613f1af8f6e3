"""The reasoner's draws against the distribution of its thoughts."""

import numpy as np
import pytest

from remid_jax.worlds.textual import reasoning
from remid_jax.worlds.textual.facts import SLOTS, textual_world

WORLD = textual_world()
EVERY = np.arange(reasoning.NUM_THOUGHTS)
SIZES = (4, 6, 5, 4, 8)


def expected(x, error):
    """q(r|x) of all thoughts; fact k alone is wrong with probability e / (5 (nₖ − 1))."""
    wrong = reasoning.thought_facts(EVERY) != reasoning.thought_facts(
        reasoning.right_thought(WORLD, x)
    )
    single = (wrong * error / 5 / (np.array(SIZES) - 1)).sum(1)
    return np.select([wrong.sum(1) == 0, wrong.sum(1) == 1], [1 - error, single])


def test_draws_follow_their_distribution():
    x, n = 5000, 40_000
    drawn = reasoning.sample_thoughts(WORLD, np.full(n, x), 0.3, seed=1)
    p = expected(x, 0.3)
    counts = np.bincount(drawn, minlength=len(p))
    assert counts[p == 0].sum() == 0
    kept = p > 0
    chi2 = np.sum((counts[kept] - n * p[kept]) ** 2 / (n * p[kept]))
    dof = kept.sum() - 1
    assert dof == sum(SIZES) - 5
    assert abs(chi2 - dof) < 4 * np.sqrt(2 * dof)


def test_error_rates_zero_and_one():
    x = np.arange(0, WORLD.num_contexts, 50)
    right = reasoning.right_thought(WORLD, x)
    assert (reasoning.sample_thoughts(WORLD, x, 0.0) == right).all()
    assert (reasoning.sample_thoughts(WORLD, x, 1.0) != right).all()


def test_bad_input_is_refused():
    for error in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="error is"):
            reasoning.sample_thoughts(WORLD, [0], error)
    with pytest.raises(ValueError, match="r of shape"):
        reasoning.thought_facts(4 * int(np.prod(SLOTS)))
