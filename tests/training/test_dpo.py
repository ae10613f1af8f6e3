"""The loss of preferences, beside a loop in numpy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.errors import UserError
from remid_jax.training.dpo import DpoConfig, dpo_loss

N, S = 5, 7


@pytest.fixture
def numbers():
    """Log-probs and reference [N, 2, S], NaN where nothing is scored, and the mask."""
    rng = np.random.default_rng(0)
    mask = np.arange(S) < rng.integers(1, S + 1, (N, 2))[..., None]
    ours, reference = (np.where(mask, rng.normal(-2, 1, (N, 2, S)), np.nan) for _ in range(2))
    return ours.astype(np.float32), reference.astype(np.float32), mask


@pytest.mark.parametrize("how", ["sequence", "token"])
def test_the_loss_is_that_of_a_loop(numbers, how):
    ours, reference, mask = numbers
    expected, margins = 0.0, []
    for n in range(N):
        ratios = []
        for k in range(2):
            parts = [ours[n, k, s] - reference[n, k, s] for s in range(S) if mask[n, k, s]]
            ratios.append(sum(parts) / (len(parts) if how == "token" else 1))
        margins.append(0.3 * (ratios[0] - ratios[1]))
        expected += math.log1p(math.exp(-margins[-1]))
    total, pairs, metrics = dpo_loss(*numbers, DpoConfig(beta=0.3, normalisation=how))
    assert float(total) == pytest.approx(expected, rel=1e-5) and float(pairs) == N
    means = {name: float(a / b) for name, (a, b) in metrics.items()}
    assert means["margin"] == pytest.approx(np.mean(margins), rel=1e-5)
    assert means["accuracy"] == pytest.approx(np.mean(np.array(margins) > 0))


def test_the_gradient_raises_the_preferred_answer_alone(numbers):
    ours, reference, mask = numbers

    def loss(ours, reference):
        return dpo_loss(ours, reference, mask, DpoConfig())[0]

    slopes, still = jax.grad(loss, (0, 1))(jnp.asarray(ours), jnp.asarray(reference))
    slopes = np.asarray(slopes)
    assert (slopes[:, 0][mask[:, 0]] < 0).all() and (slopes[:, 1][mask[:, 1]] > 0).all()
    assert (slopes[~mask] == 0).all()
    assert not np.asarray(still).any()


def test_what_is_no_loss_is_refused(numbers):
    ours, reference, mask = numbers
    with pytest.raises(ValueError, match=r"must all be \[pairs, 2, S\]"):
        dpo_loss(ours[:, :1], reference, mask, DpoConfig())
    for wrong, said in (({"beta": 0.0}, "dpo.beta"), ({"normalisation": "mean"}, "normalisation")):
        with pytest.raises(UserError, match=said):
            DpoConfig(**wrong)
