"""Comments for pull requests: what GitHub shows is what the names are."""

import re

import pytest
from report.made_up_results import HOME
from report.made_up_runs import everything, one_rpm

from remid_jax.report.markdown import escaped, markdown_report, table

HOSTILE = "a|b*c*_d_ `e` <img src=x onerror=y> [f](http://g) @h #1 www.i.com $j$ :k: \x1b[31m\nl"


def shown(text):
    """What CommonMark makes of escapes, and HTML of a comment."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text.replace("<!-- -->", ""))


def unescaped(text):
    """Markup that would still have a meaning."""
    bare = re.sub(r"\\[!-/:-@\[-`{-~]", "", text).replace("@<!-- -->", "").replace("#<!-- -->", "")
    return re.findall(r"[\\`*_{}\[\]<>!|~&:$@#]|www\.", bare)


@pytest.mark.parametrize(
    "name", [HOSTILE, "- a list", "+1", "= x", "1. a", "```", "\\", "a\\|b", "&lt;", "---"]
)
def test_names_are_inert(name):
    text = escaped(name)
    assert unescaped(text) == [] and "\n" not in text
    assert shown(text) == name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    assert not re.match(r"[-+=]|\d+\. ", text)


def test_figures_are_left_as_they_are():
    assert escaped("1.5, -3.2") == "1.5, -3.2"


def cells(line):
    return [shown(c.strip()) for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_tables_have_the_cells_of_the_run():
    results = one_rpm(
        HOSTILE, {("german", "user"): {"share": None}, (HOME, "user"): {"share": 0.1}}
    )
    text = markdown_report(results, "runs/a_b")
    lines = text.split("\n")
    rows = [cells(line) for line in lines if line.startswith("|") and "---" not in line]
    own = [r for r in rows if r[0].startswith("a|b*c*")]
    assert len(own) == 6 and {len(r) for r in own} == {6}
    assert own[0][1:] == [HOME, "10", "10 [0, 20]*", "100 [90, 110]", "100 [90, 110]"]
    assert own[1][1:4] == ["german", "10", "–"]
    assert own[3][1:] == [HOME, "10", "-5.0 [-7.0, -3.0]", "–", "1.00 [0.80, 1.20]"]
    assert own[4][1:] == [
        "german",
        "10",
        "-5.0 [-7.0, -3.0]",
        "1.0 [-3.0, 5.0]",
        "1.00 [0.80, 1.20]",
    ]
    verdicts = [line for line in lines if line.startswith("- ")]
    assert len(verdicts) == 1 and "no degradation shown" in shown(verdicts[0])
    assert "<img" not in text.replace("\\<img", "")


def test_a_gate_stands_first():
    gate = [{"limit": "r_emid > 5", "answer": "fails", "why": "one cell: *m*"}]
    lines = markdown_report(everything(), "runs/x", gate).split("\n")
    assert lines[2] == r"- **fails** (fails if r\_emid \> 5): one cell\: \*m\*"


def test_runs_without_a_profile_have_one_table():
    results = {**one_rpm(), "profile": [], "flags": []}
    text = markdown_report(results, "runs/x")
    assert "golden's information" not in text and text.count("\n| --- |") == 1
    assert "my model" in text


def test_a_table_is_one():
    assert table(("a", "b"), [("1|2", "x")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | x |"
