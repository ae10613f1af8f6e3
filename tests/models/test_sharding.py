"""Where parameters lie on a mesh."""

import jax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from remid_jax.errors import UserError
from remid_jax.models.pretrained import check_mesh
from remid_jax.models.sharding import AXES, MeshConfig, make_mesh, path_name, spec_of


def test_rules():
    assert spec_of("layers/down") == PartitionSpec(None, "tensor", "fsdp")
    assert spec_of("layers/attention_norm") == spec_of("final_norm") == PartitionSpec()
    assert spec_of("layers/gate_lora_b") == PartitionSpec(None, None, "tensor")
    with pytest.raises(UserError, match="no sharding rule matches the parameter 'layers/conv'"):
        spec_of("layers/conv")


def test_every_parameter_has_a_rule(make_model):
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


@pytest.mark.parametrize(("changes", "parts", "said"), [
    ({"num_kv_heads": 1}, 2, "config.mesh.tensor 2 must divide the model's"),
    ({"vocab_size": 97}, 2, r"config.mesh.tensor 2 does not divide 97, a dimension of embedding"),
])  # fmt: skip
def test_a_mesh_that_does_not_divide_a_model(make_model, changes, parts, said):
    config = make_model(**changes).config
    check_mesh(config, None)
    with pytest.raises(UserError, match=said):
        check_mesh(config, AbstractMesh((1, 1, parts), AXES))
