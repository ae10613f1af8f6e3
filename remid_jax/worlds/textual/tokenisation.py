"""A word-level vocabulary of the textual world."""

import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np

from remid_jax.worlds.textual import rendering, truth, words

PAD, BOS, EOS = 0, 1, 2
PERSONA, CHARACTER, USER, AGENT, NOTES, REPLY = (
    "<persona>", "<character>", "<user>", "<agent>", "<notes>", "<reply>",
)  # fmt: skip
_MARKERS = (rendering.USER_MARKER, rendering.CHARACTER_MARKER, rendering.CORE_MARKER)
_SPECIAL = ("<pad>", "<bos>", "<eos>", PERSONA, CHARACTER, USER, AGENT, NOTES, REPLY, *_MARKERS)
_SPLIT = re.compile("|".join([*map(re.escape, _SPECIAL), r"\w+", r"[^\w\s]"]))
_TEMPLATE_WORDS = ("I", "am", "from", "Says", "Gives", "if", "Good", "day", "What", "to", "the")


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """All tokens by id, the same for every world: at most 1,000, `PAD`, `BOS` and `EOS` first."""
    listed: list[str] = [*_SPECIAL, ".", ",", "?", *_TEMPLATE_WORDS]
    for names in (*words.PERSONA_NAMES, *words.CHARACTER_NAMES, words.CITIES):
        listed += [word for part in names for word in part]
    for part in (
        words.MOODS, words.TOPICS, words.GREETINGS, words.VOICES, words.VERBS, words.ITEMS,
        words.ORIGINS,
    ):  # fmt: skip
        listed += part
    fillers = (*words.USER_FILLERS, *words.AGENT_FILLERS)
    listed += [filler.strip(".?") for filler in fillers]
    return tuple(dict.fromkeys(listed))


@functools.cache
def _ids() -> dict[str, int]:
    return {token: i for i, token in enumerate(vocabulary())}


def encode(text: str) -> list[int]:
    """The ids of a text of the world, without BOS and EOS.

    Raises:
      ValueError: naming the first word that the vocabulary lacks.

    >>> len(encode("Hello, surely, buy the lantern."))
    8
    """
    tokens, known = _SPLIT.findall(text), _ids()
    for token in tokens:
        if token not in known:
            raise ValueError(f"the vocabulary has no {token!r}, in {text[:120]!r}")
    return [known[token] for token in tokens]


def decode(ids: Sequence[int]) -> str:
    """The text of ids; it encodes to the same ids.

    Raises:
      ValueError: an id that the vocabulary lacks.

    >>> decode(encode("Hello, surely, buy the lantern."))
    'Hello, surely, buy the lantern.'
    """
    ids = truth.checked_index(np.asarray(ids, np.int64), len(vocabulary()), "ids")
    return re.sub(r" ([.,?])", r"\1", " ".join(vocabulary()[i] for i in ids))


def context_text(persona: str, profile: Mapping[str, str], dialogue: rendering.Dialogue) -> str:
    """Persona, character and dialogue as one text, the same for reasoner and scorer."""
    parts = [PERSONA, persona, CHARACTER, " ".join(profile.values())]
    for role, text in dialogue:
        parts += [USER if role == "user" else AGENT, text]
    return " ".join(parts)
