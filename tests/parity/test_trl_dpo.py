"""The loss of preferences equals that of TRL's DPOTrainer (1.16.0) on the same numbers.

The trainer is made without its __init__: it has no model, and its log-probs are given.
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
    pytest.importorskip("trl", minversion="1.16.0")
    from trl.trainer.dpo_trainer import DPOTrainer

from remid_jax.training.dpo import DpoConfig, dpo_loss

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]
N, S = 6, 9  # pairs, tokens of the longest answer
LOSSES = {"sequence": "sigmoid", "token": "sigmoid_norm"}


def double():
    """A context in which arrays are float64."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


def numbers():
    """Log-probs of policy and reference [N, 2, S], 0 where nothing is scored, and the mask."""
    rng = np.random.default_rng(0)
    mask = np.arange(S) < rng.integers(1, S + 1, (N, 2))[..., None]
    return *(rng.normal(-2, 1, (N, 2, S)) * mask for _ in range(2)), mask


def as_rows(x):
    """Chosen answers, then rejected ones: [2N, S] of [N, 2, S]."""
    return torch.tensor(np.concatenate([x[:, 0], x[:, 1]]))


def same(x):
    return x


def trl_loss(ours, reference, mask, beta, loss_type):
    """TRL's mean loss, its gradient with respect to the log-probs [N, 2, S], and its metrics."""
    log_probs = as_rows(ours).requires_grad_()
    trainer = object.__new__(DPOTrainer)
    outputs = types.SimpleNamespace(
        log_probs=log_probs,
        entropy=torch.zeros(2 * N, S),
        mean_logits=torch.zeros(2 * N, S),
        is_top1=torch.zeros(2 * N, S, dtype=torch.bool),
    )
    given = {
        "accelerator": types.SimpleNamespace(
            device="cpu", gather=same, gather_for_metrics=same
        ),
        "model": torch.nn.Identity(), "aux_loss_enabled": False, "ld_alpha": None, "beta": beta,
        "precompute_ref_logps": True, "f_divergence_type": "reverse_kl", "use_weighting": False,
        "loss_types": [loss_type], "loss_weights": [1.0], "_total_train_tokens": 0, "_tp_size": 1,
        "_metrics": {"train": defaultdict(list)},
    }  # fmt: skip
    for name, value in given.items():
        setattr(trainer, name, value)
    counted = as_rows(mask.astype(np.int64))
    prompt = torch.zeros(2 * N, 1, dtype=torch.long)
    inputs = {
        "input_ids": torch.zeros(2 * N, S + 1, dtype=torch.long),
        "attention_mask": torch.ones(2 * N, S + 1, dtype=torch.long),
        "completion_mask": torch.cat([prompt, counted], dim=1),
        "ref_chosen_logps": torch.tensor(reference[:, 0].sum(-1)),
        "ref_rejected_logps": torch.tensor(reference[:, 1].sum(-1)),
    }
    loss = trainer._compute_loss(lambda **_: outputs, inputs, False)
    loss.backward()
    chosen, rejected = np.split(log_probs.grad.numpy(), 2)
    metrics = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    return loss.item(), np.stack([chosen, rejected], axis=1), metrics


@pytest.mark.parametrize("beta", [0.1, 2.0])
@pytest.mark.parametrize("how", LOSSES)
def test_loss_and_gradient(how, beta):
    ours, reference, mask = numbers()
    expected, slopes, metrics = trl_loss(ours, reference, mask, beta, LOSSES[how])
    config = DpoConfig(beta=beta, normalisation=how)
    with double():
        (total, (pairs, found)), gradient = jax.value_and_grad(
            lambda x: (lambda a, b, c: (a, (b, c)))(*dpo_loss(x, reference, mask, config)),
            has_aux=True,
        )(jax.numpy.asarray(ours))
        assert float(total / pairs) == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(np.asarray(gradient / pairs), slopes * mask, rtol=1e-10)
        if how == "sequence":
            margin, right = (float(found[n][0] / pairs) for n in ("margin", "accuracy"))
            assert margin == pytest.approx(metrics["rewards/margins"], rel=1e-6)
            assert right == pytest.approx(metrics["rewards/accuracies"])
