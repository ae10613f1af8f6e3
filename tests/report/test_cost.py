"""The printed cost of a run."""

import pytest

from remid_jax.report.cost import asked_line, memory_line, print_cost

STAGE = {"contexts": 40, "pairs": 0, "tokens": 9500, "flops": 2e12, "seconds": 30.0}
RECORD = {
    "stages": [
        {"what": "answers of [bold]\x1bm", **STAGE},
        {"what": "likelihoods", **STAGE, "pairs": 1200, "seconds": 150.0, "known_share": 0.4},
    ],
    "rate": 250e9, "servers": [], "weights": 2**30, "memory": 2**31, "devices": 1,
    "at_home": {"shifted": 4, "contexts": 10, "best": 20}, "longest": 1500,
    "sizes": {"chunk": 1024, "call": 512, "head": 4096, "cache": 2**30},
}  # fmt: skip


@pytest.fixture
def shown(capsys):
    def shown(record):
        print_cost(record)
        return capsys.readouterr().out

    return shown


def test_every_stage_and_their_sum(shown):
    table = [line.split() for line in shown(RECORD).splitlines()]
    assert ["answers", "of", r"[bold]\x1bm", "40", "9,500", "2.00", "30", "s"] in table
    assert ["likelihoods", "(40%", "known)", "40", "1,200", "9,500", "2.00", "2", "min"] in table
    assert ["in", "all", "80", "1,200", "19,000", "4.00", "3", "min"] in table


@pytest.mark.parametrize("seconds, said", [(89, "89 s"), (5399, "90 min"), (5400, "1.5 h")])
def test_times_are_rounded(shown, seconds, said):
    record = {**RECORD, "stages": [{"what": "x", **STAGE, "seconds": seconds}]}
    assert said in shown(record)


def test_rate_and_memory_are_said(shown):
    text = shown(RECORD)
    assert "time at 250 GFLOP/s, measured just now" in text
    assert memory_line(RECORD) in " ".join(text.split())
    said = memory_line({**RECORD, "devices": 4})
    assert said.startswith("memory of each device: 1.00 GiB of weights, 2.00 GiB beside them")
    assert "prompts of up to 1,500 tokens" in said and "logits of 4,096 tokens" in said


def test_what_servers_are_asked_fits_the_line(shown):
    counts = {"calls": 24_000, "input_tokens": 12_345_678, "output_tokens": 6_144_000}
    asked = {"model": "org/" + "m" * 200, "url": "http://127.0.0.1:8000/" + "v" * 200, **counts}
    record = {**RECORD, "servers": [{**asked, "cost": None}]}
    lines = shown(record).splitlines()
    assert max(map(len, lines)) <= 120
    said = asked_line({**asked, "cost": 1234.5})
    assert said.startswith("org/mmm") and " at http://127.0.0.1:8000/v" in said
    assert "24,000 calls, about 12,345,678 input tokens, at most 6,144,000 output" in said
    assert said.endswith("tokens, cost 1234")


def test_more_contexts_in_distribution_are_advised(shown):
    assert "4 shifted subsets share 10 in-distribution contexts; where" in shown(RECORD)
    long = {"what": f"answers of {'x' * 200}", **STAGE, "known_share": 0.4}
    lines = shown({**RECORD, "stages": [long]}).splitlines()
    assert max(map(len, lines)) <= 120
    few = {**RECORD, "at_home": {"shifted": 1, "contexts": 10, "best": 10}}
    assert "in_distribution_contexts" not in shown(few)
