"""Profiles as people's files hold them."""

import pytest

from remid_jax.data import rules
from remid_jax.data.characters import character_name, character_text, known_name, read_character
from remid_jax.data.prompts import context_text
from remid_jax.data.reading import Benchmark
from remid_jax.data.responses import read_answer
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError


def sample(character, **changes):
    record = {
        "sample_ID": "IDTest_1",
        "user_persona": "A baker.",
        "agent_character": character,
        "dialogue_context": [{"user_query": "Are you there?"}],
        "agent_golden_response": "Aye.",
        "subset_tag": "IDTest",
    }
    return Sample.from_record({**record, **changes}, "here")


@pytest.mark.parametrize(("text", "name"), [
    ("Sherlock Holmes", "Sherlock Holmes"),
    ("You are Dr. John Watson, a physician.", "Dr. John Watson"),
    ("Florence Nightingale was a nurse. She is calm.", "Florence Nightingale"),
    ("A nurse.\n**Name:** Ann Lee\nAge: 30", "Ann Lee"),
    ("Abena Owusu, 34, plans routes.", "Abena Owusu"),
    ("弗洛伦斯", "弗洛伦斯"),
    ("She is tall.", ""), ("A baker.", ""), ("a nurse, tall", ""), ("The Doctor is old.", ""),
    ("Born in 1990, Ann is tall", ""), ("Hello! I am Bob.", ""), ("London 1890", ""),
    ("Retired teacher who loves tea, and more", ""), ("I like dogs", ""), (" ", ""),
])  # fmt: skip
def test_names_that_a_text_tells(text, name):
    assert known_name(text) == name
    assert known_name({"name": "Mira", "x": text}) == "Mira"


def test_labels_are_cut_where_texts_tell_the_name():
    """Of a character and a user that are texts; `user_name` goes before what the persona says."""
    told = sample("You are Ann Lee, a nurse.", user_persona="Bo Berg, 30, bakes.")
    for text in ("Ann: Aye.", "**Ann Lee:** Aye.", "Bo Berg: Aye.", "Bo: Aye.", "Lee:\nAye."):
        answer = read_answer(text, told)
        assert (answer.text, answer.cuts[:1]) == ("Aye.", ("speaker_label",)), text
    assert read_answer("Aye.\nBo Berg: Who?", told).text == "Aye."
    named = sample("A nurse.", user_persona="Bo, 30, bakes.", user_name="Kim Ito")
    assert (
        read_answer("Kim: Aye.", named).text == read_answer("Kim Ito: Aye.", named).text == "Aye."
    )
    for text in ("Bo: Aye.", "Nurse: Aye."):
        assert read_answer(text, named).text == text
    assert read_answer("Ann: Aye.", sample("A nurse.")).text == "Ann: Aye."


def test_nulls_are_left_out_wherever_they_stand():
    profile = {"name": "Mira", "age": None, "kin": {"sister": None}, "alive": True, "x": [None, 1]}
    assert character_text(read_character(profile, "x")) == "name: Mira\nalive: True\nx: 1"
    assert profile["age"] is None  # the record itself stays


@pytest.mark.parametrize("spec", ["chara_card_v2", "chara_card_v3"])
def test_a_character_card(spec):
    data = {
        "name": "Mira",
        "description": "{{char}} keeps a lighthouse and distrusts {{user}}.",
        "creator_notes": "please rate my card",
        "extensions": {"depth": 4},
        "character_book": {"entries": [{"content": "The lamp is old.", "enabled": True}]},
        "personality": "",
        "tags": ["sea"],
        "first_mes": "Hello <USER>, says {{ CHAR }}",
    }
    card = sample({"spec": spec, "spec_version": "2.0", "data": data}, user_name="Ann")
    assert character_name(card.character) == "Mira"
    assert card.character == {
        "name": "Mira",
        "description": "Mira keeps a lighthouse and distrusts Ann.",
        "first_mes": "Hello Ann, says Mira",
        "character_book": ["The lamp is old."],
    }


def test_names_under_other_keys():
    assert character_name({"Name": "Mira"}) == "Mira"
    assert character_name({"name": "\u200b", "char_name": "Mira"}) == "Mira"
    assert character_name({"job": "keeper"}) == "the character"


def test_placeholders_are_filled_where_names_are_known_and_named_where_not():
    named = sample(
        {"name": "Mira", "background": ["{{char}} rows."]},
        user_persona="{{user}} owes {{char}} money.",
        dialogue_context=[{"user_query": "{{Char}}, are you there?"}],
        agent_golden_response="{{char}} is, {{user}}.",
    )
    assert named.persona == "{{user}} owes Mira money."
    assert "background: Mira rows." in context_text(named)
    assert named.dialogue[0][1] == "Mira, are you there?" and named.golden == "Mira is, {{user}}."
    unnamed = sample("{{char}} keeps a lighthouse.")
    found = rules.violations(Benchmark("x", {"IDTest": (named, unnamed)}), strict=False)
    said = {(v.field, v.problem) for v in found if "holds {{" in v.problem}
    assert said == {
        ("user_persona", "holds {{user}}: give the record 'user_name'"),
        ("agent_golden_response", "holds {{user}}: give the record 'user_name'"),
        ("agent_character", "holds {{char}}: name it"),
    }


@pytest.mark.parametrize("profile", [{"a": None}, {"a": {"b": [None, {}]}}, "\u200b", {"a": " "}])
def test_a_profile_without_text(profile):
    with pytest.raises(UserError, match="here is empty"):
        read_character(profile, "here")


def test_control_characters_are_violations():
    bad = sample({"name": "Mira"}, agent_golden_response="a\x1b[31mb\x00\n")
    (found,) = rules.violations(Benchmark("x", {"IDTest": (bad,)}), strict=False)
    assert str(found) == (
        "IDTest_1: agent_golden_response: holds control characters: U+001B, U+0000"
    )
