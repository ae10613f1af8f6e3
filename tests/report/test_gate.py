"""Limits held against intervals: how they are read, and when they pass, fail or cannot be told."""

import pytest
from report.made_up_results import HOME
from report.made_up_runs import RPM, TAGS, one_rpm

from remid_jax.errors import UserError
from remid_jax.report.gate import answer_lines, changes, exit_code, judge
from remid_jax.report.limits import MEASURES, parse_limit
from remid_jax.report.measured import measured
from remid_jax.report.text import REFERENCES


def cells_of(results):
    return [r for r in measured(results) if r["rpm"] not in REFERENCES]


def answer(limit, results=None, **found):
    (got,) = judge([parse_limit(limit)], cells_of(results or one_rpm(**found)), "runs/x")
    return got


@pytest.mark.parametrize(
    "text, expected",
    [
        ("r_emid > 5", ("r_emid", None, None, False, True, 5.0)),
        ("share.user in german of full_context < 0.8",
         ("share.user", "german", "full_context", True, True, 0.8)),
        ("  copied in in-distribution>=-1e-2 ",
         ("copied", "in-distribution", None, False, False, -0.01)),
        ("""lost.last_turn in 'Film  & "TV"' of "it's" <= 3""",
         ("lost.last_turn", 'Film  & "TV"', "it's", True, False, 3.0)),
        ("change.r_emi of m<-5", ("change.r_emi", None, "m", True, True, -5.0)),
    ],
)  # fmt: skip
def test_a_limit_is_read(text, expected):
    limit = parse_limit(text)
    assert limit.text == text.strip()
    found = (limit.measure, limit.place, limit.rpm, limit.below, limit.strict, limit.value)
    assert found == expected


@pytest.mark.parametrize(
    "text, said",
    [
        ("r_emid", "cannot be read; write MEASURE"),
        ("r_emid > 5 in german", "cannot be read"),
        ("r_emid == 5", "cannot be read|no number"),
        ("r_emid in Film & Television > 5", "cannot be read.*quotes"),
        ("r_emd > 5", "unknown measure 'r_emd' .did you mean 'r_emid'"),
        ("share < 1", "unknown measure 'share'"),
        ("share.usr < 1", "did you mean 'share.user'"),
        ("r_emid > five", "'five' is no number"),
        ("r_emid > nan", "'nan' is no number"),
        ("r_emid > inf", "'inf' is no number"),
        ("r_emid > 1_0", "'1_0' is no number"),
        ("r_emid > 1e999", "'1e999' is no number"),
        ("r_emid > １", "'１' is no number"),
    ],
)
def test_what_is_no_limit_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_limit(text)


@pytest.mark.parametrize(
    "limit, expected",
    [
        ("r_emid > 5", "passes"),  # 1 [-3, 5]: it ends where the limit lies
        ("r_emid >= 5", "cannot be told"),
        ("r_emid > 4", "cannot be told"),
        ("r_emid > -3", "cannot be told"),
        ("r_emid >= -3", "fails"),
        ("r_emid > -4", "fails"),
        ("r_emid < -4", "passes"),
        ("r_emid < -3", "passes"),
        ("r_emid <= -3", "cannot be told"),
        ("r_emid < 5", "cannot be told"),
        ("r_emid <= 5", "fails"),
        ("r_emid < 6", "fails"),
    ],
)
def test_the_whole_interval_counts(limit, expected):
    """R-EMID is 1 with an interval from −3 to 5; that it holds 0 is no proof of anything."""
    found = answer(limit)
    assert found["answer"] == expected
    assert [c["subset"] for c in found["cells"]] == list(TAGS)
    assert "1 (-3 to 5), n = 10" in found["why"] and found["limit"] == limit


def test_one_cell_fails_a_limit_and_all_must_pass():
    cells = {("german", "user"): {"share": 0.1}, (TAGS[1], "user"): {"share": 0.75}}
    found = answer("share.user < 0.7", cells=cells)  # ±.1 around them
    assert found["answer"] == "fails" and [c["subset"] for c in found["cells"]] == ["german"]
    assert "1 of 3 cells: my model in german: 0.1 (0 to 0.2), n = 10" in found["why"]
    found = answer("share.user in 'Film & Television' < 0.7", cells=cells)
    assert found["answer"] == "cannot be told"
    found = answer("share.user in in-distribution < 0.7", cells=cells)
    assert found["answer"] == "passes" and [c["subset"] for c in found["cells"]] == [HOME]
    found = answer("share.user in character < 0.6", cells=cells)  # a shift, of one subset here
    assert found["answer"] == "passes" and [c["subset"] for c in found["cells"]] == [TAGS[1]]
    assert answer("share.user < 0.05", cells=cells)["answer"] == "cannot be told"


def test_what_has_no_value_or_no_interval_cannot_be_told():
    cells = {("german", "user"): {"share": None}}
    found = answer("share.user < 0.2", cells=cells)
    assert found["answer"] == "cannot be told"
    assert "golden answers show nothing of the user at n = 10" in found["why"]
    results = one_rpm()
    for r in results["rows"]:
        r["r_emid_low"] = r["r_emid_high"] = None
    found = answer("r_emid > 100", results)
    assert found["answer"] == "cannot be told" and "without an interval" in found["why"]


@pytest.mark.parametrize(
    "limit, said",
    [
        ("r_emid in germn > 1", "runs/x has no subset or shift 'germn' .did you mean 'german'"),
        ("r_emid in zz > 1", "there are IDTest, german, Film & Television, user, character"),
        ("r_emid of 'my modl' > 1", "has no RPM 'my modl' .did you mean 'my model'"),
        ("r_emid of golden > 1", "has no RPM 'golden'"),
        ("r_emid in IDTest > 1", "r_emid has no value there in runs/x"),
        ("share_drop.user in in-distribution > 1", "no value there"),
        ("emi > 1", "runs/x has no emi: config.estimator.emi_shifts is -1"),
        ("predicted > 1", "has no predicted: config.prediction.enabled is False"),
        ("expected_kl > 1", "no RPM was sampled from its own law"),
    ],
)
def test_what_a_run_lacks_is_refused(limit, said):
    with pytest.raises(UserError, match=said):
        answer(limit)


def test_a_run_without_a_profile_has_no_shares():
    results = {**one_rpm(), "profile": [], "flags": []}
    with pytest.raises(UserError, match=r"has no share\.user: config\.profile\.swaps is 0"):
        answer("share.user < 1", results)


def test_every_measure_can_be_named():
    measures = {r["measure"] for r in measured(one_rpm())}
    assert {"r_emi", "r_emid", "share", "info", "lost", "share_drop", "u", "copied"} <= measures
    for name in MEASURES:
        assert parse_limit(f"{name} > 1").measure == name


def test_the_exit_code_is_that_of_the_worst_answer():
    def code(*answers, **how):
        return exit_code([{"answer": a} for a in answers], **how)

    assert code() == code("passes", "passes") == 0
    assert code("passes", "cannot be told") == 3
    assert code("cannot be told", "fails", "passes") == 1
    assert code("cannot be told", undecided="pass") == 0
    assert code("cannot be told", undecided="fail") == 1
    assert code("fails", "cannot be told", undecided="pass") == 1


def test_answers_are_printed_with_the_cells_that_decide_them():
    found = [answer("r_emid > 5"), answer("share.user of 'my model' < 0.2")]
    assert list(answer_lines(found, "95 %")) == [
        "passes (fails if r_emid > 5), intervals at 95 %:",
        "  my model in german: 1 (-3 to 5), n = 10",
        "  my model in Film & Television: 1 (-3 to 5), n = 10",
        "passes (fails if share.user of 'my model' < 0.2), intervals at 95 %:",
        "  my model in IDTest: 1 (0.9 to 1.1), n = 10",
        "  my model in german: 1 (0.9 to 1.1), n = 10",
        "  my model in Film & Television: 1 (0.9 to 1.1), n = 10",
    ]
    of_several = next(answer_lines(found, "95 %", "runs/x"))
    assert of_several == "runs/x: passes (fails if r_emid > 5), intervals at 95 %:"


def test_changes_are_judged_as_measures_are():
    change = {
        "first": "old", "second": RPM, "subset": "german", "shift": "user", "measure": "share",
        "factor": "user", "difference": -0.2, "low": -0.3, "high": -0.1, "n": 8, "reason": None,
    }  # fmt: skip
    cells = [*cells_of(one_rpm()), *changes([change])]

    def told(limit):
        return judge([parse_limit(limit)], cells, "runs/x")[0]["answer"]

    assert told("change.share.user < -0.05") == "fails"
    assert told("change.share.user in user < -0.2") == "cannot be told"
    assert told("change.share.user in german < -0.3") == "passes"
    with pytest.raises(UserError, match=r"has no change.r_emi: neither run has it"):
        told("change.r_emi < 0")
