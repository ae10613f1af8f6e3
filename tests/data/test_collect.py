"""Answers of a batch output, and those that failed."""

import json
import os

import pytest
from export_files import answer, lines_of, refused, run, write_lines

from remid_jax.data import export
from remid_jax.data.reading import load_benchmark, load_responses


def odd_text(sample_id, rpm):
    return f'{rpm} to {sample_id}: «Grüß dich» 안녕\u2028\u0085\n\n\ttab \U0001f600 \\ " {{}}'


def test_round_trip(tmp_path, capsys):
    run(capsys, "--shifts", "japanese,Gaming", "--contexts", 6, "--out", tmp_path)
    requests = lines_of(tmp_path / "openai_batch.jsonl")
    out = tmp_path / "responses" / "all.jsonl"
    for rpm in ("first", "second"):
        rows = [answer(r["custom_id"], odd_text(r["custom_id"], rpm)) for r in requests]
        batch = write_lines(tmp_path / "output.jsonl", rows[::-1])  # servers keep no order
        code, said, err = run(capsys, "--collect", batch, "--rpm", rpm, "--out", out)
        assert (code, err) == (0, "")
        assert f"18 responses of '{rpm}'" in said
    chosen = export.choose_contexts(load_benchmark(), ["japanese", "Gaming"], 6)
    samples = [s for subset in chosen.values() for s in subset]
    assert load_responses(out, samples) == {
        rpm: {s.sample_id: odd_text(s.sample_id, rpm) for s in samples}
        for rpm in ("first", "second")
    }
    assert os.listdir(out.parent) == ["all.jsonl"]


def test_merging_keeps_what_was_there(tmp_path, capsys):
    out = write_lines(
        tmp_path / "r.jsonl",
        [
            {"sample_ID": "x", "subset_tag": "IDTest", "model_response": {"old": "1"}},
            {"sample_ID": "y", "model_response": {"old": "2"}, "note": [1]},
        ],
    )
    batch = write_lines(tmp_path / "b.jsonl", [answer("z", "c"), answer("x", "a")])
    code, said, _ = run(capsys, "--collect", batch, "--rpm", "new", "--out", out)
    assert code == 0
    assert "1 samples there lack 'new', first 'y'" in said
    assert lines_of(out) == [
        {"sample_ID": "x", "subset_tag": "IDTest", "model_response": {"old": "1", "new": "a"}},
        {"sample_ID": "y", "model_response": {"old": "2"}, "note": [1]},
        {"sample_ID": "z", "model_response": {"new": "c"}},
    ]


def test_a_second_batch_completes_a_rpm_and_never_changes_it(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    first = write_lines(tmp_path / "1.jsonl", [answer("x", "a")])
    retry = write_lines(tmp_path / "2.jsonl", [answer("x", "a"), answer("y", "b")])
    other = write_lines(tmp_path / "3.jsonl", [answer("y", "changed")])
    assert run(capsys, "--collect", first, "--rpm", "p", "--out", out)[0] == 0
    assert run(capsys, "--collect", retry, "--rpm", "p", "--out", out)[0] == 0
    before = out.read_bytes()
    assert [r["model_response"] for r in lines_of(out)] == [{"p": "a"}, {"p": "b"}]
    err = refused(capsys, "--collect", other, "--rpm", "p", "--out", out)
    assert "another response of 'p' to 'y'" in err
    assert out.read_bytes() == before


def test_answers_that_ran_out_of_tokens_are_counted(tmp_path, capsys):
    rows = [answer("x", "a"), answer("y", "b", "length"), answer("z", "c", "length")]
    batch = write_lines(tmp_path / "b.jsonl", rows)
    _, said, _ = run(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    assert "answers of p with another finish_reason than stop: length (2)" in said
    (x, y, z) = lines_of(tmp_path / "r.jsonl")
    assert "response_details" not in x
    assert y["response_details"] == z["response_details"] == {"p": {"finish_reason": "length"}}


def test_what_is_not_speech_is_cut_and_said(tmp_path, capsys):
    rows = [
        answer("IDTest_01", "<think>hm</think>\nAye.<|eot_id|>"),
        answer("IDTest_02", "Aye.</s>\nUser: x", "content_filter"),
        answer("IDTest_03", "Aye.", "stop"),
    ]
    batch = write_lines(tmp_path / "b.jsonl", rows)
    _, said, _ = run(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    assert [r["model_response"]["p"] for r in lines_of(tmp_path / "r.jsonl")] == ["Aye."] * 3
    cut = "a thought before the answer (1), end tokens (2), a turn made up for the user (1)"
    assert f"cut from answers of p: {cut}, white space at the edges (1)" in said
    assert "another finish_reason than stop: content_filter (1)" in said
    assert "are not in the benchmark" not in said


def test_a_label_is_cut_where_the_benchmark_names_the_character(tmp_path, capsys):
    first = load_benchmark().subsets["IDTest"][0]
    label = f"**{first.character['name']}:** Aye."
    rows = [answer(first.sample_id, label), answer("elsewhere", label)]
    batch = write_lines(tmp_path / "b.jsonl", rows)
    _, said, _ = run(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    texts = [r["model_response"]["p"] for r in lines_of(tmp_path / "r.jsonl")]
    assert texts == ["Aye.", label]
    assert "warning: 1 of 2 ids are not in the benchmark bundled, first 'elsewhere'" in said


def failed(**changes):
    return {**answer("bad", "text"), **changes}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (failed(response=None, error={"code": "x", "message": "too long"}), "too long"),
        (failed(error="it broke"), "it broke"),
        (failed(error={"code": 3}), "status code 200"),
        (failed(error={"code": "batch_expired"}), "batch_expired"),
        (failed(response={"status_code": 429, "body": {"error": {"message": "slow"}}}), "slow"),
        (failed(response={"status_code": 400, "body": {"message": "no model"}}), "no model"),
        (failed(response={"status_code": 500, "body": None}), "status code 500"),
        (failed(response=None), "status code None"),
        (failed(response={"status_code": 200, "body": {"choices": []}}), "choices[0]"),
        (failed(response={"status_code": 200, "body": None}), "choices[0]"),
        (
            failed(response={"status_code": 200, "body": {"choices": [{"message": 3}]}}),
            "choices[0]",
        ),
        (answer("bad", None), "holds nothing"),
        (answer("bad", " \n"), "empty"),
        (answer("bad", None, refusal="I cannot."), "the model refused: I cannot."),
        (answer("bad", [{"type": "refusal", "refusal": "No."}]), "the model refused: No."),
        (answer("bad", "", "length", reasoning_content="hm"), "reasoned and gave no answer"),
        (answer("bad", "<think>hm", "length"), "nothing of the answer was spoken"),
        (answer("bad", None, tool_calls=[{}]), "called a tool"),
        (failed(error="boom\x1b[31m red \x07"), "boom\\x1b[31m red \\x07"),
    ],
)
def test_a_failed_request_is_named_and_the_rest_collected(tmp_path, capsys, row, reason):
    out = tmp_path / "r.jsonl"
    batch = write_lines(tmp_path / "b.jsonl", [answer("good", "text"), row])
    code, said, _ = run(capsys, "--collect", batch, "--rpm", "p", "--out", out)
    assert code == 0 and "1 responses of 'p'" in said
    assert "excluded: p, bad: " in said and reason in said and "\x1b" not in said
    good, bad = lines_of(out)
    assert good["model_response"] == {"p": "text"}
    assert bad["model_response"] == {} and bad["response_details"]["p"]["failed"]


def test_a_retry_takes_the_place_of_a_failure(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    first = write_lines(tmp_path / "1.jsonl", [answer("x", "a"), answer("y", None)])
    retry = write_lines(tmp_path / "2.jsonl", [answer("y", "b"), answer("x", None)])
    for batch in (first, retry):
        assert run(capsys, "--collect", batch, "--rpm", "p", "--out", out)[0] == 0
    assert lines_of(out) == [
        {"sample_ID": "x", "model_response": {"p": "a"}},
        {"sample_ID": "y", "model_response": {"p": "b"}},
    ]


def test_half_a_surrogate_pair_in_an_answer(tmp_path, capsys):
    batch = tmp_path / "b.jsonl"
    batch.write_text(
        "\n".join(
            map(
                json.dumps,
                [
                    answer("good", "x", "\ud83d"),
                    answer("bad", "x \ud83d"),
                    {**answer("worse", "x"), "error": "no \ud83d"},
                ],
            )
        )
    )
    _, said, _ = run(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    assert "excluded: p, bad: " in said and "\\ud8.." in said
    assert lines_of(tmp_path / "r.jsonl")[0]["model_response"] == {"p": "x"}


def test_lines_of_a_retry_and_of_several_draws(tmp_path, capsys):
    several = answer("z", "b")
    first = {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}
    several["response"]["body"]["choices"][0]["index"] = 1
    several["response"]["body"]["choices"].append(first)
    plain = answer("w", None)
    plain["response"]["body"]["choices"] = [{"text": " d", "index": 0, "finish_reason": "stop"}]
    del plain["response"]["status_code"]
    rows = [answer("x", None), answer("y", "c"), answer("x", "e"), answer("y", "c"), several, plain]
    batch = write_lines(tmp_path / "b.jsonl", rows)
    code, said, _ = run(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    texts = {r["sample_ID"]: r["model_response"]["p"] for r in lines_of(tmp_path / "r.jsonl")}
    assert (code, texts) == (0, {"x": "e", "y": "c", "z": ["a", "b"], "w": "d"})
    assert "further draws" not in said


def test_nothing_but_failures(tmp_path, capsys):
    batch = write_lines(tmp_path / "b.jsonl", [answer("a", ""), answer("c", "")])
    err = refused(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    assert "none of the 2 requests has an answer; 'a': the answer is empty" in err


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["holds no responses"]),
        ("{", ["line 1", "no valid JSON"]),
        ("[]", ["line 1", "must be an object"]),
        ('{"sample_ID": "x"}', ["line 1", "'custom_id'"]),
        ('{"custom_id": "x", "method": "POST"}', ["line 1", "no 'response'", "OUTPUT"]),
        ("\n".join(json.dumps(answer("x", y)) for y in "ab"), ["line 2", "another answer", "'x'"]),
        (b"\xff\xfe", ["cannot be read"]),
    ],
)
def test_wrong_batch_outputs(tmp_path, capsys, text, parts):
    batch = tmp_path / "b.jsonl"
    batch.write_bytes(text if isinstance(text, bytes) else text.encode())
    err = refused(capsys, "--collect", batch, "--rpm", "p", "--out", tmp_path / "r.jsonl")
    for part in parts:
        assert part in err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "line 1"),
        ('{"sample_ID": "x"}', "'model_response'"),
        ('{"model_response": {}}', "'sample_ID'"),
        ('{"sample_ID": "x", "model_response": {}}\n' * 2, "line 2: duplicate sample_ID 'x'"),
    ],
)
def test_a_broken_response_file_is_not_overwritten(tmp_path, capsys, text, part):
    batch = write_lines(tmp_path / "b.jsonl", [answer("x", "a")])
    out = tmp_path / "r.jsonl"
    out.write_text(text, encoding="utf-8")
    assert part in refused(capsys, "--collect", batch, "--rpm", "p", "--out", out)
    assert out.read_text(encoding="utf-8") == text
