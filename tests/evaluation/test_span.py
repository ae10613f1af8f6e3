"""The scored span: ours, and the published reference code's on its golden numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from remid_jax.evaluation.answers import Answer, to_response
from remid_jax.inference.engine import JaxEngine
from remid_jax.information.mutual_information import club, random_negatives

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "smollm2.json").read_text(encoding="utf-8")
)["club"]
# What the reference's procedure gives for these texts: mean token log-probability over its span.
REFERENCE_DIAGONAL = [
    -4.665421895579398, -3.6858250380458446, -4.4403963075506585, -4.408040199194891,
]  # fmt: skip
REFERENCE_CLUB = 0.34962


@pytest.fixture(scope="module")
def by_reference(smollm2):
    """[8, 8] log-probability sums over the reference's span, and token counts."""
    answers = [Answer(y) for y in GOLDEN["responses"]]
    responses = [to_response(smollm2.tokenizer, a, "reference") for a in answers]
    contexts = [
        smollm2.tokenizer.encode_chat(
            [{"role": "system", "content": GOLDEN["system"]}, {"role": "user", "content": user}]
        )
        for user in GOLDEN["user"]
    ]
    tokens, skip = [r.tokens for r in responses], [r.skip for r in responses]
    sums = np.zeros((8, 8))
    engine = JaxEngine(smollm2)
    for i, x in enumerate(contexts):
        values = engine.score(x, tokens)
        sums[i] = [v[k:].sum() for v, k in zip(values, skip, strict=True)]
    return sums, np.array([r.counted for r in responses])


@pytest.mark.slow
def test_counts_as_many_tokens_but_others(by_reference):
    # Five answer tokens are lost at the beginning and five template tokens come in at the end.
    np.testing.assert_array_equal(by_reference[1], GOLDEN["num_tokens"])


@pytest.mark.slow
def test_token_means(by_reference):
    sums, counts = by_reference
    means = np.diagonal(sums / counts)[: len(REFERENCE_DIAGONAL)]
    np.testing.assert_allclose(means, REFERENCE_DIAGONAL, atol=1e-4)


@pytest.mark.slow
def test_all_pairs(by_reference):
    sums, counts = by_reference
    assert club(sums, lengths=counts) == pytest.approx(REFERENCE_CLUB, abs=2e-3)
    ours = club(np.array(GOLDEN["exact"]), lengths=np.array(GOLDEN["num_tokens"]))
    assert ours == pytest.approx(0.51644, abs=2e-3)  # scoring the answer itself says more


@pytest.mark.slow
def test_random_draws_agree_in_mean(by_reference):
    sums, counts = by_reference
    draws = [
        club(sums, lengths=counts, negatives=random_negatives(8, 1000, seed)) for seed in range(200)
    ]
    error = np.std(draws) / np.sqrt(len(draws))
    assert np.mean(draws) == pytest.approx(REFERENCE_CLUB, abs=4 * error + 1e-4)
    assert error < 2e-3


def test_generated_tokens_are_scored_as_they_are(smollm2):
    odd = (339, 339, 28, 28)  # not what its text would be tokenised to
    answer = Answer(smollm2.tokenizer.decode(odd), odd, smollm2.tokenizer.fingerprint)
    assert to_response(smollm2.tokenizer, answer).tokens == odd
    foreign = Answer("Good evening.", (1, 2, 3), "another tokenizer")
    assert to_response(smollm2.tokenizer, foreign).tokens == tuple(
        smollm2.tokenizer.encode("Good evening.")
    )
