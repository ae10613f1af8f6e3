"""Cross-information of the rows: one K for all, errors, saturation."""

import dataclasses
import json
import math

import numpy as np
import pytest
from made_up_subsets import estimates_of, settings_of

from remid_jax.analysis.cross_information import COLUMNS, cross_columns
from remid_jax.information.cross_information import context_sets, cross_information
from remid_jax.information.pairs import Block, Subset, negatives_for, with_reference_rows


def subset_of(tag, n, rng, strength=1.0, where=None, labels=None):
    """A golden and a model block whose own contexts stand out by about `strength` nats."""

    def block(gain, where):
        scores = -300 + rng.normal(size=(n, n)) + gain * np.eye(n)
        return Block(scores, scores, np.full(n, 9), where)

    everywhere = np.ones(n, bool)
    where = everywhere if where is None else where
    golden = block(strength, everywhere)
    return with_reference_rows(
        Subset(
            tag=tag, sample_ids=tuple(f"{tag}_{i}" for i in range(n)), pair_ids=(None,) * n,
            languages=(None,) * n, golden=golden, rpms={"model": block(strength / 2, where)},
            negatives=negatives_for(n, settings_of(), labels), labels=labels,
        )
    )  # fmt: skip


def rows_of(subsets, **changes):
    return cross_columns(estimates_of(subsets, **changes))


@pytest.mark.parametrize(("sizes", "k"), [((12, 20), 8), ((12, 6), 5), ((3, 12), 2)])
def test_k_is_that_of_the_smallest_subset(sizes, k):
    rng = np.random.default_rng(0)
    subsets = [subset_of(t, n, rng) for t, n in zip(("IDTest", "german"), sizes, strict=True)]
    rows = rows_of(subsets)
    assert {r["cross_information_K"] for r in rows.values()} == {k}
    assert all(r[c] is not None for r in rows.values() for c in COLUMNS)
    for s in subsets:
        sets = context_sets(len(s.sample_ids), k, draws=2000, seed=5)
        model, golden = (
            float(cross_information(b.scores + 300, sets)) for b in (s.rpms["model"], s.golden)
        )
        row = rows["model", s.tag]
        # Both average over sets of their own; few draws differ a little.
        assert row["cross_information"] == pytest.approx(model - golden, abs=0.06)
        assert row["saturation"] == pytest.approx(model / math.log(k), abs=0.06)
        assert row["saturation_golden"] == pytest.approx(golden / math.log(k), abs=0.06)
        assert rows["golden", s.tag]["cross_information"] == 0
        assert rows["shuffled golden", s.tag]["cross_information"] < 0


def test_errors_are_those_of_repeated_draws():
    rng = np.random.default_rng(1)
    rows = [rows_of([subset_of("IDTest", 24, rng, 2.0)])["model", "IDTest"] for _ in range(60)]
    spread = np.std([r["cross_information"] for r in rows], ddof=1)
    error = np.mean([r["cross_information_se"] for r in rows])
    assert error / spread == pytest.approx(1.05, abs=0.3)


def test_saturation_is_said_where_it_is():
    rng = np.random.default_rng(2)
    subsets = [
        subset_of("IDTest", 12, rng, 1.0),
        subset_of("german", 12, rng, 12.0),
        subset_of("Gaming", 12, rng, 40.0),
    ]
    rows = rows_of(subsets)
    flags = {s: rows["model", s]["saturated"] for s in ("IDTest", "german", "Gaming")}
    assert flags == {"IDTest": False, "german": True, "Gaming": True}
    for row in rows.values():
        sides = (row["saturation"], row["saturation_golden"])
        assert row["saturated"] == (max(sides) > 0.9) and max(sides) <= 1 + 1e-5


def test_only_contexts_with_an_answer_count():
    rng = np.random.default_rng(3)
    where = np.arange(12) > 2
    subset = subset_of("IDTest", 12, rng, 2.0, where=where)
    broken = dataclasses.replace(subset.rpms["model"])
    broken.scores[:, ~where] = np.nan
    row = rows_of([subset])["model", "IDTest"]
    kept = Block(*(x[3:, 3:] for x in (broken.scores, broken.plain)), np.full(9, 9), where[3:])
    golden = subset.golden.scores[3:, 3:]
    alone = with_reference_rows(
        Subset("IDTest", ("",) * 9, (None,) * 9, (None,) * 9,
               Block(golden, golden, np.full(9, 9), where[3:]), {"model": kept},
               negatives_for(9, settings_of()))
    )  # fmt: skip
    assert row == rows_of([alone])["model", "IDTest"]


def test_clusters_are_deleted_together_and_never_compared():
    rng = np.random.default_rng(4)
    labels = tuple("aabbccddeeff")
    subset = subset_of("IDTest", 12, rng, 2.0, labels=labels)
    same = np.array([[a == b for a in labels] for b in labels]) & ~np.eye(12, dtype=bool)
    for block in (subset.golden, subset.rpms["model"]):
        block.scores[same] = np.nan
    row = rows_of([subset])["model", "IDTest"]
    assert row["cross_information_K"] == 5
    assert row["cross_information"] < 0 < row["cross_information_se"]
    lone = subset_of("IDTest", 12, rng, 2.0, labels=tuple("aaaaaaaaaabc"))
    assert set(rows_of([lone])["model", "IDTest"].values()) == {None}


@pytest.mark.parametrize("negatives", ["cyclic", "random"])
def test_without_all_pairs_there_is_none(negatives):
    rows = rows_of([subset_of("IDTest", 12, np.random.default_rng(5))], negatives=negatives)
    assert all(r[c] is None for r in rows.values() for c in COLUMNS)
    json.dumps(list(rows.values()), allow_nan=False)
