import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remid_jax.data import characters, prompts
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError

SAMPLE = Sample(
    sample_id="IDTest_1",
    persona=" Ann, a nurse. ",
    character={"name": "Ada", "speech_style": "dry", "traits": ["curious", "exact"]},
    dialogue=(("user", "Hello"), ("character", "Welcome"), ("user", "What now?")),
    golden="THE GOLDEN ONE",
    tag="IDTest",
    extra={},
)
ROLES = {
    "reply": prompts.reply_messages,
    "reason": prompts.reason_messages,
    "scorer": prompts.scorer_messages,
    "scorer with a thought": lambda s: prompts.scorer_messages(s, "A thought."),
}


def with_(**changes):
    return dataclasses.replace(SAMPLE, **changes)


def text_of(messages):
    return "\n".join(m["content"] for m in messages)


@pytest.mark.parametrize("role", ROLES)
def test_every_role_reads_the_same_context_first(role):
    for sample in [SAMPLE, *load_benchmark()]:
        system, user = ROLES[role](sample)
        assert system == {"role": "system", "content": prompts.SYSTEM}
        assert user["role"] == "user"
        context = prompts.context_text(sample)
        assert user["content"].startswith(context + "\n\n")
        instruction = user["content"].removeprefix(context + "\n\n")
        assert instruction
        for _, turn in sample.dialogue:
            assert turn in context
            assert turn not in instruction
        assert sample.persona.strip() in context


def test_the_context_holds_all_in_order():
    assert prompts.context_text(SAMPLE) == (
        "User persona:\nAnn, a nurse.\n\n"
        "Character:\nname: Ada\nspeech style: dry\ntraits: curious; exact\n\n"
        "Dialogue:\nUser: Hello\nAda: Welcome\nUser: What now?"
    )


def test_no_role_reads_the_golden_response():
    for role in ROLES.values():
        assert SAMPLE.golden not in text_of(role(SAMPLE))
    for sample in load_benchmark():
        assert sample.golden not in text_of(prompts.reason_messages(sample))


def test_roles_differ_only_in_what_comes_last():
    plain = prompts.scorer_messages(SAMPLE)
    assert prompts.reply_messages(SAMPLE) == plain
    noted = prompts.scorer_messages(SAMPLE, "\n Take up the nurse. \n")[1]["content"]
    head, tail = noted.split("\n\nNotes on the reply:\nTake up the nurse.\n\n")
    assert head == prompts.context_text(SAMPLE)
    assert plain[1]["content"] == f"{head}\n\n{tail}"
    assert prompts.reason_messages(SAMPLE)[1]["content"] not in (noted, plain[1]["content"])


@pytest.mark.parametrize(
    "change",
    [
        {"persona": "Bob, a baker."},
        {"character": {"name": "Ada", "speech_style": "warm", "traits": ["curious", "exact"]}},
        {"dialogue": (("user", "Bye"), *SAMPLE.dialogue[1:])},
        {"dialogue": SAMPLE.dialogue[2:]},
    ],
)
@pytest.mark.parametrize("role", ROLES)
def test_each_factor_is_seen_but_not_by_the_last_turn_view(role, change):
    assert ROLES[role](with_(**change)) != ROLES[role](SAMPLE)
    last = prompts.reply_messages(SAMPLE, prompts.LAST_TURN)
    assert prompts.reply_messages(with_(**change), prompts.LAST_TURN) == last


def test_last_turn_sees_nothing_else():
    for sample in load_benchmark():
        bare = dataclasses.replace(
            sample, persona="?", character="?", dialogue=sample.dialogue[-1:], golden="?", extra={}
        )
        seen = prompts.reply_messages(sample, prompts.LAST_TURN)
        assert seen == prompts.reply_messages(bare, prompts.LAST_TURN)
        assert sample.dialogue[-1][1] in text_of(seen)
    changed = with_(dialogue=(*SAMPLE.dialogue[:2], ("user", "What then?")))
    assert prompts.reply_messages(changed, "last_turn") != prompts.reply_messages(
        SAMPLE, "last_turn"
    )


def test_unknown_view():
    with pytest.raises(UserError, match=r"unknown view 'all'.*full, last_turn"):
        prompts.reply_messages(SAMPLE, "all")


@pytest.mark.parametrize(
    ("character", "text", "name"),
    [
        (" A grumpy wizard. ", "A grumpy wizard.", "the character"),
        ({"name": " Ada ", "age": 36}, "name:  Ada \nage: 36", "Ada"),
        ({"birth_name": "X"}, "birth name: X", "the character"),
        ({"name": "  "}, "name:   ", "the character"),
        ({"name": ["A", "B"]}, "name: A; B", "the character"),
        (
            {"name": "A", "kin": {"sister": "B", "aunts": ["C", "D"]}, "likes": [{"x": 1}, "y"]},
            "name: A\nkin: sister: B; aunts: C; D\nlikes: x: 1; y",
            "A",
        ),
    ],
)
def test_profiles_of_any_shape(character, text, name):
    sample = with_(character=character)
    assert characters.character_text(character) == text
    assert characters.character_name(character) == name
    assert f"Speak as {name}," in text_of(prompts.reply_messages(sample))
    speaker = "Character" if name == "the character" else name
    assert f"\n{speaker}: Welcome\n" in prompts.context_text(sample)


@settings(deadline=None)
@given(st.text(), st.text())
def test_braces_in_texts_are_no_placeholders(persona, name):
    sample = with_(persona="{name}" + persona, character={"name": "{thought}" + name})
    assert "{name}" in prompts.context_text(sample)
    assert "{thought}" in text_of(prompts.scorer_messages(sample, "{name} {0}"))
    assert "{name} {0}" in text_of(prompts.scorer_messages(sample, "{name} {0}"))


def test_dropping_turns_keeps_the_last_user_turn():
    shorter = prompts.drop_oldest_turn(SAMPLE)
    assert shorter == with_(dialogue=(("user", "What now?"),))
    assert prompts.drop_oldest_turn(shorter) is None
    for sample in load_benchmark():
        turns, current = sample.user_turns, sample
        while (following := prompts.drop_oldest_turn(current)) is not None:
            assert following.user_turns == current.user_turns - 1
            assert sample.dialogue[-len(following.dialogue) :] == following.dialogue
            assert following.dialogue[0][0] == "user"
            current, turns = following, turns - 1
        assert turns == 1
