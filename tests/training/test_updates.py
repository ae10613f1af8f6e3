"""Supervised and reinforcement updates: what they compute, however they are cut."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.inference.compilations import count_compilations
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.adapters import adapted_structure, new_params
from remid_jax.models.lora import LoraConfig
from remid_jax.training.groups import Example, group_examples
from remid_jax.training.grpo import Completions, GrpoConfig
from remid_jax.training.optimiser import OptimiserConfig, init_state
from remid_jax.training.rollout import completion_examples, completions, padded, rollout
from remid_jax.training.updates import grpo_update, score, sft_update

LORA = LoraConfig(rank=4, dropout=0.0)
ADAM = OptimiserConfig(0.01, 50, clip=1.0)
WHOLE = {"micro_batches": 1, "remat": False}
PROMPTS = [[3, 4, 5], [6, 7, 8, 9, 10], [11, 12], [13, 14, 15, 16]]
SFT_ROWS = [[Example(p, [20 + i, 21, 22, 2][i % 2 :], 1.0 + i)] for i, p in enumerate(PROMPTS)]


@pytest.fixture(scope="module")
def model(make_model):
    return make_model()


@pytest.fixture(scope="module")
def graphdef(model):
    return adapted_structure(model.config, LORA)[0]


def fresh(model, optimiser=ADAM):
    return init_state(new_params(model.config, LORA, jax.random.key(0)), optimiser)


def sft(model, graphdef, state, rows=SFT_ROWS, optimiser=ADAM, **how):
    return sft_update(
        model.params, state, group_examples(rows, 100), jax.random.key(0), graphdef=graphdef,
        optimiser=optimiser, **WHOLE | how,
    )  # fmt: skip


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def test_the_loss_is_the_weighted_mean(model, graphdef):
    groups = group_examples(SFT_ROWS, 100)
    values = np.asarray(score(model.params, groups, graphdef=model.graphdef), np.float64)
    weights = np.asarray(groups.weights)
    _, said = sft(model, graphdef, fresh(model))
    assert said["loss"] == pytest.approx(-(values * weights).sum() / weights.sum(), abs=5e-5)
    assert said["tokens"] == weights.sum()


def test_a_few_steps_learn_and_leave_the_base(model, graphdef):
    before = leaves(model.params)
    state, losses = fresh(model), []
    for _ in range(30):
        state, said = sft(model, graphdef, state)
        losses.append(float(said["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert state.step == 30
    for a, b in zip(leaves(model.params), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("how", [{"micro_batches": 2}, {"micro_batches": 4, "remat": True}])
def test_how_it_runs_changes_nothing(model, graphdef, how):
    free = dataclasses.replace(ADAM, clip=0.0)
    one, said = sft(model, graphdef, fresh(model, free), optimiser=free)
    two, again = sft(model, graphdef, fresh(model, free), optimiser=free, **how)
    assert again["loss"] == pytest.approx(float(said["loss"]), abs=2e-6)
    assert again["grad_norm"] == pytest.approx(float(said["grad_norm"]), rel=1e-5)
    # Adam's first step is a sign: moments, not parameters, show how near gradients are.
    for a, b in zip(leaves(one.moments), leaves(two.moments), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-4)


def test_a_gradient_that_is_not_finite_changes_nothing(model, graphdef):
    state = fresh(model)
    kept = leaves(state)
    rows = [[dataclasses.replace(r, weight=float("nan"))] for (r,) in SFT_ROWS]
    after, said = sft(model, graphdef, state, rows)
    assert said["finite"] == 0
    for a, b in zip(leaves(after), kept, strict=True):
        np.testing.assert_array_equal(a, b)


DECAYS = {
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda share: 1 - share,
    "constant": lambda share: 1.0,
}


@pytest.mark.parametrize("schedule", DECAYS)
@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.1), (7, 0.5), (30, 0.0), (1, 0.03)])
def test_schedules(schedule, steps, warmup):
    c = OptimiserConfig(3e-4, steps, warmup=warmup, schedule=schedule)
    rising = round(warmup * steps)
    for step in range(steps + 2):
        decayed = DECAYS[schedule](min(1.0, (step - rising) / max(1, steps - rising)))
        expected = 3e-4 * ((1 + step) / (1 + rising) if step < rising else decayed)
        # The float32 cosine of a share near 1 loses digits next to 1.
        assert float(c.rate(jnp.int32(step))) == pytest.approx(expected, rel=1e-6, abs=3e-10)


def test_another_rate_and_length_need_no_other_program(model, graphdef):
    one, two = fresh(model), fresh(model)
    sft(model, graphdef, one)
    with count_compilations() as programs:
        other = OptimiserConfig(0.02, 7, warmup=0.5, clip=1.0)
        _, said = sft(model, graphdef, two, optimiser=other)
    assert programs.compiled + programs.found == 0
    assert said["learning_rate"] == pytest.approx(0.02 / 5)  # 1 of 4 steps up


@pytest.mark.parametrize(
    "changes", [{"learning_rate": 0.0}, {"steps": 0}, {"schedule": "step"}, {"clip": -1.0}]
)
def test_bad_optimisers(changes):
    with pytest.raises(UserError):
        OptimiserConfig(**{"learning_rate": 0.1, "steps": 5, **changes})


# Rollouts and GRPO.

SAMPLING = SamplingConfig(max_tokens=6, temperature=1.0)


@pytest.fixture(scope="module")
def drawn(model, graphdef):
    params = nnx.merge_state(model.params, fresh(model).params)
    ids, lengths = padded(PROMPTS)
    return rollout(
        params, ids, lengths, jax.random.key(3), graphdef=graphdef, sampling=SAMPLING, draws=3,
        end=2, split=True,
    )  # fmt: skip


def test_the_sampler_and_the_trainer_agree(model, graphdef, drawn):
    lists = completions(drawn, 2)
    groups = group_examples(completion_examples(PROMPTS, lists), 100)
    params = nnx.merge_state(model.params, fresh(model).params)
    values = np.asarray(score(params, groups, graphdef=graphdef))
    for b in range(4):
        for g in range(3):
            n = int(drawn.counts[b, g])
            np.testing.assert_allclose(values[b, g, :n], drawn.log_probs[b, g, :n], atol=1e-4)
            assert len(lists[b][g]) == n + int(drawn.stopped[b, g])
            assert 2 not in lists[b][g][:n]


def test_draws_differ_and_repeat(model, graphdef, drawn):
    assert len({tuple(x) for x in completions(drawn, 2)[0]}) > 1
    params = nnx.merge_state(model.params, fresh(model).params)
    ids, lengths = padded(PROMPTS)
    for split in (True, False):
        again = rollout(
            params, ids, lengths, jax.random.key(3), graphdef=graphdef, sampling=SAMPLING, draws=3,
            end=2, split=split,
        )  # fmt: skip
        np.testing.assert_array_equal(again.tokens, drawn.tokens)


def known_of(drawn, groups, advantages) -> Completions:
    b, g, k = groups.weights.shape
    old = np.zeros((b, g, k), np.float32)
    old[..., : drawn.log_probs.shape[-1]] = drawn.log_probs
    return Completions(
        old_log_probs=jnp.asarray(old), reference_log_probs=jnp.zeros_like(old),
        advantages=jnp.asarray(advantages, jnp.float32), mask=jnp.asarray(groups.weights > 0),
        truncated=~drawn.stopped,
    )  # fmt: skip


# Each compiles three programs; the sums of all three are compared in test_grpo.
@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["dapo", "grpo", "dr_grpo"])
def test_micro_batches_of_grpo_change_nothing(model, graphdef, drawn, aggregation):
    groups = group_examples(completion_examples(PROMPTS, completions(drawn, 2)), 100)
    advantages = np.random.default_rng(0).standard_normal((4, 3))
    grpo = GrpoConfig(aggregation=aggregation, max_tokens=6)
    results = []
    for how in ({}, {"micro_batches": 2}, {"micro_batches": 4, "remat": True}):
        results.append(grpo_update(
            model.params, fresh(model), groups, known_of(drawn, groups, advantages),
            graphdef=graphdef, optimiser=ADAM, grpo=grpo, on_policy=True, **WHOLE | how,
        ))  # fmt: skip
    first = results[0][1]
    for _, said in results[1:]:
        for name in ("loss", "grad_norm", "entropy"):
            assert said[name] == pytest.approx(float(first[name]), abs=2e-6, rel=1e-5)
    assert first["sampling_logp_difference"] < 1e-4


def scored(model, state, groups, graphdef) -> np.ndarray:
    params = nnx.merge_state(model.params, state.params)
    return np.asarray(score(params, groups, graphdef=graphdef))


def test_rewarded_completions_become_likelier(model, graphdef, drawn):
    groups = group_examples(completion_examples(PROMPTS, completions(drawn, 2)), 100)
    good = np.zeros((4, 3))
    good[:, 0], good[:, 1:] = 1.0, -0.5
    state = fresh(model)
    values = scored(model, state, groups, graphdef)
    for _ in range(10):
        state, _ = grpo_update(
            model.params, state, groups, known_of(drawn, groups, good), graphdef=graphdef,
            optimiser=ADAM, grpo=GrpoConfig(), on_policy=True, **WHOLE,
        )  # fmt: skip
    after = scored(model, state, groups, graphdef)
    gain = (after - values).sum(-1)
    assert gain[:, 0].mean() > gain[:, 1:].mean() + 0.1
    assert nnx.to_pure_dict(state.params)["layers"]["query_lora_b"].any()
