"""What a model's files say of its tokenizer: merged, checked, or refused with what and where."""

import json
import os
import subprocess
import sys

import gguf
import pytest
import tiny_checkpoint
from tiny_checkpoint import TOKENS, gguf_name, tiny_tensors, write_gguf, write_hugging_face

from remid_jax.errors import UserError
from remid_jax.models.pretrained import open_language_model
from remid_jax.models.tokenizer_library import guarded

VOCAB = len(TOKENS)
MOOD = {
    "content": "<mood>", "special": True, "normalized": False, "lstrip": False, "rstrip": False,
    "single_word": False,
}  # fmt: skip


def edited(folder, name, edit, rows=VOCAB):
    """The tokenizer of a directory in which one JSON file is changed."""
    write_hugging_face(folder, tiny_tensors(vocab=rows), {"vocab_size": rows})
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    edit(content)
    path.write_text(json.dumps(content))
    return open_language_model(str(folder)).tokenizer


def refusal(folder, name, edit, rows=VOCAB):
    with pytest.raises(UserError) as caught:
        edited(folder, name, edit, rows)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def set_eos(value):
    return lambda c: c.update(eos_token_id=value)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    "value, message",
    [
        ("x", "must be the id of a token, not str"),
        (True, "must be the id of a token, not bool"),
        (2.0, "must be the id of a token, not float"),
        (-1, "is -1, which is no id of the tokenizer"),
        (VOCAB, f"is {VOCAB}, which is no id of the tokenizer"),
        (10**30, f"is {10**30}, which is no id of the tokenizer"),
        ([2, None], "must be the id of a token, not null"),
        ([2, [0]], "must be the id of a token, not list"),
        ({"a": 2}, "must be the id of a token, not dict"),
    ],
)
def test_ids_that_end_a_turn_are_ids(tmp_path, name, value, message):
    assert f"{name}: eos_token_id {message}" in refusal(tmp_path / "m", name, set_eos(value))


def test_all_files_say_what_ends_a_turn(tmp_path):
    tokenizer = edited(tmp_path / "a", "generation_config.json", set_eos([0, 1]))
    assert (tokenizer.end_of_turn, tokenizer.stop_ids) == (2, (2, 0, 1))
    tokenizer = edited(tmp_path / "b", "config.json", set_eos(None))
    assert tokenizer.stop_ids == (2,)


def test_a_base_model_with_a_chat_template(tmp_path):
    """The template ends turns with <e>; eos is <pad> everywhere."""
    folder = write_hugging_face(tmp_path / "m", tiny_tensors(), {"eos_token_id": 0})
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token": "<pad>"}))
    tokenizer = open_language_model(str(folder)).tokenizer
    assert (tokenizer.end_of_turn, tokenizer.stop_ids) == (2, (2, 0))
    assert tokenizer.special == {"eos_token": "<pad>"}
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert tokenizer.encode_chat(chat, False)[-1] == tokenizer.end_of_turn


@pytest.mark.parametrize(
    "template, end",
    [
        ("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", 0),
        ("{% for m in messages %}{{ m.content + '<u>\n' + eos_token }}{% endfor %}", 1),
        ("{% for m in messages %}<u>{{ m.content }}\n{% endfor %}", 0),  # no token: as files say
        (
            "{% if messages | length > 3 %}{{ raise_exception('too long') }}{% endif %}"
            "{% for m in messages %}{{ m.content }}<u>{% endfor %}",
            1,
        ),
        ("{% for m in messages[-2:] %}{{ m.content if loop.last }}<u>{% endfor %}", 1),
        # What is always written at the end begins the next turn.
        ("{% for m in messages %}<pad>{{ m.content }}{% endfor %}<u>", 0),
        (
            "{% for m in messages %}{{ m.content }}{{ '<u>' if loop.last else '<e>' }}{% endfor %}",
            2,
        ),
        ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}<e>{% endfor %}", 0),
    ],
)
def test_the_first_token_after_an_answer_ends_a_turn(tmp_path, template, end):
    def edit(settings):
        settings.update(eos_token="<pad>", chat_template=template)

    tokenizer = edited(tmp_path / "m", "tokenizer_config.json", edit)
    stops = [end, *(i for i in (0, 2) if i != end)]  # config.json names 2
    assert (tokenizer.end_of_turn, list(tokenizer.stop_ids)) == (end, stops)


def test_white_space_ends_no_turn(tmp_path):
    def edit(settings):
        settings["added_tokens_decoder"] = {"262": {**MOOD, "content": "\n", "special": False}}
        settings["chat_template"] = "{% for m in messages %}<u>{{ m.content }}\n<e>{% endfor %}"

    tokenizer = edited(tmp_path / "m", "tokenizer_config.json", edit, VOCAB + 1)
    assert tokenizer.end_of_turn == 2 and tokenizer.around_turns == ()


def test_nothing_says_how_a_turn_ends(tmp_path):
    folder = write_hugging_face(tmp_path / "m", tiny_tensors(), {"eos_token_id": None})
    settings = {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"no eos token in tokenizer_config.json or config.json"):
        open_language_model(str(folder))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"eos_token": 3}, "eos_token must be a text, not int"),
        ({"eos_token": {"content": None}}, "eos_token must be a text, not null"),
        ({"bos_token": ["<e>"]}, "bos_token must be a text, not list"),
        ({"bos_token": "<s>"}, "bos_token '<s>' is no token of tokenizer.json"),
        ({"chat_template": 3}, "chat_template must be a text, not int"),
        ({"chat_template": [{}]}, "chat_template must list named templates"),
        ({"chat_template": ["x"]}, "chat_template must list named templates"),
        (
            {"chat_template": [{"name": "default", "template": 3}]},
            "chat_template must be a text, not int",
        ),
        ({"chat_template": [{"name": "tools", "template": "x"}]}, "no chat template"),
        ({"added_tokens_decoder": [1]}, "added_tokens_decoder must be an object, not list"),
        ({"added_tokens_decoder": {"x": MOOD}}, "must map ids to tokens with a content; see 'x'"),
        ({"added_tokens_decoder": {"-1": MOOD}}, "must map ids to tokens with a content"),
        ({"added_tokens_decoder": {"9": "<mood>"}}, "must map ids to tokens with a content"),
        ({"added_tokens_decoder": {"9": {"content": ""}}}, "must map ids to tokens"),
        (
            {"added_tokens_decoder": {"262": {**MOOD, "special": 1}}},
            "the flags of '<mood>' must be true or false",
        ),
        (
            {"added_tokens_decoder": {"1": MOOD}},
            "has '<mood>' with id 1, and tokenizer.json has '<u>'",
        ),
        (
            {"added_tokens_decoder": {"9": MOOD}},
            f"has '<mood>' with id 9, and tokenizer.json has {TOKENS[9]!r}",
        ),
        (
            {"added_tokens_decoder": {"262": {**MOOD, "content": "<u>"}}},
            "has '<u>' with id 262, and tokenizer.json has id 1 for it",
        ),
        (
            {"added_tokens_decoder": {"263": MOOD}},
            "'<mood>' has id 263 by the files, and 262 by its place; ids may leave no holes",
        ),
        (
            {"added_tokens_decoder": {"264": MOOD}},
            "'<mood>' has id 264 by the files, and 262 by its place; ids may leave no holes",
        ),
    ],
    ids=str,
)
def test_settings_of_wrong_kinds(tmp_path, change, message):
    assert message in refusal(
        tmp_path / "m", "tokenizer_config.json", lambda c: c.update(change), VOCAB + 2
    )


def test_tokens_that_only_the_settings_name(tmp_path):
    more = {"262": MOOD, "263": {**MOOD, "content": "<loud>", "special": False}}

    def edit(settings):
        settings["added_tokens_decoder"] = more

    tokenizer = edited(tmp_path / "m", "tokenizer_config.json", edit, VOCAB + 2)
    assert tokenizer.backend.encode("a<mood>b<loud>").ids[1::2] == [262, 263]
    assert tokenizer.encode("<loud>") == [263] and 262 not in tokenizer.encode("<mood>")
    plain = edited(tmp_path / "n", "tokenizer_config.json", lambda c: None, VOCAB + 2)
    assert plain.fingerprint != tokenizer.fingerprint


def test_settings_that_repeat_the_tokenizer_change_nothing(tmp_path):
    def edit(settings):
        flags = {k: v for k, v in MOOD.items() if k != "content"}
        settings["added_tokens_decoder"] = {
            str(i): {"content": t, **flags} for i, t in enumerate(("<pad>", "<u>", "<e>"))
        }

    repeated = edited(tmp_path / "m", "tokenizer_config.json", edit)
    plain = edited(tmp_path / "n", "tokenizer_config.json", lambda c: None)
    assert repeated.fingerprint == plain.fingerprint


def test_flags_of_the_settings_hold(tmp_path):
    def edit(settings):
        settings["added_tokens_decoder"] = {"0": {**MOOD, "content": "<pad>", "rstrip": True}}

    tokenizer = edited(tmp_path / "m", "tokenizer_config.json", edit)
    assert len(tokenizer.backend.encode("<pad>  ").ids) == 1


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda c: c["model"].update(dropout=0.5), "has a dropout of 0.5, with which a text gets"),
        (lambda c: c["model"].update(dropout="x"), "not a tokenizer"),
        (lambda c: c["model"].update(dropout=7), "not a tokenizer"),
        (lambda c: c["model"].update(continuing_subword_prefix="abcdefgh"), "not a tokenizer"),
        (lambda c: c["model"]["vocab"].update(L=262), "token 'L' has id 262, but the embedding"),
        (lambda c: c["model"]["vocab"].update(new=10**9), "'new' has id 1000000000, but the emb"),
        (lambda c: c["model"]["vocab"].update(new=-1), "not a tokenizer"),
        (lambda c: c["model"]["vocab"].update(ab=100), "stand for one id, 100"),
        (lambda c: c.update(model=[]), "not a tokenizer"),
        (lambda c: c.update(added_tokens={}), "not a tokenizer"),
        (lambda c: c["added_tokens"][1].update(id=9), "'<u>' has id 9 by the files, and 1"),
        (lambda c: c["added_tokens"].append({}), "not a tokenizer"),
        (lambda c: c.update(normalizer=3), "not a tokenizer"),
    ],
)
def test_damaged_tokenizers(tmp_path, edit, message):
    assert message in refusal(tmp_path / "m", "tokenizer.json", edit)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is no valid JSON"),
        ("[" * 5000 + "]" * 5000, "is nested deeper"),
        ("[]", "not a tokenizer"),
        ('"x"', "not a tokenizer"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("\ud800".encode("utf-8", "surrogatepass"), "is not UTF-8"),
    ],
)
def test_files_that_are_no_tokenizer(tmp_path, text, message):
    folder = write_hugging_face(tmp_path / "m", tiny_tensors())
    (folder / "tokenizer.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        open_language_model(str(folder))


def test_a_dropout_of_nothing_is_none(tmp_path):
    tokenizer = edited(tmp_path / "m", "tokenizer.json", lambda c: c["model"].update(dropout=0.0))
    assert tokenizer.encode("ab")


def test_rows_beyond_the_tokenizer_are_padding(tmp_path):
    assert edited(tmp_path / "m", "config.json", lambda c: None, VOCAB + 9).encode("ab")


def test_what_else_is_written_meanwhile_is_shown(capfd):
    guarded(lambda: os.write(2, b"a word of another thread"), "x")
    assert capfd.readouterr().err == "a word of another thread"


PANIC = """
import sys
from remid_jax.errors import UserError
from remid_jax.models.pretrained import open_language_model
try: open_language_model(sys.argv[1])
except UserError as e: print("refused:", e)
"""


def test_a_panic_prints_no_trace(tmp_path):
    folder = write_hugging_face(tmp_path / "m", tiny_tensors())
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["continuing_subword_prefix"] = "abcdefgh"
    file.write_text(json.dumps(content))
    command = [sys.executable, "-c", PANIC, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused: ") and "panicked" not in done.stderr


def gguf_file(path, family="llama", pre="smollm", tokens=TOKENS, types=None, **ids):
    """A GGUF file whose tokenizer is as asked for; ids: eos, eot, eom, bos."""
    writer, tensors = gguf.GGUFWriter(str(path), family), tiny_tensors(0, family)
    write_gguf(path.with_suffix(".whole"), tensors, family=family)  # for its numbers
    reader = gguf.GGUFReader(str(path.with_suffix(".whole")))
    for name, field in reader.fields.items():
        if name.startswith(f"{family}."):
            writer.add_key_value(name, field.contents(), field.types[0])
    writer.add_uint32(f"{family}.vocab_size", VOCAB)
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types or [3] * 3 + [1] * (len(tokens) - 3))
    writer.add_token_merges([" ".join(m) for m in tiny_checkpoint.MERGES])
    for name, value in ({"eos": 2} | ids).items():
        key = f"tokenizer.ggml.{name}_token_id"
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        add = writer.add_bool if isinstance(value, bool) else add
        add(key, value)
    writer.add_chat_template(tiny_checkpoint.TEMPLATE)
    for name, w in tensors.items():
        stored = tiny_checkpoint.as_llama_cpp_stores(name, w) if family == "llama" else w
        writer.add_tensor(gguf_name(name), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_gguf_that_does_not_say_how_texts_are_cut(tmp_path, family):
    with pytest.raises(UserError, match=r"lacks 'tokenizer.ggml.pre'.*gguf_new_metadata.py"):
        open_language_model(gguf_file(tmp_path / "a.gguf", family, pre=None))


@pytest.mark.parametrize(
    "ids, stops",
    [
        ({"eos": 0, "eot": 2}, (2, 0)),
        ({"eos": 0}, (2, 0)),
        ({"eos": 2, "eot": 0, "eom": 1}, (2, 0, 1)),
    ],
)
def test_what_ends_a_turn_in_gguf(tmp_path, ids, stops):
    tokenizer = open_language_model(gguf_file(tmp_path / "a.gguf", **ids)).tokenizer
    assert (tokenizer.end_of_turn, tokenizer.stop_ids) == (2, stops)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"eos": "2"}, "eos_token_id must be the id of a token, not str"),
        ({"eot": True}, "eot_token_id must be the id of a token, not bool"),
        ({"eom": 9999}, "eom_token_id is 9999, which is no id of the tokenizer"),
        ({"bos": 2**32 - 1}, "bos_token_id is 4294967295, which is no id of the tokenizer"),
        ({"tokens": [*TOKENS, "<mood>"]}, "token '<mood>' has id 262, but the embedding has 262"),
        ({"types": [3, 3]}, "token_type must have a number for each token"),
        ({"tokens": TOKENS[:-3]}, "not a tokenizer"),  # merges of what is not there
    ],
    ids=str,
)
def test_damaged_gguf_tokenizers(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        open_language_model(gguf_file(tmp_path / "a.gguf", **changes))
    assert "\n" not in str(caught.value)
