"""A run whose answers were judged elsewhere: from a file of judgments to the report."""

import itertools
import json

import numpy as np
import pytest

from remid_jax.analysis import schema
from remid_jax.data.judgments import Rating, Verdict
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, judge
from remid_jax.evaluation.judgments import tells, to_arrays
from remid_jax.report.terminal import print_report

TAGS = ("IDTest", "german", "Literature")
RPMS = ("full_context", "last_turn_only")
RULERS = ("shuffled golden", "unshifted", "echo")


def both_orders(sample_id, first, second, winner):
    """A pair's two rows; the winner is a name, or a tie."""
    for a, b in ((first, second), (second, first)):
        said = {a: "first", b: "second", "tie": "tie"}[winner]
        yield {"sample_ID": sample_id, "first": a, "second": b, "winner": said}


def judged(config, right=1.0, ids=None):
    """Golden first in so many of the calibration rows, and drawn verdicts on the RPMs."""
    samples = load_benchmark(config.benchmark).subsets
    ids = ids or [s.sample_id for tag in TAGS for s in samples[tag][: config.limits.contexts]]
    rng = np.random.default_rng(0)
    for i, ref in itertools.product(ids, RULERS):
        yield from both_orders(i, "golden", ref, "golden" if rng.random() < right else "tie")
    for i, rpm in itertools.product(ids, RPMS):
        yield from both_orders(i, rpm, "golden", rng.choice([rpm, "golden", "tie"]))


def write(tmp_path, rows, name="judged.jsonl"):
    file = tmp_path / name
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(file)


def test_judgments_of_a_file_stand_in_results_and_report(small_config, tmp_path, capsys):
    small_config.judges.good = judge(precomputed=write(tmp_path, judged(small_config)))
    bad = write(tmp_path, judged(small_config, 0.4), "bad.jsonl")
    small_config.judges.bad = judge(precomputed=bad)
    diagnose(small_config, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    schema.check_results(results)
    bad, good = results["judges"]
    # Unshifted has the texts of golden in this benchmark, and tells nothing.
    assert (good["accuracy"], good["accuracy_n"], good["calibrated"]) == (1.0, 18, True)
    assert good["source"] == str(tmp_path / "judged.jsonl") and good["calls"] == 9 * 5 * 2
    assert bad["accuracy"] < 0.75 and not bad["calibrated"]
    rows = {r["measure"]: r for r in results["judge_correlations"]}
    assert {r["judge"] for r in rows.values()} == {"good"} and results["judge_agreement"] == []
    assert (rows["r_emi"]["cells"], rows["r_emid"]["cells"]) == (6, 4)
    assert rows["r_emi"]["pearson"] is not None and "0 of at least" in rows["lost"]["reason"]
    print_report(results, tmp_path / "run")
    shown = " ".join(capsys.readouterr().out.split())
    assert "judge good is calibrated: golden above reference rows in 100 % [" in shown
    assert "the interval includes 75 %" in shown
    assert "judge bad is not calibrated: golden above" in shown
    assert "beside judge good (Pearson over 4-6 RPM x subset): R-EMI " in shown
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Judges, judged first" in page and "not calibrated" in page


def test_a_run_without_judges_has_no_such_tables(small_config, tmp_path):
    results = diagnose(small_config, tmp_path)
    assert not schema.OPTIONAL & results.keys()
    assert "Judges, judged first" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_files_that_cannot_be_used_are_one_line(small_config, tmp_path):
    def said(rows, match):
        small_config.judges.one = judge(precomputed=write(tmp_path, rows))
        with pytest.raises(UserError, match=match):
            diagnose(small_config, tmp_path / "run")

    said(judged(small_config, ids=["Else_1", "Else_2"]), "judges 2 samples that are not in")
    said([{"sample_ID": "a", "rpm": "nobody", "score": 1}], "this run has full_context, last_turn")
    said(list(judged(small_config))[::2], "every pair in one order alone")
    said([], "is empty")
    assert not (tmp_path / "run" / "results.json").exists()
    small_config.judges.one = judge()
    with pytest.raises(UserError, match=r"config.judges.one .*precomputed"):
        check_config(small_config)


def sample(tag, i):
    return Sample(f"{tag}_{i}", "p", "c", (("user", "hello"),), f"golden {i}", tag, {})


def test_rows_find_their_places():
    subsets = {"IDTest": [sample("IDTest", i) for i in range(3)], "german": [sample("german", 0)]}
    texts = {
        "IDTest": {"golden": [f"golden {i}" for i in range(3)], "echo": ["hello", "golden 1", ""]},
        "german": {"golden": ["golden 0"], "echo": ["hello"]},
    }
    rows = [
        Verdict("IDTest_0", "a", "golden", "first"),
        Verdict("IDTest_0", "golden", "a", "first"),
        Verdict("IDTest_0", "golden", "a", None),
        Verdict("IDTest_2", "b", "a", "first"),
        *(Verdict(f"IDTest_{i}", "golden", "echo", "first") for i in range(3)),
    ]
    found = to_arrays("judge", "pairwise", "file", rows, subsets, ["a", "b"], texts)
    assert (found.calls, found.unscored, found.mode) == (7, 1, "pairwise")
    golden, between = found.verdicts["IDTest"]["a", "golden"], found.verdicts["IDTest"]["a", "b"]
    np.testing.assert_array_equal(golden[0], [[1, np.nan], [-1, np.nan]])
    np.testing.assert_array_equal(between[2], [[np.nan], [-1]])
    echo = found.verdicts["IDTest"]["golden", "echo"][:, 0, 0]
    np.testing.assert_array_equal(echo, [1, np.nan, np.nan])  # a text with itself, and with none
    rows = [Rating("german_0", "a", 3.0), Rating("german_0", "a", None)]
    found = to_arrays("judge", "pointwise", "file", rows, subsets, ["a", "b"], texts)
    np.testing.assert_array_equal(found.scores["german"]["a"], [[3, np.nan]])
    assert tells({"golden": ["x"]}, "unshifted").tolist() == [False]
