"""A finite role-play world with text: its mechanisms, its channel p(y|x) and exact likelihoods.

A persona u has a mood a_u(t) for each topic t and a culture's greeting; a character c has a voice
word and recommends an item m_c(mood) for each mood; a dialogue d is about a topic t_d and asks for
something to do (a verb). The right response has four slots:

    y*(u, c, d) = (greeting_u, voice_c, verb_d, m_c(a_u(t_d))),

so its item takes one look-up in each of persona, dialogue and character. Each slot of a response
is right with probability 1 − εₛ, else any of the other words of the slot alike:

    p(y|x) = Πₛ [yₛ = y*ₛ(x)] (1 − εₛ) + [yₛ ≠ y*ₛ(x)] εₛ/(nₛ − 1).

Contexts x and responses y are flat indices in C order of (user, character, dialogue) and of
(greeting, voice, verb, item); one that is out of range is a ValueError.
"""

from typing import Any

import numpy as np

from remid_jax.data import shifts
from remid_jax.errors import nearest
from remid_jax.worlds.textual.facts import LONG, NUM_RESPONSES, SHORT, SLOTS, Array, TextualWorld
from remid_jax.worlds.textual.words import CATEGORIES, CULTURES

Mechanisms = tuple[Array, Array, Array]


def checked_index(index: Any, size: int, name: str) -> Array:
    """An array of whole numbers in [0, size).

    Raises:
      ValueError: naming the argument and the first bad entry.
    """
    index = np.asarray(index)
    if not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"{name} must hold whole numbers, got {index.dtype}")
    bad = (index < 0) | (index >= size)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name} of shape {index.shape} holds {index[place]} at {place}; "
                         f"it must lie in [0, {size})")  # fmt: skip
    return index


def context_parts(world: TextualWorld, x: Any) -> tuple[Array, Array, Array]:
    """Persona, character and dialogue of flat contexts: x = (u·C + c)·D + d."""
    return np.unravel_index(checked_index(x, world.num_contexts, "x"), world.shape)


def right_mood(world: TextualWorld, x: Any) -> Array:
    """a_u(t_d): the user's mood in the place that the dialogue is about; shape of x."""
    u, _, d = context_parts(world, x)
    return world.moods[u, world.topics[d]]


def right_slots(world: TextualWorld, x: Any) -> Array:
    """y*(x) as words of the four slots: [..., 4] int."""
    u, c, d = context_parts(world, x)
    item = world.items[c, right_mood(world, x)]
    return np.stack([world.culture[u], world.voices[c], world.verbs[d], item], axis=-1)


def response_slots(y: Any) -> Array:
    """The slots of flat responses: [...] -> [..., 4] int.

    >>> response_slots(0).tolist(), response_slots(NUM_RESPONSES - 1).tolist()
    ([0, 0, 0, 0], [5, 4, 3, 7])
    """
    return np.stack(np.unravel_index(checked_index(y, NUM_RESPONSES, "y"), SLOTS), axis=-1)


def slot_log_prob(world: TextualWorld, y: Any, x: Any) -> Array:
    """log p(yₛ|x) of each slot, nats: [..., 4] for y and x of shapes that broadcast."""
    right = response_slots(y) == right_slots(world, x)
    wrong = np.log(world.noise / (np.array(SLOTS) - 1))
    return np.where(right, np.log1p(-world.noise), wrong)


def log_prob(world: TextualWorld, y: Any, x: Any) -> Array:
    """log p(y|x) = Σₛ log p(yₛ|x), nats, exact; y and x broadcast."""
    return slot_log_prob(world, y, x).sum(axis=-1)


def channel(world: TextualWorld, x: Any = None, dtype: Any = np.float64) -> Array:
    """Rows p(y|x): [X, Y], or [n, Y] of the given contexts [n].

    The default world's whole channel takes 88 MB in float64; `x` takes some rows of it.
    """
    slots = right_slots(world, np.arange(world.num_contexts) if x is None else x)
    rows = np.ones((len(slots), 1), dtype)
    for s, size in enumerate(SLOTS):
        table = np.full((size, size), world.noise[s] / (size - 1), dtype)
        np.fill_diagonal(table, 1 - world.noise[s])
        rows = (rows[:, :, None] * table[slots[:, s]][:, None, :]).reshape(len(slots), -1)
    return rows


def mechanisms_of(world: TextualWorld, tag: str, strength: float = 1.0) -> Mechanisms:
    """The mechanisms of a subset's contexts, float64.

    User tags move p(u) to that culture's personas, character tags p(c|u) to that category,
    TurnLevelComposition p(d|u, c) to dialogues of 8 user turns, WordLevelComposition to pairs of
    topic and verb that ID has only apart. One mechanism is shifted, to
    (1 − strength)·ID + strength·OOD; the others are those of ID.

    Args:
      world: the world.
      tag: subset tag of RPGBench; IDTrain and IDTest are ID whatever the strength.
      strength: in [0, 1]; 0: ID; 1: a support disjoint from ID's.

    Returns:
      p(u) [U], p(c|u) [U, C], p(d|u, c) [U, C, D].

    Raises:
      ValueError: unknown tag, or strength out of range.
    """
    if tag not in shifts.ALL_TAGS:
        raise ValueError(f"unknown tag {tag!r}{nearest(str(tag), shifts.ALL_TAGS)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; it must lie in [0, 1]")
    home, away = _supports(world)
    mechanisms = [_uniform(support, world.shape[: z + 1]) for z, support in enumerate(home)]
    if tag in away:
        z, support = away[tag]
        moved = _uniform(support, world.shape[: z + 1])
        mechanisms[z] = (1 - strength) * mechanisms[z] + strength * moved
    return tuple(mechanisms)


def _supports(world: TextualWorld) -> tuple[tuple[Array, ...], dict[str, tuple[int, Array]]]:
    """Values of each factor in-distribution, and tag -> (its factor, the values it moves to)."""
    new_pairs = (world.topics + world.verbs) % 2 == 1
    home = (world.culture == 0, world.category == 0, (world.user_turns == SHORT) & ~new_pairs)
    away = {name: (0, world.culture == i) for i, name in enumerate(CULTURES) if i}
    away |= {name: (1, world.category == i) for i, name in enumerate(CATEGORIES) if i}
    away["TurnLevelComposition"] = (2, world.user_turns == LONG)
    away["WordLevelComposition"] = (2, new_pairs)
    return home, away


def _uniform(support: Array, shape: tuple[int, ...]) -> Array:
    """Uniform on the values that a mask [shape[-1]] allows, whatever the factors before."""
    return np.broadcast_to(support / support.sum(), shape)


def joint_of(mechanisms: Mechanisms) -> Array:
    """p(u, c, d) = p(u) p(c|u) p(d|u, c): [U, C, D] of the mechanisms of `mechanisms_of`."""
    p_u, p_c, p_d = mechanisms
    return p_u[:, None, None] * p_c[:, :, None] * p_d
