"""The twelve subsets of RPGBench and the three shifts they belong to."""

from collections.abc import Iterable

from remid_jax.errors import UserError, nearest

ID_TRAIN = "IDTrain"
ID_TEST = "IDTest"

SHIFTS: dict[str, tuple[str, ...]] = {
    "user": ("german", "spanish", "chinese", "japanese", "korean"),
    "character": ("Literature", "Film & Television", "Theater", "Gaming"),
    "dialogue": ("TurnLevelComposition", "WordLevelComposition"),
}
"""Shift -> the tags of its out-of-distribution subsets."""

SPLITS: dict[str, str] = {"user": "OOD1Test", "character": "OOD2Test", "dialogue": "OOD3Test"}
"""Shift -> the top-level key of an RPGBench file that holds it."""

SHIFT_OF: dict[str, str] = {tag: shift for shift, tags in SHIFTS.items() for tag in tags}
"""Out-of-distribution subset tag -> its shift."""

TEST_TAGS: tuple[str, ...] = (ID_TEST, *SHIFT_OF)
ALL_TAGS: tuple[str, ...] = (ID_TRAIN, *TEST_TAGS)


def split_of(tag: str) -> str:
    """The top-level key of an RPGBench file under which samples of `tag` stand."""
    return SPLITS[SHIFT_OF[tag]] if tag in SHIFT_OF else tag


def resolve_shifts(names: Iterable[str]) -> tuple[str, ...]:
    """Expands shift names and subset tags to the chosen OOD subset tags, in canonical order.

    Args:
      names: any of `user`, `character`, `dialogue`, or subset tags; `IDTest` is always part of a
        diagnosis and may be named or not.

    Returns:
      OOD subset tags in the order of `SHIFT_OF`.

    Raises:
      UserError: a name is unknown, or none was given.

    >>> resolve_shifts(["dialogue", "german"])
    ('german', 'TurnLevelComposition', 'WordLevelComposition')
    """
    chosen: set[str] = set()
    for name in names:
        if name in SHIFTS:
            chosen.update(SHIFTS[name])
        elif name in SHIFT_OF:
            chosen.add(name)
        elif name != ID_TEST:
            known = [*SHIFTS, *TEST_TAGS]
            hint = nearest(name, known)
            raise UserError(f"unknown shift {name!r}{hint}; choose among {', '.join(known)}")
    if not chosen:
        raise UserError("no shift was chosen: name at least one in config.shifts")
    return tuple(tag for tag in SHIFT_OF if tag in chosen)
