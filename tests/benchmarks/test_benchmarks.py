"""The benchmarks run without PyTorch as far as they can, and say what they must."""

import dataclasses
import functools
import json
import sys
import types

import jax
import numpy as np
import pytest
from children import answer

import benchmarks
from benchmarks import (
    cli,
    forward,
    growth,
    harness,
    likelihood,
    load_check,
    precision,
    profile,
    sampling,
)
from benchmarks.likelihood import shared_flops
from benchmarks.model import SMALL, random_model, random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops, head_flops, layer_parameters
from remid_jax.inference.engine import JaxEngine


def test_growth(run, monkeypatch, assert_reported):
    some = ("contexts", "context_tokens")
    monkeypatch.setattr(growth, "FACTORS", dict.fromkeys(some, (0.5, 1, 2)))
    code, found = run(growth.main, "--models", "2")
    assert code == 0
    assert_reported(found, "growth", ["points", "fits"])
    assert [p["size"] for p in found["points"]] == [1, 2, 4, 12, 24, 48]
    assert all(p["s"] > 0 for p in found["points"])
    assert found["fits"][0]["varied"] == "contexts"
    assert found["fits"][0]["of GFLOP"] == pytest.approx(1)
    assert [p["GFLOP"] for p in found["points"][3:]] == [
        2 * sum(shared_flops(SMALL, t, 6, 8)) / 1e9 for t in (12, 24, 48)
    ]


GROWTH_ON_TWO = """
import json, sys
from benchmarks import growth, harness, load_check
harness.PAUSE, load_check.listen, load_check.share = 0.0, lambda: 0.0, lambda *moments: 0.0
tiny = ["--small", "--devices", "2", "--rounds", "1", "--allow-noise"]
print(json.dumps(growth.main([*tiny, "--json", *sys.argv[1:]])))
"""


@pytest.mark.slow
def test_growth_over_devices(tmp_path, assert_reported):
    assert answer(GROWTH_ON_TWO, str(tmp_path / "found.json")) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert_reported(found, "growth", ["scaling"])
    names = [
        "one",
        *(f"{axis}=2 {kind}" for axis in ("data", "fsdp") for kind in ("strong", "weak")),
    ]
    assert [row["devices"] for row in found["scaling"]] == names
    assert found["scaling"][0]["rate over one's"] == 1
    timed = found["contestants"]
    rates = {k: v["flops_per_s"][0] * v["seconds"][0] for k, v in timed.items()}
    assert rates["data=2 strong"] == pytest.approx(rates["one"])  # the same work
    # Twice the responses on two devices; the context is read once.
    layers, head = shared_flops(SMALL, 24, 2 * 4, 8)
    assert rates["fsdp=2 weak"] == pytest.approx(2 * (layers + head))


def test_profile(run, assert_reported):
    code, found = run(profile.main)
    assert code == 0
    assert_reported(found, "profile", ["parts"])
    work = {row["part"]: row["GFLOP"] for row in found["parts"]}
    assert work["whole"] == pytest.approx(work["layers"] + work["attention"] + work["head"])


def test_precision(run, assert_reported):
    code, found = run(precision.main)
    assert code == 0
    assert_reported(found, "precision", ["ratio", "largest", "mean"])
    assert 0 < found["mean"] < found["largest"] < 0.2  # the types are not one


def test_a_fit_tells_a_constant_from_growth():
    assert growth.fit([1, 2, 3, 4], [7.0, 9.0, 11.0, 13.0])[1] == pytest.approx(5)
    assert growth.fit([2, 4, 8], [12.0, 48.0, 192.0])[0] == pytest.approx(2)


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--rounds", "0"], "'0' is no whole number"),
        (["--chips", "2"], "unrecognized arguments"),
        (["--devices", "64"], "--devices 64 needs 64 devices; there are 1"),
        (["--json", "/no/such/folder/x.json"], "not there or not writable"),
        (["--contexts", "1"], "--contexts is too small"),
    ],
)
def test_what_a_user_gets_wrong(capsys, monkeypatch, flags, said):
    jax.devices()  # from here on their number stays
    monkeypatch.setattr(load_check, "listen", lambda: 0.0)
    assert growth.main(["--small", *flags]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err


@pytest.mark.parametrize("module", [forward, growth, likelihood, sampling])
def test_help(capsys, module):
    with pytest.raises(SystemExit) as stopped:
        module.main(["--help"])
    assert stopped.value.code == 0 and "--allow-noise" in capsys.readouterr().out


def test_missing_torch(capsys, monkeypatch, run):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "benchmarks.torch_side", raising=False)
    monkeypatch.delattr(benchmarks, "torch_side", raising=False)
    assert run(forward.main) == (2, None)
    assert "error: torch is missing; pip install" in capsys.readouterr().err


def test_noise_is_said_and_fails(run, monkeypatch, capsys):
    main = functools.partial(cli.command, "growth", "Nothing.", lambda args: harness.Report(), {})
    assert run(main, rounds=5)[0] == 0
    monkeypatch.setattr(load_check, "share", lambda *moments: 0.2)
    code, found = run(main, rounds=5)
    assert code == 3 and found["quiet"] is False and found["cpu_share_of_others"]["during"] == 0.2
    assert "RATIOS ARE NOT QUOTABLE: not quiet" in capsys.readouterr().out
    assert run(main, "--allow-noise", rounds=5)[0] == 0
    monkeypatch.setattr(load_check, "share", lambda *moments: None)
    assert run(main, rounds=5)[0] == 3


def test_share_of_others(monkeypatch):
    monkeypatch.setattr(load_check.os, "cpu_count", lambda: 4)
    share = load_check.share((10.0, 100.0), (12.0, 101.0))
    assert share == pytest.approx(1 / 8) and not load_check.is_quiet(share)
    assert not load_check.is_quiet(load_check.share(None, (12.0, 101.0)))
    assert load_check.is_quiet(0.01)


def test_turns(monkeypatch):
    """Agreement comes first, the fastest setting is taken, and no compilation is in a round."""
    monkeypatch.setattr(harness, "PAUSE", 0.0)
    clock, calls = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])

    def work(name, seconds):
        def do(r):
            calls.append((name, r))
            clock[0] += seconds * (1 + r)
            return name

        return do

    program = jax.jit(lambda x: x + 1)

    def compiles(r):
        calls.append(("compiles", r))
        clock[0] += 3
        return program(np.zeros(2 + r))

    contestants = {
        "two": harness.Contestant({"slow": work("slow", 8), "fast": work("fast", 4)},
                                  lambda r: (100.0, 0.0), part=0.5),
        "jax": harness.Contestant({"": compiles}, lambda r: (30.0, 30.0)),
    }  # fmt: skip
    products = types.SimpleNamespace(measure=lambda: (10.0, 20.0))
    asked = []

    def agree(r, found):
        asked.append((r, found["two"], len(calls)))

    timed = harness.contest("test", contestants, 2, products, agree)
    warm_up = [("slow", 0), ("compiles", 0), ("compiles", 0), ("fast", 0)]
    rounds = [("fast", 0), ("compiles", 0), ("compiles", 1), ("compiles", 1), ("fast", 1)]
    assert calls == warm_up + rounds
    assert asked == [(0, "slow", 3), (0, "fast", 4), (0, "fast", 6), (1, "fast", 9)]
    two, other = timed["two"], timed["jax"]
    assert (two.setting, other.setting) == ("fast", "")
    assert (two.seconds, other.seconds) == ([8.0, 16.0], [3.0, 3.0])
    assert two.flops_per_s == [25.0, 12.5] and two.gemm_share == [2.5, 1.25]
    assert other.gemm_flops_per_s == pytest.approx([60 / 4.5] * 2)
    assert harness.quotients(two.seconds, other.seconds) == pytest.approx([8 / 3, 16 / 3])
    assert other.compile_seconds > 0 == two.compile_seconds


def test_a_figure_is_the_median_with_its_range():
    report = harness.Report()
    report.figure("a", [1.0, 5.0, 2.0], "of three")
    assert report.json == {"a": 2.0, "ranges": {"a": [1.0, 5.0]}}
    assert report.lines == ["a 2 (1 to 5): of three"]


def test_products_are_those_of_the_model():
    layer = harness.product_flops(harness.layer_shapes(SMALL, 8, keys=30))
    attention = 4 * 8 * 30 * SMALL.num_heads * SMALL.head_dim
    assert layer == 2 * 8 * layer_parameters(SMALL) / SMALL.num_layers + attention
    head = harness.head_shape(SMALL, 3)
    assert harness.product_flops([head]) == 2 * 3 * SMALL.width * SMALL.vocab_size
    assert all(rate > 0 for rate in harness.ModelProducts(SMALL, 64).measure())


def test_sharing_saves_the_contexts_operations():
    alone = extend_flops(SMALL, 61), head_flops(SMALL, 12)
    assert 1 < 4 * sum(alone) / sum(shared_flops(SMALL, 50, 4, 12)) < 4
    one = shared_flops(SMALL, 50, 1, 12)  # with one response there is nothing to share
    assert np.allclose(one, alone)


def test_an_old_flag_names_the_new_one(run, capsys):
    assert run(likelihood.main, "--policies=3") == (2, None)
    assert "--policies is gone; use --models" in capsys.readouterr().err


def test_greedy_rows_may_part_at_a_tie_only():
    logits = np.array([0.0, 1.0, 1.0 + 1e-5, 0.5])
    agree = sampling.greedy_agreement([[7]], lambda tokens: logits)
    agree(0, {"ours": [[1, 1, 0]], "transformers": [[1, 2, 3]]})
    with pytest.raises(UserError, match="greedy token 1 of row 0 is 1 in ours and 3"):
        agree(0, {"ours": [[1, 1]], "transformers": [[1, 3]]})
    with pytest.raises(UserError, match="row 0 has 1 tokens of ours and 2"):
        agree(0, {"ours": [[1]], "transformers": [[1, 3]]})


def test_a_random_model_spreads_its_logits():
    model = random_model(dataclasses.replace(SMALL, vocab_size=500))
    engine = JaxEngine(model)
    prompts = random_tokens(model, [20] * 3, seed=0)
    values = engine.score(prompts[0], random_tokens(model, [1] * 200, seed=1))
    assert 0.5 < np.concatenate(values).std() < 2
