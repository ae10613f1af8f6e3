"""Formulas of operations and bytes against what XLA counts and what buffers take."""

import jax
import numpy as np
import pytest
from flax import nnx

from remid_jax.inference import cost
from remid_jax.inference.prefix import prefill

WIDE = {"num_layers": 1, "width": 256, "num_heads": 8, "head_dim": 32, "mlp_width": 512}


@pytest.mark.parametrize("kv_heads", [8, 2])
def test_operations_are_those_that_xla_counts(make_model, kv_heads):
    model = make_model(**WIDE, num_kv_heads=kv_heads, vocab_size=600)
    c = model.config  # one layer: the body of a scan is counted once

    def run(params, tokens, keys):
        decoder = nnx.merge(model.graphdef, params)
        return decoder.logits(decoder.extend(tokens, (keys, keys), keys.shape[1])[0])

    keys = np.zeros((1, 512, kv_heads, 32), np.float32)
    tokens = np.zeros((1, 64), np.int32)
    compiled = jax.jit(run).lower(model.params, tokens, keys).compile()
    counted = compiled.cost_analysis()
    counted = (counted[0] if isinstance(counted, list) else counted)["flops"]
    formula = cost.extend_flops(c, 64, 512) + cost.head_flops(c, 64)
    assert formula < counted < 1.1 * formula  # norms, rotations, softmax and masked keys beside it


def test_parameters_and_bytes_are_those_of_the_arrays(make_model):
    for tied in (True, False):
        model = make_model(tie_embeddings=tied)
        norms = 32 * (2 * 2 + 1)
        total = sum(x.size for x in jax.tree.leaves(model.params))
        assert cost.num_parameters(model.config) == total - norms
    prefix = prefill(model, [3] * 10)
    assert prefix.nbytes == cost.cache_bytes(model.config, prefix.capacity)


def test_pieces_add_up(make_model):
    c = make_model().config
    whole = cost.extend_flops(c, 90)
    assert whole == cost.extend_flops(c, 50) + cost.extend_flops(c, 40, 50)
    assert cost.score_flops(c, 90, 1) == 0  # its only token is predicted by the prompt
