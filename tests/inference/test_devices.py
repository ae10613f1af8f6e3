"""Eight simulated CPU devices give the numbers of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.sampling import SamplingConfig, sample

PROGRAM = """
import json, sys
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
sys.path.insert(0, sys.argv[1])
import dataclasses
from tiny_model import build_model
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.sampling import SamplingConfig, sample

assert jax.device_count() == 8
mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
model = build_model()
contexts, responses = json.loads(sys.argv[2])
placings = {
    "default": lambda x: x,
    "sharded": lambda x: jax.device_put(x, NamedSharding(mesh, P(*[None] * (x.ndim - 1), "x"))),
}
out = {}
for name, place in placings.items():
    placed = dataclasses.replace(model, params=jax.tree.map(place, model.params))
    pairs = pair_log_likelihoods(placed, contexts, responses)
    drawn = sample(placed, contexts, SamplingConfig(max_tokens=4, temperature=0.8, top_p=0.9))
    out[name] = {"sums": pairs.sums.tolist(), "ends": pairs.end_of_turn.tolist(),
                 "tokens": [d.tokens for d in drawn],
                 "log_probs": [d.log_probs.tolist() for d in drawn]}
print(json.dumps(out))
"""


def test_eight_devices_equal_one(tiny, draw):
    contexts, responses = draw(1, 5, 70), draw(2, 20, 20)
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment["JAX_PLATFORMS"] = "cpu"
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    arguments = [str(Path(__file__).parents[1]), json.dumps([contexts, responses])]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pairs = pair_log_likelihoods(tiny, contexts, responses)
    drawn = sample(tiny, contexts, SamplingConfig(max_tokens=4, temperature=0.8, top_p=0.9))
    assert set(found) == {"default", "sharded"}
    for result in found.values():
        assert np.abs((np.array(result["sums"]) - pairs.sums) / pairs.num_tokens).max() < 5e-5
        np.testing.assert_allclose(result["ends"], pairs.end_of_turn, atol=5e-5)
        assert [tuple(t) for t in result["tokens"]] == [d.tokens for d in drawn]
        for a, b in zip(result["log_probs"], drawn, strict=True):
            np.testing.assert_allclose(a, b.log_probs, atol=5e-5)
