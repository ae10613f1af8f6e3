"""What the terminal shows of the information profile."""

import pytest
from report.made_up_results import (
    HOME,
    SIX,
    TAGS,
    all_faults,
    full,
    one,
    profiled,
    results_of,
    row,
    shown,
)
from rich.cells import cell_len

QUICK = ("german", "Literature", "TurnLevelComposition")


def verdict_of(results):
    """The lines above the table as one."""
    lines = shown(results)
    return " ".join(line.strip() for line in lines[: lines.index("")])


def line_of(results, start):
    """The one line that starts so, with single spaces."""
    lines = [" ".join(x.split()) for x in shown(results)]
    (line,) = (x for x in lines if x.startswith(start))
    return line


def ignoring(places, factor="user"):
    return [("m", tag, "ignores", factor) for tag in places]


@pytest.mark.parametrize(
    "rpms, tags, most", [(SIX[:2], TAGS[:3], 30), (SIX, TAGS, 50), (SIX, (*TAGS, "ours"), 50)]
)
def test_a_screen_holds_all_that_can_be_said(rpms, tags, most):
    lines = shown(all_faults(full(rpms, tags)))
    assert len(lines) <= most and max(map(cell_len, lines)) <= 120
    firsts = [next(i for i, x in enumerate(lines) if x.startswith(rpm)) for rpm in rpms]
    assert firsts == list(range(0, 2 * len(rpms), 2))  # two lines a verdict
    starts = ("* loss", "– golden", "unshifted", "echo", "shuffled golden", "warning", "report: ")
    places = [next(i for i, x in enumerate(lines) if x.startswith(s)) for s in starts]
    assert places == sorted(places) and places[-1] == len(lines) - 2
    text = "\n".join(lines)
    for said in ("power 0.8", "furthest", "more significant", "tokens", "baseline above"):
        assert said in text
    assert "saturated" not in text  # of what the profile stands in for


def test_ignorance_is_said_with_its_shares_under_the_shift_and_at_home():
    cells = {("m", HOME, "user"): {"share": 0.02, "half": 0.01}}
    cells["m", "german", "user"] = {"share": 0.07, "half": 0.14}
    said = verdict_of(profiled(one(-3.0), cells, ignoring((HOME, "german"))))
    found = "ignores the user everywhere: 7 % (-7 to 21) under german, 2 % (1 to 3) at home; "
    assert said.startswith("m: n = 10; " + found)
    assert "at home character 100 % (90 to 110), dialogue 100 % (90 to 110); no degr" in said
    assert "no degradation shown; R-EMID at most 1.0 (german)" in said


def test_no_share_is_called_ignorance_without_its_flag():
    cells = {("m", "german", "user"): {"share": 0.0}}
    said = verdict_of(profiled(one(-3.0), cells))
    assert "ignores" not in said and "drops: user 0 % (-10 to 10) under german" in said
    assert "no degradation shown by R-EMID: at most 1.0 (german)" in said
    cells["m", HOME, "user"] = {"share": 0.05}
    said = verdict_of(profiled(one(-3.0), cells))
    assert "no drop shown: user 0 % (-10 to 10) under german" in said
    cells["m", HOME, "user"] = {"share": None}
    assert "less than golden: user 0 % (-10 to 10) under german" in verdict_of(
        profiled(one(-3.0), cells)
    )


def test_a_drop_counts_where_the_loss_is_significant():
    cells = {("m", "german", "user"): {"share": 0.5, "p_holm": 0.2}}
    said = verdict_of(profiled(one(-3.0), cells))
    assert "drops" not in said and "no loss shown: user 50 % (40 to 60) under german" in said


def test_only_the_shifted_factor_of_a_subset_is_read():
    cells = {("m", "german", "character"): {"share": 0.0}}
    assert "drops" not in verdict_of(profiled(one(-3.0), cells))
    flags = ignoring(["german"], "character")
    said = verdict_of(profiled(one(-3.0), cells, flags))
    assert "ignores the character under german: 0 % (-10 to 10), 100 % (90 to 110) at home" in said
    assert "at home user 100 % (90 to 110), dialogue" in said  # the character is not said again
    cells = {("m", HOME, "user"): {"share": 0.09}, ("m", "german", "user"): {"share": 0.02}}
    said = verdict_of(profiled(one(-3.0), cells, ignoring((HOME, "german"))))
    assert "everywhere: 2 % (-8 to 12) under german, 9 % (-1 to 19) at home" in said


def test_factors_with_the_same_fault_share_a_clause():
    flags = [f for x in ("user", "character", "dialogue") for f in ignoring(["spanish"], x)]
    cells = {("m", "spanish", f): {"share": 0.0} for _, _, _, f in flags}
    said = verdict_of(profiled(one(-3.0, -3.0), cells, flags))
    assert "ignores user, character and dialogue under spanish: user 0 % (-10 to 10)" in said
    assert "under spanish, character 0 % (-10 to 10) under spanish; " in said


@pytest.mark.parametrize(
    "places, where",
    [
        ((HOME,), "at home"),
        (("german", HOME), "at home and under german"),
        (("german", "spanish", "korean"), "in 3 of 5 subsets"),
        ((HOME, "german", "spanish", "chinese", "korean"), "everywhere"),
    ],
)
def test_many_subsets_are_counted(places, where):
    tags = ("german", "spanish", "chinese", "korean")
    results = results_of([row("m", HOME), *(row("m", t, value=-3.0) for t in tags)])
    cells = {("m", tag, "user"): {"share": 0.0} for tag in places}
    assert f"ignores the user {where}: 0 %" in verdict_of(
        profiled(results, cells, ignoring(places))
    )
    flags = [("m", tag, "echo", None) for tag in places]
    flags += [("m", tag, "copies_last_turn", None) for tag in places]
    said = verdict_of(profiled(results, cells, flags))
    assert said.startswith(f"m: n = 10; echoes the last user turn {where}; ")
    assert "copies" not in said


def test_everywhere_is_claimed_only_of_subsets_that_can_tell():
    cells = {("m", "german", "user"): {"share": None}, ("m", HOME, "user"): {"share": 0.0}}
    cells["m", "spanish", "user"] = {"share": 0.0}
    said = verdict_of(profiled(one(-3.0, -3.0), cells, ignoring((HOME, "spanish"))))
    assert "ignores the user wherever tested: " in said
    assert "not tested (–): user under german" in said


def test_an_rpm_that_contradicts_is_not_said_to_ignore():
    cells = {("m", "german", "user"): {"share": -0.5}}
    flags = [("m", "german", "contradicts", "user"), *ignoring(["german"])]
    said = verdict_of(profiled(one(-3.0), cells, flags))
    assert "contradicts the user under german: -50 % (-60 to -40)" in said and "ignores" not in said


def test_what_n_cannot_tell_is_said_with_the_n_that_would():
    cells = {("m", "german", "user"): {"share": 0.7, "half": 0.9, "n_to_tell_half": 31}}
    said = verdict_of(profiled(one(-3.0), cells))
    assert "cannot tell a loss of half (31 contexts would, power 0.8): user under german" in said


def test_where_golden_says_nothing_the_data_is_to_blame():
    everything = {
        (r["rpm"], r["subset"], f): {"share": None}
        for r in one(-3.0)["rows"]
        for f in ("user", "character", "dialogue")
    }
    results = profiled(one(-3.0), everything)
    assert "no share can be given (see –)" in verdict_of(results)
    lines = shown(results)
    (start,) = (i for i, x in enumerate(lines) if x.startswith("– golden"))
    said = " ".join(x.strip() for x in lines[start : start + 2])
    assert "too little of: user at home (0.6±0.4 nats, n = 10; about 37 might do), " in said
    assert "and 4 more" in said and "unshifted (user/character/dialogue, n = 10): –" in lines
    for c in results["profile"]:
        c.update(info_golden=-0.1, n_to_show=None)
    assert "user at home (-0.1±0.4 nats, n = 10), " in "\n".join(shown(results))


def test_too_few_partners_are_said():
    why = "1 of 10 contexts have a partner with another user"
    refused = {"share": None, "info": None, "info_golden": None, "reason": why, "p_holm": None}
    results = profiled(one(-3.0), {("m", "german", "user"): {**refused, "n": 1}})
    assert f"– no share: german: {why}" in shown(results)
    for r in (*results["rows"], *results["profile"]):
        r["subset"] = r["subset"].replace("german", "g" * 99)
    assert any(x.endswith(f"gggggggg…gggggggg: {why}") for x in shown(results))
    assert line_of(results, "gggggggggg…gggggggggg 1-10") and "n = 10; " in verdict_of(results)


def test_contexts_that_are_all_alike_cannot_be_told():
    why = "0 of 10 contexts have a partner of their language with another user"
    alike = {"share": None, "info": None, "info_golden": None, "reason": why, "p_holm": None}
    alike |= {"n": 0, "left_out": 10}
    places = [(r["rpm"], r["subset"]) for r in one(-3.0)["rows"]]
    cells = {(*p, f): alike for p in places for f in ("user", "character", "dialogue")}
    results = profiled(one(-3.0), cells)
    said = verdict_of(results)
    r_emid = "no degradation shown; R-EMID at most 1.0 (german)"
    assert said == f"m: n = 10; {r_emid}; the profile cannot be told: {why}"
    assert "–*" not in "\n".join(shown(results))


def test_contexts_that_a_cell_goes_without_are_said():
    cells = {("m", "german", "user"): {"n": 8, "left_out": 2}}
    cells["m", HOME, "history"] = cells["echo", HOME, "user"] = {"n": 8, "left_out": 2}
    lines = shown(profiled(one(-3.0), cells))
    said = "contexts left out, as no other of their language differs: user in german 2 of 10"
    assert said in lines


def test_a_loss_without_a_share_has_no_mark():
    cells = {("echo", "german", "user"): {"share": None, "p_holm": 0.01, "lost": 9.0}}
    lines = shown(profiled(one(-3.0), cells))
    assert any(x.startswith("echo") and "german –/100/100" in x for x in lines)


@pytest.mark.parametrize("name", ["club", "leave_one_out"])
def test_headings_fit(name):
    results = profiled(one(-3.0))
    results["provenance"]["config"]["estimator"].update(name=name, negatives="cyclic")
    lines = shown(results)
    assert max(map(cell_len, lines)) <= 120
    assert f"({name}, cyclic negatives)" in " ".join(" ".join(lines).split())


def test_the_table_holds_all_columns_of_a_subset():
    cells = {("m", "german", "user"): {"share": 0.48, "half": 0.27, "n": 8}}
    cells["m", "german", "character"] = {"share": None}
    cells["m", "german", "dialogue"] = {"share": 150.0, "half": 200.0}
    results = profiled(one(8.0), cells)
    assert line_of(results, "RPM").endswith("n user % character % dialogue % R-EMI R-EMID baseline")
    row_ = "german 8-10 48 [21, 75]* – >999 [<-999, >999] -5.0±1.0 8.0±2.0* 1.00±0.10"
    assert line_of(results, "german 8") == row_
    assert line_of(results, "m IDTest").endswith("100 [90, 110] -5.0±1.0 1.00±0.10")


def test_a_gain_has_no_mark_of_a_loss():
    cells = {("m", "german", "user"): {"share": 1.9}}
    assert " 190 [180, 200] " in line_of(profiled(one(-3.0), cells), "german 10")


def test_long_names_leave_room_for_figures():
    rows = [row("x" * 60, HOME), row("x" * 60, "y" * 60, value=-105.6, se=10.7)]
    wild = {("x" * 60, "y" * 60, f): {"share": 9.0, "half": 9.9} for f in ("user", "dialogue")}
    lines = shown(profiled(results_of(rows), wild))
    assert max(map(cell_len, lines)) <= 120
    assert any("900 [-90, >999]" in x and "-105.6±10.7*" in x for x in lines)


def test_many_rpms_stand_side_by_side():
    results = full(SIX, TAGS)
    cells = {(SIX[0], "german", f): {"share": s} for f, s in (("user", 0.02), ("character", 0.48))}
    cells[SIX[1], "german", "dialogue"] = {"share": None}
    user, *others = results["by_shift"][0]["shifts"]
    results["by_shift"][0]["shifts"] = [{**user, "r_emid": 7.5, "r_emid_se": 2.0, "p_holm": 0.3}]
    results["by_shift"][0]["shifts"] += others
    results["by_shift"][1]["shifts"] = others
    results = profiled(results, cells)
    assert line_of(results, "german 10").startswith("german 10 2*/48*/100 100/100/– 100/100/100")
    assert line_of(results, "R-EMID user").startswith("R-EMID user 10 7.5±2.0 – -33.3±10.7*")
    assert line_of(results, "R-EMI IDTest").startswith("R-EMI IDTest 10 -5.0±1.0 -5.0±1.0")


def test_rpms_that_do_not_fit_stand_below():
    results = profiled(full(tuple("abcdefgh"), TAGS))
    heads = [x.split() for x in shown(results) if x.startswith("subset")]
    assert heads == [["subset", "n", *"abcdef"], ["subset", "n", *"gh"]]
    wide = {
        (r, t, f): {"share": 99.0} for r in "abcdef" for t in TAGS for f in ("user", "dialogue")
    }
    lines = shown(profiled(full(tuple("abcdef"), TAGS), wide))
    assert max(map(cell_len, lines)) <= 120 and ">999/100/>999" in "\n".join(lines)
    lines = shown(
        profiled(full(SIX, TAGS), wide | {(SIX[0], t, "user"): {"share": 99.0} for t in TAGS})
    )
    assert max(map(cell_len, lines)) <= 120
    results = full(tuple("abcdef"), TAGS)
    for record in results["by_shift"]:
        record["shifts"] = [
            {**s, "r_emid": -123456.7, "r_emid_se": 65432.1} for s in record["shifts"]
        ]
    lines = shown(profiled(results))
    assert max(map(cell_len, lines)) <= 120 and sum(x.startswith("subset") for x in lines) == 2


def test_rulers_say_what_known_faults_reach():
    cells = {("unshifted", "german", "user"): {"share": -0.003}}
    cells |= {("echo", tag, "dialogue"): {"share": 0.26} for tag in (HOME, *QUICK)}
    rows = [row("m", HOME), *(row("m", tag, value=-3.0) for tag in QUICK)]
    results = profiled(results_of(rows), cells)
    found = line_of(results, "unshifted")
    assert found.startswith("unshifted (user/character/dialogue, n = 10): german 0*/100/100, ")
    echo = "echo (n = 10, R-EMI -5.0 ± 1.0): IDTest 100/100/26*, german 100/100/26*, "
    assert line_of(results, "echo").startswith(echo)


def test_a_shift_without_an_estimate_is_named():
    results = profiled(one(-3.0, None))
    assert "not estimated under spanish" in " ".join(shown(results))
    results["rows"][1].update(r_emid=9.0, r_emid_low=5.0, r_emid_high=13.0, p_holm=0.01)
    assert "under german, not estimated under spanish" in " ".join(shown(results))


def test_a_degradation_by_r_emid_is_named_beside_the_profile():
    results = profiled(one(4.5, 19.1, -3.0))
    assert "R-EMID 19.1 [15.1, 23.1] under spanish and 1 more" in verdict_of(results)
    gains = verdict_of(profiled(one(-20.0, p=0.001)))
    assert "no degradation shown; R-EMID at most -16.0 (german)" in gains
    none = profiled(one(None))
    assert "no R-EMID could be estimated" in verdict_of(none)


def test_room_goes_to_what_counts_most():
    tags = TAGS[:3]
    cells = {("m", t, f): {"share": 0.0} for t in (HOME, *tags) for f in ("user", "character")}
    flags = [
        f for x in ("user", "character") for f in ignoring((HOME, *tags[: 2 + (x == "user")]), x)
    ]
    flags += [("m", t, k, None) for t in tags for k in ("copies_last_turn", "copies_persona")]
    lines = shown(
        profiled(results_of([row("m", HOME), *(row("m", t, value=1) for t in tags)]), cells, flags)
    )
    said = " ".join(x.strip() for x in lines[: lines.index("")])
    assert lines.index("") == 2
    kept = ("copies the last user turn in 3", "persona in 3", "ignores the user everywhere")
    for part in (*kept, "ignores the character in 3 of 4 subsets", "R-EMID at most 5.0"):
        assert part in said
