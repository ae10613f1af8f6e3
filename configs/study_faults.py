"""Known faults on the bundled prose: which column sees them, by n; `:small` is a small run."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.reading import BUNDLED
from remid_jax.data.shifts import ID_TEST, SHIFT_OF
from remid_jax.run_config import ModelKeys
from remid_jax.settings import ExperimentKeys, defaults_of, group, key, keys_of


@dataclasses.dataclass(frozen=True)
class FaultsConfig(ExperimentKeys):
    """All keys of the study."""

    benchmark: str = key(BUNDLED, f"`{BUNDLED}`, or the path of a file of samples (JSON, JSONL)")
    in_distribution: str = key(ID_TEST, "tag of the subset that is not shifted")
    shifts: tuple[str, ...] = key(tuple(SHIFT_OF), "tags of the shifted subsets")
    pairs: tuple[str, ...] = key(
        ("german", "Literature", "TurnLevelComposition"),
        "those in which all pairs are scored, for R-EMI and R-EMID",
    )
    subset_contexts: int = key(0, "scored in each subset; 0: all", "[0, inf) contexts")
    contexts: tuple[int, ...] = key((8, 10, 16), "n, drawn of a subset's", "[3, inf) contexts")
    draws: int = key(2000, "of n contexts", "[1, inf) draws")
    noise: float = key(0.3, "golden answers that are replaced by others", "[0, 1]")
    words: tuple[int, ...] = key((3, 4, 5), "of a copied run", "[1, inf) words")
    characters: tuple[int, ...] = key((6, 8, 12), "of a copied run", "[1, inf) characters")
    thought_tokens: int = key(24, "of a thought, at most", "[1, inf) tokens")
    model: Any = group("the reasoner and the scorer q", ModelKeys)


KEYS = keys_of(FaultsConfig, experiment="study_faults")


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `small` shrinks everything."""
    c = defaults_of(KEYS)
    if variant == "small":
        c.shifts = c.pairs = ("german",)
        c.subset_contexts = 4
        c.contexts = (3, 4)
        c.draws = 20
        c.thought_tokens = 4
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; there is only 'small'")
    return c
