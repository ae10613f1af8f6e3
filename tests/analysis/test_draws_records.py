"""What the sampling of several answers a context adds to an error, against plain loops."""

import numpy as np
import pytest

from remid_jax.analysis.draws import draws_record
from remid_jax.analysis.measures import Estimates
from remid_jax.information.pairs import Subset
from remid_jax.information.repeated import responses_worth_it


def estimates(n, labels=None, context_cost=4.0):
    ids = tuple(map(str, range(n)))
    subset = Subset("t", ids, ids, (None,) * n, None, {}, (None, None), labels)
    return Estimates([subset], None, context_cost), subset


def plain(values):
    """Share, and both variances, of lists of values, one a context (one-way ANOVA)."""
    kept = [np.array([x for x in row if np.isfinite(x)]) for row in values]
    kept = [row for row in kept if len(row)]
    counts, means = np.array([len(r) for r in kept]), np.array([r.mean() for r in kept])
    total = counts.sum()
    within = sum(((r - r.mean()) ** 2).sum() for r in kept) / (total - len(kept))
    grand = np.concatenate(kept).mean()
    between = (counts * (means - grand) ** 2).sum() / (len(kept) - 1)
    size = (total - (counts**2).sum() / total) / (len(kept) - 1)
    return within * (1 / counts).mean() / means.var(ddof=1), (between - within) / size, within


def test_the_share_and_the_advice():
    rng = np.random.default_rng(0)
    values = 3 * rng.normal(size=(9, 1)) + 2 * rng.normal(size=(9, 3))
    values[2, 1:] = values[5] = np.nan  # one answer; none
    found = draws_record(*estimates(9), values)
    share, context, response = plain(values)
    assert 0.05 < share < 0.6
    assert found["draws_share"] == pytest.approx(share, rel=1e-4)
    without = [plain(np.delete(values, i, axis=0))[0] for i in range(9) if i != 5]
    error = np.sqrt(7 / 8 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert found["draws_share_se"] == pytest.approx(error, rel=1e-3)
    worth = responses_worth_it(context, response, 4.0, 1.0)
    assert found["draws_worth_it"] == pytest.approx(worth, rel=1e-3) and worth > 1


def test_the_share_is_known_in_the_long_run():
    """Variances 9 between contexts and 4 within, two answers: 2 / 11."""
    rng = np.random.default_rng(1)
    values = 3 * rng.normal(size=(4000, 1)) + 2 * rng.normal(size=(4000, 2))
    found = draws_record(*estimates(4000), values)
    assert found["draws_share"] == pytest.approx(2 / 11, abs=0.02)
    assert found["draws_share_se"] < 0.01
    assert found["draws_worth_it"] == pytest.approx(np.sqrt(4 / 9 * 4), abs=0.2)


def test_what_cannot_be_known():
    values = np.arange(8.0).reshape(4, 2) ** 2
    known = draws_record(*estimates(4), values)
    assert None not in known.values()
    assert draws_record(*estimates(4, context_cost=None), values)["draws_worth_it"] is None
    one_each = np.where([[True, False]] * 4, values, np.nan)
    few = np.where([[True]] * 2 + [[False]] * 2, values, np.nan)
    for case in ((*estimates(4), one_each), (*estimates(4), few), (*estimates(4, "aabc"), values)):
        assert set(draws_record(*case).values()) == {None}
    alike = np.array([[0.0, 1.0]] * 4)  # contexts that do not differ: no number is enough
    found = draws_record(*estimates(4), alike)
    assert found["draws_share"] in (None, 1) and found["draws_worth_it"] is None
