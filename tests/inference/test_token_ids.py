"""Ids that a model has no row for are refused wherever they are given."""

import numpy as np
import pytest
from tiny_model import VOCAB

from remid_jax.errors import UserError
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.inference.sampling import SamplingConfig, sample

WRONG = [VOCAB, VOCAB + 1, 10**6, -1, 2**70, 3.0, "3", True]
DRAW = SamplingConfig(max_tokens=2)


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_ids_out_of_range(make_model, wrong):
    model = make_model()
    engine = JaxEngine(model)
    ids = [wrong] if wrong is True else [4, wrong]
    for prompt, response in ((ids, [5, 6]), ([5, 6], ids)):
        with pytest.raises(UserError, match=f"0 to {VOCAB - 1}"):
            pair_log_likelihoods(model, [[7, 8], prompt], [[9], response])
        with pytest.raises(UserError, match=f"0 to {VOCAB - 1}"):
            engine.score(prompt, [response])
    with pytest.raises(UserError, match=f"0 to {VOCAB - 1}"):
        sample(model, [[5, 6], ids], DRAW)
    with pytest.raises(UserError, match=f"0 to {VOCAB - 1}"):
        engine.generate([[5, 6], ids], DRAW)


def test_the_last_row_is_a_token(make_model):
    model = make_model()
    last = [VOCAB - 1, 0]
    assert np.isfinite(pair_log_likelihoods(model, [last], [last]).sums).all()
    assert np.isfinite(pair_log_likelihoods(model, [tuple(last)], [np.array(last)]).sums).all()
    assert len(sample(model, [last], DRAW)) == 1
