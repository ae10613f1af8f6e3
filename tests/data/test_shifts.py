import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.data import shifts
from remid_jax.data.contexts import choose_contexts
from remid_jax.data.reading import load_benchmark
from remid_jax.errors import UserError

BENCHMARK = load_benchmark()


def resolve(names):
    """The shifted subsets that are chosen."""
    home, *chosen = choose_contexts(BENCHMARK, names)
    assert home == "IDTest"
    return tuple(chosen)


def test_the_twelve_subsets():
    assert len(shifts.TEST_TAGS) == 12
    assert len(shifts.SHIFT_OF) == 11
    assert shifts.TEST_TAGS[0] == "IDTest"
    assert list(shifts.ALL_TAGS) == ["IDTrain", *shifts.TEST_TAGS]
    assert [len(shifts.SHIFTS[s]) for s in ("user", "character", "dialogue")] == [5, 4, 2]


@pytest.mark.parametrize(
    ("tag", "split"),
    [
        ("IDTrain", "IDTrain"),
        ("IDTest", "IDTest"),
        ("korean", "OOD1Test"),
        ("Film & Television", "OOD2Test"),
        ("WordLevelComposition", "OOD3Test"),
    ],
)
def test_split_of(tag, split):
    assert shifts.split_of(tag) == split


def test_a_shift_stands_for_its_subsets():
    assert resolve(["character"]) == (
        "Literature",
        "Film & Television",
        "Theater",
        "Gaming",
    )
    assert resolve(shifts.SHIFTS) == tuple(shifts.SHIFT_OF)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*shifts.SHIFTS, *shifts.TEST_TAGS]), min_size=1))
def test_order_and_repetition_of_names_do_not_matter(names):
    expected = set(itertools.chain(*(shifts.SHIFTS.get(n, [n]) for n in names))) - {"IDTest"}
    if not expected:
        with pytest.raises(UserError, match="no shift was chosen"):
            resolve(names)
        return
    chosen = resolve(names)
    assert set(chosen) == expected
    assert chosen == tuple(t for t in shifts.SHIFT_OF if t in expected)
    assert resolve(reversed(names)) == chosen


def test_no_name_at_all():
    with pytest.raises(UserError, match="no shift was chosen"):
        resolve([])


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("germn", "german"), ("literature", "Literature"), ("Film", None), ("dialog", "dialogue")],
)
def test_an_unknown_name_gets_the_nearest(wrong, right):
    with pytest.raises(UserError) as e:
        resolve(["user", wrong])
    message = str(e.value)
    assert f"unknown shift {wrong!r}" in message
    assert (f"did you mean {right!r}?" in message) if right else ("did you mean" not in message)
    assert "Film & Television" in message  # the choices are listed


def test_training_samples_are_no_shift():
    with pytest.raises(UserError, match="unknown shift 'IDTrain'"):
        resolve(["IDTrain"])


def test_more_contexts_in_distribution():
    few = choose_contexts(BENCHMARK, ["user"], 4)
    more = choose_contexts(BENCHMARK, ["user"], 4, 9)
    assert more["IDTest"][:4] == few["IDTest"] and len({s.sample_id for s in more["IDTest"]}) == 9
    assert {tag: more[tag] for tag in few if tag != "IDTest"} == {
        tag: few[tag] for tag in few if tag != "IDTest"
    }
    assert choose_contexts(BENCHMARK, ["user"], 4, 3) == few
    assert len(choose_contexts(BENCHMARK, ["user"], 4, 100)["IDTest"]) == 16
