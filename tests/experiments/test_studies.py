"""The studies on worlds run small, say what they must, and resume after a kill."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from configs import bounds as bounds_config
from configs import calibrate as calibrate_config
from experiments import bounds, calibrate
from experiments.studies import coverage, faults, negatives, shapley
from experiments.studies.pieces import run_pieces
from remid_jax.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config():
    c = calibrate_config.get_config("runlocal")
    c.coverage.update(worlds=2, draws=60)
    c.negatives.update(data_sets=4, choices=40, worlds=2)
    c.faults.update(worlds=3, draws=60)
    c.shapley.update(worlds=150)
    return c


@pytest.mark.slow
def test_intervals_hold_their_population_values(config):
    found = coverage.pieces(config)["coverage N=64 clusters=8"]()
    assert found["draws"] == 60
    assert all(0.85 <= share <= 1 for share in found["coverage"].values())
    assert {"r_emid", "baseline", "retained"} <= set(found["coverage"])


def test_balanced_negatives_remove_the_noise_of_surface_forms(config):
    found = [negatives.pieces(config)[f"negatives surface={s}"]() for s in (0.0, 10.0)]
    assert [f["pairs_a_side"] for f in found] == [1000, 1000]
    for f in found:
        assert f["sd_from_choice"]["all"] < 1e-4 < f["sd_from_choice"]["cyclic"]
    # What a surface form adds is the same in all contexts: only random pairs pick it up.
    cyclic = [f["sd_from_choice"]["cyclic"] for f in found]
    assert cyclic[0] == pytest.approx(cyclic[1], rel=1e-3)
    assert found[1]["ratio_cyclic_to_random"] < 0.5 < found[0]["ratio_cyclic_to_random"]


def test_faults_are_told_from_the_truth(config):
    pieces = faults.pieces(config)
    truth, blind = (pieces[f"fault {name}"]() for name in ("truth", "ignores dialogue"))
    assert truth["flagged_by_any"] <= 0.15 and truth["warned_of_sharpness"] <= 0.1
    assert blind["flagged_by_any"] >= 0.7 and blind["names_factor"] >= 0.8
    assert blind["mean"]["factor_dialogue"] < 2 * blind["mean"]["factor_user"] < 0
    assert pieces["fault greedy"]()["warned_of_sharpness"] >= 0.8


def test_the_shifted_factor_is_named_or_none(config):
    found = shapley.pieces(config)["shapley logit_noise=0.5"]()
    assert found["clear"] >= 5
    assert found["named_right"] >= 0.9 * found["clear"] and found["named_wrong"] == 0
    assert found["faint_named_wrong"] <= 0.05 * found["faint"]
    assert found["largest_exact_share_of_unshifted"] < 1e-5


@pytest.mark.slow
def test_bounds_hold_and_the_prediction_is_ranked():
    c = bounds_config.get_config("runlocal")
    c.prediction.update(worlds=2, shifts=4)
    pieces = bounds.pieces(c)
    exact = pieces["exact"]["exact disjoint"]()
    assert exact["worlds"] == 72  # 500 in seven families, rounded up
    assert list(exact["bounds"]) == [*c.bounds, "paper"]
    assert all(exact["bounds"][name]["violations"] == 0 for name in c.bounds)
    assert exact["bounds"]["linear"]["times_closer_than_printed"] > 3
    assert exact["bounds"]["paper"]["times_closer_than_printed"] == 1
    sampled = pieces["sampled"]["sampled product"]()
    assert sampled["upper_limit_holds_emid"] >= 0.9
    ranked = pieces["prediction"]["prediction product"]()
    assert set(ranked["spearman_mean"]) >= {"predict_worst_case", "TV of inputs, exact"}
    assert all(-1 <= v <= 1 for v in ranked["spearman_mean"].values())


def test_an_unknown_bound_is_refused():
    c = bounds_config.get_config("runlocal")
    c.bounds = ("linear", "mixtur")
    with pytest.raises(UserError, match=r"config.bounds: unknown bound 'mixtur'.*'mixture'"):
        bounds.check(c)


@pytest.mark.parametrize(
    ("experiment", "change", "message"),
    [
        (calibrate, {"coverage.contexts": (64, 100)}, "100 contexts cannot be split into 8"),
        (calibrate, {"accuracy.contexts": (4,)}, "accuracy.contexts is (4,); it must be whole"),
        (calibrate, {"negatives.shifts": 250}, "negatives.shifts must be smaller"),
        (calibrate, {"coverage.draws": 1}, "one draw a world"),
        (calibrate, {"negatives.data_sets": 5}, "at least twice"),
        (calibrate, {"coverage.contexts": (64.5,)}, "a tuple, each part a whole number"),
        (calibrate, {"coverage.contexts": (9,)}, "must be whole and at least 10"),
        (calibrate, {"accuracy.logit_noises": (float("inf"),)}, "each part a finite number"),
        (calibrate, {"accuracy.logit_noises": (-0.5,)}, "must be finite and at least 0"),
        (bounds, {"worlds": 0}, "config.worlds is 0; it must be whole and at least 1"),
        (bounds, {"sampled.contexts": 2}, "config.sampled.contexts is 2"),
    ],
)
def test_bad_settings_are_refused_before_any_work(tmp_path, experiment, change, message):
    c = (calibrate_config if experiment is calibrate else bounds_config).get_config()
    with c.unlocked(), c.ignore_type():
        c.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=re.escape(message)):
        experiment.run(c, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_pieces_are_stored_and_computed_once(tmp_path):
    c = calibrate_config.get_config()
    calls = []

    def piece():
        calls.append(1)
        return {"value": np.float64(1.5), "n": np.int64(3), "jax": jax.numpy.ones(())}

    for _ in range(2):
        assert run_pieces("t", {"a b": piece}, c, tmp_path) == {
            "a b": {"value": 1.5, "n": 3, "jax": 1}
        }
    assert len(calls) == 1
    c.seed = 1  # other settings, other pieces
    run_pieces("t", {"a b": piece}, c, tmp_path)
    assert len(calls) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["calibrate", "bounds"])
def test_a_killed_study_goes_on_to_the_same_results(tmp_path, name):
    def command(folder):
        return [
            sys.executable, "-m", "experiments.main", "--config",
            f"configs/{name}.py:runlocal", "--workdir", str(folder),
        ]  # fmt: skip

    killed = subprocess.Popen(command(tmp_path / "a"), cwd=ROOT, stdout=subprocess.DEVNULL)
    while not list((tmp_path / "a" / "pieces").glob("*.json")):
        assert killed.poll() is None
        time.sleep(0.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for folder in ("a", "b"):
        done = subprocess.run(command(tmp_path / folder), cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    results = [json.loads((tmp_path / f / "results.json").read_text()) for f in ("a", "b")]
    for found in results:
        found.pop("provenance")
    assert results[0] == results[1]
