"""The pictures as files: well-formed, by themselves, with every figure in its place."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from report.html_pages import HOSTILE, TWO, nulled, run_of, without_golden

from benchmarks.made_up_run import FACTORS, HOME, SUBSETS
from remid_jax.report.strips import LABELS, LINE, MARGIN, WIDTH, Group, Mark, Panel, axis, draw
from remid_jax.report.svg import profile_panels, profile_svg, r_emi_panels, r_emid_svg

SVG = "{http://www.w3.org/2000/svg}"
RESULTS = run_of()[0]


def texts(svg):
    return ["".join(t.itertext()) for t in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("draw_all", [profile_svg, r_emid_svg])
def test_a_picture_needs_nothing_around_it(draw_all):
    svg = draw_all(RESULTS)
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg" and {"width", "height", "viewBox"} <= set(root.keys())
    (style,) = root.iter(f"{SVG}style")
    assert "var(" not in style.text and "url(" not in svg and "http" not in svg[60:]
    assert root.find(f"{SVG}title").text


def test_every_share_is_where_it_belongs():
    cells = {(c["rpm"], c["subset"], c["factor"]): c for c in RESULTS["profile"]}
    panels = profile_panels(RESULTS)
    assert [p.title for p in panels] == list(FACTORS)
    for panel in panels:
        assert [g.heading for g in panel.groups] == [HOME, *SUBSETS]
        for group in panel.groups:
            assert [m.label for m in group.marks][:2] == TWO
            assert group.stressed == (SUBSETS.get(group.heading) == panel.title)
            for mark in group.marks:
                cell = cells[mark.label, group.heading, panel.title]
                ends = (cell["share"], cell["share_low"], cell["share_high"])
                assert (mark.value, mark.low, mark.high) == ends


def test_flags_losses_and_none_look_different():
    results = run_of(TWO[:1], ["german"])[0]
    place = {"rpm": TWO[0], "subset": HOME}
    results["flags"] = [{**place, "flag": "ignores", "factor": "user"}]
    found = {"user": 0.001, "character": 0.001, "dialogue": 0.4}
    for cell in results["profile"]:
        if (cell["rpm"], cell["subset"]) == (TWO[0], HOME):
            cell |= {"shown": True, "share": 0.2, "share_low": 0.1, "share_high": 0.3, "lost": 9.0}
            cell["p_holm"] = found.get(cell["factor"])
    kinds = [panel.groups[0].marks[0].kind for panel in profile_panels(results)]
    assert kinds == ["flag", "shown", "open"]
    said = profile_svg(results).replace("\u00a0", " ")
    assert f"<title>{TWO[0]}: 20 % (10 to 30), n = 16</title>" in said


def test_r_emid_is_drawn_with_its_interval_and_levels_with_their_errors():
    rows = {(r["rpm"], r["subset"]): r for r in RESULTS["rows"]}
    r_emi, r_emid, baseline = r_emi_panels(RESULTS)
    for panel, key in ((r_emi, "r_emi"), (baseline, "baseline")):
        for group in panel.groups:
            for mark in group.marks:
                row = rows[mark.label, group.heading]
                assert mark.high - mark.value == pytest.approx(row[f"{key}_se"])
    assert [g.heading for g in r_emid.groups] == list(SUBSETS)
    for group in r_emid.groups:
        for mark in group.marks:
            row = rows[mark.label, group.heading]
            assert (mark.low, mark.high) == (row["r_emid_low"], row["r_emid_high"])
            clear = row["r_emid"] > 0 and row["p_holm"] < 0.05
            assert mark.kind == ("ref" if mark.label not in TWO else "shown" if clear else "open")


def test_a_mark_is_drawn_to_scale_and_an_arrow_stands_for_what_is_beyond():
    marks = [
        Mark("a", "plain", 0.5, 0.0, 1.0),
        Mark("b", "open", 0.5, -9.0, 0.5),
        Mark("c", "ref", 7.0, 6.0, 8.0),
    ]
    panel = Panel("t", "u", [Group("g", marks)], (0.0, 1.0), {0.0: "0"}, (0.0,))
    left, middle, right = panel.x(0.0), panel.x(0.5), panel.x(1.0)
    assert middle == pytest.approx((left + right) / 2) and (left, right) == (LABELS, WIDTH - MARGIN)
    paths = dict(re.findall(r'<path class="([^"]+)" d="([^"]+)"', draw(panel)))
    y = int(re.search(r"M\S+ (\d+)h0", paths["dot plain"]).group(1))
    assert paths["bar plain"] == f"M{left:g} {y}H{right:g}"
    assert paths["dot plain"] == f"M{middle:g} {y}h0" and "tip plain" not in paths
    assert paths["hole open"] == f"M{middle:g} {y + LINE}h0" and paths["tip open"].count("M") == 1
    assert paths["tip ref"].count("M") == 1 and "dot ref" not in paths


def test_an_axis_holds_all_points():
    (low, high), ticks = axis([-31.0, 12.0], [-900.0, 40.0])
    assert low < -31.0 and 40.0 < high < 100.0 and 0.0 in ticks and 3 <= len(ticks) <= 6
    assert axis([0.0], [])[0][1] > 0.0


def test_eleven_rpms_on_twelve_subsets_keep_their_lines_apart():
    rpms = [f"llama-3.1-8b-instruct-{k}" for k in range(11)]
    for panel in profile_panels(run_of(rpms)[0]):
        at = [int(y) for y in re.findall(r'class="name" x="8" y="(\d+)"', draw(panel))]
        assert len(at) == 11 * 12 and min(b - a for a, b in itertools.pairwise(at)) >= LINE


def test_hostile_names_stay_texts():
    names = [f"{k}{text[:14]}" for k, text in enumerate(HOSTILE)]
    names[3] = "ab\u202e\u200b\ufeff"
    results = run_of(names, list(SUBSETS)[:1])[0]
    for svg in (profile_svg(results), r_emid_svg(results)):
        root = ET.fromstring(svg)
        assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
            "svg", "title", "style", "rect", "text", "tspan", "g", "path"
        }  # fmt: skip
        assert names[0] in texts(svg) and "ab\\u202e\\u200b\\ufeff" in texts(svg)


@pytest.mark.parametrize("results", [without_golden(run_of()[0]), nulled(RESULTS)])
def test_a_picture_without_figures_says_so(results):
    for svg in (profile_svg(results), r_emid_svg(results)):
        assert "this run has no such figure" in texts(svg)
