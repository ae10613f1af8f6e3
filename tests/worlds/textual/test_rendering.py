"""Texts and tokens of the textual world give back what they were written from."""

import pytest
from hypothesis import strategies as st

from remid_jax.data.thoughts import core_features
from remid_jax.worlds.textual import reasoning, rendering, tokenisation, truth
from remid_jax.worlds.textual.facts import NUM_RESPONSES, textual_world

WORLD = textual_world()
LARGE = textual_world(personas=16, characters=16, seed=5)
contexts = st.integers(0, WORLD.num_contexts - 1)
responses = st.integers(0, NUM_RESPONSES - 1)
thoughts = st.integers(0, reasoning.NUM_THOUGHTS - 1)


@pytest.mark.parametrize("world", [WORLD, LARGE])
def test_every_text_is_parsed_back(world):
    users, characters, dialogues = world.shape
    for i in range(max(world.shape)):
        u, c, d = min(i, users - 1), min(i, characters - 1), min(i, dialogues - 1)
        profile = rendering.character_profile(world, c)
        x = rendering.parse_context(
            world, rendering.persona_text(world, u), profile, rendering.dialogue_messages(world, d)
        )
        assert x == (u * characters + c) * dialogues + d
    names = {rendering.character_profile(world, c)["name"] for c in range(characters)}
    assert len(names) == characters


def test_every_response_and_thought_is_parsed_back():
    texts = [rendering.response_text(y) for y in range(NUM_RESPONSES)]
    assert [rendering.parse_response(t) for t in texts] == list(range(NUM_RESPONSES))
    for r in range(0, reasoning.NUM_THOUGHTS, 7):
        assert rendering.parse_thought(rendering.thought_text(r)) == r


def test_the_texts_say_the_facts():
    """What a reader finds in the texts is what the channel holds for right."""
    for x in range(0, WORLD.num_contexts, 331):
        u, c, d = (int(p) for p in truth.context_parts(WORLD, x))
        messages = rendering.dialogue_messages(WORLD, d)
        place = messages[2][1].removeprefix("I am ").rstrip(".")
        verb = messages[-1][1].removeprefix("What to ").rstrip("?")
        persona = rendering.persona_text(WORLD, u)
        mood = next(p.split()[0] for p in persona.rstrip(".").split(", ") if p.endswith(place))
        profile = rendering.character_profile(WORLD, c)
        advice = profile["advice"].removeprefix("Gives ").rstrip(".").split(", ")
        item = next(p.split()[0] for p in advice if p.endswith(f"if {mood}"))
        voice = profile["speech_style"].removeprefix("Says ").rstrip(".")
        answer = f"{persona.split(',')[0]}, {voice}, {verb} the {item}."
        rows = truth.channel(WORLD, [x])[0]
        assert rendering.parse_response(answer) == rows.argmax()
        right = rendering.thought_text(int(reasoning.right_thought(WORLD, x)))
        assert core_features(right) == answer and f", {mood}." in right


def test_dialogues_have_their_turns_and_alternate():
    for d, turns in enumerate(WORLD.user_turns):
        roles = [role for role, _ in rendering.dialogue_messages(WORLD, d)]
        assert roles == ["user", "character"] * (turns - 1) + ["user"]


def test_texts_of_no_world_are_refused():
    profile = rendering.character_profile(WORLD, 0)
    dialogue = rendering.dialogue_messages(WORLD, 0)
    with pytest.raises(ValueError, match="persona 'I am Nobody' is no text"):
        rendering.parse_context(WORLD, "I am Nobody", profile, dialogue)
    persona = rendering.persona_text(WORLD, 0)
    with pytest.raises(ValueError, match="dialogue"):
        rendering.parse_context(WORLD, persona, profile, dialogue[2:])
    with pytest.raises(ValueError, match="did you mean 'Hello, surely, buy the mirror"):
        rendering.parse_response("Hello, surely, buy the miror.")
    assert core_features("no marker") == ""
    for render, size in zip(
        (rendering.persona_text, rendering.character_profile, rendering.dialogue_messages),
        WORLD.shape,
        strict=True,
    ):
        for index in (-1, size):
            with pytest.raises(ValueError, match=f"holds {index} at"):
                render(WORLD, index)


def test_the_vocabulary_is_small_whole_and_without_spares():
    tokens = tokenisation.vocabulary()
    assert len(set(tokens)) == len(tokens) <= 1000
    assert tokens[:3] == ("<pad>", "<bos>", "<eos>")
    users, characters, dialogues = LARGE.shape
    used = set()
    for i in range(max(LARGE.shape)):
        parts = (min(i, users - 1), min(i, characters - 1), min(i, dialogues - 1))
        u, c, d = parts
        context = tokenisation.context_text(
            rendering.persona_text(LARGE, u),
            rendering.character_profile(LARGE, c),
            rendering.dialogue_messages(LARGE, d),
        )
        text = " ".join(
            [context, tokenisation.NOTES, rendering.thought_text(i), tokenisation.REPLY]
        )
        ids = tokenisation.encode(text)
        assert tokenisation.decode(ids) == text
        used |= set(ids)
    used |= {t for y in range(NUM_RESPONSES) for t in tokenisation.encode(
        rendering.response_text(y))}  # fmt: skip
    assert used == set(range(3, len(tokens)))


def test_words_and_ids_outside_the_vocabulary_are_refused():
    with pytest.raises(ValueError, match="the vocabulary has no 'teapot'"):
        tokenisation.encode("Hello, teapot.")
    with pytest.raises(ValueError, match="ids of shape"):
        tokenisation.decode([5, 10_000])
