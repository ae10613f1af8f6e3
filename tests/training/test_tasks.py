"""What the policy reads of thoughts."""

from remid_jax.training.tasks import notes_of

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
