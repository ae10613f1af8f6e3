"""Rollouts on eight simulated devices; updates are compared by `benchmarks.meshes`."""

import numpy as np
from children import answer

DRAWING = """
import json
import jax, numpy as np
from benchmarks.collectives import collectives
from tiny_model import build_model
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.sharding import MeshConfig, make_mesh, place, place_rows, using
from remid_jax.training.rollout import padded, rollout

model = build_model()
prompts = padded([[3, 4, 5], [6, 7], [8, 9, 10, 11], [12]])
out = []
for shape, gather in (((1, 1, 1), True), ((1, 4, 2), True), ((1, 4, 2), False)):
    mesh = make_mesh(MeshConfig(*shape))
    run = dict(graphdef=model.graphdef, sampling=SamplingConfig(max_tokens=5, temperature=1.0),
               draws=2, end=2, split=False, gather=gather)
    with using(mesh):
        given = (place(model.params, mesh), *place_rows(prompts, mesh), jax.random.key(0))
        drawn = rollout(*given, **run)
        text = rollout.lower(*given, **run).compile().as_text()
    exchanged = collectives(text).get("all-gather", (0, 0))[1]
    out.append([np.asarray(drawn.tokens).tolist(), np.asarray(drawn.log_probs).tolist(), exchanged])
print(json.dumps(out))
"""


def test_rollouts_are_the_same_and_gather_weights_once():
    (tokens, log_probs, nothing), *others = answer(DRAWING, devices=8)
    for found, values, _ in others:
        assert found == tokens
        np.testing.assert_allclose(values, log_probs, atol=1e-4)
    once, each_time = (exchanged for *_, exchanged in others)
    assert nothing == 0
    assert once < each_time
