"""What the policy reads of thoughts."""

import numpy as np

from remid_jax.data.reading import load_benchmark
from remid_jax.models.pretrained import DEFAULT, open_language_model
from remid_jax.training.tasks import ChatTask, notes_of, partly_without

THOUGHTS = [
    ["[User Facts] a [Core Features of the Golden Response] one two", "no marks"],
    ["[Core Features of the Golden Response] three", "[User Facts] b"],
]


def test_own_notes_are_the_core_or_everything():
    assert notes_of(THOUGHTS, "own")[0] == ["one two", "no marks"]
    assert notes_of(THOUGHTS, "own")[1][0] == "three"


def test_controls():
    own = notes_of(THOUGHTS, "own")
    assert notes_of(THOUGHTS, "none") == [[None, None], [None, None]]
    assert notes_of(THOUGHTS, "shuffled") == [own[1], own[0]]
    assert notes_of(THOUGHTS, "filler")[0] == [". .", ". ."]


def test_some_notes_are_left_out():
    notes = [[f"{i} {k}" for k in range(4)] for i in range(500)]
    assert partly_without(notes, 0.0, np.random.default_rng(0)) is notes
    found = partly_without(notes, 0.25, np.random.default_rng(0))
    left = [n is None for group in found for n in group]
    assert abs(np.mean(left) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    pairs = [
        (a, b)
        for own, kept in zip(notes, found, strict=True)
        for a, b in zip(own, kept, strict=True)
    ]
    assert all(b in (a, None) for a, b in pairs)


def test_what_is_copied_is_no_own_word():
    sample = load_benchmark().subsets["IDTest"][0]
    task = ChatTask(open_language_model(DEFAULT, "float32").tokenizer)
    said = " ".join(sample.dialogue[-1][1].split()[:6])
    ids = task.encode(f"Zebras. {said}")
    own = task.own_tokens(sample, ids)
    n = len(task.encode("Zebras.")) - 1
    assert own.shape == (len(ids),) and own[:n].all() and own[-1]  # the end of turn is own
    assert not own[n + 1 : -2].any()
