"""The study of CoRL on worlds: which runs begin from which, and what its table says."""

import pytest

from configs import corl_world as configs
from experiments.corl_world import gains_of, waves_of
from remid_jax.errors import UserError
from remid_jax.training.config import check_config, stages


def test_runs_that_go_on_from_others_come_after_them():
    first, then = waves_of(configs.get_config())
    assert {v for v, _ in first} == {"without_reasoning", "without_corl"}
    assert {v for v, _ in then} == set(configs.GO_ON)
    assert len(first) + len(then) == len(configs.VARIANTS) * len(configs.get_config().study.seeds)


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


def test_gains_are_paired_over_seeds():
    def seeds(*values):
        return [{"perplexity": {"id": v}} for v in values]

    gains = gains_of({"corl": seeds(1.0, 2.0), "other": seeds(2.0, 8.0)})
    assert list(gains) == ["other"]
    assert gains["other"]["id"]["mean"] == pytest.approx((0.5 + 0.75) / 2)
    assert gains["other"]["id"]["se"] == pytest.approx(0.125)
    low, high = gains["other"]["id"]["interval"]
    assert low < 0.5 and high > 0.75  # one degree of freedom
