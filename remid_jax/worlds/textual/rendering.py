"""Text of the textual world: personas, profiles, dialogues, responses and thoughts, and back.

The texts come from templates, and each gives back the index it was written from. An index that is
out of range is a ValueError.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import CHARACTER_MARKER, CORE_MARKER, USER_MARKER
from remid_jax.errors import nearest
from remid_jax.worlds.textual import facts, reasoning, truth, words
from remid_jax.worlds.textual.facts import TextualWorld
from remid_jax.worlds.textual.words import (
    AGENT_FILLERS,
    GREETINGS,
    ITEMS,
    MOODS,
    TOPICS,
    USER_FILLERS,
    VERBS,
    VOICES,
)

Dialogue = tuple[tuple[str, str], ...]


def persona_text(world: TextualWorld, u: int) -> str:
    """The persona in a sentence: greeting, name, city, and the mood in each place."""
    truth.checked_index(u, world.shape[0], "u")
    culture = int(world.culture[u])
    index = _rank(world.culture, u)
    name = words.full_name(words.PERSONA_NAMES[culture], index)
    city = words.CITIES[culture][index % 4]
    moods = ", ".join(f"{MOODS[m]} {t}" for m, t in zip(world.moods[u], TOPICS, strict=True))
    return f"{GREETINGS[culture]}, I am {name} from {city}, {moods}."


def character_profile(world: TextualWorld, c: int) -> dict[str, str]:
    """The profile: name, origin, speech style, and the item recommended to each mood."""
    truth.checked_index(c, world.shape[1], "c")
    category = int(world.category[c])
    names = words.CHARACTER_NAMES[category]
    items = ", ".join(f"{ITEMS[i]} if {m}" for i, m in zip(world.items[c], MOODS, strict=True))
    return {
        "name": words.full_name(names, _rank(world.category, c)),
        "origin": words.ORIGINS[category],
        "speech_style": f"Says {VOICES[world.voices[c]]}.",
        "advice": f"Gives {items}.",
    }


def _rank(group: np.ndarray, member: int) -> int:
    """How many members of the same group come before."""
    return int(np.sum(group[:member] == group[member]))


def dialogue_messages(world: TextualWorld, d: int) -> Dialogue:
    """Messages (role, text); the second user turn names the place, the last one the verb."""
    truth.checked_index(d, world.shape[2], "d")
    said = ["Good day.", f"I am {TOPICS[world.topics[d]]}."]
    messages: list[tuple[str, str]] = []
    for turn in range(int(world.user_turns[d]) - 1):
        filler, answer = USER_FILLERS[turn % 4], AGENT_FILLERS[turn % 4]
        messages.append(("user", said[turn] if turn < len(said) else filler))
        messages.append(("character", answer))
    return (*messages, ("user", f"What to {VERBS[world.verbs[d]]}?"))


def response_text(y: int) -> str:
    """The response in a sentence.

    >>> response_text(0)
    'Hello, surely, buy the lantern.'
    """
    return _sentence(*truth.response_slots(y))


def _sentence(greeting: int, voice: int, verb: int, item: int) -> str:
    return f"{GREETINGS[greeting]}, {VOICES[voice]}, {VERBS[verb]} the {ITEMS[item]}."


def thought_text(r: int) -> str:
    """The thought: facts of the user and of the character, then the core features.

    >>> thought_text(0)[:47]
    '[User Facts] Hello, bold. [Character Facts] sur'
    """
    mood, *slots = reasoning.thought_facts(r)
    greeting, voice, _, item = slots
    return (
        f"{USER_MARKER} {GREETINGS[greeting]}, {MOODS[mood]}. "
        f"{CHARACTER_MARKER} {VOICES[voice]}, {ITEMS[item]}. {CORE_MARKER} {_sentence(*slots)}"
    )


@functools.lru_cache(maxsize=8)
def _indices(world: TextualWorld) -> tuple[dict[Any, int], dict[Any, int], dict[Any, int]]:
    users, characters, dialogues = world.shape
    profile = functools.partial(character_profile, world)
    return (
        {persona_text(world, u): u for u in range(users)},
        {tuple(profile(c).items()): c for c in range(characters)},
        {dialogue_messages(world, d): d for d in range(dialogues)},
    )


def parse_context(
    world: TextualWorld, persona: str, profile: Mapping[str, str], dialogue: Dialogue
) -> int:
    """The flat context x that was written as persona, profile and dialogue.

    Raises:
      ValueError: one of them is no text of this world.
    """
    users, characters, dialogues = _indices(world)
    u = _found(users, persona, "persona")
    c = _found(characters, tuple(profile.items()), "profile")
    d = _found(dialogues, tuple(tuple(m) for m in dialogue), "dialogue")
    return int(np.ravel_multi_index((u, c, d), world.shape))


def parse_sample(world: TextualWorld, sample: Sample) -> tuple[int, int]:
    """(x, y) of a sample whose texts are of this world.

    Raises:
      ValueError: a text is none of this world.
    """
    x = parse_context(world, sample.persona, sample.character, sample.dialogue)
    return x, parse_response(sample.golden)


def _found(known: Mapping[Any, int], key: Any, name: str) -> int:
    if key not in known:
        raise ValueError(f"{name} {str(key)[:120]!r} is no text of this world")
    return known[key]


def parse_response(text: str) -> int:
    """The flat response y that was written as this sentence.

    Raises:
      ValueError: it is no response of the world, naming the nearest one.
    """
    responses = _responses()
    if text not in responses:
        raise ValueError(f"response {text[:120]!r} is none of the world{nearest(text, responses)}")
    return responses[text]


@functools.cache
def _responses() -> dict[str, int]:
    return {response_text(y): y for y in range(facts.NUM_RESPONSES)}


@functools.cache
def _thoughts() -> dict[str, int]:
    return {thought_text(r): r for r in range(reasoning.NUM_THOUGHTS)}


def parse_thought(text: str) -> int:
    """The flat thought r that was written as this text.

    Raises:
      ValueError: it is no thought of the world.
    """
    return _found(_thoughts(), text, "thought")
