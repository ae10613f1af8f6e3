"""Several responses a context: loops, enumerated laws, and known variance components."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.information import repeated as rp
from remid_jax.information.mutual_information import club


def scores_of(n: int, m: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-50, 5, (n, n, m)).astype(np.float32)


def ragged(n: int, m: int, seed: int) -> np.ndarray:
    """[n, m] bool with 1..m responses a context, but none in context 1."""
    counts = np.random.default_rng(seed).integers(1, m + 1, n)
    counts[0], counts[1] = m, 0
    return np.arange(m) < counts[:, None]


def plain_contributions(s, where):
    n, m = where.shape
    some = [i for i in range(n) if where[i].any()]
    table = np.full((n, m), np.nan)
    for j, k in zip(*np.nonzero(where), strict=True):
        table[j, k] = s[j, j, k] - np.mean([s[i, j, k] for i in some if i != j])
    return table


@pytest.mark.parametrize("seed", range(4))
def test_contributions_and_club_equal_loops(seed):
    s, where = scores_of(6, 3, seed), ragged(6, 3, seed)
    s[1], s[:, ~where] = np.nan, np.nan  # neither is read
    expected = plain_contributions(s.astype(float), where)
    np.testing.assert_allclose(rp.repeated_contributions(s, where), expected, atol=1e-4)
    means = [row[kept].mean() for row, kept in zip(expected, where, strict=True) if kept.any()]
    value = jax.jit(rp.repeated_club)(s, where)
    assert value == pytest.approx(np.mean(means), abs=1e-4)
    gradient = jax.grad(rp.repeated_club)(jnp.asarray(s), where)
    assert np.isfinite(gradient).all() and (gradient[1] == 0).all()
    assert gradient[2, 2].sum() == pytest.approx(1 / 5, abs=1e-5)


def test_one_response_a_context_is_club():
    s, keep = scores_of(7, 1, 0), np.arange(7) != 3
    assert rp.repeated_club(s) == pytest.approx(float(club(s[..., 0])), abs=1e-4)
    masked = rp.repeated_club(s, keep[:, None])
    assert masked == pytest.approx(float(club(s[..., 0], where=keep)), abs=1e-4)
    batch = np.stack([scores_of(4, 2, k) for k in range(3)])
    together = jax.jit(jax.vmap(rp.repeated_club))(batch)
    np.testing.assert_allclose(together, [rp.repeated_club(s) for s in batch], rtol=1e-5)


@pytest.mark.parametrize("where", [[[1], [1]], [[1, 1], [1, 1]], [[1, 1], [1, 0]]])
def test_its_expectation_does_not_depend_on_the_number_of_responses(where):
    # Every outcome of 2 independent contexts and their responses, with its probability.
    where, rng = np.array(where, bool), np.random.default_rng(5)
    law, channel = np.array([0.3, 0.7]), rng.dirichlet(np.ones(3), 2)
    log_q, m = rng.normal(-4, 2, (2, 3)), where.shape[1]
    x, y = [], []
    for contexts in itertools.product(range(2), repeat=2):
        for responses in itertools.product(range(3), repeat=2 * m):
            x.append(contexts)
            y.append(np.reshape(responses, (2, m)))
    x, y = np.array(x), np.array(y)
    chance = law[x].prod(1) * channel[x[:, :, None], y].prod((1, 2))
    blocks = log_q[x[:, :, None, None], y[:, None]].astype(np.float32)
    values = jax.vmap(lambda s: rp.repeated_club(s, where))(blocks)
    output = law @ channel
    population = (law[:, None] * (channel - output) * log_q).sum()
    assert chance.sum() == pytest.approx(1, abs=1e-12)
    assert float(chance @ np.asarray(values, float)) == pytest.approx(population, abs=1e-5)


def test_x64():
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        where = ragged(5, 3, 0)
        for dtype in (np.float32, np.float64):
            s = scores_of(5, 3, 0).astype(dtype)
            parts = rp.variance_parts(s[0], where)
            assert {x.dtype for x in (rp.repeated_club(s, where), *parts)} == {np.dtype(dtype)}
        np.testing.assert_allclose(parts, plain_parts(s[0], where), atol=1e-10)


def plain_parts(values, where):
    rows = [v[w] for v, w in zip(values, where, strict=True) if w.any()]
    n, total = len(rows), sum(map(len, rows))
    grand = np.concatenate(rows).mean()
    within = sum(((r - r.mean()) ** 2).sum() for r in rows) / (total - n)
    between = sum(len(r) * (r.mean() - grand) ** 2 for r in rows) / (n - 1)
    balanced = (total - sum(len(r) ** 2 for r in rows) / total) / (n - 1)
    error = np.std([r.mean() for r in rows], ddof=1) / np.sqrt(n)
    return (between - within) / balanced, within, error


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_variance_parts_equal_loops(seed):
    where = ragged(6, 4, seed)
    values = np.random.default_rng(seed).normal(0, 3, (6, 4)).astype(np.float32)
    values[~where] = np.nan
    parts = rp.variance_parts(values, where)
    np.testing.assert_allclose(
        parts, plain_parts(values.astype(float), where), rtol=2e-3, atol=1e-3
    )


@pytest.mark.parametrize("balanced", [True, False])
def test_variance_parts_find_known_components(balanced):
    rng, draws = np.random.default_rng(2), 2000
    where = np.ones((12, 4), bool) if balanced else ragged(12, 4, 3)
    noise = rng.normal(0, 3, (draws, 12, 4))
    values = (rng.normal(7, 2, (draws, 12, 1)) + noise).astype(np.float32)
    parts = jax.jit(jax.vmap(lambda v: rp.variance_parts(v, where)))(values)
    for found, true in ((parts.context, 4.0), (parts.response, 9.0)):
        found = np.asarray(found, float)
        assert found.mean() == pytest.approx(true, abs=4 * found.std() / np.sqrt(draws))
    means = np.where(where, values, 0).sum(2) / np.maximum(where.sum(1), 1)
    spread = means[:, where.any(1)].mean(1).std()
    assert np.sqrt(np.mean(np.square(parts.standard_error))) == pytest.approx(spread, rel=0.06)
    # Without context variance the estimate is negative as often as positive: it is not clipped.
    none = jax.vmap(lambda v: rp.variance_parts(v, where))(noise.astype(np.float32)).context
    assert 0.35 < np.mean(np.asarray(none) < 0) < 0.7


def test_responses_worth_it_is_the_cheapest():
    for parts in ((1.0, 4.0, 9.0, 1.0), (2.0, 30.0, 5.0, 0.7), (3.0, 1.0, 1.0, 1.0)):
        context, response, context_cost, response_cost = parts
        grid = np.linspace(1, 60, 59_001)
        cost = (context + response / grid) * (context_cost + grid * response_cost)
        best = grid[np.argmin(cost)]
        assert rp.responses_worth_it(*parts) == pytest.approx(best, abs=2e-3)
    assert rp.responses_worth_it(-0.1, 1.0, 1.0, 1.0) == np.inf
    assert rp.responses_worth_it(1.0, -0.1, 1.0, 1.0) == 1.0
    for wrong in ((np.nan, 1.0, 1.0, 1.0), (1.0, 1.0, 0.0, 1.0), (1.0, 1.0, 1.0, np.inf)):
        with pytest.raises(ValueError, match=r"finite"):
            rp.responses_worth_it(*wrong)


def test_expected_kl_of_every_response_in_its_proportion():
    counts = np.array([[4, 3, 1], [1, 1, 6], [2, 4, 2]])
    q = np.random.default_rng(0).dirichlet(np.ones(3), 3)
    y = np.array([np.repeat(np.arange(3), row) for row in counts])
    log_p = np.log(np.take_along_axis(counts / 8, y, 1)).astype(np.float32)
    log_q = np.log(np.take_along_axis(q, y, 1)).astype(np.float32)
    exact = (counts / 8 * np.log(counts / 8 / q)).sum(1)
    value, each = jax.jit(rp.expected_kl)(log_p, log_q)
    np.testing.assert_allclose(each, exact, atol=1e-5)
    assert value == pytest.approx(exact.mean(), abs=1e-5)
    where = np.ones((3, 8), bool)
    where[1], log_q[1] = False, -np.inf
    value, each = rp.expected_kl(log_p, log_q, where)
    assert value == pytest.approx(exact[[0, 2]].mean(), abs=1e-5) and np.isnan(each[1])
    assert rp.expected_kl(log_p[:, :1], log_p[:, :1] + 1)[0] == pytest.approx(-1, abs=1e-5)


def plain_tau_b(a, b):
    agree, ties_a, ties_b, pairs = 0, 0, 0, 0
    for i, j in itertools.combinations(range(len(a)), 2):
        agree += np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])
        ties_a, ties_b, pairs = ties_a + (a[i] == a[j]), ties_b + (b[i] == b[j]), pairs + 1
    return agree / np.sqrt((pairs - ties_a) * (pairs - ties_b))


def test_rank_agreement_with_ties():
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 9)).astype(float)
        rank = lambda x: np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x])  # noqa: E731
        found = rp.rank_agreement(a, b)
        assert found.spearman == pytest.approx(np.corrcoef(rank(a), rank(b))[0, 1], abs=1e-9)
        assert found.kendall == pytest.approx(plain_tau_b(a, b), abs=1e-9) and found.n == 9
    assert rp.rank_agreement(jnp.arange(4.0), -jnp.arange(4.0)) == (-1.0, -1.0, 4)


def test_bad_input_is_named():
    s, v = scores_of(3, 2, 0), np.zeros((3, 2), np.float32)
    hole = s.copy()
    hole[2, 1, 0] = np.nan
    for call, message in (
        (lambda: rp.repeated_club(s[:2]), r"shape \(2, 3, 2\)"),
        (lambda: rp.repeated_contributions(hole), r"scores of shape \(3, 3, 2\) .* \(2, 1, 0\)"),
        (lambda: rp.repeated_club(s, np.ones((3, 3), bool)), r"shape \(3, 2\), one a response"),
        (lambda: rp.repeated_club(s, np.eye(3, 2, 1) > 0), "exist for 1 of 2"),
        (lambda: rp.variance_parts(v[:, 0]), r"shape \(3,\)"),
        (lambda: rp.variance_parts(v[:, :1]), "no context has 2"),
        (lambda: rp.variance_parts(v * np.inf), "values of shape"),
        (lambda: rp.expected_kl(v, v[:2]), r"log_q \(2, 2\)"),
        (lambda: rp.expected_kl(v, v - np.inf), "log_q of shape"),
        (lambda: rp.rank_agreement(v[0], v[1]), "one value only"),
        (lambda: rp.rank_agreement([1.0, 2.0], [1.0, 2.0, 3.0]), r"\(2,\) and \(3,\)"),
        (lambda: rp.rank_agreement([1.0, np.nan], [1.0, 2.0]), "a of shape"),
    ):
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
            call()
