"""Two runs on the same contexts, against loops over the contexts that both have."""

import dataclasses

import numpy as np
import pytest
from made_up_subsets import block, club, jackknife_error, settings_of, subset, without_each
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from remid_jax.analysis.run_differences import Finished, compare_runs, count_contexts
from remid_jax.information.pairs import negatives_for
from remid_jax.information.profile_flags import NAMES
from remid_jax.report.limits import CHANGES
from remid_jax.report.measured import name_of

N = 8
PAIR = [("a", "a")]


def gaps_of(subsets, seed, lift=0.0, partners=0.0):
    """δ of every context: golden's is the same in all runs but for `partners` of the first one."""
    golden, rng = np.random.default_rng(7), np.random.default_rng(seed)
    found = {}
    for s in subsets:
        for k, i in enumerate(s.sample_ids):
            own = {f: float(golden.normal(20, 3)) for f in NAMES}
            row = {f"{f}_golden": v + partners * (k == 0) for f, v in own.items()}
            for f in NAMES:
                row[f] = own[f] / 2 + lift + float(rng.normal(0, 1))
            found["a", s.tag, i] = row
    return found


def run(subsets, seed=0, **how):
    """A finished run of subsets, the first in distribution."""
    return Finished({s.tag: s for s in subsets}, settings_of(), gaps_of(subsets, seed, **how))


def answers(s, seed, lift):
    """The subset with other answers of `a`: the golden side stays."""
    return dataclasses.replace(s, rpms={**s.rpms, "a": block(seed, lift, n=len(s.sample_ids))})


def few(s, kept):
    """The subset of the run that has these contexts alone, in this order."""
    at = np.ix_(kept, kept)

    def some(b):
        scores = (x[at] for x in (b.scores, b.plain))
        return dataclasses.replace(
            b, **dict(zip(("scores", "plain"), scores, strict=True)),
            lengths=b.lengths[kept], where=b.where[kept],
        )  # fmt: skip

    return dataclasses.replace(
        s, sample_ids=tuple(s.sample_ids[i] for i in kept),
        pair_ids=tuple(s.pair_ids[i] for i in kept), languages=(None,) * len(kept),
        golden=some(s.golden), rpms={k: some(b) for k, b in s.rpms.items()},
        negatives=negatives_for(len(kept), settings_of()),
    )  # fmt: skip


def found(records, measure, tag, factor=None):
    (record,) = [
        r for r in records
        if (r["measure"], r["subset"], r["factor"]) == (measure, tag, factor)
    ]  # fmt: skip
    return record


def r_emi(s, keep):
    return club(s.rpms["a"].scores, keep) - club(s.golden.scores, keep)


@pytest.fixture(scope="module")
def runs():
    home, german = subset("IDTest", 0, 30.0), subset("german", 10, 20.0, paired=True)
    first = run([home, german], seed=1)
    changed = [answers(home, 50, 25.0), answers(german, 60, 5.0)]
    # The second run lacks one context of each, has them in another order, and partners changed.
    second = run([few(changed[0], [3, 1, 0, 2, 4, 5, 6]), few(changed[1], [7, 1, 0, 2, 4, 5, 6])],
                 seed=2, lift=-4.0)  # fmt: skip
    golden = {k: v for k, v in first.gaps.items() if k in second.gaps}
    for place, row in golden.items():
        second.gaps[place].update({k: v for k, v in row.items() if k.endswith("_golden")})
    return first, second, changed


def test_contexts_of_one_run_alone_are_counted(runs):
    first, second, _ = runs
    assert count_contexts(first, second) == [
        {"subset": "IDTest", "first": 8, "second": 7, "common": 7},
        {"subset": "german", "first": 8, "second": 7, "common": 7},
    ]
    more = Finished({**second.subsets, "new": first.home}, second.settings, {})
    assert count_contexts(first, more)[-1] == {
        "subset": "new", "first": 0, "second": 8, "common": 0,
    }  # fmt: skip


def test_limits_can_name_every_difference(runs):
    records = compare_runs(*runs[:2], PAIR)
    assert {f"change.{name_of(r)}" for r in records} == set(CHANGES)


def test_levels_are_paired_on_common_contexts(runs):
    first, second, (home, _) = runs
    record = found(compare_runs(first, second, PAIR), "r_emi", "IDTest")
    keep = [0, 1, 2, 3, 4, 5, 6]
    gap = lambda keep: r_emi(home, keep) - r_emi(first.home, keep)  # noqa: E731
    assert record["n"] == 7 and record["difference"] == pytest.approx(gap(keep), abs=1e-3)
    assert record["value_first"] == pytest.approx(r_emi(first.home, keep), abs=1e-3)
    assert record["value_second"] == pytest.approx(r_emi(home, keep), abs=1e-3)
    error = jackknife_error([gap(k) for k in without_each(keep)])
    assert record["se"] == pytest.approx(error, rel=1e-3)
    half = student.ppf(0.975, 6) * error
    assert record["low"] == pytest.approx(gap(keep) - half, rel=1e-2, abs=1e-2)


def test_r_emid_takes_pairs_that_stand_in_all_four(runs):
    first, second, (home, german) = runs
    record = found(compare_runs(first, second, PAIR), "r_emid", "german")
    keep = [0, 1, 2, 4, 5, 6]  # 3 lacks in the second German subset, 7 in the second at home
    was = lambda k: r_emi(first.home, k) - r_emi(first.subsets["german"], k)  # noqa: E731
    gap = lambda k: r_emi(home, k) - r_emi(german, k) - was(k)  # noqa: E731
    assert record["n"] == 6 and record["value_first"] == pytest.approx(was(keep), abs=1e-3)
    assert record["difference"] == pytest.approx(gap(keep), abs=1e-3)
    errors = [gap([keep[i] for i in some]) for some in without_each(keep)]
    assert record["se"] == pytest.approx(jackknife_error(errors), rel=1e-3)


def test_unpaired_subsets_are_independent(runs):
    first, second, _ = runs

    def apart(finished):
        subsets = [
            dataclasses.replace(s, pair_ids=(None,) * len(s.pair_ids))
            for s in finished.subsets.values()
        ]
        return Finished({s.tag: s for s in subsets}, finished.settings, finished.gaps)

    records = compare_runs(apart(first), apart(second), PAIR)
    record = found(records, "r_emid", "german")
    parts = [found(records, "r_emi", tag) for tag in ("IDTest", "german")]
    expected = parts[0]["difference"] - parts[1]["difference"]
    assert record["difference"] == pytest.approx(expected, abs=1e-3)
    assert record["se"] == pytest.approx(np.hypot(*(p["se"] for p in parts)), rel=1e-4)


def test_the_profile_is_compared_context_by_context(runs):
    first, second, _ = runs
    records = compare_runs(first, second, PAIR)
    ids = [i for i in first.home.sample_ids if i in second.home.sample_ids]
    column = lambda run, key: np.array([run.gaps["a", "IDTest", i][key] for i in ids])  # noqa: E731
    a, b = column(first, "user"), column(second, "user")
    record = found(records, "info", "IDTest", "user")
    assert (record["n"], record["left_out"]) == (7, 0)
    assert record["difference"] == pytest.approx(np.mean(b - a), abs=1e-4)
    test = ttest_1samp(b - a, 0)
    assert record["p_value"] == pytest.approx(test.pvalue, rel=1e-3)
    ends = test.confidence_interval(0.95)
    assert (record["low"], record["high"]) == pytest.approx(tuple(ends), abs=1e-3)
    share = found(records, "share", "IDTest", "user")
    golden = np.mean(column(first, "user_golden"))
    assert share["difference"] == pytest.approx(np.mean(b - a) / golden, abs=1e-5)
    gap = share["value_second"] - share["value_first"]
    assert gap == pytest.approx(share["difference"], abs=1e-5)
    assert share["low"] < share["difference"] < share["high"] < 0
    assert share["p_holm"] == record["p_holm"] >= record["p_value"]


def test_another_partner_leaves_a_context_out_of_the_profile(runs):
    first, second, _ = runs
    moved = {k: dict(v) for k, v in second.gaps.items()}
    moved["a", "german", "german_1"]["user_golden"] += 5.0
    changed = Finished(second.subsets, second.settings, moved)
    records = compare_runs(first, changed, PAIR)
    record = found(records, "info", "german", "user")
    assert (record["n"], record["left_out"]) == (6, 1)
    assert found(records, "info", "german", "character")["left_out"] == 0
    assert found(records, "r_emi", "german")["n"] == 7


def test_shares_that_golden_does_not_show_are_refused_and_still_counted(runs):
    first, second, _ = runs

    def silent(finished):
        gaps = {k: {**v, "user_golden": (-1.0) ** int(k[2][-1])} for k, v in finished.gaps.items()}
        return Finished(finished.subsets, finished.settings, gaps)

    records = compare_runs(silent(first), silent(second), PAIR)
    record = found(records, "share", "german", "user")
    assert record["difference"] is None and record["value_first"] is None
    assert record["reason"] == "golden answers show too little of it at n = 7"
    assert record["p_value"] == found(records, "info", "german", "user")["p_value"]


def test_holm_adjusts_one_measure_over_subsets_and_factors(runs):
    records = compare_runs(*runs[:2], PAIR)
    families = [
        ("r_emi", None, 2), ("r_emid", None, 1), ("info", ("user", "character", "dialogue"), 6),
        ("info", ("history", "last_turn"), 4), ("share", ("user", "character", "dialogue"), 6),
    ]  # fmt: skip
    for measure, factors, m in families:
        own = [
            r for r in records
            if r["measure"] == measure and (factors is None or r["factor"] in factors)
        ]  # fmt: skip
        assert len(own) == m
        least = min(own, key=lambda r: r["p_value"])
        assert least["p_holm"] == pytest.approx(min(1, m * least["p_value"]))


def test_without_golden_answers_info_alone_is_compared(runs):
    first, second, _ = runs

    def bare(finished):
        nobody = {
            tag: dataclasses.replace(
                s, golden=dataclasses.replace(s.golden, where=np.zeros(len(s.sample_ids), bool))
            )
            for tag, s in finished.subsets.items()
        }
        gaps = {
            k: {f: None if f.endswith("_golden") else x for f, x in v.items()}
            for k, v in finished.gaps.items()
        }
        return Finished(nobody, finished.settings, gaps)

    records = compare_runs(bare(first), bare(second), PAIR)
    assert not [r for r in records if r["measure"] == "share"]
    assert found(records, "info", "german", "user")["n"] == 7
    record = found(records, "r_emi", "german")
    assert record["difference"] is None and record["reason"] == "no estimate from n = 0"


def test_nothing_in_common_is_no_estimate(runs):
    first, second, _ = runs
    two = Finished(
        {t: few(s, [0, 1]) for t, s in second.subsets.items()}, second.settings, second.gaps
    )
    records = compare_runs(first, two, PAIR)
    assert {r["difference"] for r in records} == {None}
    assert {r["n"] for r in records if r["measure"] == "r_emi"} == {2}
