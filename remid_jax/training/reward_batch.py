"""What rewards are computed from, and the names under which a configuration finds them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

Array = jax.Array
RewardFunction = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class RewardBatch:
    """What rewards are computed from, N texts at a time; a reward asks for the fields it needs.

    Attributes:
      texts: N thoughts or candidate responses, the texts that are rewarded.
      log_probs: [N, S] token log q(y|x, r) of the response y, in nats: of the golden one where
        thoughts are rewarded, of the candidate itself where candidates are.
      mask: [N, S] bool, the scored tokens of y; other values are not read.
      negatives: [N, K] log q(y|x_k, r_k) of the same y under K other contexts, summed over its
        tokens, in nats; the own context is not among them.
      mixture: [N] log q(y|x) under the mixture of all thoughts of a group, in nats.
      mixture_without: [N] the same without the thought that is rewarded.
      plain: [N] log q(y|x) of y's own words without a thought, in nats.
      swapped: [N, F] the same under contexts with one of F factors of another sample.
      swap_weights: [N, F] share of the other samples whose value of the factor differs; where it is
        0, `swapped` is not read.
      match: [N] mean token log p of the answer "100%", in nats, when the reference model is asked
        how much of the core features the candidate matches.
      golden_match: [N] the same, asked about the golden response.
      truncated: [N] bool, whether a text was cut off at the longest length.
      golden: N golden responses as texts.

    Raises:
      ValueError: fields of different N, or log-probs and mask of different shapes.
    """

    texts: Sequence[str] | None = None
    log_probs: Array | None = None
    mask: Array | None = None
    negatives: Array | None = None
    mixture: Array | None = None
    mixture_without: Array | None = None
    plain: Array | None = None
    swapped: Array | None = None
    swap_weights: Array | None = None
    match: Array | None = None
    golden_match: Array | None = None
    truncated: Array | None = None
    golden: Sequence[str] | None = None

    def __post_init__(self) -> None:
        sizes = self._sizes()
        if len({*sizes.values()}) > 1:
            named = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"the fields of a reward batch differ in their rows: {named}")
        if self.log_probs is not None and self.mask is not None:
            check_mask(self.log_probs, self.mask)

    @property
    def size(self) -> int:
        """N; 0 where no field is given."""
        return next(iter(self._sizes().values()), 0)

    def _sizes(self) -> dict[str, int]:
        return {name: len(value) for name, value in vars(self).items() if value is not None}


def check_mask(log_probs: Any, mask: Any) -> None:
    """Raises a ValueError unless both have one shape [..., S]."""
    if np.shape(log_probs) != np.shape(mask) or not np.shape(mask):
        raise ValueError(
            f"log_probs and mask must both be [..., S], got {np.shape(log_probs)}, {np.shape(mask)}"
        )


@dataclasses.dataclass(frozen=True)
class Reward:
    """A named reward.

    Attributes:
      function: (batch, **parameters) -> [N].
      needs: fields of the batch that it reads.
      by_field: whether it takes these fields in place of the batch.
    """

    function: RewardFunction
    needs: tuple[str, ...]
    by_field: bool


_TEXTS = ("texts", "truncated", "golden")
_SCORES = ("log_probs", "mask", "negatives")
FIELDS = {  # role -> fields of a batch that its rewards can read
    "reasoner": {*_TEXTS, *_SCORES, "mixture", "mixture_without"},
    "policy": {*_TEXTS, *_SCORES, "match", "golden_match", "plain", "swapped", "swap_weights"},
}

REWARDS: dict[str, Reward] = {}
"""Name -> reward; `register` adds to it."""


def register(
    name: str, *needs: str, by_field: bool = False
) -> Callable[[RewardFunction], RewardFunction]:
    """A decorator that makes a function a reward of this name; arguments as of `Reward`.

    Raises:
      ValueError: the name is taken, or a field that the batch does not have.
    """
    if name in REWARDS:
        raise ValueError(f"there is a reward {name!r} already")
    for need in needs:
        if need not in RewardBatch.__dataclass_fields__:
            raise ValueError(f"reward {name!r} needs {need!r}, no field of a reward batch")

    def added(function: RewardFunction) -> RewardFunction:
        REWARDS[name] = Reward(function, needs, by_field)
        return function

    return added
