"""Advantages and losses equal those of TRL's GRPOTrainer (1.16.0) on the same numbers.

The trainer is made without its __init__: it has no model, and its log-probs are given. What
differs from TRL, by design:
  * its means over completions (grpo, dr_grpo) count those without a token, ours do not; the two
    agree where every completion has one, and `test_empty_completions` holds the ratio;
  * its dapo divides by the tokens of the whole generation batch, as `num_items_in_batch` gives
    them; bnpo by those of one micro-batch. Ours returns sum and denominator, so both are one;
  * its `delta` caps ratios of positive advantages too, which matters only below 1 + clip_high;
    its clip metrics do not count tokens at `delta`, our `clip_ratio` does;
  * equal rewards leave it rounding errors over 1e-4, and ours exactly 0;
  * it has k3 alone, and no leave-one-out baseline.
"""

import os
import types
import warnings
from collections import defaultdict

import jax
import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    trl = pytest.importorskip("trl", minversion="1.16.0")
    from trl.trainer.grpo_trainer import GRPOTrainer

from remid_jax.training.grpo import Completions, GrpoConfig, group_advantages, grpo_loss

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]
N, S, MOST = 8, 11, 16  # completions, tokens in the batch, limit of tokens
ROUNDED = 1e-7  # TRL's G/(G − 1) is float32 whatever the rewards are


def double():
    """A context in which arrays are float64."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def numbers(seed=0):
    """Log-probs [N, S] of policy, old and reference, advantages [N], and lengths of at least 1."""
    rng = np.random.default_rng(seed)
    old = rng.normal(-2, 1, (N, S))
    given = {
        "log_probs": old + rng.normal(0, 0.4, (N, S)), "old": old,
        "reference": old + rng.normal(0, 0.4, (N, S)), "advantages": rng.normal(size=N),
    }  # fmt: skip
    return given, rng.integers(1, S + 1, N)


def bare_trainer(**attributes):
    """A trainer of one process with nothing but what is given and what every path reads."""
    trainer = object.__new__(GRPOTrainer)
    trainer.accelerator = types.SimpleNamespace(
        device="cpu",
        num_processes=1,
        process_index=0,
        gather=lambda x: x,
        reduce=lambda x, reduction: x,
    )
    trainer.model = torch.nn.Identity()
    trainer.use_vllm = False
    trainer._metrics = {"train": defaultdict(list)}
    for name, value in attributes.items():
        setattr(trainer, name, value)
    return trainer


def trl_loss(given, mask, config, loss_type):
    """TRL's loss, its gradient with respect to the log-probs, and its metrics."""
    tensors = {name: torch.tensor(value) for name, value in given.items()}
    log_probs = tensors["log_probs"].requires_grad_()
    trainer = bare_trainer(
        _get_per_token_logps_and_entropies=lambda *a, **k: (log_probs, torch.zeros(N, S), None),
        args=types.SimpleNamespace(
            use_bias_correction_kl=config.kl_unbiased,
            delta=config.dual_clip or None,
            steps_per_generation=1,
        ),
        beta=config.kl_coefficient,
        epsilon_low=config.clip_low,
        epsilon_high=config.clip_high,
        loss_type=loss_type,
        max_completion_length=config.max_tokens,
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
    )
    mask = torch.tensor(mask.astype(np.int64))
    inputs = {
        "prompt_ids": torch.zeros(N, 2, dtype=torch.long),
        "prompt_mask": torch.ones(N, 2, dtype=torch.long),
        "completion_ids": torch.zeros(N, S, dtype=torch.long),
        "completion_mask": mask,
        "advantages": tensors["advantages"],
        "old_per_token_logps": tensors["old"],
        "ref_per_token_logps": tensors["reference"],
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    loss.backward()
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
    return loss.item(), log_probs.grad.numpy(), metrics


def our_loss(given, mask, config, truncated=None):
    """(sum, denominator, metrics) and the gradient of the sum, in float64."""
    known = Completions(
        given["old"],
        given["reference"],
        given["advantages"],
        mask,
        np.zeros(N, bool) if truncated is None else truncated,
    )

    def total(log_probs):
        found = grpo_loss(log_probs, known, config)
        return found[0], found[1:]

    with double():
        (value, rest), gradient = jax.value_and_grad(total, has_aux=True)(given["log_probs"])
        return float(value), *jax.tree.map(float, rest), np.asarray(gradient)


OPTIONS = {
    "plain": {},
    "clip-higher": {"clip_low": 0.1, "clip_high": 0.28},
    "dual clip": {"dual_clip": 1.5},
    "KL": {"kl_coefficient": 0.3, "kl_unbiased": False},
    "KL, weighted": {"kl_coefficient": 0.3, "kl_unbiased": True},
    "all": {"clip_low": 0.1, "clip_high": 0.28, "dual_clip": 1.4, "kl_coefficient": 0.04},
}
LOSS_TYPES = {"grpo": "grpo", "dapo": "dapo", "bnpo": "dapo", "dr_grpo": "dr_grpo"}


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("option", OPTIONS)
def test_losses(loss_type, option):
    config = GrpoConfig(aggregation=LOSS_TYPES[loss_type], max_tokens=MOST, **OPTIONS[option])
    given, lengths = numbers()
    mask = np.arange(S) < lengths[:, None]
    loss, gradient, theirs = trl_loss(given, mask, config, loss_type)
    total, denominator, metrics, slopes = our_loss(given, mask, config)
    assert total / denominator == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(slopes / denominator, gradient, rtol=1e-10, atol=1e-15)
    means = {name: a / b for name, (a, b) in metrics.items()}
    for ours, name in (
        ("clip_ratio_low", "clip_ratio/low_mean"), ("clip_ratio_high", "clip_ratio/high_mean"),
    ):  # fmt: skip
        assert means[ours] == pytest.approx(theirs[name], abs=1e-6)
    region = means["clip_ratio"] - means.get("clip_ratio_dual", 0)
    assert region == pytest.approx(theirs["clip_ratio/region_mean"], abs=1e-6)
    assert means["clip_ratio_low"] > 0 and means["clip_ratio_high"] > 0
    assert not config.dual_clip or means["clip_ratio_dual"] > 0
    if config.kl_coefficient and config.kl_unbiased:
        assert means["kl"] == pytest.approx(theirs["kl"], rel=1e-6)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_empty_completions(loss_type):
    """Cut off and masked: TRL counts them in means over completions, ours counts what is left."""
    config = GrpoConfig(
        aggregation=LOSS_TYPES[loss_type], max_tokens=MOST, kl_coefficient=0.1, mask_truncated=True
    )
    given, lengths = numbers(1)
    truncated = np.isin(np.arange(N), (0, 5))
    mask = np.arange(S) < lengths[:, None]
    loss, gradient, _ = trl_loss(given, mask & ~truncated[:, None], config, loss_type)
    total, denominator, _, slopes = our_loss(given, mask, config, truncated)
    if LOSS_TYPES[loss_type] != "dapo":
        denominator *= N / (N - 2)
    assert total / denominator == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(slopes / denominator, gradient, rtol=1e-10, atol=1e-15)


def trl_advantages(rewards, scale):
    """TRL's advantages [B, G]; a reward that is NaN is one that no function gave."""
    ids = [[5, 1]] * rewards.size
    trainer = bare_trainer(
        environment_factories=None,
        environments=None,
        tools=None,
        _generate=lambda prompts: (ids, ids, None, ["a"] * len(ids), None, {}, None, None),
        _calculate_rewards=lambda *a: torch.tensor(rewards.reshape(-1, 1)),
        _tokenizer=types.SimpleNamespace(pad_token_id=0),
        pad_to_multiple_of=None,
        mask_truncated_completions=False,
        num_iterations=1,
        num_generations=rewards.shape[1],
        beta=0.0,
        reward_weights=torch.ones(1),
        reward_func_names=["reward"],
        multi_objective_aggregation="sum_then_normalize",
        scale_rewards=scale,
        args=types.SimpleNamespace(
            per_device_train_batch_size=len(ids),
            gradient_checkpointing_kwargs=None,
            steps_per_generation=1,
            gradient_accumulation_steps=1,
        ),
        _logs=defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        _pending_extra_logs=defaultdict(list),
        _pending_metrics=defaultdict(list),
        log_multimodal=False,
    )
    trainer.model.is_gradient_checkpointing = False
    found = GRPOTrainer._generate_and_score_completions(trainer, [{"prompt": "p"}] * len(ids))
    zero = trainer._metrics["train"]["frac_reward_zero_std"][0]
    return found["advantages"].numpy().reshape(rewards.shape), zero


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages(scale):
    rewards = np.random.default_rng(2).normal(1, 2, (6, 8))
    rewards[3] = 0.1
    expected, zero = trl_advantages(rewards, scale)
    with double():
        found, flat = group_advantages(rewards, baseline="mean", scale=scale, epsilon=1e-4)
    np.testing.assert_allclose(found, expected, rtol=ROUNDED, atol=1e-12)
    assert flat.tolist() == [False] * 3 + [True] + [False] * 2
    if scale != "batch":
        assert zero == pytest.approx(1 / 6)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_where_rewards_are_missing(scale):
    rng = np.random.default_rng(3)
    rewards, where = rng.normal(1, 2, (6, 8)), rng.random((6, 8)) < 0.7
    where[2], where[4] = False, np.arange(8) == 3
    rewards[~where] = np.nan
    expected, _ = trl_advantages(rewards, scale)
    with double():
        found, flat = group_advantages(
            rewards, baseline="mean", scale=scale, epsilon=1e-4, where=where
        )
    np.testing.assert_allclose(found, expected, rtol=ROUNDED, atol=1e-12)
    assert flat.tolist() == [False, False, True, False, True, False]
