"""What the policy reads of thoughts: its own, or a control's."""

from collections.abc import Sequence

import numpy as np

from remid_jax.data.thoughts import scorer_notes

FILLER = "."


def notes_of(thoughts: Sequence[Sequence[str]], how: str) -> list[list[str | None]]:
    """Notes for B samples of G thoughts each.

    Args:
      thoughts: B lists of texts.
      how: `own`: the core features of each; `none`: no notes; `shuffled`: those of the next sample
        of the batch; `filler`: as many full stops as the core has words.

    >>> notes_of([["a b"], ["c"]], "shuffled"), notes_of([["a b"]], "filler")
    ([['c'], ['a b']], [['. .']])
    """
    core = [[scorer_notes(text) for text in group] for group in thoughts]
    if how == "none":
        return [[None] * len(group) for group in core]
    if how == "shuffled":
        return [list(core[k]) for k in np.roll(np.arange(len(core)), -1)]
    if how == "filler":
        return [[" ".join([FILLER] * max(1, len(c.split()))) for c in group] for group in core]
    return [list(group) for group in core]
