"""Collected answers, and those that failed."""

import dataclasses
import json

import pytest

from remid_jax.data.reading import load_responses
from remid_jax.data.responses import counts_of, read_answer, read_responses
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError


def samples(*ids):
    return [
        Sample.from_record(
            {
                "sample_ID": i,
                "user_persona": "A baker.",
                "agent_character": {"name": "Mira"},
                "dialogue_context": [{"user_query": "Are you there?"}],
                "agent_golden_response": "Aye.",
                "subset_tag": "IDTest",
            },
            "here",
        )
        for i in ids
    ]


def write(path, *rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def row(i, details=None, **responses):
    more = {} if details is None else {"response_details": details}
    return {"sample_ID": i, "model_response": responses, **more}


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (None, "holds nothing"),
        ([], "holds nothing"),
        (3, "holds int"),
        ({"type": "thinking", "text": "hm"}, "holds dict"),
        ("", "is empty"),
        (" \u200b\u2060\ufeff", "is empty"),
        ("<think>hm", r"nothing of the answer was spoken \(thought alone\)"),
        ("<|im_start|>user\nhm", r"\(user turn alone\)"),
        ("x \ud83d", r"\\ud8"),
        ([None, None], "holds null|holds nothing"),
        ([{"type": "thinking", "thinking": "hm"}], "holds list"),
    ],
)
def test_answers_without_text(content, failure):
    answer = read_answer(content)
    assert answer.text == ""
    with pytest.raises(AssertionError, match=failure):
        raise AssertionError(answer.failure)


def test_parts_and_draws():
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thinking, {"type": "text", "text": "Aye,"}, {"type": "text", "text": " sir."}]
    assert read_answer(parts).text == "Aye, sir."
    assert read_answer([{"type": "reasoning", "text": "hm"}, *parts[1:]]).text == "Aye, sir."
    assert read_answer({"role": "assistant", "content": "Aye."}).text == "Aye."
    assert read_answer(["I ", {"type": "text", "text": "go."}]).text == "I go."
    first = read_answer([None, "Aye."])
    assert (first.text, first.unused) == ("Aye.", 1)
    several = read_answer(["Mira: Aye.", "No.", "Perhaps."], samples("x")[0])
    assert (several.text, several.unused) == ("Aye.", 0)
    assert several.content == ["Aye.", "No.", "Perhaps."] and first.content == "Aye."
    assert [a.cuts for a in several.draws] == [("speaker_label",), (), ()]
    some = read_answer(["", "No.", 3, "Aye."])
    assert (some.content, some.unused, some.failure) == (["No.", "Aye."], 2, "")
    none = read_answer(["", None])
    assert (none.content, none.unused, none.further) == ("", 1, ())
    assert "is empty" in none.failure


def test_each_draw_keeps_its_details(tmp_path):
    """What a run writes of draws is read back, whatever stands where only one draw failed."""
    details = {"tokens": [1], "tokenizer": "t", "further": [{"tokens": [2], "tokenizer": "t"}]}
    lines = [
        row("x", {"m": details}, m=["Aye.", "No."]),
        row("y", {"m": {**details, "further": [3, {"finish_reason": "length"}]}}, m=["", "b", "c"]),
        row("z", {"m": {"further": "no list"}}, m=["a", "b"]),
    ]
    table = read_responses(write(tmp_path / "r.jsonl", *lines), samples("x", "y", "z"))["m"]
    assert [a.tokens for a in table["x"].draws] == [(1,), (2,)]
    assert table["x"].details() == details
    assert [(a.text, a.tokens, a.finish) for a in table["y"].draws] == [
        ("b", (), ""), ("c", (), "length"),
    ]  # fmt: skip
    assert table["y"].details() == {"further": [{"finish_reason": "length"}]}
    assert table["z"].content == ["a", "b"] and table["z"].details() == {}
    changed = table["x"].each(lambda a: dataclasses.replace(a, text=a.text.strip("Aye.")))
    assert changed.content == "No" and changed.unused == 1  # the first has nothing left


def test_a_failed_answer_leaves_the_others(tmp_path):
    file = write(
        tmp_path / "r.jsonl",
        row("x", a="1", b="2"),
        row("y", {"b": {"failed": "the model refused: no", "finish_reason": "stop"}}, a=None),
    )
    table = read_responses(file, samples("x", "y", "z"))
    assert list(table) == ["a", "b"]
    assert table["a"]["x"].text == "1" and table["b"]["x"].text == "2"
    assert "holds nothing" in table["a"]["y"].failure
    assert table["b"]["y"].failure == "the model refused: no"
    assert "does not have the sample" in table["a"]["z"].failure
    with pytest.raises(UserError, match="lacks 1 of 3 samples, first 'z'"):
        load_responses(file, samples("x", "y", "z"))
    with pytest.raises(UserError, match="'y' has no response of 'a'"):
        load_responses(file, samples("x", "y"))
    assert load_responses(file, samples("x")) == {"a": {"x": "1"}, "b": {"x": "2"}}


def test_what_was_cut_is_counted():
    answers = [
        read_answer("Mira: Aye.<|im_end|>", samples("x")[0], "stop"),
        read_answer("Mira: Aye.", samples("x")[0], "content_filter"),
        read_answer(["Aye.", "No.", ""], finish="length"),
    ]
    assert counts_of(answers) == {
        "cut": {"speaker_label": 2, "end_token": 1},
        "finish_reasons": {"content_filter": 1, "length": 2},
        "unused_draws": 1,
    }


def test_ids_details_marks_and_line_suffixes(tmp_path):
    lines = [
        row(0, {"m": {"tokens": [1, 2], "tokenizer": "t", "finish_reason": "length"}}, m="Aye."),
        row(1, {"m": {"tokens": ["x"], "tokenizer": "t"}}, m="Aye."),
    ]
    file = tmp_path / "r.ndjson"
    file.write_text("\ufeff" + "\n".join(map(json.dumps, lines)), encoding="utf-8")
    column = read_responses(file, samples(0, 1))["m"]
    assert (column["0"].tokens, column["0"].tokenizer) == ((1, 2), "t")
    assert column["0"].finish == "length"
    assert column["1"].tokens == () and column["1"].text == "Aye."


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row("x", **{"a\x1b[2J": "1"})], r"control character U\+001B"),
        ([row("x", **{" ": "1"})], "name of a model in 'model_response' is empty"),
        ([row("x", details={"a": 3}, a="1")], "'response_details' of 'a' must be an object"),
        ([row("x", details=[1], a="1")], "'response_details' must be an object"),
        ([row("x\x07", a="1")], r"control character U\+0007"),
        ([row(True, a="1")], "'sample_ID' must be a string, not bool"),
        ([row(1, a="1"), row("1", a="1")], "duplicate sample_ID '1'"),
        ([row("x", a="1"), {"sample_ID": "y"}], "line 2: needs 'sample_ID'"),
    ],
)
def test_files_that_are_none(tmp_path, rows, said):
    with pytest.raises(UserError, match=said) as e:
        read_responses(write(tmp_path / "r.jsonl", *rows), samples("x", "y"))
    assert "\x1b" not in str(e.value)
