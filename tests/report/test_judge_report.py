"""Judges on the page and on the terminal: calibration first, and no verdict of one that failed."""

import pytest
from report.html_pages import Document
from report.made_up_runs import one_rpm

from remid_jax.analysis.schema import TABLES, check_results
from remid_jax.report.html import page
from remid_jax.report.judge_lines import judge_lines


def of(table, **values):
    return {**dict.fromkeys(TABLES[table]), **values}


def judge(name, accuracy, low, high, **more):
    shares = {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": high, "accuracy_n": 24,
              "accuracy_contexts": 10, "flips": 0.25, "flips_low": 0.1, "flips_high": 0.5,
              "flips_n": 30, "flips_contexts": 10}  # fmt: skip
    passed = accuracy is not None and accuracy >= 0.75
    known = {"judge": name, "mode": "pairwise", "source": f"{name} at http://host/v1", "calls": 60,
             "unscored": 0, "stopped": False, "calibrated": passed}  # fmt: skip
    return of("judges", **{**known, **shares, **more})


def score(name, rpm, value, calibrated, against="golden"):
    ends = {"value": value, "value_low": value - 0.1, "value_high": value + 0.1}
    return of("judge_scores", judge=name, rpm=rpm, subset="german", against=against, n=10,
              calibrated=calibrated, **ends)  # fmt: skip


def correlation(measure, value, **more):
    ends = {f"{k}{end}": value and value + d for k in ("pearson", "spearman")
            for end, d in (("", 0), ("_low", -0.3), ("_high", 0.2))}  # fmt: skip
    return of("judge_correlations", judge="sure", measure=measure, cells=6, rpms=2, subsets=3,
              contexts=10, **{**ends, **more})  # fmt: skip


@pytest.fixture(scope="module")
def results():
    found = one_rpm() | {
        "judges": [
            judge("sure", 0.96, 0.8, 0.99),
            judge("perhaps", 0.8, 0.6, 0.9, unscored=3),
            judge("<b>poor</b>", 0.4, 0.2, 0.6, stopped=True, reason="too low"),
            judge("silent", None, None, None, reason="it compared nothing", accuracy_n=0),
        ],
        "judge_scores": [
            score("sure", "my model", 0.3, True), score("silent", "my model", 0.9, False),
        ],
        "judge_agreement": [of("judge_agreement", mode="pairwise", judges=["sure", "perhaps"], n=20,
                               contexts=10, alpha=0.42, alpha_low=0.1, alpha_high=0.7)],
        "judge_correlations": [
            correlation("r_emi", 0.5),
            correlation("r_emid", None, reason="2 of at least 4 RPM × subset"),
            correlation("lost", -0.4, pearson_low=None, pearson_high=None),
        ],
    }  # fmt: skip
    found["provenance"]["judges"] = [
        {"judge": "sure", "model": "m", "url": "http://host/v1", "calls": 60, "retries": 1,
         "failures": 0, "input_tokens": 900, "output_tokens": 80, "cost": None}
    ]  # fmt: skip
    check_results(found)
    return found


def test_lines_say_who_passed_and_how_surely(results):
    sure, perhaps, poor, silent, beside = (
        line.replace("\u00a0", " ") for line in judge_lines(results)
    )
    assert sure.startswith("judge sure is calibrated: golden above reference rows in 96 % [80, 99]")
    assert "n = 24 of 10 contexts" in sure and "includes" not in sure
    assert "the interval includes 75 %" in perhaps and "3 of 60 unscored" in perhaps
    assert "poor</b> is not calibrated: golden above" in poor and "not asked about RPMs" in poor
    assert silent.startswith("judge silent is not calibrated: it compared nothing")
    assert beside.endswith("R-EMI 0.50 [0.20, 0.70], profile lost -0.40 (no interval)")
    assert list(judge_lines(one_rpm())) == []


def test_the_page_has_a_table_with_the_calibration(results):
    text = page(results, [], None)
    assert "<b>poor" not in text
    document = Document(text)
    calibration = document.rows("judges-table")
    assert [r["calibrated"] for r in calibration] == [
        "yes", "yes", "not calibrated not asked further", "not calibrated"
    ]  # fmt: skip
    assert calibration[0]["accuracy, %"].split() == ["96", "[80,", "99]"]
    assert calibration[1]["unscored"].replace("\u00a0", " ") == "3 of 60"
    (own, silent) = document.rows("judge-scores-table")
    assert own["win rate, %"].split() == ["30", "[20,", "40]"] and own["counts"] == "yes"
    assert silent["counts"] == "not calibrated"
    assert document.rows("judge-agreement-table")[0]["alpha"].split() == ["0.42", "[0.10,", "0.70]"]
    found = {r["measure"]: r for r in document.rows("judge-correlations-table")}
    assert found["R-EMID"]["Pearson"] == "–" and "2 of at least 4" in found["R-EMID"]["why none"]
    assert found["profile lost"]["Pearson"] == "-0.40 no interval"
    assert document.rows("judge-calls-table")[0]["input tokens"] == "900"
