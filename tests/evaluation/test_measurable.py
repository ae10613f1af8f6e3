"""The smallest effects that are promised before a run are those that the analysis then states."""

import numpy as np
import pytest
from made_up_subsets import row_of, rows_of
from made_up_subsets import subset as subset_of

from remid_jax.data.samples import Sample
from remid_jax.evaluation.measurable import nothing_measurable, subset_records

N = 6


def samples(tag, pair="", golden="Aye."):
    return [
        Sample(f"{tag}_{i}", f"Is {i}.", f"Mira {i}", (("user", f"Who are {i}?"),), golden, tag,
               {"pair_id": f"{pair}_{i}"} if pair else {})
        for i in range(N)
    ]  # fmt: skip


def records(*subsets, confidence=0.95):
    by_tag = {s[0].tag: s for s in subsets}
    return {r["tag"]: r for r in subset_records(by_tag, "IDTest", {"german": "user"}, confidence)}


def test_the_smallest_r_emid_of_pairs_is_the_analysis():
    known = subset_of("IDTest", 0, 15.0, False, n=N), subset_of("german", 10, 5.0, True, n=N)
    row = row_of(rows_of(known), "a", "german")
    promised = records(samples("IDTest"), samples("german", "IDTest"))["german"]
    assert promised["paired"] and row["paired"]
    spread = row["r_emid_se"] * np.sqrt(N)  # of a pair's difference
    assert promised["smallest"]["r_emid"] * spread == pytest.approx(row["detectable"])


def test_independent_contexts_show_less_than_pairs_of_the_same_spread():
    alone = records(samples("IDTest"), samples("german"))["german"]
    paired = records(samples("IDTest"), samples("german", "IDTest"))["german"]
    assert not alone["paired"]
    assert alone["smallest"]["r_emid"] > paired["smallest"]["r_emid"]


def test_no_effect_is_promised_of_what_cannot_be_measured():
    found = records(samples("IDTest"), samples("german", golden=""))
    german = found["german"]
    assert german["missing"].keys() == {"r_emi", "r_emid"} and german["used"] == N
    assert german["smallest"]["r_emid"] is None and german["smallest"]["user"] is not None
    assert found["IDTest"]["missing"] == {} and "r_emid" not in found["IDTest"]["smallest"]
    assert nothing_measurable(list(found.values())) is None
    alone = records(samples("german"))["german"]
    assert alone["missing"] == {"r_emid": "there is no subset 'IDTest' to compare with"}


def test_a_confidence_without_power_promises_nothing():
    assert set(records(samples("IDTest"), confidence=0.1)["IDTest"]["smallest"].values()) == {None}
