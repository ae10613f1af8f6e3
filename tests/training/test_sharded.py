"""One update on stored rollouts: the same numbers on 1, 2 and 8 devices, whatever the mesh."""

import json

import numpy as np
import pytest
from children import answer
from jax.sharding import PartitionSpec

from remid_jax.errors import UserError
from remid_jax.models.sharding import MeshConfig, make_mesh, path_name, spec_of

MESHES = [(2, 1, 1), (2, 4, 1)]

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from flax import nnx
from tiny_model import build_model
from remid_jax.models.adapters import adapted_structure, new_params
from remid_jax.models.lora import LoraConfig
from remid_jax.models.sharding import MeshConfig, make_mesh, place, place_rows, using
from remid_jax.training.groups import Row, group
from remid_jax.training.grpo import Completions, GrpoConfig
from remid_jax.training.optimiser import OptimiserConfig, begin
from remid_jax.training.updates import Running, grpo_update, score, sft_update, whole

model = build_model(num_layers=1)
lora = LoraConfig(rank=4, dropout=0.0)
graphdef, _ = adapted_structure(model.config, lora)
adam = OptimiserConfig(0.01, 10)
rng = np.random.default_rng(0)
rows = [
    [Row([3, 4, 5 + i], rng.integers(3, 40, 3 + (i + g) % 5).tolist()) for g in range(4)]
    for i in range(8)
]
groups = group(rows, 100)
adapter = new_params(model.config, lora, jax.random.key(0))
filled = jax.tree.map(lambda x: x + 0.05, adapter)
old = np.asarray(score(nnx.merge_state(model.params, filled), groups, graphdef=graphdef)) - 0.1
known = Completions(
    old_log_probs=old, reference_log_probs=old - 0.05,
    advantages=rng.standard_normal(old.shape[:2]).astype(np.float32), mask=groups.weights > 0,
    truncated=np.zeros(old.shape[:2], bool),
)
out = {}
for shape in json.loads(sys.argv[1]):
    mesh = make_mesh(MeshConfig(*shape))
    base, params = place(model.params, mesh), place(filled, mesh)
    batch, drawn = (place_rows(x, mesh) for x in (groups, known))
    run = dict(graphdef=graphdef, optimiser=adam, running=Running())
    copy = lambda: begin(jax.tree.map(jnp.copy, params), adam)
    with using(mesh):
        _, sft = sft_update(base, copy(), batch, jax.random.key(0), **run)
        _, grpo = grpo_update(
            base, copy(), batch, drawn, grpo=GrpoConfig(kl_coefficient=0.1), on_policy=False, **run
        )
    out["x".join(map(str, shape))] = [
        {k: float(v) for k, v in said.items()} for said in (sft, grpo)
    ]
print(json.dumps(out))
"""


@pytest.mark.parametrize("meshes", [
    [(2, 2, 2)], pytest.param(MESHES, marks=pytest.mark.slow),
], ids=["all axes", "other shapes"])  # fmt: skip
def test_meshes_give_the_same_update(meshes):
    shapes = json.dumps([(1, 1, 1), *meshes])
    found = answer(PROGRAM, shapes, devices=8, JAX_DISABLE_MOST_OPTIMIZATIONS="1")
    one = found.pop("1x1x1")
    assert len(found) == len(meshes)
    for mesh, said in found.items():
        for a, b in zip(said, one, strict=True):
            assert a.keys() == b.keys()
            for name in b:
                # A norm of thousands of sums is rounded in more places than a loss.
                near = 1e-4 if name == "grad_norm" else 1e-5
                assert a[name] == pytest.approx(b[name], abs=1e-5, rel=near), (mesh, name)


def test_rules():
    assert spec_of("layers/down") == PartitionSpec(None, "tensor", "fsdp")
    assert spec_of("layers/attention_norm") == spec_of("final_norm") == PartitionSpec()
    assert spec_of("layers/gate_lora_b") == PartitionSpec(None, None, "tensor")
    with pytest.raises(UserError, match="no sharding rule matches the parameter 'layers/conv'"):
        spec_of("layers/conv")


def test_every_parameter_has_a_rule(make_model):
    import jax

    changes = {"attention_bias": True, "qk_norm": True, "tie_embeddings": False}
    params = make_model(**changes).params
    names = [path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
    assert "layers/query_bias" in names and "head" in names
    for name in names:
        spec_of(name)


def test_a_mesh_that_does_not_fit():
    with pytest.raises(UserError, match="needs 1 x 4096 x 1 devices"):
        make_mesh(MeshConfig(fsdp=4096))
    with pytest.raises(UserError, match="needs 0 x 1 x 1"):
        make_mesh(MeshConfig(data=0))


DRAWING = """
import json
import jax, numpy as np
from benchmarks.collectives import collectives
from tiny_model import build_model
from remid_jax.inference.choosing import SamplingConfig
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
