"""Answers of models whose fault is known, made of a benchmark's own texts."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from remid_jax.data.characters import character_name
from remid_jax.data.factors import FACTORS, Factor
from remid_jax.data.samples import Sample
from remid_jax.information.pairs import ECHO, GOLDEN, SHUFFLED, UNSHIFTED

USER, CHARACTER, DIALOGUE = FACTORS
GENERIC = "That depends on many things, and I would think it over carefully before deciding."
LOOP = "I'm afraid I cannot tell you anything more about that. "
LOOPS = 20  # at most 256 tokens of SmolLM2
NOISE = "golden, 30 % of other contexts"
EVERYWHERE, HOME = "every subset", "in distribution"


class Fault(NamedTuple):
    """What is wrong with a model.

    Attributes:
      where: the subsets in which it answers.
      lacks: the factors of which its answers say nothing, or less than golden answers. Of what is
        copied, own words say nothing either.
      answer: makes its answer to a sample; None: a reference row of every diagnosis, or made of
        golden scores.
    """

    where: str
    lacks: tuple[Factor, ...]
    answer: Callable[[Sample], str] | None = None


def _labelled_loop(sample: Sample) -> str:
    return f"{character_name(sample.character)}: {LOOP * LOOPS}".strip()


def _with_name(sample: Sample) -> str:
    return f"Well, {character_name(sample.character)} would say this. {GENERIC}"


FAULTS = {
    UNSHIFTED: Fault(EVERYWHERE, ()),  # the factor of the shift, see `lacks`
    SHUFFLED: Fault(EVERYWHERE, FACTORS),
    ECHO: Fault(EVERYWHERE, (USER, CHARACTER)),
    "generic": Fault(EVERYWHERE, FACTORS, lambda sample: GENERIC),
    NOISE: Fault(EVERYWHERE, FACTORS),
    "persona copied": Fault(HOME, (CHARACTER, DIALOGUE), lambda sample: sample.persona),
    "labelled loop": Fault(HOME, FACTORS, _labelled_loop),
    "name in generic": Fault(HOME, FACTORS, _with_name),
    "earlier turn": Fault(HOME, (USER, CHARACTER), lambda sample: sample.dialogue[0][1]),
}
MADE_UP = {name: fault for name, fault in FAULTS.items() if fault.answer}


def lacks(fault: str, shift: str | None) -> tuple[Factor, ...]:
    """The factors that a fault takes away from the answers to a subset of a shift."""
    if fault == GOLDEN:
        return ()
    if fault == UNSHIFTED:
        return (Factor(shift),) if shift in FACTORS else FACTORS
    return FAULTS[fault].lacks


def answers(samples: Sequence[Sample], home: str) -> dict[str, dict[str, dict[str, str]]]:
    """The content of a response file: sample id -> the answers of all models that are made up."""
    return {
        s.sample_id: {
            "model_response": {
                name: fault.answer(s)
                for name, fault in MADE_UP.items()
                if fault.where == EVERYWHERE or s.tag == home
            }
        }
        for s in samples
    }
