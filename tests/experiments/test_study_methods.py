"""The studies of training methods: which runs begin from which, and what the tables say."""

import json
import math

import numpy as np
import pytest
from tiny_rpm import tiny_rpm

from configs import study_methods_smollm2 as text_configs
from configs import study_methods_world as configs
from experiments import study_methods_smollm2, study_methods_world
from experiments.studies.method_tables import (
    SCORES,
    print_tables,
    rank_correlation,
    record_of,
    truth_of,
)
from experiments.studies.method_world import GOLDEN, _exact_r_emi, _log_probs, measure_scores
from remid_jax.errors import UserError
from remid_jax.information.mutual_information import club
from remid_jax.training.config import check_config as check_corl
from remid_jax.training.held_out import Predicted
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.rpm_config import check_config, loop_config
from remid_jax.training.rpm_experiment import make_rpm_experiment
from remid_jax.training.run_logger import RunLogger
from remid_jax.worlds.textual import export, facts, rendering, truth


def test_runs_that_begin_from_others_come_after_them(tmp_path):
    config = configs.get_config()
    first, second, then = study_methods_world.waves_of(config, tmp_path)
    assert [c.name for c in first] == [f"judge,{k}" for k in range(5)]  # each trains a base
    assert {c.name for c in second if c.name.endswith(",0")} == {
        "evaluator,0", "sft,0", "sft_augmented,0", "thinking_sft,0"
    }  # fmt: skip
    words = {c.name: " ".join(c.words) for c in then}
    assert f"--config.start={tmp_path / 'sft-1'}" in words["migrpo,1"]
    assert f"--config.estimator={tmp_path / 'judge-1' / 'estimator'}" in words["migrpo,1"]
    assert "estimator" not in words["thinking_grpo,2"]
    bases = {f"--config.pretraining.folder={tmp_path / 'base-2'}"}
    assert all(bases & {*c.words} for c in (*first, *second, *then) if c.name.endswith(",2"))


@pytest.mark.parametrize("name", [*configs.STARTS, *configs.ESTIMATORS])
def test_every_run_is_a_whole_configuration(name):
    for size in ("", ",small"):
        config = configs.get_config(f"{name},3{size}")
        if name in configs.ESTIMATORS:
            check_corl(config)
            assert config.seed != 3 and config.world.seed == config.pretraining.seed == 3
            continue
        config.start = "x" if configs.STARTS[name] else ""
        config.estimator = "y" if name in configs.JUDGED else ""
        check_config(config)
    with pytest.raises(ValueError, match="give NAME,SEED"):
        configs.get_config("sft")


def test_finished_runs_of_other_settings_are_refused(tmp_path):
    config, file = text_configs.get_config(), tmp_path / "results.json"
    study_methods_smollm2.check_finished(config, file)
    for known, said in (({"steps": 30, "seed": 0}, ""), ({"steps": 1, "seed": 0}, "config.steps=1"),
                        ({"steps": 30, "seed": 2}, "config.seed=2")):  # fmt: skip
        file.write_text(json.dumps({"provenance": {"config": known}}), encoding="utf-8")
        if not said:
            study_methods_smollm2.check_finished(config, file)
            continue
        with pytest.raises(UserError, match=said):
            study_methods_smollm2.check_finished(config, file)


@pytest.mark.parametrize("name", text_configs.METHODS)
def test_text_runs_are_found_by_name(name, tmp_path):
    config = text_configs.get_config()
    child = study_methods_smollm2._child(config, name, tmp_path)
    assert child.words[1].partition(":")[0] in ("rpm_sft", "rpm_dpo", "rpm_grpo")
    assert study_methods_smollm2.diagnosis_of(config, tmp_path).rpms[name].path.endswith("rpm")


def test_gains_on_text_are_over_the_base_and_over_the_start(tmp_path):
    config = text_configs.get_config()
    config.methods = ("base", "sft", "dpo")
    sums = {"sft": [(0, [-9.0, -8.0]), (30, [-6.0, -7.0])], "dpo": [(30, [-5.0, -5.0])]}
    for method, evaluations in sums.items():
        logger = RunLogger(tmp_path / method, "a base", tiny_rpm(method, tmp_path))
        for step, values in evaluations:
            x = np.array(values)
            seen = Predicted(["a", "b"], x, np.full(2, 9), x, x, mixture=x, agreement=x, entropy=x)
            logger.add_evaluation(0, step, "IDTest", seen)
    found = study_methods_smollm2.gains_of(study_methods_smollm2.evaluations_of(config, tmp_path))
    assert {(r["method"], r["over"]): r["gain"] for r in found} == {
        ("sft", "base"): 2.0, ("dpo", "base"): 3.5, ("dpo", "sft"): 1.5
    }  # fmt: skip


def measured(kl, r_emi):
    return {
        tag: {"kl": [kl, kl], "r_emi": value, "malformed": 0.25} for tag, value in r_emi.items()
    }


def test_ranks_are_those_of_cells_and_means_those_of_seeds(capsys):
    home, away = {"IDTest": 0.0, "german": -1.0}, {"IDTest": 0.0, "german": -3.0}
    seeds = [
        truth_of({"sft": measured(0.5, home), "dpo": measured(1.0, away)}),
        truth_of({"sft": measured(0.7, home), "dpo": measured(0.9, away)}),
    ]
    assert seeds[0]["quality"]["dpo"]["german"] == -1.0
    assert seeds[0]["exact_r_emid"] == {"sft": {"german": -1.0}, "dpo": {"german": -3.0}}
    same = {name: s["exact_r_emi"] for s in seeds for name in SCORES}
    record = record_of(seeds, [same, same], {"dpo": "sft", "grpo": "sft"})
    found = record["rank_correlation"]["exact_r_emi"]["profile"]
    assert found["mean"] == pytest.approx(1.0) and found["seeds"] == 2
    assert record["quality"]["sft"]["IDTest"]["mean"] == pytest.approx(-0.6)
    assert record["quality"]["sft"]["IDTest"]["se"] == pytest.approx(0.1)
    # Two cells of shifted subsets are too few for a rank.
    assert record["rank_correlation"]["exact_r_emid"]["profile"]["mean"] is None
    assert math.isnan(rank_correlation({"a": {"x": 1.0}}, {"a": {"x": 2.0}}))
    assert record["by_shift"]["malformed"]["dpo"]["user"]["mean"] == 0.25
    gain = record["gains"]["quality"]["dpo"]  # -0.5 and -0.2, seed by seed
    assert gain["over"] == "sft" and gain["user"]["mean"] == pytest.approx(-0.35)
    assert gain["user"]["se"] == pytest.approx(0.15) and "grpo" not in record["gains"]["quality"]
    print_tables(record)
    said = capsys.readouterr().out
    assert "rank correlation" in said and "seeds" not in said.replace("over seeds", "")


def test_a_cell_of_fewer_seeds_says_so(capsys):
    seeds = [
        truth_of({"sft": measured(0.5, {"IDTest": 0.0, "german": v})}) for v in (-1.0, -2.0, None)
    ]
    empty = [{name: {"sft": {}} for name in SCORES}] * 3
    record = record_of(seeds, empty, {})
    cell = record["by_shift"]["exact_r_emi"]["sft"]["user"]
    assert (cell["mean"], cell["seeds"], cell["left_out"]) == (-1.5, 2, 1)
    print_tables(record)
    assert "-1.500 ± 0.500, 2 of 3 seeds" in capsys.readouterr().out


def test_shifts_are_compared_over_the_mean_of_methods():
    r_emi = [{"IDTest": 0.0, "german": -1.0, "Literature": a} for a in (-4.0, -6.0)]
    seeds = [truth_of({"sft": measured(0.0, x), "dpo": measured(0.0, x)}) for x in r_emi]
    empty = [{name: {"sft": {}, "dpo": {}} for name in SCORES}] * 2
    cell = record_of(seeds, empty, {})["shift_differences"]["exact_r_emid"]
    assert list(cell) == ["user less character"]
    assert cell["user less character"]["mean"] == pytest.approx(4.0)
    assert cell["user less character"]["se"] == pytest.approx(1.0)


def test_the_exact_r_emi_is_that_of_the_true_p():
    world = facts.textual_world(personas=2, characters=2)
    x, golden = export.sample(world, "IDTest", 5)
    wrong = (golden + 1) % facts.NUM_RESPONSES
    exact = lambda y: float(club(truth.log_prob(world, y[None], x[:, None])))  # noqa: E731
    both = _exact_r_emi(world, x, golden[:, None], wrong[:, None])
    assert both == pytest.approx(exact(wrong) - exact(golden), rel=1e-5)
    none = np.full((5, 1), -1)
    assert _exact_r_emi(world, x, golden[:, None], none) is None


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    """Worker and parameters of an untrained RPM that thinks."""
    folder = tmp_path_factory.mktemp("world")
    config = tiny_rpm("thinking_sft", folder / "base", evaluate__tags=("IDTest", "german"))
    made = make_rpm_experiment(config, folder)
    return RolloutWorker(loop_config(config), made.experiment), made.experiment.start["policy"]


def test_p_of_an_rpm_that_thinks_is_the_mean_over_its_thoughts(thinking):
    import jax

    worker, params = thinking
    samples, task = worker.experiment.tests["IDTest"], worker.experiment.task
    y = np.array([[0, 7]] * len(samples))
    found = _log_probs(worker, params, samples, y, 3, jax.random.key(1))
    thoughts = worker.thoughts(params, samples, jax.random.key(1), 3, 1.0)
    one = worker.answer_examples(samples[:1], [thoughts[0]])[0]
    answer = task.encode(rendering.response_text(7))
    rows = [type(e)(e.prompt, answer) for e in one]
    sums = worker.score(params, worker.batch([rows], 1)).sum(-1)[0]
    assert found[0, 1] == pytest.approx(np.log(np.mean(np.exp(sums.astype(float)))), rel=1e-4)


def test_scores_of_golden_answers_lose_nothing(thinking):
    worker, params = thinking
    subsets = dict(worker.experiment.tests)
    golden = {tag: [s.golden for s in part] for tag, part in subsets.items()}
    constant = {tag: ["Hello, surely, buy the lantern."] * 4 for tag in subsets}
    roles = {"reasoner": params, "policy": params}
    found = measure_scores(worker, roles, subsets, {GOLDEN: golden, "constant": constant})
    assert found[GOLDEN]["german"]["profile"] == found[GOLDEN]["german"]["r_emi"] == 0
    assert found[GOLDEN]["german"]["reference_match"] == 1
    assert found["constant"]["german"]["reference_match"] < 1
    assert "r_emid" in found["constant"]["german"] and "r_emid" not in found[GOLDEN]["IDTest"]


def test_a_method_without_its_start_is_refused():
    config = configs.get_config()
    config.methods = ("base", "dpo")
    with pytest.raises(UserError, match="needs sft to begin from"):
        study_methods_world.check(config)
