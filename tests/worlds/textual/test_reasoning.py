"""The reasoner's law by enumeration of all thoughts, and its draws."""

import itertools

import numpy as np
import pytest

from remid_jax.worlds.textual import reasoning, truth
from remid_jax.worlds.textual.facts import SLOTS, textual_world

WORLD = textual_world()
EVERY = np.arange(reasoning.NUM_THOUGHTS)
SIZES = (4, 6, 5, 4, 8)


def law(x, error):
    return np.exp(reasoning.thought_log_prob(WORLD, EVERY, x, error))


@pytest.mark.parametrize("error", [0.0, 0.2, 1.0])
def test_the_law_is_the_formula(error):
    for x in (0, 777, 11519):
        p = law(x, error)
        assert p.sum() == pytest.approx(1, abs=1e-12)
        u, _, d = truth.context_parts(WORLD, x)
        mood = WORLD.moods[u, WORLD.topics[d]]
        right = (int(mood), *truth.right_slots(WORLD, x).tolist())
        for r, facts in enumerate(itertools.product(*map(range, SIZES))):
            wrong = [k for k in range(5) if facts[k] != right[k]]
            want = {0: 1 - error, 1: error / 5 / (SIZES[wrong[0]] - 1) if wrong else 0}
            assert p[r] == pytest.approx(want.get(len(wrong), 0), abs=1e-12)


def test_shapes_broadcast():
    x = np.array([[3], [4]])
    values = reasoning.thought_log_prob(WORLD, np.arange(7), x, 0.3)
    assert values.shape == (2, 7)
    one = reasoning.thought_log_prob(WORLD, 5, 4, 0.3)
    assert one.shape == () and one == values[1, 5]


def test_draws_follow_the_law():
    x, n = 5000, 40_000
    drawn = reasoning.sample_thoughts(WORLD, np.full(n, x), 0.3, seed=1)
    p = law(x, 0.3)
    counts = np.bincount(drawn, minlength=len(p))
    assert counts[p == 0].sum() == 0
    kept = p > 0
    chi2 = np.sum((counts[kept] - n * p[kept]) ** 2 / (n * p[kept]))
    freedom = kept.sum() - 1
    assert freedom == sum(SIZES) - 5
    assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)


def test_error_rates_zero_and_one():
    x = np.arange(0, WORLD.num_contexts, 50)
    right = reasoning.right_thought(WORLD, x)
    assert (reasoning.sample_thoughts(WORLD, x, 0.0) == right).all()
    assert (reasoning.sample_thoughts(WORLD, x, 1.0) != right).all()


def information(joint):
    """I of a joint law [A, B], nats."""
    a, b = np.nonzero(joint)
    return np.sum(joint[a, b] * np.log(joint[a, b] / joint.sum(1)[a] / joint.sum(0)[b]))


def test_a_thought_tells_all_about_the_response_until_it_errs():
    """Without errors I(R;Y) = I(X;Y); with them I(R;Y) < I(X;Y) = I((X,R);Y)."""
    world = textual_world(personas=2, characters=2)
    law_x = truth.joint_of(truth.law_of(world, "IDTest")).ravel()
    x = np.flatnonzero(law_x)
    joint = law_x[x][:, None] * truth.channel(world, x)
    shares = []
    for error in (0.0, 0.2, 0.6):
        thoughts = reasoning.reasoner(world, x, error)
        assert thoughts.shape == (len(x), len(EVERY)) and np.allclose(thoughts.sum(1), 1)
        shares.append(information(thoughts.T @ joint) / information(joint))
    assert shares[0] == pytest.approx(1, abs=1e-9)
    assert 1 > shares[1] > shares[2] > 0.5


def test_bad_input_is_refused():
    for error in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="error is"):
            reasoning.thought_log_prob(WORLD, 0, 0, error)
        with pytest.raises(ValueError, match="error is"):
            reasoning.sample_thoughts(WORLD, [0], error)
    with pytest.raises(ValueError, match="r of shape"):
        reasoning.thought_facts(4 * int(np.prod(SLOTS)))
