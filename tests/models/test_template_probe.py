"""What a chat template does is found out when it is loaded, and what it may not do is refused."""

import dataclasses
import json

import pytest
from tiny_checkpoint import tiny_tensors, write_hugging_face

from remid_jax.data import prompts
from remid_jax.errors import UserError
from remid_jax.models.chat_template import checked_variables, without_system
from remid_jax.models.pretrained import load_language_model, open_language_model

TURNS = "{% for m in messages %}<u>{{ m.content }}<e>{% endfor %}"
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]
REFUSES_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + TURNS
)
ALTERNATES = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}<u>{{ m.content }}<e>{% endfor %}"
)
DROPS_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'user' %}<u>{{ m.content }}<e>"
    "{% elif m.role == 'assistant' %}{{ m.content }}<e>{% endif %}{% endfor %}"
)


@pytest.fixture
def load(tmp_path):
    """load(template, **variables): the tokenizer of a tiny model with another template."""
    folder = write_hugging_face(tmp_path / "m", tiny_tensors())

    def load(template, **variables):
        file = tmp_path / "t.jinja"
        file.write_bytes(template if isinstance(template, bytes) else template.encode())
        return open_language_model(str(folder), "float32", str(file), variables or None).tokenizer

    return load


def test_a_sound_template_needs_no_note(load):
    tokenizer = load(TURNS)
    assert tokenizer.template_notes == () and not tokenizer.folds_system
    assert tokenizer.render(CHAT) == "<u>Be brief.<e><u>Hello.<e>"


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, ALTERNATES, DROPS_SYSTEM])
def test_the_system_text_moves_into_the_first_user_turn(load, template):
    tokenizer = load(template)
    assert tokenizer.render(CHAT) == "<u>Be brief.\n\nHello.<e>"
    more = [{"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And?"}]
    assert "Be brief.\n\nHello.<e>" in tokenizer.render([*CHAT, *more])
    assert tokenizer.render(more[1:]) == "<u>And?<e>"
    (note,) = tokenizer.template_notes
    assert note.startswith("the system text stands in the first user turn")
    ids = tokenizer.encode_chat([CHAT[0], {"role": "user", "content": "<e>"}])
    assert ids.count(2) == 1  # words are words there too
    assert CHAT[0]["role"] == "system" and tokenizer.end_of_turn == 2


def test_notes_say_why(load):
    assert "System role not supported" in load(REFUSES_SYSTEM).template_notes[0]
    assert "it leaves it out" in load(DROPS_SYSTEM).template_notes[0]


def test_chats_without_system_text():
    system, user = CHAT
    assert without_system([user]) == [user] and without_system([]) == []
    assert without_system([system]) == [{"role": "user", "content": "Be brief."}]
    answer = {"role": "assistant", "content": "x"}
    assert without_system([system, answer])[0] == {"role": "user", "content": "Be brief."}
    assert without_system([{**system, "content": ""}, user]) == [user]
    assert without_system([system, {**user, "content": ""}])[0]["content"] == "Be brief."


@pytest.mark.parametrize(
    "template, message",
    [
        ("hello", "leaves out the text of the system and user"),
        (TURNS.replace("m.content", "m.text"), "leaves out the text of the system and user"),
        (TURNS.replace("messages", "conversation"), "leaves out the text of the system and user"),
        (
            "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}",
            "leaves out the text of the user",
        ),
        (
            "{% if messages[0].role == 'system' %}" + TURNS + "{% else %}x{% endif %}",
            "leaves out the text of the user",
        ),
        ("{{ raise_exception('never') }}", "refuses this chat: never"),
        ("{{ range(99) | random }}" + TURNS, "draws at random"),
        (TURNS + "{{ messages[0].get }}", "differs from run to run"),
        ("{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2, "runs without end"),
        ("{{ 'a' * 10**9 }}" + TURNS, "a text of more than"),
        (TURNS + r"{{ '\ud800' }}", "half of a surrogate pair"),
        (TURNS + "\0", "holds a NUL character"),
        ("Grüße".encode("latin-1") + TURNS.encode(), "chat template file .* is not UTF-8"),
        (TURNS.encode("utf-16"), "is not UTF-8"),
        (b"\xed\xa0\x80" + TURNS.encode(), "is not UTF-8"),
        ("{% if %}", "is no valid jinja"),
    ],
    ids=range(16),
)
def test_templates_that_are_refused(load, template, message):
    with pytest.raises(UserError, match=message) as caught:
        load(template)
    assert "\n" not in str(caught.value)


def test_a_template_that_alternates_between_two_texts(load):
    """Whatever makes two renderings differ is found."""
    from remid_jax.models.template_probe import examine

    turn = iter(range(99))
    with pytest.raises(UserError, match="differently from time to time"):
        examine(lambda chat, prompt: f"{next(turn)}{[m['content'] for m in chat]}", {})


@pytest.mark.parametrize(
    "content, message",
    [
        ("Grüße".encode("latin-1"), "is not UTF-8"),
        (b"hello", "leaves out the text"),
        (b"", "no chat template"),
    ],
)
def test_the_file_of_a_directory(tmp_path, content, message):
    folder = write_hugging_face(tmp_path / "m", tiny_tensors())
    (folder / "chat_template.jinja").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_language_model(str(folder))


def test_a_byte_order_mark_and_line_ends_are_not_part_of_a_template(load):
    plain = load(TURNS + "\n{{ '' }}")
    other = load(b"\xef\xbb\xbf" + TURNS.encode() + b"\r\n{{ '' }}")
    assert other.fingerprint == plain.fingerprint


def test_generation_is_kept(load):
    template = TURNS.replace(
        "{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}"
    )
    assert load(template).render(CHAT) == load(TURNS).render(CHAT)


def test_the_date_is_fixed_and_said(load):
    tokenizer = load("{{ strftime_now('%d %b %Y') }}" + TURNS)
    assert tokenizer.render([]) == "01 Jan 2025"
    assert tokenizer.template_notes == ("strftime_now gives 2025-01-01 to the chat template",)


THINKS = (
    TURNS + "{% if add_generation_prompt %}<u>{% if enable_thinking is defined and "
    "enable_thinking is false %}<think>\n\n</think>\n\n{% elif open %}<think>\n{% endif %}"
    "{% endif %}"
)


def test_variables_reach_the_template(load):
    plain, off = load(THINKS), load(THINKS, enable_thinking=False)
    assert not plain.render(CHAT).endswith("</think>\n\n")
    assert off.render(CHAT) == plain.render(CHAT) + "<think>\n\n</think>\n\n"
    assert off.template_variables == {"enable_thinking": False} and plain.template_variables == {}
    assert (
        len({plain.fingerprint, off.fingerprint, load(THINKS, enable_thinking=True).fingerprint})
        == 3
    )
    assert off.template_notes == ()


def test_variables_of_a_model_that_is_loaded(tmp_path):
    folder = write_hugging_face(tmp_path / "m", tiny_tensors())
    (folder / "chat_template.jinja").write_text(THINKS)
    plain = load_language_model(str(folder))
    off = load_language_model(str(folder), template_variables={"enable_thinking": False})
    assert "</think>" in off.tokenizer.render(CHAT) and off.fingerprint != plain.fingerprint


def test_a_variable_that_is_not_read_is_said(load):
    tokenizer = load(THINKS, enable_thinkng=False)
    assert tokenizer.template_notes == (
        "the chat template does not read the variable 'enable_thinkng'",
        "the chat template reads 'enable_thinking', which is not set: the model's thinking can be "
        "switched in config.model.template_variables",
    )


def test_whether_an_answer_begins_in_a_thought(load):
    assert load(THINKS, open=True).opens_thought
    assert not load(THINKS).opens_thought and not load(THINKS, enable_thinking=False).opens_thought
    assert not load(TURNS.replace("<e>", "<e><think>x</think>")).opens_thought


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"messages": []}, "'messages' is set by the renderer itself"),
        ({"add_generation_prompt": True}, "is set by the renderer itself"),
        ({"bos_token": "x"}, "is set by the renderer itself"),
        ({"raise_exception": 1}, "is set by the renderer itself"),
        ({"none": 1}, "is set by the renderer itself"),
        ({"a-b": 1}, "'a-b' is no name of a variable"),
        ({"": 1}, "'' is no name of a variable"),
        ({3: 1}, "3 is no name of a variable"),
        ({"a": float("nan")}, "must be names and values of JSON"),
        ({"a": b"x"}, "must be names and values of JSON"),
        ({"a": {1, 2}}, "must be names and values of JSON"),
        ([1], "must be names and values of JSON"),
        ("enable_thinking", "must be names and values of JSON"),
    ],
    ids=str,
)
def test_variables_that_are_refused(variables, message):
    with pytest.raises(UserError, match=message):
        checked_variables(variables)


def test_variables_are_plain_json():
    deep = {}
    deep["a"] = deep
    with pytest.raises(UserError, match="names and values of JSON"):
        checked_variables({"x": deep})
    assert checked_variables(None) == checked_variables({}) == {}
    assert checked_variables({"a": (1, {"b": None})}) == {"a": [1, {"b": None}]}


def test_prompts_of_the_default_are_as_before(smollm2):
    tokenizer = smollm2.tokenizer
    assert tokenizer.template_notes == () and not tokenizer.folds_system
    assert not tokenizer.opens_thought and tokenizer.around_turns == ()
    other = dataclasses.replace(tokenizer, folds_system=True)
    chat = prompts.match_messages("a", "b")
    assert other.encode_chat(chat) == tokenizer.encode_chat(chat)


def test_identity_without_variables_is_that_of_vocabulary_rules_and_template(smollm2):
    assert smollm2.tokenizer.fingerprint == (
        "fae08176538fd1cfef1b6a180327034daec48a276e4caa0fb011de075fd41ce7"
    )


def test_special_tokens_of_the_template_are_those_of_the_files(tmp_path):
    folder = write_hugging_face(tmp_path / "m", tiny_tensors())
    settings = {"eos_token": "<pad>", "bos_token": {"content": "<u>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text("{{ bos_token }}" + TURNS + "{{ eos_token }}")
    tokenizer = open_language_model(str(folder)).tokenizer
    assert tokenizer.render([]) == "<u><pad>" and tokenizer.stop_ids == (2, 0)
