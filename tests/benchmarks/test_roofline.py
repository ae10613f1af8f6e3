"""The roofline estimate: what bounds it, and how it grows."""

import dataclasses

import pytest

from benchmarks import roofline
from benchmarks.roofline import CHIPS, Chips, Job, benchmark, corl_round, decoding, reading
from benchmarks.tpu_programs import MODELS
from remid_jax.inference import cost

QWEN = MODELS["qwen3-8b"]
JOB = Job(contexts=100, context=1000, response=100, thought=200, prompts=50, group=4)
ONE = Chips(count=1, flops=1e14, memory=1e12, links=1e11, price=1.0, tensor=1)


def test_one_chip_is_bound_by_its_operations_when_it_reads_text():
    assert reading(QWEN, ONE, 1000, 1e15) == pytest.approx(10.0)


def test_a_single_row_is_bound_by_reading_the_weights():
    seconds = decoding(QWEN, ONE, rows=1, before=0, new=2, batch=1)
    assert seconds == pytest.approx(2 * 2 * cost.num_parameters(QWEN) / 1e12, rel=0.01)


def test_cut_heads_cost_exchange():
    slow = dataclasses.replace(ONE, count=4, tensor=4, links=1e6)
    sent = 2 * QWEN.num_layers * 10 * QWEN.width * 2 * 2 * 3 / 4
    assert reading(QWEN, slow, 10, 1.0) == pytest.approx(sent / 1e6)


def test_ways_in_the_order_of_their_pairs():
    ways = [benchmark(QWEN, CHIPS["v5e-8"], JOB, w) for w in ("cyclic", "all")]
    assert ways[0] < ways[1]
    twice = dataclasses.replace(CHIPS["v5e-8"], count=16)
    for way in ("reference", "cyclic", "all"):
        one, two = (benchmark(QWEN, chips, JOB, way) for chips in (CHIPS["v5e-8"], twice))
        assert one == pytest.approx(2 * two)


def test_a_round_has_its_three_parts():
    parts = corl_round(QWEN, CHIPS["v5p-64"], JOB, batch=64)
    assert set(parts) == {"rollouts", "rewards", "updates"} and min(parts.values()) > 0


def test_the_command(capsys):
    assert roofline.main(["--model", "llama3-8b", "--price-v5e-8", "0"]) == 0
    out = capsys.readouterr().out
    assert "roofline estimate at 40% of the peak, llama3-8b" in out and "pairs, all" in out
    assert roofline.main(["--share", "2"]) == 2
    assert "--share must lie in (0, 1]" in capsys.readouterr().err
