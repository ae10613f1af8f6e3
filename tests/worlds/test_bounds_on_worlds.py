"""What the printed bound cannot do, as named counter-examples, and that the valid bounds hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.information.divergences import entropy, jensen_shannon
from remid_jax.worlds.exact import exact_quantities, quantities
from remid_jax.worlds.families import FAMILIES, random_world

pytestmark = pytest.mark.usefixtures("in_double_precision")

K = 8
VALID = ("linear", "linear_tv", "linear_js", "mixture", "mixture_tv", "mixture_js")


exact_many = jax.jit(jax.vmap(quantities))  # compiled once for all families


def _rows(deterministic: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """One-hot rows where deterministic, uniform ones elsewhere."""
    return np.where(deterministic[:, None], np.eye(K)[answers], 1 / K)


def test_A_under_its_own_hypothesis_the_printed_bound_cannot_rank_the_shifts():
    def draw(key):
        return random_world(key, "hypothesis-satisfying", 0.8, (3, 3, 3, 5))

    q = exact_many(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 400)))
    assert jnp.median(q["js_joint"]) > 1e-3
    np.testing.assert_allclose(
        q["js_marginals"], jnp.repeat(q["js_joint"][:, None], 3, 1), rtol=1e-6, atol=1e-13
    )


def test_B_the_printed_bound_is_zero_at_an_emid_of_log_k():
    # P couples user and character as c = u, Q as c = u + 1: the same marginals.
    u, c = np.divmod(np.arange(K * K), K)
    P, Q = np.eye(K)[:, :, None] / K, np.roll(np.eye(K), 1, axis=1)[:, :, None] / K
    channel = _rows(c == (u + 1) % K, u)  # golden responses depend on the context under Q alone
    q = exact_quantities(P, Q, channel, np.full((K * K, K), 1 / K))
    assert q["paper_bound"] == pytest.approx(0, abs=1e-12)
    assert q["emid"] == pytest.approx(np.log(K), abs=1e-12)
    assert q["mixture"] >= q["emid"] - 1e-12 and np.isfinite(q["mixture_js"])


def test_B_independent_factors_exceed_the_printed_bound_by_two_root_three():
    shift = 1e-4
    u = np.arange(2 * K) // K
    answers = np.arange(2 * K) % K

    def law(share):
        return np.array([share, 1 - share])[:, None, None] * np.full((1, K, 1), 1 / K)

    model, channel = _rows(u == 0, answers), _rows(u == 1, answers)
    q = exact_quantities(law(0.5 + shift / 2), law(0.5 - shift / 2), channel, model)
    assert q["emid"] == pytest.approx(2 * shift * np.log(K), rel=1e-9)
    assert q["emid"] / q["paper_bound"] == pytest.approx(2 * np.sqrt(3), rel=1e-6)


def test_C_the_maximum_of_the_sum_is_too_small_and_max_plus_max_is_not():
    # Two blocks that every factor reveals: the printed hypothesis holds.
    shift = 1e-4
    law = lambda share: np.diag([share, 1 - share])[:, :, None] * np.eye(2)[:, None, :]  # noqa: E731
    # The block is told by each factor; K more characters a block carry the answers.
    spread = lambda p: np.repeat(p, K, axis=1) / K  # noqa: E731
    P, Q = spread(law(0.5 + shift / 2)), spread(law(0.5 - shift / 2))
    u, c, _ = np.unravel_index(np.arange(2 * 2 * K * 2), (2, 2 * K, 2))
    q = exact_quantities(P, Q, _rows(u == 1, c % K), _rows(u == 0, c % K))
    np.testing.assert_allclose(q["js_marginals"], q["js_joint"], rtol=1e-6)
    ratio = q["H_hat_max_plus_max"] / q["H_hat_max_of_sum"]
    assert ratio == pytest.approx(2)
    assert q["emid"] > q["paper_bound"] * 1.1
    assert q["emid"] < q["paper_bound"] * ratio


def test_D_the_entropy_term_ignores_the_number_of_responses():
    def worst(n):
        share = jnp.linspace(0.5, 1, 2001)[:, None]
        p = jnp.eye(n)[0]
        q = jnp.concatenate([1 - share, jnp.repeat(share / (n - 1), n - 1, axis=1)], axis=1)
        return jnp.max(entropy(q) - entropy(p) - 4 * jensen_shannon(p[None], q) ** 0.25)

    assert worst(30) < 0 < worst(31)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_valid_bound_is_violated(family):
    def draw(key, strength):
        return random_world(key, family, strength, (3, 3, 3, 5), 3.0)

    keys = jax.random.split(jax.random.key(1), 400)
    q = exact_many(jax.jit(jax.vmap(draw))(keys, jnp.linspace(0, 1, 400)))
    assert jnp.std(q["emid"]) > 1e-5
    for name in VALID:
        assert not jnp.isnan(q[name]).any(), name
        assert (q[name] >= q["emid"] - 1e-11).all(), name
        if name.startswith("mixture"):
            assert jnp.isfinite(q[name]).all()
    for form in ("linear", "mixture"):
        assert (q[form] <= q[f"{form}_tv"] + 1e-11).all()
        assert (q[f"{form}_tv"] <= q[f"{form}_js"] + 1e-11).all()
    assert (q["factor_bound"] >= q["linear_js"] - 1e-11).all()


def test_disjoint_responses_leave_only_the_mixture_form_finite():
    P, Q = (np.eye(2)[k][:, None, None] for k in (0, 1))
    channel = np.eye(2)
    q = exact_quantities(P, Q, channel, channel)
    assert q["linear"] == q["linear_tv"] == q["linear_js"] == np.inf
    assert q["emid"] == 0 and 0 <= q["mixture_js"] <= 2 * np.log(2) + 1e-12


def test_without_a_shift_every_bound_is_zero():
    law = np.full((2, 1, 1), 0.5)
    q = exact_quantities(law, law, np.eye(2), np.full((2, 2), 0.5))
    for name in (*VALID, "emid", "factor_bound"):
        assert q[name] == pytest.approx(0, abs=1e-12), name
