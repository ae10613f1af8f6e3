"""The page without a browser: its figures, its order, its policy, and that texts stay texts."""

import ast
import re
from pathlib import Path

import pytest
from report.html_pages import (
    ESCAPES,
    HOSTILE,
    TWO,
    Document,
    digest,
    hostile_run,
    nulled,
    numbers,
    run_of,
    without_golden,
)

from benchmarks.made_up_run import FACTORS, HOME, REFERENCES, SUBSETS
from remid_jax.analysis.schema import TABLES, TOP, VERSION, check_results
from remid_jax.report.html import page
from remid_jax.report.html.samples_part import ordered

ROOT = Path(__file__).parent.parent.parent
RESULTS, CONTRIBUTIONS, EXAMPLES = run_of()


@pytest.fixture(scope="module")
def html():
    return page(RESULTS, CONTRIBUTIONS, EXAMPLES)


@pytest.fixture(scope="module")
def document(html):
    return Document(html)


def record(table, row, **more):
    """The record behind a row of a table."""
    found = [
        r
        for r in RESULTS[table]
        if (r["rpm"], r["subset"]) == (row["RPM"], row["subset"])
        and all(r[key] == value for key, value in more.items())
    ]
    assert len(found) == 1
    return found[0]


def assert_shows(cell, *values, scale=1.0, digits=1):
    """A cell holds these values, rounded, or a dash where the first is None."""
    if values[0] is None:
        assert cell == "–"
        return
    assert numbers(cell) == [round(scale * v, digits) + 0.0 for v in values]


def interval_of(found, key):
    return [found[key], found[f"{key}_low"], found[f"{key}_high"]]


def test_the_made_up_run_has_the_keys_of_a_real_one():
    of_itself = {key: None for key in TOP if key not in TABLES} | {"schema": VERSION}
    check_results({**of_itself, **RESULTS})


def test_shares_are_those_of_the_results(document):
    rows = document.rows("shares-table")
    places = {(r["rpm"], r["subset"]) for r in RESULTS["profile"]}
    places -= {("golden", tag) for tag in (HOME, *SUBSETS)} | {("unshifted", HOME)}
    assert {(r["RPM"], r["subset"]) for r in rows} == places and len(rows) == len(places)
    for row in rows:
        for factor in (*FACTORS, "history", "last turn"):
            cell = record("profile", row, factor=factor.replace(" ", "_"))
            assert_shows(row[factor], *interval_of(cell, "share"), scale=100, digits=0)
            is_lost = cell["p_holm"] < 0.05 and cell["lost"] > 0
            assert ("*" in row[factor]) == (is_lost and cell["shown"])
        assert row["n"] == "16" and row["shift"] == (SUBSETS.get(row["subset"]) or "–")
        assert row["copied"] == "8"


def test_nats_behind_the_shares_are_those_of_the_results(document):
    rows = document.rows("nats-table")
    assert len(rows) == 2 * 12 * 3
    for row in rows:
        cell = record("profile", row, factor=row["factor"])
        assert_shows(row["information"], cell["info"], cell["info_se"])
        assert_shows(row["golden’s"], cell["info_golden"], cell["info_golden_se"])
        assert_shows(row["lost"], cell["lost"], cell["lost_se"])
        assert_shows(row["copied words"], cell["info_copied"])
        assert_shows(row["golden’s copied"], cell["info_copied_golden"])
        assert_shows(row["share lost to shift, %"], *interval_of(cell, "share_drop"),
                     scale=100, digits=0)  # fmt: skip
        assert_shows(row["u, %"], *interval_of(cell, "u"), scale=100, digits=0)
        assert numbers(row["p (Holm)"]) == [cell["p_holm"]]
        assert row["why no share"] == (cell["reason"] or "")


def test_levels_are_those_of_the_results(document):
    rows = document.rows("levels-table")
    assert len(rows) == (2 + len(REFERENCES) - 1) * 12
    for row in rows:
        found = record("rows", row)
        assert_shows(row["R-EMI"], found["r_emi"], found["r_emi_se"])
        assert_shows(row["R-EMID"], *interval_of(found, "r_emid"))
        assert_shows(row["seen with power 0.8"], found["detectable"])
        assert_shows(row["p (Holm)"], found["p_holm"], digits=2)
        for key, digits in (("retained", 2), ("baseline", 2), ("r_emi_token", 3)):
            name = key.replace("r_emi_token", "R-EMI per token")
            assert_shows(row[name], found[key], found[f"{key}_se"], digits=digits)


def test_risk_needs_and_predictions_are_those_of_the_results(document):
    shifts = {(r["rpm"], s["shift"]): s for r in RESULTS["by_shift"] for s in r["shifts"]}
    rows = document.rows("by-shift-table")
    assert len(rows) == len(shifts) == 6
    for row in rows:
        found = shifts[row["RPM"], row["shift"]]
        assert_shows(row["mean R-EMID"], *interval_of(found, "r_emid"))
        assert row["subsets"] == ", ".join(found["subsets"])
    for row in document.rows("needs-table"):
        for factor in FACTORS:
            cell = record("profile", row, factor=factor)
            show, half = row[f"{factor} to show"], row[f"{factor} to tell half"]
            assert show == ("many" if cell["n_to_show"] is None else str(cell["n_to_show"]))
            assert half == str(cell["n_to_tell_half"])
    rows = document.rows("predicted-table")
    assert len(rows) == 22
    for row in rows:
        found = record("prediction", row)
        for name, key in (("predicted", "predicted"), ("measured R-EMID", "measured"),
                          ("bound", "bound")):  # fmt: skip
            assert_shows(row[name], *interval_of(found, key))


def test_samples_of_the_table_are_the_lowest(document):
    own = sorted((r for r in CONTRIBUTIONS if r["rpm"] in TWO), key=lambda r: r["nats"])
    rows = document.rows("contributions-table")
    assert [r["sample"] for r in rows] == [r["sample_ID"] for r in own[:40]]
    for row, found in zip(rows, own, strict=False):
        assert_shows(row["R-EMI"], found["nats"])
        assert_shows(row["user"], found["user"], digits=2)
        assert_shows(row["golden’s dialogue"], found["dialogue_golden"], digits=2)


def test_the_verdict_comes_first_and_all_parts_follow(document):
    parts = ["verdict", "filter", "profile", "r-emi", "risk", "needs", "prediction", "samples",
             "notes", "origin"]  # fmt: skip
    assert [x for x in document.ids() if x in parts] == parts
    said = document.text[document.text.index("The verdict") :]
    assert said.index("Ignores") < said.index("What the answers carry")
    assert "python -m benchmarks.report" in document.text


def test_the_gate_stands_above_the_verdict():
    gate = [{"limit": "share.user < 0.8", "answer": "cannot be told", "why": "n = 6 is too few"}]
    found = Document(page(RESULTS, [], None, gate))
    assert found.ids().index("gate") < found.ids().index("verdict")
    for said in ("cannot be told", "share.user < 0.8", "n = 6 is too few"):
        assert said in found.text


def assert_policy(html):
    """Nothing but one style and one script, both named by the policy, can act."""
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html).group(1)
    policy = policy.replace("&#39;", "'").replace("&#43;", "+")
    assert policy.startswith("default-src 'none'; ")
    for kind in ("style", "script"):
        (content,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        assert f"{kind}-src '{digest(content)}'" in policy
        assert html.count(f"<{kind}") == 1
    for tag, found in Document(html).elements:
        assert tag not in ("img", "iframe", "object", "embed", "link", "base", "form")
        assert not [key for key in found if key.startswith("on") or key in ("style", "src")]
        assert found.get("href", "#").startswith("#")


def test_the_policy_names_what_the_page_holds(html):
    assert_policy(html)
    assert html.startswith("<!doctype html>\n")


def test_hostile_texts_are_inert_and_visible():
    html = page(*hostile_run())
    assert_policy(html)
    text = Document(html).text
    for said in (*HOSTILE[:3], *ESCAPES):
        assert said in text
    assert not set(text) & set("\u202e\u2066\u200b\ufeff\x1b\u00ad")


def test_an_escape_is_told_from_a_text_that_spells_one():
    results, contributions, examples = run_of(each=1, words=5)
    examples["examples"][0] |= {"user": "real \u202e spelt \\u202e", "lost": 1e4}
    html = page(results, contributions, examples)
    assert 'real <span class="esc">\\u202e</span> spelt \\u202e' in html


def test_a_page_of_two_rpms_and_twelve_subsets_is_small_and_says_what_it_leaves_out():
    examples = run_of(words=400)[2]
    html = page(RESULTS, CONTRIBUTIONS, examples)
    shown = html.count('class="sample"')
    assert len(html.encode()) < 300_000 and 2 <= shown < 72
    assert f"{72 - shown} of 72 are left out" in Document(html).text


def test_the_worst_of_each_place_come_first():
    lost = {("a", "x"): (5.0, 9.0, 7.0), ("b", "x"): (30.0, 20.0)}
    examples = [
        {"rpm": rpm, "subset": tag, "lost": v} for (rpm, tag), vs in lost.items() for v in vs
    ]
    assert [e["lost"] for e in ordered(examples)] == [30.0, 9.0, 20.0, 7.0, 5.0]
    unknown = [{"rpm": "a", "subset": "x", "lost": None, "k": k} for k in range(3)]
    assert [e["k"] for e in ordered(unknown)] == [0, 1, 2]


def test_words_carry_their_figures():
    results, contributions, examples = run_of(each=1, words=5)
    first = examples["examples"][0]
    nats = {"user": -0.7, "character": 0.126, "dialogue": None, "history": 2e4, "last_turn": 0.0}
    first |= {"lost": 1e4, "answer": "one two",
              "words": [{"text": "one", "copied": False, "nats": nats},
                        {"text": " two", "copied": True, "nats": {}}]}  # fmt: skip
    html = page(results, contributions, examples)
    assert '<b class="n2" data-n=-70,13,,99900,0>one</b> <b class="c" data-n=,,,,>two</b>' in html


def test_samples_without_golden_answers_are_told():
    results, contributions, examples = run_of(each=1, words=5)
    for example in examples["examples"]:
        example |= {"golden": None, "lost": None, "words_golden": []}
        for factor in example["factors"].values():
            factor["info_golden"] = None
    text = Document(page(results, contributions, examples)).text
    assert "no golden answer to compare with" in text


def test_an_older_run_without_examples_is_said(html):
    assert "no examples.json" not in html
    assert "no examples.json" in page(RESULTS, CONTRIBUTIONS, None)


def test_no_degradation_is_said_with_its_bound():
    results = run_of(TWO[:1], ["german", "Literature"])[0]
    for row in (*results["rows"], *results["by_shift"][0]["shifts"], *results["worst"]):
        if row["r_emid"] is not None:
            row |= {"r_emid": 2.0, "r_emid_low": -4.0, "r_emid_high": 8.0}
            row |= {"p_holm": 0.6, "within_noise": True}
    text = Document(page(results, [], None)).text
    assert text.count("no degradation shown, at most 8.0") == 2
    assert all(
        re.match(r"o degradation shown( by R-EMID:|; R-EMID|,) at most 8\.0", text[m.start() + 1 :])
        for m in re.finditer("[Nn]o degradation", text)
    )


def test_the_worst_is_said_with_what_it_is_not_distinguished_from(document):
    for rpm in TWO:
        (worst,) = (w for w in RESULTS["worst"] if w["rpm"] == rpm)
        value, low, high = (f"{x:.1f}" for x in interval_of(worst, "r_emid"))
        said = f"largest under {worst['subset']}: {value} [{low}, {high}], not distinguished from "
        text = document.text.replace("\u00a0", " ")
        assert f"{said}{', '.join(worst['not_distinguished_from'])}" in text


def test_a_run_without_golden_answers():
    html = page(without_golden(run_of()[0]), [], None)
    found = Document(html)
    assert "shares-table" not in found.tables and len(found.rows("nats-table")) == 72
    assert "R-EMI has no value" in found.text and "collapse" in found.text
    assert_policy(html)


def test_a_run_without_a_profile():
    results = run_of()[0] | {"profile": [], "flags": []}
    found = Document(page(results, CONTRIBUTIONS, None))
    assert "measured no information profile" in found.text
    assert "nats-table" not in found.tables and "levels-table" in found.tables


def test_a_run_without_a_shift():
    results = run_of(TWO, [])[0]
    found = Document(page(results, [], None))
    assert "No shifted subset" in found.text and len(found.rows("shares-table")) == 4


def test_a_run_in_which_nothing_has_a_value():
    html = page(nulled(RESULTS), [], None)
    text = Document(html).text
    assert "None" not in re.sub(r"None of \d+", "", text) and "nan" not in text.lower().split()
    assert_policy(html)


def test_many_rpms():
    rpms = [f"llama-3.1-8b-instruct-{k}" for k in range(11)]
    found = Document(page(*run_of(rpms, words=5)))
    assert len(found.rows("levels-table")) == (11 + 3) * 12
    assert all(rpm in found.text for rpm in rpms)


def test_whatever_the_page_reads_is_installed():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (data,) = (
        k.value for n in ast.walk(tree) if isinstance(n, ast.Call)
        for k in n.keywords if k.arg == "package_data"
    )  # fmt: skip
    patterns = ast.literal_eval(data)
    folder = ROOT / "remid_jax" / "report"
    needed = [f for f in folder.rglob("*") if f.suffix in (".css", ".js", ".html")]
    packed = {
        f
        for package, globs in patterns.items()
        for g in globs
        for f in ROOT.joinpath(*package.split(".")).glob(g)
    }
    assert len(needed) > 5 and set(needed) <= packed
