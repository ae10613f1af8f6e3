"""The study of CoRL on worlds: which runs begin from which, and what its table says."""

import math

import numpy as np
import pytest

from configs import corl_world as configs
from experiments.corl_world import waves_of
from experiments.studies.corl_tables import print_tables, record_of
from remid_jax.errors import UserError
from remid_jax.training.config import check_config, stages
from remid_jax.training.world_base import base_identity


def test_runs_that_go_on_from_others_come_after_them():
    first, second, then = waves_of(configs.get_config())
    assert {v for v, _ in first + second} == {"without_reasoning", "without_corl"}
    assert {v for v, _ in then} == set(configs.GO_ON)
    assert len(first + second + then) == len(configs.VARIANTS) * len(
        configs.get_config().study.seeds
    )


def test_a_run_without_what_it_goes_on_from_is_refused():
    config = configs.get_config()
    config.study.variants = ("corl", "without_reasoning")
    with pytest.raises(UserError, match="needs without_corl to begin from"):
        waves_of(config)


@pytest.mark.parametrize("name", list(configs.VARIANTS))
def test_every_variant_is_a_whole_configuration(name):
    config = configs.get_config(f"{name},3")
    check_config(config)
    assert config.world.seed == config.seed == 3
    updates = sum(s.steps for s in stages(config) if s.role == "policy")
    assert updates == configs.COLD + (0 if name == "without_corl" else configs.SFT)


def test_the_development_world_is_none_of_the_study():
    config = configs.get_config("development,without_corl")
    assert config.world.seed not in configs.get_config().study.seeds
    assert config.round == ()
    with pytest.raises(ValueError, match="unknown variant 'corl,x'"):
        configs.get_config("corl,x")


def subset(one, mixture, exact, agreement=(0.5, 1.0)):
    """What one subset of one seed measured, of two samples."""
    r_emi = {"noisy": {"p": -1.0, "one_thought": one[0], "mixture": mixture[0]}}
    return {
        "log_q_of_samples": {"one_thought": list(one), "mixture": list(mixture)},
        "log_p_of_samples": list(exact), "r_emi": r_emi,
        "doubt_of_samples": {"agreement": list(agreement), "entropy": [0.7, 0.0]},
    }  # fmt: skip


@pytest.fixture
def runs():
    """Variant -> two seeds with two subsets."""

    def seed(one, mixture):
        exact = (-1.0, -1.0)
        home = subset((one, one - 1), (mixture, mixture - 2), exact)
        return {"IDTest": home, "german": subset((2 * one, one), (one, one), exact)}

    return {
        "without_corl": [seed(-8.0, -5.0), seed(-9.0, -7.0)],
        "corl": [seed(-4.0, -3.0), seed(-6.0, -4.0)],
    }


def test_the_record_holds_both_ways_and_the_floor(runs):
    record = record_of(runs)
    assert record["floor"]["id"] == {"mean": pytest.approx(math.exp(1 / 4)), "se": 0.0}
    kl = record["one_thought"]["kl"]["without_corl"]["id"]
    assert kl == {"mean": pytest.approx((7.5 + 8.5) / 2), "se": pytest.approx(0.5)}
    assert record["mixture"]["kl"]["without_corl"]["id"]["mean"] == pytest.approx((5 + 7) / 2)
    perplexity = record["mixture"]["perplexity"]["corl"]["id"]["mean"]
    assert perplexity == pytest.approx((math.exp(4 / 4) + math.exp(5 / 4)) / 2)
    errors = record["one_thought"]["emid_error"]["corl"]
    assert errors["id"]["mean"] == pytest.approx((3 + 5) / 2)
    assert errors["user"]["mean"] == pytest.approx((4 + 6) / 2)  # of R-EMI at home minus there


def test_gains_are_paired_over_seeds(runs):
    gains = record_of(runs)["gains"]
    found = gains["one_thought"]["kl"]["corl"]["without_corl"]["id"]
    a, b = np.array([7.5, 8.5]), np.array([3.5, 5.5])
    assert found["mean"] == pytest.approx(3.5) and found["se"] == pytest.approx(0.5)
    half = 12.7062 * 0.5  # t(1) at 97.5 %
    assert found["interval"] == pytest.approx((3.5 - half, 3.5 + half), rel=1e-4)
    assert found["share"]["mean"] == pytest.approx(np.mean(1 - b / a))
    of_mixture = gains["of_mixture"]["kl"]["without_corl"]["id"]
    assert of_mixture["mean"] == pytest.approx(((7.5 - 5) + (8.5 - 7)) / 2)
    share = gains["without_training"]["kl"]["id"]
    assert share["mean"] == pytest.approx(np.mean([2.5 / 4, 1.5 / 3]))


def test_doubt_is_correlated_with_the_loss_over_contexts(runs):
    runs["corl"][1]["german"]["doubt_of_samples"]["agreement"] = [math.nan, math.nan]
    record = record_of(runs)
    home = record["doubt"]["corl"]["IDTest"]
    assert home["agreement"]["mean"] == 0.75 and home["agreement"]["seeds"] == 2
    assert home["agreement_kl_one_thought"]["mean"] == pytest.approx(1.0)  # the second loses more
    assert home["entropy_kl_mixture"]["mean"] == pytest.approx(-1.0)
    assert record["doubt"]["corl"]["german"]["agreement"]["seeds"] == 1
    assert record["doubt"]["corl"]["german"]["agreement_kl_mixture"] is None  # all losses alike


def test_an_interval_of_agreement_holds_what_agreement_can_be(runs):
    runs["corl"][1]["IDTest"]["doubt_of_samples"]["agreement"] = [1.0, 1.0]
    agreement = record_of(runs)["doubt"]["corl"]["IDTest"]["agreement"]
    assert agreement["mean"] == 0.875 and agreement["interval"] == [0.0, 1.0]


def test_tables_print_with_their_titles(runs, capsys):
    print_tables(record_of(runs))
    printed = capsys.readouterr().out
    assert "the mixture over thoughts: E KL(p || q)" in printed
    assert "without_corl: doubt of a context's thoughts" in printed


def test_each_seed_has_a_base_of_its_own():
    first, second = (configs.get_config(f"corl,{s}") for s in (0, 1))
    assert base_identity(first) != base_identity(second)
    assert base_identity(first) == base_identity(configs.get_config("without_corl,0"))


def test_one_run_a_seed_trains_its_base_before_others_read_it():
    waves = waves_of(configs.get_config())
    assert [s for _, s in waves[0]] == list(configs.get_config().study.seeds)
