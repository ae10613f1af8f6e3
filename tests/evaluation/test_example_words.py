"""The words that examples are shown by."""

import numpy as np
import pytest

from remid_jax.evaluation.examples import _spans


def words(pieces, copied=()):
    """Texts of the words of an answer whose tokens are these pieces; `copied` are their places."""
    text, ends = "".join(pieces), np.cumsum([len(p) for p in pieces], dtype=int)
    offsets = np.stack([[0, *ends[:-1]], ends], axis=1)
    marks = np.isin(np.arange(len(pieces)), copied)
    spans = list(_spans(text, offsets, marks))
    assert [a for a, _ in spans] == [0, *(b for _, b in spans[:-1])]  # no gap, no overlap
    assert spans[-1][1] == len(pieces)
    for a, b in spans:
        assert len(set(marks[a:b])) == 1
    return [text[offsets[a, 0] : offsets[b - 1, 1]] for a, b in spans]


@pytest.mark.parametrize(
    "pieces, copied, expected",
    [
        (["The", " apo", "logy", ",", " to", "night", "."], (), ["The", " apology,", " tonight."]),
        ([" ", " ", "Yes", " ", "no"], (), ["  Yes", " no"]),
        (["one", "\n\n", "two"], (), ["one", "\n\n" + "two"]),
        (["ends \n", "here"], (), ["ends \n", "here"]),
        ([" my", " wa", "ll", "!", " No"], (0, 1, 2), [" my", " wall", "!", " No"]),
        (["猫", "が", "好き"], (), ["猫", "が", "好き"]),
        (["cat", "猫", "e"], (), ["cat", "猫e"]),
        (["", "", "é", "t", "é"], (), ["été"]),
        (["a", " b", ""], (1,), ["a", " b", ""]),
        (["x"], (), ["x"]),
    ],
)
def test_words_are_whole_and_never_half_copied(pieces, copied, expected):
    found = words(pieces, copied)
    assert found == expected and "".join(found) == "".join(pieces)


def test_nothing_said_has_no_words():
    assert list(_spans("", np.zeros((0, 2), int), np.zeros(0, bool))) == []
