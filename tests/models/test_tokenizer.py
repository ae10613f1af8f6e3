"""The default model's tokenizer and chat template against stored results of transformers."""

import dataclasses
import json
from pathlib import Path

import pytest

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "smollm2.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", GOLDEN["texts"])
def test_ids(smollm2, name):
    case = GOLDEN["texts"][name]
    assert smollm2.tokenizer.backend.encode(case["text"]).ids == case["ids"]
    if not name.startswith("special"):
        assert smollm2.tokenizer.encode(case["text"]) == case["ids"]


@pytest.mark.parametrize("name", GOLDEN["texts"])
def test_decoding_gives_the_text_back(smollm2, name):
    text = GOLDEN["texts"][name]["text"]
    assert smollm2.tokenizer.decode(smollm2.tokenizer.encode(text)) == text


def test_decoding_leaves_special_tokens_out(smollm2):
    tokenizer = smollm2.tokenizer
    assert tokenizer.decode([1, *tokenizer.encode("hi there"), 2, 0]) == "hi there"


@pytest.mark.parametrize("name", GOLDEN["chats"])
def test_chats(smollm2, name):
    case, tokenizer = GOLDEN["chats"][name], smollm2.tokenizer
    assert tokenizer.render(case["messages"]) == case["rendered"]
    assert tokenizer.encode_chat(case["messages"]) == case["ids"]
    answer = "<|im_start|>assistant\n"
    assert case["rendered"].endswith(answer)
    closed = tokenizer.render(case["messages"], add_generation_prompt=False)
    assert closed == case["rendered"].removesuffix(answer)


def test_club_chat(smollm2):
    club = GOLDEN["club"]
    messages = [
        {"role": "system", "content": club["system"]},
        {"role": "user", "content": club["user"][0]},
    ]
    assert smollm2.tokenizer.render(messages) == club["rendered_first"]


def test_facts_of_the_default(smollm2):
    tokenizer = smollm2.tokenizer
    assert (tokenizer.end_of_turn, tokenizer.stop_ids, tokenizer.bos) == (2, (2,), None)
    assert tokenizer.special["eos_token"] == "<|im_end|>"


def test_a_beginning_token_stands_exactly_once(smollm2):
    chat = [{"role": "user", "content": "x"}]
    plain = dataclasses.replace(smollm2.tokenizer, bos=0, special={"bos_token": "<|endoftext|>"})
    without = dataclasses.replace(plain, chat_template="{{ messages[0].content }}")
    with_it = dataclasses.replace(plain, chat_template="{{ bos_token }}{{ messages[0].content }}")
    assert without.encode_chat(chat) == with_it.encode_chat(chat) == [0, *plain.encode("x")]
