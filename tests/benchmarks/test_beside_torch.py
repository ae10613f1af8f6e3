"""The benchmarks beside PyTorch run, and refuse to time what does not agree."""

import dataclasses

import jax
import numpy as np
import pytest
from parity.tiny_transformers import torch

from benchmarks import forward, likelihood, sampling, torch_side
from benchmarks.model import SMALL, random_model, random_tokens
from remid_jax.inference.engine import JaxEngine

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture
def one_thread():
    """PyTorch's threads wait for each other, for seconds where other programs share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_likelihood(run, assert_reported):
    code, found = run(likelihood.main)
    assert code == 0
    assert_reported(found, "likelihood", [*likelihood.RATIOS, "gemm_share", "machine_share"])
    assert found["share_of_flops_ratio"] == pytest.approx(
        found["ratio_full"] / found["flops_ratio"]
    )
    assert found["contestants"].keys() == {
        "ours", "ours, full sequences", "cached", "naive", "reference",
    }  # fmt: skip


def test_forward(run, assert_reported):
    code, found = run(forward.main)
    assert code == 0
    assert_reported(found, "forward", ["ratio", "gemm_share", "ratio_batch_2"])


def test_sampling(run, assert_reported):
    code, found = run(sampling.main)
    assert code == 0
    assert_reported(found, "sampling", sampling.MEANING)
    assert found["group_lengths"] == [1, 4, 7, 10]


@pytest.mark.parametrize(
    "module, said",
    [
        (likelihood, "ours and cached differ by"),
        (forward, "logits of ours and transformers differ"),
        (sampling, "greedy token"),
    ],
)
def test_other_weights_are_refused(run, monkeypatch, capsys, module, said):
    class Perturbed(torch_side.TorchModel):
        def __init__(self, model):
            changed = jax.tree.map(lambda p: 1.01 * p, model.params)
            super().__init__(dataclasses.replace(model, params=changed))

    monkeypatch.setattr(torch_side, "TorchModel", Perturbed)
    assert run(module.main) == (2, None)
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_torch_pads_and_masks():
    """Lists of unequal lengths score as each does alone."""
    model = random_model(SMALL)
    theirs = torch_side.TorchModel(model)
    contexts = random_tokens(model, [9, 30, 17], seed=0)
    responses = random_tokens(model, [12, 3, 7], seed=1)
    pairs = list(zip(contexts, responses, strict=True))
    alone = theirs.full_pairs(pairs, 1, True)
    assert np.allclose(theirs.full_pairs(pairs, 3, True), alone, atol=1e-4)
    assert np.allclose(theirs.full_pairs(pairs, 3, False), alone, atol=1e-4)
    engine = JaxEngine(model)
    scored = [[y.sum() for y in engine.score(x, responses)] for x in contexts]
    assert np.allclose([scored[i][i] for i in range(3)], alone, atol=1e-4)
    assert np.allclose(theirs.cached_pairs(contexts[1], responses, 3), scored[1], atol=1e-4)
    padded, single = theirs.generate(contexts, 8), theirs.generate(contexts[:1], 8)
    assert padded[0] == single[0] and [len(row) for row in padded] == [8] * 3
