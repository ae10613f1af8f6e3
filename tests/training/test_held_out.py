"""Overlap of thoughts and golden responses, and the figures of an evaluation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.data.thoughts import CORE_MARKER, render_thought
from remid_jax.training.held_out import Predicted, ngram_overlap, ratio_of_sums

GOLDEN = "Drink the green tea, then drink the milk."


@pytest.mark.parametrize(
    ("thought", "n", "share"),
    [
        (GOLDEN, 1, 1.0),
        (GOLDEN, 8, 1.0),
        ("nothing of it", 1, 0.0),
        ("DRINK!", 1, 2 / 8),  # said twice in the response
        ("the tea: drink", 1, 5 / 8),
        ("drink the tea", 2, 2 / 7),
        ("green tea then", 3, 1 / 6),
        ("tea green", 2, 0.0),
        ("", 1, 0.0),
    ],
)
def test_shares_by_hand(thought, n, share):
    assert ngram_overlap(thought, GOLDEN, n) == pytest.approx(share)


def test_characters_where_no_spaces_are_written():
    assert ngram_overlap("那份静", "先治那份静。", 1) == pytest.approx(3 / 5)
    assert ngram_overlap("那份静", "先治那份静。", 2) == pytest.approx(2 / 4)
    assert ngram_overlap("那份静", "先治那份静。", 3) == pytest.approx(1 / 3)


def test_markers_are_no_part_of_the_thought():
    golden = "The features of the golden response"
    assert ngram_overlap(f"{CORE_MARKER} tea", golden, 1) == 0.0
    assert ngram_overlap(render_thought("a", "b", "golden"), golden, 1) == pytest.approx(1 / 6)


def test_unicode_forms_are_one():
    assert ngram_overlap("cafe\u0301 ｏｎ", "Café on", 2) == 1.0


def test_a_response_that_is_too_short_has_no_share():
    assert math.isnan(ngram_overlap("tea", "green tea", 3))
    assert math.isnan(ngram_overlap("tea", "...", 1))
    with pytest.raises(ValueError, match="n >= 1, got 0"):
        ngram_overlap("tea", "tea", 0)


words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8).map(" ".join)


@settings(deadline=None)
@given(words, words, st.integers(1, 3))
def test_longer_sequences_are_found_less_often(thought, golden, n):
    shorter, longer = (ngram_overlap(thought, golden, k) for k in (n, n + 1))
    if not math.isnan(longer):
        assert 0 <= longer <= 1
        assert longer == 0 or shorter > 0
        assert ngram_overlap(golden, golden, n) == 1
        assert ngram_overlap(f"x {thought} y", golden, n) == shorter


def test_ratio_of_sums():
    rng = np.random.default_rng(0)
    sets = rng.gamma(2.0, size=(2000, 60, 2))
    sets[..., 1] += 1
    sets[..., 0] += sets[..., 1]
    found = [ratio_of_sums(s[:, 0], s[:, 1]) for s in sets]
    spread = np.std([r for r, _ in found])
    assert np.mean([e for _, e in found]) == pytest.approx(spread, rel=0.05)
    assert ratio_of_sums(np.array([3.0]), np.array([2.0])) == (1.5, 0.0)


def test_summary():
    sums, tokens = np.array([-4.0, -8.0]), np.array([2, 4])
    said = Predicted(
        ["a", "b"], sums, tokens, sums * 2, np.array([0.0, 1.0]), mixture=sums / 2,
        agreement=np.array([0.25, np.nan]), entropy=np.full(2, np.nan),
    ).summary()  # fmt: skip
    assert said["perplexity"] == pytest.approx(math.exp(2)) and said["perplexity_se"] == 0
    assert said["perplexity_other_thought"] == pytest.approx(math.exp(4))
    assert said["perplexity_mixture"] == pytest.approx(math.exp(1))
    assert said["overlap"] == 0.5 and said["log_q"] == -6 and said["n"] == 2
    assert said["agreement"] == 0.25 and said["entropy"] is None
