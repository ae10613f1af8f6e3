"""What the terminal shows of results without golden responses."""

import pytest
from report.made_up_results import HOME, SIX, TAGS, profiled, results_of, row, shown
from rich.cells import cell_len

from remid_jax.factor_names import FACTORS

WHY = "0 of 10 contexts have a golden response"


def bare(rpms, tags, collapsed=(), **values):
    """Results in which no subset has golden responses."""
    results = results_of([row(rpm, tag) for rpm in rpms for tag in (HOME, *tags)])
    results["rows"] = [r for r in results["rows"] if r["rpm"] in (*rpms, "echo")]
    unknown = dict.fromkeys(("r_emi", "r_emid", "baseline", "p_holm", "within_noise"))
    results["rows"] = [{**r, **unknown, "reason": WHY, "n": 0} for r in results["rows"]]
    results = profiled(results)
    lacking = dict.fromkeys(("share", "share_low", "share_high", "lost", "p_holm", "info_golden"))
    results["profile"] = [
        {**c, **lacking, "shown": False, "reason": WHY, **values}
        for c in results["profile"]
        if c["rpm"] in (*rpms, "echo")
    ]
    for cell in results["profile"]:
        if (cell["rpm"], cell["subset"], cell["factor"]) in collapsed:
            cell.update(collapsed=True, u=0.002, u_low=-0.01, u_high=0.014)
    return results


def test_a_line_an_rpm_names_what_collapsed():
    results = bare(("m", "k"), TAGS[:2], {("m", "spanish", "user"), ("m", "german", "dialogue")})
    lines = shown(results)
    said = "collapsed: dialogue under german 0.2 % (-1.0 to 1.4), user under spanish 0.2 %"
    assert lines[0].startswith(f"m: n = 10; {said}")
    assert lines[1] == "k: n = 10; no collapse shown; 6 of 6 cells could show one"
    assert [x for x in lines if "0.2 [-1.0, 1.4]!" in x]
    assert sum(WHY in x for x in lines) == 1
    assert "R-EMI ±" not in "\n".join(lines)


def test_a_factor_that_showed_nothing_at_home_could_show_no_collapse():
    results = bare(("m",), TAGS[:1])
    for cell in results["profile"]:
        if cell["subset"] == HOME and cell["factor"] == "user":
            cell["u_low"] = -0.01
    assert "no collapse shown; 2 of 3 cells could show one" in shown(results)[0]


def test_where_home_alone_lacks_golden_responses_all_shifts_can_collapse():
    whole = bare(("m",), TAGS[:2], {("m", "spanish", "user")})
    results = profiled(results_of([row("m", tag) for tag in (HOME, *TAGS[:2])]))
    for table in ("rows", "profile"):
        kept = [r for r in results[table] if r["subset"] != HOME]
        results[table] = [r for r in whole[table] if r["subset"] == HOME] + kept
    for cell in results["profile"]:
        if (cell["rpm"], cell["subset"], cell["factor"]) == ("m", "spanish", "user"):
            cell.update(collapsed=True, u=0.002, u_low=-0.01, u_high=0.014)
    lines = shown(results)
    assert "m: n = 10; collapsed: user under spanish 0.2 % (-1.0 to 1.4)" in lines
    assert any("0.2 [-1.0, 1.4]!" in line for line in lines)


def test_alike_contexts_cannot_show_a_collapse():
    results = bare(("m",), TAGS[:1], n=0, left_out=10, info=None, info_se=None)
    why = "0 of 10 contexts have a partner of their language with another user"
    for cell in results["profile"]:
        cell.update(dict.fromkeys(("u", "u_low", "u_high", "collapsed")), reason=why)
    assert shown(results)[0] == f"m: n = 10; cannot be told; {HOME}: {why}"


@pytest.mark.parametrize("rpms", [("m",), SIX, ("模型" * 30,), ("\x1b[31m" * 9,)])
def test_lines_fit(rpms):
    wide = {"info": -123.45, "info_se": 123.45, "u": -9.994, "u_low": -99.0, "u_high": 99.0}
    for values in ({}, wide):
        every = {(rpm, tag, f) for rpm in rpms for tag in TAGS for f in FACTORS}
        lines = shown(bare(rpms, TAGS, every if not values else (), **values))
        assert max(map(cell_len, lines)) <= 120
        assert not any("\x1b" in line for line in lines)
