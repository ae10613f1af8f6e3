"""Token form of the textual world: a word-level vocabulary, and examples as padded arrays."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.worlds.textual import rendering, truth, words
from remid_jax.worlds.textual.facts import Array, TextualWorld

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
    """Persona, character and dialogue as one text, the same for reasoner and policy."""
    parts = [PERSONA, persona, CHARACTER, " ".join(profile.values())]
    for role, text in dialogue:
        parts += [USER if role == "user" else AGENT, text]
    return " ".join(parts)


def prompt_text(world: TextualWorld, x: int, r: int | None = None, core_only: bool = False) -> str:
    """Persona, character, dialogue and, where given, the thought as one text before the reply.

    Args:
      world: the world.
      x: flat context.
      r: flat thought.
      core_only: of the thought, only what follows `rendering.CORE_MARKER`.

    Raises:
      ValueError: an index is out of range.
    """
    u, c, d = (int(part) for part in truth.context_parts(world, x))
    persona, profile = rendering.persona_text(world, u), rendering.character_profile(world, c)
    parts = [context_text(persona, profile, rendering.dialogue_messages(world, d))]
    if r is not None:
        thought = rendering.thought_text(r)
        parts += [NOTES, rendering.core_features(thought) if core_only else thought]
    return " ".join([*parts, REPLY])


@dataclasses.dataclass(frozen=True)
class Examples:
    """Token lists padded on the right with `PAD`; lengths are data, never read off the ids.

    Attributes:
      prompts: [n, P] int32, from BOS to the reply's marker.
      prompt_lengths: [n] int32.
      responses: [n, L] int32, the response and EOS.
      response_lengths: [n] int32, EOS included.
    """

    prompts: Array
    prompt_lengths: Array
    responses: Array
    response_lengths: Array


def to_examples(
    world: TextualWorld, x: Any, y: Any, r: Any = None, core_only: bool = False
) -> Examples:
    """Contexts, responses and, where given, thoughts as token arrays.

    Args:
      world: the world.
      x: [n] flat contexts.
      y: [n] flat responses.
      r: [n] flat thoughts, or None for prompts without reasoning.
      core_only: as in `prompt_text`.

    Raises:
      ValueError: shapes differ, or an index is out of range.
    """
    x, y = np.asarray(x), np.asarray(y)
    thoughts = [None] * len(x) if r is None else np.asarray(r)
    if not x.shape == y.shape == (len(thoughts),):
        raise ValueError(f"x, y and r must be [n]: got {x.shape}, {y.shape}, ({len(thoughts)},)")
    prompts = [
        [BOS, *encode(prompt_text(world, i, k, core_only))]
        for i, k in zip(x, thoughts, strict=True)
    ]
    responses = [[*encode(rendering.response_text(j)), EOS] for j in y]
    return Examples(*_padded(prompts), *_padded(responses))


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Array, Array]:
    lengths = np.array([len(row) for row in rows], np.int32)
    ids = np.full((len(rows), int(lengths.max(initial=0))), PAD, np.int32)
    for row, line in zip(rows, ids, strict=True):
        line[: len(row)] = row
    return ids, lengths


def token_log_prob(world: TextualWorld, y: Any, x: Any) -> Array:
    """log p(y_t | x, y_<t) of the tokens of `Examples.responses`: [..., 9] nats, exact.

    The slots' words stand at positions 0, 2, 4 and 6; all other tokens and EOS are certain.

    Raises:
      ValueError: an index is out of range.
    """
    slots = truth.slot_log_prob(world, y, x)
    values = np.zeros((*slots.shape[:-1], 9))
    values[..., 0:8:2] = slots
    return values
