"""The sampled linear bound against loops, and against the exact bound on worlds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.information.bound_estimates import BoundBlocks, linear_bound_estimate
from remid_jax.worlds.draws import draw
from remid_jax.worlds.exact import quantities
from remid_jax.worlds.families import random_world


def random_blocks(n=5, m=4, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((n,), (m, n), (m, m), (n, n), (m,), (n, m))
    return BoundBlocks(*(rng.normal(-3, 2, s).astype(np.float32) for s in shapes))


def plain(b, keep_P, keep_Q):
    """The value on some contexts, written as loops."""
    lme = lambda values: np.log(np.mean(np.exp(np.array(values, float))))  # noqa: E731
    P, Q = keep_P, keep_Q
    ours = np.mean([b.model_P_own[j] - lme([b.model_P_under_Q[k, j] for k in Q]) for j in P])
    model = np.mean([b.model_Q[j, j] - lme([b.model_Q[k, j] for k in Q]) for j in Q])
    golden = np.mean([b.golden_P[j, j] - lme([b.golden_P[k, j] for k in P]) for j in P])
    theirs = np.mean([b.golden_Q_own[j] - lme([b.golden_Q_under_P[k, j] for k in P]) for j in Q])
    return ours - model - golden + theirs


def test_value_and_error_are_those_of_the_loops():
    blocks = random_blocks()
    found = linear_bound_estimate(blocks)
    P, Q = list(range(5)), list(range(4))
    assert found.value == pytest.approx(plain(blocks, P, Q), abs=1e-5)
    variance = 0.0
    for rows in (
        [plain(blocks, [i for i in P if i != k], Q) for k in P],
        [plain(blocks, P, [i for i in Q if i != k]) for k in Q],
    ):
        variance += (len(rows) - 1) * np.var(rows)
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-4)
    assert 3 <= found.freedom <= 7
    jitted = jax.jit(linear_bound_estimate)(blocks)
    assert jitted.value == pytest.approx(float(found.value), abs=1e-6)


def test_errs_up_on_worlds():
    world = random_world(jax.random.key(0), "dependent", 1.0, (3, 3, 3, 6))
    exact = quantities(world)
    log_p, log_m = jnp.log(world.channel), jnp.log(world.model)

    def once(key):
        keys = jax.random.split(key)
        a = draw(keys[0], world.mechanisms_P, world.channel, world.model, 40)
        b = draw(keys[1], world.mechanisms_Q, world.channel, world.model, 40)
        at = lambda table, x, y: table[x][:, y]  # noqa: E731
        return linear_bound_estimate(
            BoundBlocks(
                log_m[a.x, a.model], at(log_m, b.x, a.model), at(log_m, b.x, b.model),
                at(log_p, a.x, a.golden), log_p[b.x, b.golden], at(log_p, a.x, b.golden),
            )
        )  # fmt: skip

    found = jax.jit(jax.vmap(once))(jax.random.split(jax.random.key(1), 400))
    error = jnp.std(found.value) / 20
    assert found.value.mean() > exact["linear"] - 2 * error
    assert found.value.mean() < exact["linear"] + 0.2
    assert jnp.mean(found.standard_error) == pytest.approx(float(jnp.std(found.value)), rel=0.2)
    covered = [f >= exact["emid"] for f in found.upper_limit()]
    assert np.mean(covered) > 0.95


def test_bad_input():
    blocks = random_blocks()
    with pytest.raises(ValueError, match=r"model_P_under_Q must have shape \(4, 5\)"):
        linear_bound_estimate(blocks._replace(model_P_under_Q=blocks.model_P_under_Q.T))
    broken = blocks.golden_Q_own.copy()
    broken[2] = np.nan
    with pytest.raises(ValueError, match=r"golden_Q_own of shape \(4,\) holds nan at \(2,\)"):
        linear_bound_estimate(blocks._replace(golden_Q_own=broken))
