"""Each key of each experiment, set to what it cannot be: one line names it before any work."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict, FieldReference

from configs import bounds as bounds_configs
from configs import calibrate as calibrate_configs
from configs import corl_world as world_configs
from configs import monitor as monitor_configs
from configs import study_faults as faults_configs
from configs import study_methods_smollm2 as text_configs
from configs import study_methods_world as methods_configs
from experiments import (
    bounds,
    calibrate,
    corl_world,
    monitor,
    study_faults,
    study_methods_smollm2,
    study_methods_world,
)
from experiments.reference import keys_for, page
from remid_jax.errors import UserError
from remid_jax.evaluation import config as diagnosis
from remid_jax.settings import Group, walk
from remid_jax.training import config as training
from remid_jax.training import rpm_config as rpms

EXPERIMENTS = {
    "diagnose": (diagnosis.default_config, diagnosis.check_config),
    "corl": (training.default_config, training.check_config),
    "monitor": (monitor_configs.get_config, monitor.check),
    "bounds": (bounds_configs.get_config, bounds.check),
    "calibrate": (calibrate_configs.get_config, calibrate.check),
    "corl_world": (world_configs.get_config, corl_world.check),
    "study_faults": (faults_configs.get_config, study_faults.check),
    "rpm": (rpms.default_config, rpms.check_config),
    "study_methods_world": (methods_configs.get_config, study_methods_world.check),
    "study_methods_smollm2": (text_configs.get_config, study_methods_smollm2.check),
    "corl_world_thoughts": (lambda: world_configs.get_config("thoughts"), corl_world.check),
}
NO_NUMBER = (math.nan, math.inf, -math.inf, (), (1,))
WRONG = {  # beside what is wrong for all
    bool: (0, 1, *NO_NUMBER),
    int: (True, 0.5, 1.0, 2**70, 10**400, *NO_NUMBER),
    float: NO_NUMBER,
    str: (1, 0.5, True, (), ("x",), "a\ud800"),
    tuple: (1, 0.5, True, (None,), ((),), math.nan),
}


def kind_of(one) -> type:
    """Of a key; dict for groups."""
    return dict if isinstance(one, Group) else getattr(one.kind, "__origin__", one.kind)


def wrong_values(one):
    """What cannot stand for a value: nothing, other types, what no number can be, and all that
    lies outside its range or choices."""
    kind = kind_of(one)
    yield from (None, b"x", object(), 1j)
    if kind is dict:
        yield from (1, 0.5, True, "x", "", ())
        return
    yield from ({"a": 1}, *WRONG[kind])
    if kind is not str:
        yield from ("x", "")
    if kind is tuple:
        yield ("x",) if one.kind != tuple[str, ...] else (1,)
    for value in outside(one):
        yield (value,) if kind is tuple else value


def outside(one):
    """Beyond both ends of a key's interval, or none of its choices."""
    if one.interval:
        low, high = map(float, one.interval[1:-1].split(","))
        whole = "int" in str(one.kind)
        kind, step = (int, 1) if whole else (float, 1e-6 * max(1.0, abs(low)))
        yield from (kind(low - step), kind(low) - 10**6)
        if one.interval[0] == "(":
            yield kind(low)
        if math.isfinite(high):
            yield kind(high + (1 if whole else 1e-6 * max(1.0, abs(high))))
            if one.interval[-1] == ")":
                yield kind(high)
    elif one.allowed:
        yield from ("no such choice", f"{one.allowed[-1]} ", one.allowed[-1].upper())


def with_value(config: ConfigDict, key: str, value) -> ConfigDict:
    *groups, last = key.split(".")
    group = config
    for name in groups:
        group = group[name]
    with group.ignore_type(), group.unlocked():
        group[last] = value
    return config


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_key_is_checked(name):
    default, check = EXPERIMENTS[name]
    check(default())
    shown = walk(keys_for(name))
    if name.startswith("corl_world"):  # whose others are those of corl
        shown = ((key, one) for key, one in shown if key.startswith("study"))
    for key, one in shown:
        for wrong in wrong_values(one):
            config = with_value(default(), key, wrong)
            with pytest.raises(UserError) as found:
                check(config)
                pytest.fail(f"{name}: config.{key} = {wrong!r} passes")
            assert key in str(found.value), (key, wrong, found.value)
            assert len(str(found.value)) < 300


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_key_has_a_meaning_and_nothing_stands_beside_the_keys(name):
    keys = dict(walk(keys_for(name)))
    assert all(one.meaning and "\n" not in one.meaning for one in keys.values())

    def names(config, where=""):
        for key, value in config.items():
            yield f"{where}{key}"
            if isinstance(keys[f"{where}{key}"], Group):
                yield from names(value, f"{where}{key}.")

    assert set(names(EXPERIMENTS[name][0]())) == set(keys)


def test_the_reference_page_is_up_to_date():
    written = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert written.read_text(encoding="utf-8") == page()  # python -m experiments.reference


@pytest.mark.parametrize(("name", "old", "new"), [
    ("diagnose", "estimator.checkpoint", "scorer.checkpoint"),
    ("corl", "opponent", "reward_policy"),
    ("corl", "start", "init_from"),
    ("corl", "leaky", "train_on_test"),
    ("corl", "texts_every", "log_samples_every"),
])  # fmt: skip
def test_old_names_are_told_the_new_ones(name, old, new):
    default, check = EXPERIMENTS[name]
    for value in ("secret", "", 0, False):
        with pytest.raises(
            UserError, match=rf"^config\.{re.escape(old)} is called config.{new} now"
        ):
            check(with_value(default(), old, value))


BEYOND: dict[str, dict[str, tuple[Any, ...]]] = {  # what no range says
    "diagnose": {
        "limits.contexts": (2,), "shifts": ((),), "sampling.stop_strings": (("",),),
        "in_distribution": ("", " ", "a\x1b[2J"),
        "subset_shifts": (("french",), ("=user",), ("french=",), ("a=b", "a=b"), ("a\x07=b",)),
        "rpms": ({"": {"view": "full", "path": ""}}, {"a\n": {"view": "full", "path": ""}},
                 {"a": {"view": "half", "path": ""}}, {"a": {"view": "full"}}, {"a": None}, {}),
        "model.template_variables": ({"a": math.nan}, {"a": {"b": b"x"}}, {"a": [object()]},
                                     {"": 1}),
        "shard": ("4/4", "5/4", "-1/4", "1", "/", "a/b", "0/0", "1/4 ", "1/4/4", "\u0661/4"),
    },
    "corl": {
        "world.noise": (1e-4,), "decoder.width": (127,), "reasoner.temperature": (0.0,),
        "lora.targets": ("(", "none"), "reasoner.dual_clip": (0.5,),
        "reasoner.rewards": ({}, {"likelihood": None}, {"likelihood": math.nan}, {"no": 1.0}),
        "reasoner.parameters": ({"length": {"words": 0}}, {"length": {"words": None}},
                                {"length": {"word": 3}}, {"length": 3}, {"no": {}}),
        "evaluate.tags": (("a\x1bb",), ("",)), "cold_start": (("x",),), "pretraining.batch": (6,),
    },
    "study_faults": {
        "shifts": ((), ("a", "a"), ("IDTest",)), "pairs": (("no",),), "contexts": ((),),
    },
    "rpm": {
        "world.noise": (1e-4,), "lora.targets": ("(",), "start": ("runs/sft",),
        "evaluate.tags": (("",),), "sft.micro_batches": (3,),
    },
    "study_methods_world": {"methods": ((), ("no",), ("dpo",)), "seeds": ((),)},
    "study_methods_smollm2": {"methods": ((), ("dpo",)), "shifts": ((),)},
    "calibrate": {"coverage.contexts": ((),), "shapley.logit_noises": ((),)},
    "corl_world": {
        "study.seeds": ((),), "study.variants": ((), ("no",)), "study.begins": ({"corl": "no"},),
        "lora.rank": (3,), "pretraining.steps": (1,), "reasoner.rewards": ({"likelihood": 2.0},),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_ranges_is_refused(name):
    default, check = EXPERIMENTS[name]
    for key, values in BEYOND[name].items():
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
    ("diagnose", "shard", "0/1"),
    ("diagnose", "shard", "3/4"),
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
