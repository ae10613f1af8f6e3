"""The GRPO benchmark: what both sides must agree on, its refusals, and its tiny run beside TRL."""

import sys
import types

import jax
import numpy as np
import pytest

import benchmarks
from benchmarks import grpo
from benchmarks.grpo import Work
from benchmarks.model import SMALL, random_model, random_tokens
from remid_jax.errors import UserError
from remid_jax.models.adapters import new_params

WORK = Work([[1 + i] * 20 for i in range(3)], list(range(7)), new=5, group=4)


@pytest.fixture(scope="module")
def side():
    """Our side on the tiny model, whose state its rounds use up."""
    model = random_model(SMALL)
    w = Work(random_tokens(model, [24, 24], seed=5), [3, 5, 8], 6, 4)
    trained, policy = (grpo.filled_adapter(model, s) for s in (1, 2))
    return model, w, trained, policy, grpo.OurRounds(model, trained, policy, w)


# What both sides must agree on.


def found_of(w, **changes):
    plain = {
        "completions": [[1] * w.new] * w.rows, "rewards": [-2.0] * w.rows,
        "trained": w.rows * w.new, "rewarded": w.rows * len(w.golden),
    }  # fmt: skip
    return plain | changes


def test_rounds_agree():
    w, asked = WORK, []

    def golden_log_prob(prompt, completion):
        asked.append(prompt)
        return -2.0 * len(w.golden)

    agree = grpo.agreement(w, golden_log_prob)
    for r in (0, 5, 14):
        agree(r, {"ours": found_of(w), "trl": found_of(w)})
    assert asked == [w.prompts[0], w.prompts[1], w.prompts[0]]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"completions": [[1] * 4] * 12}, "trl drew other than 12 completions of 5 tokens"),
        ({"completions": [[1] * 5] * 11}, "trl drew other than 12 completions of 5 tokens"),
        ({"trained": 59}, "trl trained 59 tokens instead of 60"),
        ({"rewarded": 12}, "trl rewarded 12 tokens instead of 84"),
        ({"rewards": [-2.001] * 12}, "log q of the golden response is -14 in ours and -14.007"),
        ({"rewards": [float("nan")] * 12}, "no time is reported"),
    ],
)
def test_rounds_that_differ_are_refused(changes, said):
    w = WORK
    agree = grpo.agreement(w, lambda prompt, completion: -14.0)
    with pytest.raises(UserError, match=said):
        agree(0, {"ours": found_of(w), "trl": found_of(w, **changes)})


@pytest.mark.parametrize("model, policy", [(-31.0, -7.0), (-30.0, -7.01)])
def test_sides_of_other_weights_are_refused(model, policy):
    def sides(m, p):
        ours = types.SimpleNamespace(log_prob=lambda *ids: -30.0, golden_log_prob=lambda *ids: -7.0)
        theirs = types.SimpleNamespace(
            log_prob=lambda *ids: m, rewards=lambda prompts, completions: [p / 7]
        )
        return ours, theirs

    grpo.check_same_numbers(*sides(-30.0005, -7.0005), [1], [2], 7)
    with pytest.raises(UserError, match="no time is reported"):
        grpo.check_same_numbers(*sides(model, policy), [1], [2], 7)


# Our side: its programs are tested in tests/training, and take a minute to compile here.


@pytest.mark.slow
def test_our_round(side):
    _, w, _, _, ours = side
    before = jax.tree.map(np.array, ours.state.params)
    found = ours.round(2)(3)
    assert set(found["seconds"]) == set(grpo.PARTS) and min(found["seconds"].values()) > 0
    ours_alone = {"ours": found, "trl": found}
    grpo.agreement(w, ours.golden_log_prob)(5, ours_alone)
    moved = [
        float(np.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(ours.state.params), strict=True)
    ]
    # Adam's first step is the learning rate wherever there is a gradient.
    assert all(0 < m < 2e-5 for m in moved)


@pytest.mark.slow
def test_draws_have_the_probability_that_is_scored(side):
    model, w, trained, policy, _ = side
    ours = grpo.OurRounds(model, trained, policy, w)
    drawn = ours._draw(1)
    total = ours.log_prob(w.prompts[1], np.asarray(drawn.tokens)[1, 2])
    assert total == pytest.approx(float(drawn.log_probs[1, 2].sum()), abs=1e-4)


@pytest.mark.slow
def test_a_filled_adapter_changes_the_model(side):
    model, w, trained, policy, _ = side
    plain = grpo.Adapter(
        grpo.LORA, new_params(SMALL, grpo.LORA, jax.random.key(0)), model.fingerprint
    )
    others = [grpo.OurRounds(model, a, policy, w) for a in (plain, trained, policy)]
    values = [o.log_prob(w.prompts[0], [4, 5, 6]) for o in others]
    assert np.abs(np.diff(values)).min() > 10 * grpo.TOLERANCE


# The command.


def test_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        grpo.main(["--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and "--allow-noise" in text and "--reward-tokens" in text


@pytest.mark.parametrize("flag", ["--group", "--new-tokens", "--reward-tokens"])
def test_sizes_that_are_too_small(run, capsys, flag):
    assert run(grpo.main, flag, "1") == (2, None)
    assert f"error: {flag} is 1; it must be at least 2" in capsys.readouterr().err


@pytest.mark.parametrize("batch", ["3", "6", "16"])
def test_a_batch_of_trl_holds_whole_groups(run, capsys, batch):
    assert run(grpo.main, "--trl-batch", batch) == (2, None)
    assert "--trl-batch must hold whole groups of 4 and divide 8" in capsys.readouterr().err


NEEDS_TRL = [pytest.mark.parity, pytest.mark.filterwarnings("default")]


@pytest.mark.parametrize("package", ["torch", pytest.param("trl", marks=NEEDS_TRL)])
def test_missing_packages(capsys, monkeypatch, run, package):
    if package == "trl":
        pytest.importorskip("peft")
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("torch_side", "trl_side") if package == "torch" else ("trl_side",):
        monkeypatch.delitem(sys.modules, f"benchmarks.{name}", raising=False)
        monkeypatch.delattr(benchmarks, name, raising=False)
    assert run(grpo.main) == (2, None)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {package} is missing; pip install") and err.count("\n") == 1


# Beside TRL.


@pytest.fixture
def beside(one_thread):
    for name in ("trl", "peft", "accelerate", "datasets"):
        pytest.importorskip(name)


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("beside")
def test_a_run(run, assert_reported):
    code, found = run(grpo.main, rounds=2)
    assert code == 0
    ratios = ["ratio", "flops_ratio", "gemm_share", "tokens_per_s_rollout", "tokens_per_s_update"]
    assert_reported(found, "grpo", [*ratios, *(f"ratio_{p}" for p in grpo.PARTS)])
    for row in found["parts"]:
        assert sum(row[f"{p}, share"] for p in grpo.PARTS) == pytest.approx(1, abs=0.2)
    for name, rounds in found["seconds_of_parts"].items():
        whole = found["contestants"][name]["seconds"]
        assert [sum(r.values()) for r in rounds] == pytest.approx(whole, rel=0.05)
    assert found["contestants"]["trl"]["setting"] in ("batch 4", "batch 8")
    assert found["versions"]["trl"] >= "1.16"


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("beside", "other_weights")
def test_other_weights_are_refused(run, capsys):
    assert run(grpo.main) == (2, None)
    err = capsys.readouterr().err
    assert "error: log q of a completion is" in err and "no time is reported" in err


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("beside")
def test_trl_trains_our_adapter(side, tmp_path):
    """A round of TRL moves the adapter it was given, and nothing else."""
    from benchmarks import trl_side

    model, w, trained, policy, _ = side
    theirs = trl_side.TrlRounds(model, trained, policy, w, str(tmp_path))
    before = {n: p.detach().numpy().copy() for n, p in theirs.trained.named_parameters()}
    found = theirs.round(4)(0)
    assert found["trained"] == w.rows * w.new and set(found["seconds"]) == set(grpo.PARTS)
    assert theirs.rewards(
        [p for p in w.prompts for _ in range(w.group)], found["completions"]
    ) == pytest.approx(found["rewards"], abs=1e-5)
    for name, p in theirs.trained.named_parameters():
        change = np.abs(p.detach().numpy() - before[name]).max()
        assert 0 < change < 2e-5 if "lora_" in name else change == 0
