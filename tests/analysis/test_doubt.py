"""How far thoughts agree, and whether they agree less under a shift."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from remid_jax.analysis.doubt import doubt_records


def test_the_change_is_welchs():
    rng = np.random.default_rng(0)
    home, same, less = (
        rng.normal(m, s, n) for m, s, n in ((0.6, 0.1, 12), (0.6, 0.1, 9), (0.3, 0.2, 7))
    )
    found = doubt_records({"IDTest": home, "german": same, "user": less}, 0.95)
    assert found["IDTest"] == {
        "agreement": pytest.approx(home.mean()), "se": pytest.approx(home.std(ddof=1) / 12**0.5),
        "n": 12,
    }  # fmt: skip
    for tag, values in (("german", same), ("user", less)):
        interval = ttest_ind(values, home, equal_var=False).confidence_interval(0.95)
        assert found[tag]["change"] == pytest.approx(values.mean() - home.mean())
        assert found[tag]["low"] == pytest.approx(interval.low, rel=1e-9)
        assert found[tag]["high"] == pytest.approx(interval.high, rel=1e-9)
    assert (found["german"]["doubts"], found["user"]["doubts"]) == (False, True)


def test_nothing_is_said_where_nothing_is_known():
    found = doubt_records({"IDTest": np.array([0.5, np.nan]), "german": np.array([0.5, 0.4])}, 0.9)
    assert found["IDTest"]["agreement"] is None and found["german"]["doubts"] is None
    single = doubt_records({"IDTest": np.array([0.5]), "german": np.array([0.1])}, 0.9)
    assert single["german"]["agreement"] == 0.1 and single["german"]["doubts"] is None


def test_thoughts_that_all_agree_alike_have_no_error():
    found = doubt_records({"IDTest": np.ones(3), "german": np.full(3, 0.5)}, 0.95)["german"]
    assert (found["low"], found["high"], found["doubts"]) == (-0.5, -0.5, True)
