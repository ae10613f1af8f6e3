"""Two runs as text: what was changed, whether they may be compared, and what is said of it."""

import copy

import pytest
from report.made_up_results import HOME

from remid_jax.errors import UserError
from remid_jax.report.run_changes import change_lines, check_same_q
from remid_jax.report.run_comparison import comparison_tables, heading_lines
from remid_jax.report.run_folder import Run
from remid_jax.report.text import Figures

ESTIMATOR = {"name": "club", "negatives": "all", "normalisation": "sequence", "confidence": 0.95,
             "span": "response"}  # fmt: skip
PROVENANCE = {
    "config": {
        "estimator": ESTIMATOR, "scorer": {"checkpoint": ""}, "profile": {"swaps": 1}, "seed": 0,
        "reasoning": {"temperature": 0.0, "draws": 1}, "in_distribution": HOME, "shard": "",
        "sampling": {"max_tokens": 24},
        "model": {"path": "q", "dtype": "float32", "cache_dtype": "", "chat_template": "",
                  "template_variables": {}},
    },
    "model": {"name": "q", "identity": "1", "dtype": "float32"},
    "templates": {"q": {"variables": {}, "notes": []}}, "benchmark": "bundled",
    "versions": {"jax": "1"}, "git_revision": "a", "python": "3", "device": "cpu",
}  # fmt: skip


def run_of(folder="a", **changes):
    """A run with values of its provenance changed, named as `config__seed`."""
    found = copy.deepcopy(PROVENANCE)
    for name, value in changes.items():
        *path, last = name.split("__")
        part = found
        for key in path:
            part = part[key]
        part[last] = value
    return Run(folder, {"provenance": found}, [], None)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model__identity": "2", "model__name": "r"}, "their q differ, 'q' and 'r'"),
        (
            {"config__model__dtype": "bfloat16"},
            "config.model.dtype: float32 → bfloat16; q reads it",
        ),
        ({"config__model__chat_template": "x"}, "config.model.chat_template: "),
        ({"templates__q__variables": {"think": False}}, "the chat template of q"),
        ({"config__estimator__span": "reference"}, "config.estimator.span: response → reference"),
        ({"config__estimator__confidence": 0.9}, "config.estimator.confidence: 0.95 → 0.9"),
        ({"config__reasoning__draws": 4}, "config.reasoning.draws: 1 → 4; q reads the thoughts"),
        ({"config__scorer__checkpoint": "c"}, "config.scorer.checkpoint"),
        ({"config__profile__swaps": 0}, "config.profile.swaps: 1 → 0"),
        ({"config__in_distribution": "mine"}, "config.in_distribution: IDTest → mine"),
    ],
)
def test_another_q_or_estimator_is_refused(changes, said):
    with pytest.raises(UserError, match=r"^a and b cannot be compared: ") as e:
        check_same_q(run_of("a"), run_of("b", **changes))
    assert said in str(e.value)


def test_a_seed_counts_where_it_draws_for_q():
    check_same_q(run_of("a"), run_of("b", config__seed=1, config__sampling__max_tokens=9))
    drawn = {"config__reasoning__temperature": 1.0}
    with pytest.raises(UserError, match=r"config\.seed: 0 → 1; it draws for q"):
        check_same_q(run_of("a", **drawn), run_of("b", config__seed=1, **drawn))


def test_what_was_changed_is_said():
    other = run_of("b", config__seed=1, config__shard="0/2", versions__jax="2", git_revision=None)
    assert change_lines(run_of("a"), other) == [
        "config.seed: 0 → 1", "versions.jax: 1 → 2", "git_revision: a → none",
    ]  # fmt: skip
    other = run_of("b", config__sampling={"max_tokens": 24, "top\x1b": "y" * 99})
    (line,) = change_lines(run_of("a"), other)
    assert line == f"config.sampling.top\\x1b: none → {'y' * 60}…"
    contexts = [
        {"subset": HOME, "first": 8, "second": 6, "common": 5},
        {"subset": "german", "first": 0, "second": 6, "common": 0},
    ]
    assert list(heading_lines(run_of("a"), run_of("b"), contexts)) == [
        "second − first on the same contexts; first: a, second: b",
        "changed: nothing that the runs record",
        "contexts in both: IDTest 5",
        "left out, as the other run lacks them: IDTest 3 only in the first, IDTest 1 only in the "
        "second, german 6 only in the second",
    ]


def difference(measure, value, p, **more):
    return {
        "first": "m", "second": "m", "subset": "german", "shift": "user", "measure": measure,
        "factor": None, "n": 8, "left_out": 0, "value_first": 1.0, "value_second": 1.0 + value,
        "difference": value, "low": value - 1, "high": value + 1, "p_holm": p, "reason": None,
        **more,
    }  # fmt: skip


def test_differences_stand_with_interval_and_n():
    unknown = dict.fromkeys(("value_first", "value_second", "difference", "low", "high"))
    rows = [
        difference("r_emi", -3.0, 0.0004),
        difference("share", -0.5, 0.2, factor="last_turn"),
        difference("share", 0.0, 0.01, factor="user", **unknown | {"reason": "too little"}),
        difference("emi", 0.0, None, **unknown | {"reason": "off"}),
    ]
    (table,) = comparison_tables(rows, Figures(ESTIMATOR))
    assert table.rows == [
        ("share last turn", "german", "8", "1.00", "0.50", "-0.50 [-1.50, 0.50]", "0.2"),
        ("share user", "german", "8", "–", "–", "– too little", "–"),
        ("R-EMI", "german", "8", "1.0", "-2.0", "-3.0 [-4.0, -2.0]*", "<0.001"),
    ]
    assert table.verdict == (
        "* changes with p < 0.05 (Holm): R-EMI in german; not shown: 1, which proves no "
        "sameness: the intervals say how large a change may be"
    )
    (table,) = comparison_tables(rows[1:2], Figures(ESTIMATOR))
    assert table.verdict.startswith("no change is shown (tests: 1), which proves no sameness: ")
