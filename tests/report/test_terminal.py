"""What the terminal shows of a run: verdicts, one table, warnings, and where the rest stands."""

import json
import subprocess
import sys

import pytest
from report.made_up_results import (
    HOME,
    SIX,
    TAGS,
    all_faults,
    compare,
    divergence,
    full,
    one,
    profiled,
    results_of,
    row,
    shown,
)
from rich.cells import cell_len

from remid_jax.diagnosis import diagnose
from remid_jax.information.pairs import REFERENCE_ROWS
from remid_jax.report.text import REFERENCES


def verdict_of(results):
    lines = shown(results)
    return " ".join(line.strip() for line in lines[: lines.index("")])


def test_reference_rows_are_known():
    assert set(REFERENCES) == set(REFERENCE_ROWS)


@pytest.mark.parametrize(
    "rpms, tags, most", [(SIX[:2], TAGS[:3], 30), (SIX, TAGS, 50), (SIX, (*TAGS, "ours"), 50)]
)
def test_a_screen_holds_all_that_can_be_said(rpms, tags, most):
    lines = shown(full(rpms, tags))
    assert len(lines) <= most and max(map(cell_len, lines)) <= 120
    firsts = [next(i for i, x in enumerate(lines) if x.startswith(rpm)) for rpm in rpms]
    title, warning, files = (
        next(i for i, line in enumerate(lines) if start in line)
        for start in ("± s.e. in nats per response", "warning: ", "report: run/report.html")
    )
    assert 0 == firsts[0] < firsts[-1] < title < warning < files == len(lines) - 2
    assert sum(line.startswith("warning: ") for line in lines) == 5
    text = "\n".join(lines)
    for said in ("power 0.8", "furthest", ": R-EMI of ", "tokens"):
        assert said in text


@pytest.mark.parametrize("swaps, first", [(1, "full_context: n = 3; "), (0, "full_context: ")])
def test_a_real_run_fits(small_config, tmp_path, swaps, first):
    small_config.shifts = ("german", "Literature", "TurnLevelComposition")
    small_config.profile.swaps = swaps
    results = diagnose(small_config, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    lines = shown(found, tmp_path)
    assert len(lines) <= 30 and f"report: {tmp_path / 'report.html'}" in lines
    assert lines[0].startswith(first) and len(found["rows"]) == len(results["rows"])
    assert ("dialogue %" in "\n".join(lines)) == bool(swaps)


def test_a_degradation_is_named_with_what_it_is_not_told_from():
    said = verdict_of(one(4.0, 19.1, -3.0))
    assert said.startswith("m: degrades under spanish (user): R-EMID 19.1 [15.1, 23.1], n = 10")
    assert "p = 0.01 (Holm); not distinguished from spanish, chinese" in said
    alone = one(19.1)
    assert verdict_of(alone).endswith("p = 0.01 (Holm)")


def test_a_larger_but_unsure_shift_is_not_the_one_that_is_named():
    rows = [row("m", HOME), row("m", "german", value=6.0), row("m", "korean", value=9.0, se=8.0)]
    said = verdict_of(results_of(rows))
    assert said.startswith("m: degrades under german (user): R-EMID 6.0 [2.0, 10.0]")
    assert "larger but not significant under korean (user): R-EMID 9.0 [-7.0, 25.0]" in said


@pytest.mark.parametrize("p, why", [(0.3, "not significant"), (None, "within noise")])
def test_what_is_positive_by_chance_is_no_degradation(p, why):
    said = verdict_of(one(5.0, 1.0, se=2.0 if p else 4.0, p=p))
    assert said.startswith(f"m: no degradation shown; positive but {why} under german (user): ")
    bound = "9.0" if p else "13.0"
    assert said.endswith(f"with 95 % confidence at most {bound} nats per response (german, n = 10)")


def test_where_nothing_is_positive_no_shift_is_named_worst():
    rows = [row("m", HOME), row("m", "german", value=-9.0), row("m", "korean", value=-20, se=9.0)]
    said = verdict_of(results_of(rows))
    expected = "with 95 % confidence at most -2.0 nats per response (korean, n = 10)"
    assert said == f"m: no degradation shown; {expected}"
    assert "worst" not in "\n".join(shown(results_of(rows)))


def test_a_significant_gain_is_no_degradation():
    said = verdict_of(one(-20.0, p=0.001))
    assert said.startswith("m: no degradation shown; with 95 %")


def test_what_has_no_value_is_said():
    assert verdict_of(one(None, n=2)) == "m: no R-EMID could be estimated (n = 2-10)"
    assert verdict_of(one()) == "m: no R-EMID could be estimated (n = 10)"
    assert verdict_of(one(-9.0, None)).endswith("; not estimated under spanish")
    empty = dict.fromkeys(("r_emi", "r_emi_se", "retained", "baseline", "retained_se"))
    few = results_of([{**row("m", tag, n=2), **empty} for tag in (HOME, "german")])
    (line,) = (x for x in shown(few) if x.lstrip().startswith("german"))
    assert line.split()[:3] == ["german", "2", "–"]
    few["rows"][0].update(r_emi=3.0)
    assert "3.0 ± –" in "\n".join(shown(few))


def test_figures_per_token_have_three_decimals():
    results = one(0.0123, se=0.001)
    results["provenance"]["config"]["estimator"]["normalisation"] = "token"
    text = "\n".join(shown(results))
    assert "R-EMID 0.012 [0.010, 0.014]" in text and "nats per token" in text


def test_no_figure_is_cut_or_loses_its_mark():
    results = full(SIX, TAGS)
    results["rows"][1].update(r_emid=-123456.78, r_emid_se=98765.43)
    assert "-123456.8±98765.4*" in "\n".join(shown(results))
    results = one(-0.01, 8.0)
    table = [" ".join(line.split()) for line in shown(results)]
    assert "german 10 -5.0 ± 1.0 0.0 ± 2.0 0.50 ± 0.10 1.00 ± 0.10" in table
    assert "spanish 10 -5.0 ± 1.0 8.0 ± 2.0* 0.50 ± 0.10 1.00 ± 0.10" in table


def test_more_rpms_than_stand_side_by_side():
    rpms = tuple("abcdefgh")
    lines = shown(full(rpms, TAGS))
    assert max(map(cell_len, lines)) <= 120
    assert [line.split() for line in lines if line.startswith("subset")] == [
        ["subset", "n", *rpms[:6]], ["subset", "n", *rpms[6:]]
    ]  # fmt: skip


def test_only_significant_comparisons_are_shown():
    rows = [row(rpm, tag, value=v) for rpm in "ab" for tag, v in ((HOME, None), ("german", 1.0))]
    noise, clear = compare("a", "b", HOME, value=1.0), compare("a", "b", "german", value=9.0)
    text = "\n".join(shown(results_of(rows, comparisons=[noise, clear])))
    said = "german: R-EMI of a minus b: 9.0 [5.0, 13.0], n = 10, p = 0.01 (Holm)"
    assert said in text and "IDTest: R-EMI of" not in text
    raw = {**clear, "p_holm": None}  # not adjusted: its interval decides
    assert said.replace("0.01 (Holm)", "0.005") in shown(results_of(rows, comparisons=[raw]))
    unsure = {**clear, "p_holm": 0.2}
    none = "no two RPMs differ significantly in R-EMI (paired comparisons: 1)"
    missing = compare("a", "b", HOME, value=None)
    assert none in shown(results_of(rows, comparisons=[unsure, missing]))
    assert "two RPMs" not in "\n".join(shown(one(3.0)))


def test_too_few_contexts_for_any_significant_comparison_are_said():
    rows = [row(rpm, tag, value=v) for rpm in "ab" for tag, v in ((HOME, None), ("german", 1.0))]
    some = [{**compare("a", "b", tag, value=9.0), "n": 6, "p_holm": 0.06, "p_sign_flip": 0.03}
            for tag in (HOME, "german")]  # fmt: skip
    said = "n = 6 cannot show that two RPMs differ in R-EMI (sign flips, Holm): 2 comparisons"
    assert said in shown(results_of(rows, comparisons=some))
    enough = [{**c, "n": 7} for c in some]
    assert said.replace("6", "7") not in shown(results_of(rows, comparisons=enough))


def test_warnings_name_their_rpms_and_subsets():
    rows = [row(r, t, value=v) for r in "ab" for t, v in ((HOME, None), ("x", 1.0), ("y", 1.0))]
    places = [("a", HOME), ("a", "x"), ("a", "y"), ("b", "y")]
    kind = "baseline_above_golden"
    warnings = [{"rpm": p, "subset": t, "kind": kind} for p, t in places]
    lines = shown(results_of(rows, warnings=warnings))
    (line,) = (x for x in lines if x.startswith("warning"))
    assert line.endswith("too predictable, baseline above golden's: a in all subsets, b in y")
    rows[1]["saturated"] = rows[2]["saturated"] = True
    (line,) = (x for x in shown(results_of(rows)) if x.startswith("warning"))
    assert line.endswith("a in 2 of 3 subsets")


def test_collected_answers_that_were_left_out_are_counted():
    reasons = ("no\x1b[2J", "the answer is empty")
    excluded = [{"rpm": "m", "sample_ID": "IDTest_1", "reason": r} for r in reasons]
    counts = {"cut": {"user_turn": 9}, "finish_reasons": {"length": 22}, "unused_draws": 3}
    results = {**one(-3.0), "excluded": excluded, "answers": {"m": counts}}
    lines = shown(results)
    assert "warning: answers excluded: 2, first m IDTest_1: no\\x1b[2J" in lines
    said = "9 with a user turn cut, 22 with a finish_reason other than stop, 3 draws unused"
    assert f"answers: {said}" in lines


def test_what_several_answers_a_context_add_has_a_line():
    results = profiled(one(-3.0))
    assert not any("answers a context" in x for x in shown(results))
    rows = [r for r in results["rows"] if r["rpm"] == "m"]
    for r, share, worth in zip(rows, (0.081, 0.31), (1.0, 3.4), strict=True):
        r.update(draws=2.0, draws_share=share, draws_share_se=0.052, draws_worth_it=worth)
    said = " ".join(" ".join(shown(results)).split())
    start = (
        "m: 2 answers a context, n = 10: their sampling is 8 ± 5 to 31 ± 5 % of the variance of "
        "R-EMI"
    )
    assert f"{start}; worth their cost (median): 2 for R-EMI " in said
    cell = next(c for c in results["profile"] if c["rpm"] == "m")
    cell.update(draws_share=0.02, draws_share_se=None, draws_worth_it=None, n=8)
    said = " ".join(" ".join(shown(results)).split())
    assert "n = 8-10: " in said and "R-EMI and 2 % of the variance of the profile; worth" in said


def test_what_else_was_measured_has_a_line():
    far = [divergence("german", 0.01), divergence("korean", 0.5, "user"), divergence("x", 0.2)]
    (line,) = (x for x in shown({**one(-3.0), "divergences": far}) if x.startswith("contexts f"))
    assert line.endswith("x (corrected RJSD 0.200 nats, n = 10, p = 0.04)")
    far[2]["rjsd_p"] = None
    lines = shown({**one(-3.0), "divergences": far})
    assert any(line.endswith("0.200 nats, n = 10)") for line in lines)


@pytest.mark.parametrize("wrap, end", [(dict, ":"), (all_faults, ": n = 10;")])
@pytest.mark.parametrize("rpms, tags", [(2, TAGS[:3]), (6, TAGS)])
def test_hostile_names_stay_inert_and_short(rpms, tags, wrap, end):
    names = ("[bold]x[/bold]", ":smile:", "a\x1b[31m\u202e\n", "長い名前" * 50, "[/]", "y" * 500)
    renamed = {
        tag: f"{name} {i}" for i, (tag, name) in enumerate(zip(tags, names * 2, strict=False))
    }
    text = json.dumps(wrap(full(names[:rpms], tags)))
    for tag, name in renamed.items():
        text = text.replace(json.dumps(tag), json.dumps(name))
    lines = shown(json.loads(text))
    assert max(map(cell_len, lines)) <= 120 and len(lines) <= (30 if rpms == 2 else 50)
    text = "\n".join(lines)
    assert "\x1b" not in text and "\u202e" not in text
    assert f"[bold]x[/bold]{end} " in text and f":smile:{end} " in text


def test_reports_need_neither_arrays_nor_estimates():
    code = """
import pkgutil, sys
from importlib import import_module
import remid_jax.report as report
for module in pkgutil.iter_modules(report.__path__):
    import_module(f"remid_jax.report.{module.name}")
heavy = ("jax", "numpy", "ml_collections", "remid_jax.analysis", "remid_jax.evaluation",
         "remid_jax.information", "remid_jax.data", "remid_jax.models", "remid_jax.inference")
assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def predicted(rpm, subset, value, measured):
    found = {"predicted": value, "predicted_se": 9.0, "measured": measured, "n": 10}
    return {"rpm": rpm, "subset": subset, **found}


def test_a_prediction_is_called_one_with_its_worth_beside_it():
    rows = [predicted("m", "german", 12.3, 4.0), predicted("m", "korean", 45.6, None)]
    rank = {"n": 1, "spearman": None, "p_value": None}
    results = {**one(-3.0), "prediction": rows, "prediction_rank": [rank]}
    lines = shown(results)
    known = "m korean 45.6 ± 9.0, m german 12.3 ± 9.0 (4.0)"
    assert f"prediction of R-EMID ± s.e. (measured), n = 10: {known}" in lines
    clustered = "no interval of the prediction: contexts are clustered, and it takes each by itself"
    assert clustered not in lines
    second = "it neither bounds nor ranks quality: rank correlation with the measured R-EMID"
    worlds = "with exact EMID on worlds .16 to .46"
    assert f"{second} unknown (n = 1, below 4); {worlds}" in " ".join(" ".join(lines).split())
    rank.update(n=4, spearman=-0.4, p_value=0.75)
    said = " ".join(" ".join(shown(results)).split())
    assert f"{second} -0.40 (n = 4, p = 0.75); {worlds}" in said
    rows[0].update(predicted_se=None)
    lines = shown(results)
    assert clustered in lines and "m german 12.3 ± – (4.0)" in "\n".join(lines)
    rows[0]["predicted"] = rows[1]["predicted"] = None
    assert "prediction" not in "\n".join(shown(results))


def test_a_reasoner_that_doubts_is_named():
    results, said = one(1.0, 1.0), "warning: the reasoner doubts"
    sure = {"agreement": 0.8, "se": 0.1, "n": 5}
    results["provenance"]["thought_agreement"] = agreed = {
        HOME: sure, TAGS[0]: {**sure, "doubts": False}, TAGS[1]: {**sure, "doubts": None}
    }  # fmt: skip
    assert not any(said in line for line in shown(results))
    agreed[TAGS[1]] = {**sure, "agreement": 0.25, "doubts": True}
    text = " ".join(x.strip() for x in shown(results))
    assert f"{said}: R-EMID rests on thoughts that agree less than in distribution (0.80): " in text
    assert f"{TAGS[1]} (0.25)" in text and f"{TAGS[0]} (0.80)" not in text
