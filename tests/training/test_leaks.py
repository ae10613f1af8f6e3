"""Overlap of thoughts and golden responses, counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.data.thoughts import CORE_MARKER, render_thought
from remid_jax.training.leaks import Leak, leak_table, ngram_overlap

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


def test_the_table_has_means_and_their_errors():
    thoughts, goldens = ["green tea", "milk", "red wine now"], ["green tea", "red milk", "wine"]
    table = leak_table(thoughts, goldens)
    assert list(table) == [1, 2, 3, 4]
    shares = np.array([1.0, 0.5, 1.0])
    assert table[1].mean == pytest.approx(shares.mean())
    assert table[1].standard_error == pytest.approx(shares.std(ddof=1) / math.sqrt(3))
    assert (table[1].pairs, table[2].pairs, table[3].pairs) == (3, 2, 0)
    assert (table[2].mean, table[2].standard_error) == pytest.approx((0.5, 0.5))
    assert math.isnan(table[4].mean) and math.isnan(table[4].standard_error)


def test_one_pair_has_no_error_and_none_no_mean():
    row = leak_table(["tea"], ["tea"], n=[1])[1]
    assert row.mean == 1.0 and math.isnan(row.standard_error) and row.pairs == 1
    empty = leak_table([], [], n=(2,))[2]
    assert isinstance(empty, Leak) and empty.pairs == 0 and math.isnan(empty.mean)


def test_unequal_lists():
    with pytest.raises(ValueError, match="2 thoughts, but 1 golden"):
        leak_table(["a", "b"], ["a"])
