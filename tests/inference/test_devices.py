"""Eight simulated CPU devices give the numbers of one, whatever the mesh."""

import json

import numpy as np
import pytest
from children import answer

from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.sampling import SamplingConfig, sample

PROGRAM = """
import dataclasses, json, sys
import jax
from tiny_model import build_model
from remid_jax.inference import sampling
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.prefix import prefill
from remid_jax.inference.sampling import SamplingConfig, sample
from remid_jax.models.sharding import MeshConfig, make_mesh, place

decoded, decode = [], sampling.decode

def counting(params, rows, *more, **static):
    decoded.append(rows.lengths.shape[0])
    return decode(params, rows, *more, **static)

sampling.decode = counting
assert jax.device_count() == 8
model = build_model(tie_embeddings=json.loads(sys.argv[3]))
contexts, responses = json.loads(sys.argv[2])
out = {}
for shape in json.loads(sys.argv[1]):
    mesh = make_mesh(MeshConfig(*shape))
    placed = dataclasses.replace(model, params=place(model.params, mesh))
    assert placed.mesh == mesh
    pairs = pair_log_likelihoods(placed, contexts, responses)
    drawn = sample(placed, contexts, SamplingConfig(max_tokens=4, temperature=0.8, top_p=0.9))
    assert all(n % (shape[0] * shape[1]) == 0 for n in decoded)  # no device does another's rows
    decoded.clear()
    cached = prefill(placed, contexts[0])
    assert cached.nbytes * shape[2] == prefill(model, contexts[0]).nbytes
    sizes, alone = (JaxEngine(m, 2**24, 100).sizes for m in (placed, model))
    assert sizes.cache > alone.cache if shape[2] > 1 else sizes == alone
    out["x".join(map(str, shape))] = {
        "sums": pairs.sums.tolist(), "ends": pairs.end_of_turn.tolist(),
        "tokens": [d.tokens for d in drawn], "log_probs": [d.log_probs.tolist() for d in drawn]
    }
print(json.dumps(out))
"""


@pytest.mark.parametrize(("meshes", "tied"), [
    ([(1, 1, 1), (2, 2, 2)], False),
    pytest.param([(2, 1, 1), (1, 1, 2), (1, 8, 1), (2, 4, 1), (4, 1, 2)], False,
                 marks=pytest.mark.slow),
    pytest.param([(1, 2, 2)], True, marks=pytest.mark.slow),
])  # fmt: skip
def test_meshes_give_the_numbers_of_one_device(make_model, draw, meshes, tied):
    contexts, responses = draw(1, 5, 70), draw(2, 20, 20)
    texts = json.dumps([contexts, responses])
    found = answer(PROGRAM, json.dumps(meshes), texts, json.dumps(tied), devices=8)
    model = make_model(tie_embeddings=tied)
    pairs = pair_log_likelihoods(model, contexts, responses)
    drawn = sample(model, contexts, SamplingConfig(max_tokens=4, temperature=0.8, top_p=0.9))
    assert len(found) == len(meshes)
    for result in found.values():
        assert np.abs((np.array(result["sums"]) - pairs.sums) / pairs.num_tokens).max() < 5e-5
        np.testing.assert_allclose(result["ends"], pairs.end_of_turn, atol=5e-5)
        assert [tuple(t) for t in result["tokens"]] == [d.tokens for d in drawn]
        for a, b in zip(result["log_probs"], drawn, strict=True):
            np.testing.assert_allclose(a, b.log_probs, atol=5e-5)
