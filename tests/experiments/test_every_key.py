"""Each key of each experiment, set to what it cannot be: one line names it before any work."""

import math

import pytest
from ml_collections import ConfigDict, FieldReference

from configs import bounds as bounds_configs
from configs import calibrate as calibrate_configs
from configs import corl_world as world_configs
from experiments import bounds, calibrate, corl_world
from remid_jax.errors import UserError
from remid_jax.evaluation import config as diagnosis
from remid_jax.training import config as training

EXPERIMENTS = {
    "diagnose": (diagnosis.default_config, diagnosis.check_config),
    "corl": (training.default_config, training.check_config),
    "bounds": (bounds_configs.get_config, bounds.check),
    "calibrate": (calibrate_configs.get_config, calibrate.check),
    "corl_world": (world_configs.get_config, corl_world.check),
    "corl_world_thoughts": (lambda: world_configs.get_config("thoughts"), corl_world.check),
}


def leaves(config: ConfigDict, where: str = ""):
    """(key with its groups, value); groups too."""
    for key, value in config.items():
        yield f"{where}{key}", value
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{where}{key}.")


def wrong_values(value):
    """What cannot stand for a value: nothing, other types, and what no number can be."""
    yield from (None, b"x", object(), {"a": 1}, 1j)
    if not isinstance(value, str):
        yield from ("x", "")
    if isinstance(value, (tuple, ConfigDict, str)):
        yield from (1, 0.5, True)
    if isinstance(value, tuple):
        yield from ((None,), ((),), "x", math.nan)
        yield (1,) if value == () or isinstance(value[0], str) else ("x",)
    elif isinstance(value, str):
        yield from ((), ("x",), "a\ud800")
    elif isinstance(value, (bool, int, float)):
        yield from (math.nan, math.inf, -math.inf, (), (1,))
        if isinstance(value, bool):
            yield from (0, 1)
        elif isinstance(value, int):
            yield from (True, 0.5, 1.0, 2**70, 10**400)


def with_value(config: ConfigDict, key: str, value) -> ConfigDict:
    *groups, last = key.split(".")
    group = config
    for name in groups:
        group = group[name]
    with group.ignore_type(), group.unlocked():
        group[last] = value
    return config


def free_of(name: str) -> tuple[str, ...]:
    return ("model.template_variables",) if name == "diagnose" else ()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_key_is_checked_by_type(name):
    default, check = EXPERIMENTS[name]
    check(default())
    for key, value in leaves(default()):
        if key.endswith("parameters.length.words"):
            value = float(value)  # any number, as the reward's signature says
        for wrong in wrong_values(value):
            if isinstance(value, ConfigDict) and isinstance(wrong, dict):
                continue  # a group is made of it, with an unknown key
            config = with_value(default(), key, wrong)
            with pytest.raises(UserError) as found:
                check(config)
                pytest.fail(f"{name}: config.{key} = {wrong!r} passes")
            assert key in str(found.value), (key, wrong, found.value)
            assert len(str(found.value)) < 300


OUTSIDE = {
    "diagnose": {
        "seed": (-1, 2**32), "sampling.temperature": (-0.1,), "sampling.top_p": (0.0, 1.1),
        "sampling.repetition_penalty": (0.0,), "reasoning.temperature": (-1.0,),
        "reasoning.repetition_penalty": (-1.0,), "estimator.confidence": (0.0, 1.0),
        "limits.excluded_share": (-0.1, 1.1), "limits.contexts": (-1, 2), "mesh.data": (0, -1),
        "mesh.tensor": (0,), "sampling.max_tokens": (0,), "shifts": ((),),
        "sampling.stop_strings": (("",),), "in_distribution": ("", " ", "a\x1b[2J"),
        "subset_shifts": (("french",), ("=user",), ("french=",), ("a=b", "a=b"), ("a\x07=b",)),
        "rpms": ({"": {"view": "full", "path": ""}}, {"a\n": {"view": "full", "path": ""}},
                 {"a": {"view": "half", "path": ""}}, {"a": {"view": "full"}}, {"a": None}, {}),
        "model.template_variables": ({"a": math.nan}, {"a": {"b": b"x"}}, {"a": [object()]},
                                     {"": 1}),
    },
    "corl": {
        "seed": (-1,), "world.noise": (0.0, 1.0, 2.0, 1e-4), "world.error": (-0.1, 1.1),
        "world.personas": (0, 17), "decoder.heads": (0,), "decoder.width": (0, 127),
        "decoder.layers": (0,), "reasoner.temperature": (0.0, -1.0), "reasoner.max_tokens": (0,),
        "processes.count": (0, -1), "processes.index": (-1,), "mesh.fsdp": (0,),
        "lora.alpha": (0.0,), "lora.dropout": (1.0,), "lora.targets": ("(", "none"),
        "sft.learning_rate": (0.0, -1.0), "sft.warmup": (1.0,), "sft.schedule": ("none",),
        "reasoner.clip_low": (1.1,), "reasoner.dual_clip": (0.5,), "policy.scale": ("no",),
        "reasoner.rewards": ({}, {"likelihood": None}, {"likelihood": math.nan}, {"no": 1.0}),
        "reasoner.parameters": ({"length": {"words": 0}}, {"length": {"words": None}},
                                {"length": {"word": 3}}, {"length": 3}, {"no": {}}),
        "evaluate.tags": (("a\x1bb",), ("",)), "evaluate.temperature": (-1.0,),
        "cold_start": (("x",),),
        "pretraining.batch": (6, 0), "pretraining.learning_rate": (0.0,), "rounds": (-1,),
    },
    "bounds": {"seed": (-1,), "worlds": (0,), "prediction.misfit": (-1.0,)},
    "calibrate": {"seed": (-1,), "coverage.contexts": ((), (9,)), "shapley.misfits": ((-1.0,),)},
    "corl_world": {
        "study.workers": (0,), "study.seeds": ((), (-1,)), "study.variants": ((), ("no",)),
        "study.begins": ({"corl": "no"},), "lora.rank": (3,), "pretraining.steps": (1,),
        "reasoner.rewards": ({"likelihood": 2.0},),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_out_of_range_is_refused(name):
    default, check = EXPERIMENTS[name]
    for key, values in OUTSIDE[name].items():
        for value in values:
            value = ConfigDict(value, type_safe=False) if isinstance(value, dict) else value
            config = with_value(default(), key, value)
            with pytest.raises(UserError) as found:
                check(config)
                pytest.fail(f"{name}: config.{key} = {value!r} passes")
            group, _, last = key.rpartition(".")
            assert group in str(found.value) and last in str(found.value), (key, found.value)


@pytest.mark.parametrize(("name", "key", "value"), [
    ("diagnose", "shifts", ["german"]),  # a list for a tuple
    ("diagnose", "sampling.temperature", 1),  # whole for any number
    ("diagnose", "seed", 2**32 - 1),
    ("diagnose", "subset_shifts", ("french=user", "noir = genre", "a=b=user")),
    ("diagnose", "model.template_variables",
     ConfigDict({"enable_thinking": False, "more": {"a": [1, None, "x"]}}, type_safe=False)),
    ("diagnose", "in_distribution", "français"),
    ("corl", "round", ()),
    ("corl", "reasoner.parameters", ConfigDict({"length": {"words": 5}})),
    ("corl", "policy.temperature", 0.0),
    ("bounds", "bounds", ()),
])  # fmt: skip
def test_what_may_be_is_let_through(name, key, value):
    default, check = EXPERIMENTS[name]
    config = default()
    if key == "policy.temperature":  # no stage of GRPO has this role
        config.round = ("reasoner_grpo:1",)
    check(with_value(config, key, value))


def test_references_are_read_through():
    config = diagnosis.default_config()
    reference = FieldReference(0)
    config.seed = reference
    diagnosis.check_config(config)
    reference.set(-1)
    with pytest.raises(UserError, match=r"config\.seed is -1"):
        diagnosis.check_config(config)
