"""Rollouts and updates on eight simulated devices give what one gives."""

import json

import numpy as np
import pytest
from children import answer

DRAWING = """
import json, math, re
import jax, numpy as np
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
    in_loops = text[: text.index("ENTRY ")]  # other computations come before the entry
    found = re.findall(r"= f32\\[([\\d,]+)\\]\\S* all-gather\\(", in_loops)
    gathered = sum(math.prod(map(int, shape.split(","))) for shape in found)
    out.append([np.asarray(drawn.tokens).tolist(), np.asarray(drawn.log_probs).tolist(), gathered])
print(json.dumps(out))
"""


def test_rollouts_are_the_same_and_gather_weights_once():
    (tokens, log_probs, nothing), *others = answer(DRAWING, devices=8)
    for found, values, _ in others:
        assert found == tokens
        np.testing.assert_allclose(values, log_probs, atol=1e-4)
    once, each_time = (gathered for *_, gathered in others)
    assert nothing == 0
    assert once < each_time


UPDATING = """
import dataclasses, json, sys
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from tiny_model import build_model, filled
from remid_jax.models.adapters import Adapter, adapted_structure, new_params
from remid_jax.models.lora import LoraConfig
from remid_jax.models.sharding import MeshConfig, make_mesh, place, place_rows, using
from remid_jax.training.groups import Example, group_examples
from remid_jax.training.grpo import Completions, GrpoConfig
from remid_jax.training.optimiser import OptimiserConfig, init_state
from remid_jax.training.dpo import DpoConfig
from remid_jax.training.updates import dpo_update, grpo_update, score, sft_update

LORA = LoraConfig(rank=16, alpha=32.0, dropout=0.0)
OPTIMISER = OptimiserConfig(1e-5, steps=10**6, warmup=0.0, schedule="constant", clip=1.0)
model, rng = build_model(), np.random.default_rng(0)
fresh = new_params(model.config, LORA, jax.random.key(1))
adapter = filled(Adapter(LORA, fresh, model.fingerprint), scale=0.02)
graphdef, _ = adapted_structure(model.config, LORA)

def ids(length):
    return rng.integers(3, model.config.vocab_size, length).tolist()

prompts = [ids(n) for n in rng.integers(5, 30, 8)]
rows = [[Example(p, ids(n)) for n in rng.integers(3, 9, 4)] for p in prompts]
groups = group_examples(rows, model.config.max_positions)
merged = nnx.merge_state(model.params, adapter.params)
old = np.asarray(score(merged, groups, graphdef=graphdef)) - 0.1
known = Completions(
    old_log_probs=old, reference_log_probs=old - 0.05,
    advantages=rng.standard_normal(old.shape[:2]).astype(np.float32),
    mask=np.asarray(groups.weights) > 0, truncated=np.zeros(old.shape[:2], bool),
)
# Other than the policy in each token: where it is not, margins are roundings and have no sign.
reference = old + rng.normal(0, 0.1, old.shape).astype(np.float32)
out = []
for shape in json.loads(sys.argv[1]):
    mesh = make_mesh(MeshConfig(*shape))
    params, placed = place(model.params, mesh), place(adapter.params, mesh)
    some, given = place_rows((groups, known), mesh)
    how = {"graphdef": graphdef, "optimiser": OPTIMISER, "micro_batches": 1, "remat": False}
    with using(mesh):
        begun = [init_state(jax.tree.map(jnp.copy, placed), OPTIMISER) for _ in range(3)]
        _, sft = sft_update(params, begun[0], some, jax.random.key(0), **how)
        _, grpo = grpo_update(
            params, begun[1], some, given, on_policy=False, grpo=GrpoConfig(kl_coefficient=0.1),
            **how,
        )
        pairs = dataclasses.replace(groups, rows=groups.rows[:, :2], starts=groups.starts[:, :2],
                                    weights=groups.weights[:, :2])
        both = place_rows((pairs, reference[:, :2]), mesh)
        _, dpo = dpo_update(params, begun[2], *both, dpo=DpoConfig(), **how)
    out.append([{k: float(v) for k, v in said.items()} for said in (sft, grpo, dpo)])
print(json.dumps(out))
"""
MESHES = ((2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2), (2, 4, 1), (1, 8, 1))


@pytest.mark.slow
def test_updates_say_the_same_on_every_mesh():
    one, *others = answer(UPDATING, json.dumps([(1, 1, 1), *MESHES]), devices=8)
    for shape, found in zip(MESHES, others, strict=True):
        for metrics, expected in zip(found, one, strict=True):
            norm = expected["grad_norm"]
            assert metrics.pop("grad_norm") == pytest.approx(norm, rel=1e-4), shape
            plain = {k: v for k, v in expected.items() if k != "grad_norm"}
            assert metrics == pytest.approx(plain, rel=1e-5, abs=1e-5), shape
