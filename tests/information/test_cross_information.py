"""Cross-information against loops, on enumerated laws whose information is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information import cross_information as ci
from remid_jax.information.divergences import mutual_information

X, Y, K, COPIES = 3, 3, 3, 6  # a law of X uniform contexts, whose channel has sixths
OF = np.repeat(np.arange(X), COPIES)  # the context of each response when all are listed


def channel_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    counts = 1 + rng.multinomial(COPIES - Y, [0.8, 0.1, 0.1], size=X)
    return rng.permuted(counts, axis=1)


def listed(counts: np.ndarray) -> np.ndarray:
    """The response of each of the X·COPIES equally likely pairs."""
    return np.concatenate([np.repeat(np.arange(Y), row) for row in counts])


def every_set() -> np.ndarray:
    """All tuples of K − 1 independent contexts, once each, by copies other than the own."""
    tuples = list(itertools.product(range(X), repeat=K - 1))
    copies = lambda i, x: [j for j in np.flatnonzero(x == OF) if j != i]  # noqa: E731
    return np.array(
        [[[copies(i, x)[k] for k, x in enumerate(t)] for t in tuples] for i in range(len(OF))]
    )


SETS = every_set()
information = jax.jit(lambda s, a: ci.cross_information(s, SETS, scale=a))


def population(log_q: np.ndarray, counts: np.ndarray, a: float) -> float:
    total = 0.0
    for x, y in itertools.product(range(X), range(Y)):
        for others in itertools.product(range(X), repeat=K - 1):
            q = [np.exp(a * log_q[k, y]) for k in (x, *others)]
            total += counts[x, y] / COPIES / X**K * np.log(q[0] / np.mean(q))
    return total


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.0, 6.0), a=st.floats(0.1, 3.0))
def test_any_q_stays_below_the_information(seed, spread, a):
    counts = channel_of(seed)
    log_q = spread * np.random.default_rng(seed + 1).normal(size=(X, Y)).astype(np.float32)
    value = float(information(log_q[OF][:, listed(counts)], a))
    assert value == pytest.approx(population(log_q.astype(float), counts, a), abs=1e-4)
    assert value <= float(mutual_information(jnp.ones(X) / X, jnp.asarray(counts) / COPIES)) + 1e-5


def test_the_exact_q_comes_near_the_information_and_any_constant_cancels():
    counts = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4]])
    log_q = np.log(counts / COPIES).astype(np.float32)[OF][:, listed(counts)]
    truth = float(mutual_information(jnp.ones(X) / X, jnp.asarray(counts) / COPIES))
    value = float(information(log_q, 1.0))
    assert 0.6 * truth < value < truth
    shifted = log_q + np.random.default_rng(0).normal(size=len(OF)).astype(np.float32)
    assert information(shifted, 1.0) == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("power", [2.0, 0.7])
def test_the_scale_undoes_a_power_exactly(power):
    counts = channel_of(7)
    noise = np.random.default_rng(1).normal(size=len(OF))
    log_q = (power * np.log(counts / COPIES)[OF][:, listed(counts)] + noise).astype(np.float32)
    scale = jax.jit(ci.calibrate_scale)(log_q, SETS)
    assert scale == pytest.approx(1 / power, rel=1e-3)
    assert max(information(log_q, a) for a in np.geomspace(0.1, 10, 60)) <= information(
        log_q, scale
    )


def sampled(n: int, seed: int) -> np.ndarray:
    """log p(y_j | x_i) of n independent pairs of a fixed law."""
    rng = np.random.default_rng(seed)
    channel = np.random.default_rng(99).dirichlet(np.full(6, 0.4), 5) + 1e-3
    channel /= channel.sum(1, keepdims=True)
    x = rng.integers(0, 5, n)
    y = [rng.choice(6, p=channel[k]) for k in x]
    return np.log(channel[x][:, y]).astype(np.float32)


def test_the_scale_of_a_sample_and_its_ends():
    sets = ci.context_sets(400, 8, draws=8)
    assert ci.calibrate_scale(2 * sampled(400, 0), sets) == pytest.approx(0.5, abs=0.08)
    separable = (100 * np.eye(6) - 500).astype(np.float32)
    small = ci.context_sets(6, 4, draws=4)
    assert ci.calibrate_scale(separable, small) == pytest.approx(ci.SCALES[1], rel=1e-3)
    assert ci.calibrate_scale(-separable, small) == pytest.approx(ci.SCALES[0], rel=1e-3)


@pytest.mark.parametrize("n, k", [(5, 5), (12, 4), (9, 2)])
def test_sets_are_distinct_others_and_balanced(n, k):
    sets = ci.context_sets(n, k, draws=6, seed=3)
    assert sets.shape == (n, 6, k - 1)
    for i, t in itertools.product(range(n), range(6)):
        assert len({i, *sets[i, t]}) == k
    for t in range(6):
        assert (np.bincount(sets[:, t].ravel(), minlength=n) == k - 1).all()
    assert (sets == ci.context_sets(n, k, draws=6, seed=3)).all()
    assert k == n or (sets != ci.context_sets(n, k, draws=6, seed=4)).any()


def test_sets_are_uniform_over_other_contexts():
    sets = ci.context_sets(6, 3, draws=5000, seed=0)
    pairs = np.stack([np.bincount(sets[i].ravel(), minlength=6) for i in range(6)])
    assert np.abs(pairs[~np.eye(6, dtype=bool)] / 2000 - 1).max() < 0.1
    together = sum(({1, 2} == set(s)) for s in sets[0].tolist())
    assert together / 5000 == pytest.approx(1 / 10, abs=0.02)  # one of the 10 pairs of 5 others
    assert (sets[1] == (sets[0] + 1) % 6).all(axis=1).mean() < 0.1  # nor do neighbours move alike


@pytest.mark.parametrize("sizes", [[1] * 6 + [3, 3], [5, 5], [4, 3, 3], [2] * 8])
def test_sets_leave_the_cluster(sizes):
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)) * 7, sizes))
    sets = ci.context_sets(len(groups), 5, draws=4, groups=groups)
    assert (groups[sets] != groups[:, None, None]).all()
    assert all(len(set(s)) == 4 for s in sets.reshape(-1, 4).tolist())
    uses = np.bincount(sets.ravel(), minlength=len(groups))
    assert uses.max() - uses.min() <= (0 if len(sizes) == 8 else 8)


def plain(s, sets, keep, a=1.0):
    terms = []
    for i, t in itertools.product(range(len(s)), range(sets.shape[1])):
        members = [i, *sets[i, t]]
        if keep[members].all():
            q = np.array([a * s[k, i] for k in members])
            terms.append(q[0] - np.log(np.mean(np.exp(q - q[0]))) - q[0])
    return np.mean(terms)


def test_masks_leave_out_whole_sets_and_their_holes():
    s, keep = sampled(14, 2) * 3 - 50, np.arange(14) % 5 != 1
    sets = ci.context_sets(14, 3, draws=6)
    s[~keep], s[:, ~keep] = np.nan, np.nan
    s[2, [j for j in range(14) if 2 not in sets[j] and j != 2]] = np.nan  # pairs no set asks for
    value = ci.cross_information(s, sets, where=keep, scale=0.7)
    assert value == pytest.approx(plain(s.astype(float), sets, keep, 0.7), abs=1e-4)
    gradient = jax.grad(lambda x: ci.cross_information(x, sets, where=keep))(jnp.asarray(s))
    assert np.isfinite(gradient).all() and np.abs(gradient).sum() > 0.1
    batch = np.stack([sampled(14, k) for k in range(3)])
    together = jax.jit(jax.vmap(lambda x: ci.cross_information(x, sets)))(batch)
    np.testing.assert_allclose(together, [ci.cross_information(x, sets) for x in batch], rtol=1e-5)


@pytest.mark.parametrize("groups", [np.arange(12), np.arange(12) % 4, np.arange(12) // 2 - 1])
def test_replicates_equal_masks(groups):
    s, sets = sampled(12, 4), ci.context_sets(12, 3, draws=8)
    g = groups.max() + 1
    value, replicates = ci.cross_information_replicates(s, sets, groups, g, scale=0.8)
    masked = jax.jit(lambda m: ci.cross_information(s, sets, scale=0.8, where=m))
    assert value == pytest.approx(float(masked(groups >= 0)), abs=1e-5)
    one_by_one = [masked((groups >= 0) & (groups != k)) for k in range(g)]
    np.testing.assert_allclose(replicates, one_by_one, atol=1e-5)


def test_the_jackknife_of_replicates_has_the_right_size():
    sets = ci.context_sets(60, 4, draws=16)
    both = jax.jit(lambda s: ci.cross_information_replicates(s, sets, jnp.arange(60), 60))
    values, errors = [], []
    for seed in range(150):
        value, replicates = both(sampled(60, seed))
        values.append(float(value))
        errors.append(float(jnp.sqrt(59 * jnp.var(replicates))))
    assert 0.85 < np.mean(errors) / np.std(values) < 1.25


@st.composite
def factor_worlds(draw):
    """p(u | v), p(y | u, v) and any log q(y | u, v), for 3 u, 2 v and 3 y."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    q = draw(st.floats(0.0, 5.0)) * rng.normal(size=(3, 2, 3))
    return rng.dirichlet(np.ones(3), 2).T, rng.dirichlet(np.full(3, 0.3), (3, 2)), q


def factor_population(of_u, channel, log_q):
    """Its value for responses of `channel`, each swapped u drawn as u was: terms times weights."""
    rows = list(itertools.product(range(3), range(2), range(3), range(3), range(3)))
    scores = [[log_q[k, v, y] for k in (u, a, b)] for u, v, y, a, b in rows]
    p = [of_u[[u, a, b], v].prod() / 2 * channel[u, v, y] for u, v, y, a, b in rows]
    return float(np.dot(p, ci.factor_terms(np.array(scores, np.float32))))


@settings(max_examples=25, deadline=None)
@given(world=factor_worlds())
def test_factor_information_of_laws(world):
    of_u, golden, any_q = world
    truth = np.mean([float(mutual_information(of_u[:, v], golden[:, v])) for v in range(2)])
    assert factor_population(of_u, golden, any_q) <= truth + 1e-5
    ignoring = np.broadcast_to(np.einsum("uv,uvy->vy", of_u, golden), golden.shape)
    assert factor_population(of_u, ignoring, any_q) <= 1e-5
    assert factor_population(of_u, ignoring, np.log(ignoring)) == pytest.approx(0, abs=1e-5)
    value = factor_population(of_u, golden, np.log(golden + 1e-6))
    assert value >= -1e-4


def test_a_wrong_factor_is_far_below_zero():
    of_u, golden = np.full((3, 2), 1 / 3), np.stack([np.eye(3)] * 2, 1) * 0.97 + 0.01
    value = factor_population(of_u, golden, np.log(golden))
    ignoring = factor_population(of_u, np.full((3, 2, 3), 1 / 3), np.log(golden))
    wrong = factor_population(of_u, np.roll(golden, 1, 0), np.log(golden))
    assert value > 0.5 and wrong < ignoring - 0.5 < -1.5 and wrong < -1.9


def test_factor_masks_and_gradient():
    s = np.random.default_rng(0).normal(-40, 3, (5, 4)).astype(np.float32)
    keep = np.array([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]], bool)
    s[~keep], s[2] = np.nan, np.nan  # without its own score a context is not read
    terms = [s[i, 0] - np.log(np.mean(np.exp(s[i][keep[i]]))) for i in (0, 1, 4)]
    np.testing.assert_allclose(
        ci.factor_terms(s, where=keep)[np.array([0, 1, 4])], terms, atol=1e-4
    )
    assert np.isnan(ci.factor_terms(s, where=keep)[2:4]).all()
    value = jax.jit(lambda x: ci.factor_information(x, where=keep, scale=1.0))
    assert value(s) == pytest.approx(np.mean(terms), abs=1e-4)
    assert np.isfinite(jax.grad(value)(jnp.asarray(s))).all()
    with pytest.raises(ValueError, match=r"shape \(5, 4\) holds nan at \(1, 1\)"):
        ci.factor_information(s)
    with pytest.raises(ValueError, match="leaves no context"):
        ci.factor_terms(s, where=keep & (np.arange(4) == 0))


def test_x64():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        sets = ci.context_sets(12, 3, draws=8)
        for dtype in (np.float32, np.float64):
            s = (3 * sampled(12, 1)).astype(dtype)
            scale = ci.calibrate_scale(s, sets)
            value, replicates = ci.cross_information_replicates(
                s, sets, np.arange(12), 12, scale=scale
            )
            assert scale.dtype == value.dtype == replicates.dtype == dtype
        assert value == pytest.approx(plain(s, sets, np.ones(12, bool), float(scale)), abs=1e-12)


def test_saturation():
    assert ci.saturation(np.log(8) / 2, 8) == pytest.approx(0.5)
    assert ci.is_saturated(2.05, 8) and not ci.is_saturated(1.8, 8)
    assert ci.is_saturated(jnp.array([2.05, 1.8]), 8).tolist() == [True, False]


def test_bad_input_is_named():
    s, sets = sampled(5, 0), ci.context_sets(5, 3, draws=2)
    own = sets.copy()
    own[3, 1, 0] = 3
    holes = s.copy()
    holes[sets[2, 1, 0], 2] = -np.inf
    for arguments, message in (
        ((s, own), r"3 at \(3, 1, 0\) is no other context"),
        ((s, sets + 5), "no other context"),
        ((s, sets[:4]), r"shape \(5, draws, K - 1\), got \(4, 2, 2\)"),
        ((s[:4], sets), "square"),
        ((holes, sets), rf"-inf at \({sets[2, 1, 0]}, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            ci.cross_information(*arguments)
    with pytest.raises(ValueError, match="none is left"):
        ci.cross_information(s, sets, where=np.array([True, True, False, False, False]))
    with pytest.raises(ValueError, match="scale"):
        ci.cross_information(s, sets, scale=-1.0)
    with pytest.raises(ValueError, match="groups must hold each of"):
        ci.cross_information_replicates(s, sets, np.arange(5), 6)
    with pytest.raises(ValueError, match="every set has a member"):
        ci.cross_information_replicates(s, ci.context_sets(5, 5), np.arange(5), 5)
    with pytest.raises(ValueError, match="4 contexts: too few to compare 5"):
        ci.context_sets(4, 5)
    with pytest.raises(ValueError, match="7 of them in one cluster"):
        ci.context_sets(9, 4, groups=np.array([0] * 7 + [1, 2]))
