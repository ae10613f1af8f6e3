"""The twelve subsets of RPGBench, the three shifts they belong to, and shifts of one's own."""

from collections.abc import Iterable

from remid_jax.errors import UserError

ID_TRAIN = "IDTrain"
ID_TEST = "IDTest"

SHIFTS: dict[str, tuple[str, ...]] = {
    "user": ("german", "spanish", "chinese", "japanese", "korean"),
    "character": ("Literature", "Film & Television", "Theater", "Gaming"),
    "dialogue": ("TurnLevelComposition", "WordLevelComposition"),
}
"""Shift, named by the factor that it changes -> the tags of its out-of-distribution subsets."""

SHIFT_OF: dict[str, str] = {tag: shift for shift, tags in SHIFTS.items() for tag in tags}
"""Out-of-distribution subset tag -> its shift."""

TEST_TAGS: tuple[str, ...] = (ID_TEST, *SHIFT_OF)
ALL_TAGS: tuple[str, ...] = (ID_TRAIN, *TEST_TAGS)

SPLITS: dict[str, str] = {"user": "OOD1Test", "character": "OOD2Test", "dialogue": "OOD3Test"}
"""Shift -> the top-level key of an RPGBench file that holds it."""


def split_of(tag: str) -> str:
    """The top-level key of an RPGBench file under which samples of `tag` stand."""
    return SPLITS[SHIFT_OF[tag]] if tag in SHIFT_OF else tag


def parse_subset_shifts(pairs: Iterable[str]) -> dict[str, str]:
    """Tag -> shift of `tag=shift` pairs.

    Raises:
      UserError: an item is not such a pair, or a tag is named twice.

    >>> parse_subset_shifts(["french=user", "noir = genre"])
    {'french': 'user', 'noir': 'genre'}
    """
    found: dict[str, str] = {}
    for pair in pairs:
        tag, _, shift = (part.strip() for part in str(pair).rpartition("="))
        if not tag or not shift:
            raise UserError(f"subset_shifts holds {pair!r}; write 'tag=shift', as 'french=user'")
        if tag in found:
            raise UserError(f"subset_shifts names {tag!r} twice; a tag has one shift")
        found[tag] = shift
    return found
