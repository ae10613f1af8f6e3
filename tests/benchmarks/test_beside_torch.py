"""The benchmarks beside PyTorch run, and refuse to time what does not agree."""

import numpy as np
import pytest

from benchmarks import forward, likelihood, sampling
from benchmarks.model import SMALL, random_model, random_tokens
from remid_jax.inference.engine import JaxEngine

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("one_thread"),
]


def test_likelihood(run, assert_reported):
    code, found = run(likelihood.main)
    assert code == 0
    assert_reported(found, "likelihood", ["ratio", "ratio_cached", "gemm_share"])
    assert found["contestants"].keys() == {"ours", "cached", "reference"}


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
@pytest.mark.usefixtures("other_weights")
def test_other_weights_are_refused(run, capsys, module, said):
    assert run(module.main) == (2, None)
    err = capsys.readouterr().err
    assert err.startswith("error: ") and said in err and err.count("\n") == 1


def test_torch_pads_and_masks():
    """Lists of unequal lengths score as each does alone."""
    from benchmarks import torch_side

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
