import dataclasses
import json
import os
import subprocess
import sys

import pytest

from remid_jax.benchmark import export, prompts, shifts
from remid_jax.benchmark.reading import Benchmark, load_benchmark, load_responses
from remid_jax.errors import UserError


def lines_of(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def answer(custom_id, text, finish="stop", **more):
    """A line of a batch output file, as OpenAI and vLLM write it."""
    message = {"role": "assistant", "content": text, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice]}
    response = {"status_code": 200, "request_id": "r", "body": body}
    return {"id": "batch-1", "custom_id": custom_id, "response": response, "error": None}


def write_lines(file, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file.write_text(text, encoding="utf-8")
    return file


def run(capsys, *argv):
    code = export.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *argv):
    """The one line of an error."""
    code, out, err = run(capsys, *argv)
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1
    return err


# Prompts out


def test_the_rest_is_taken_at_even_distances():
    chosen = export.choose_contexts(rearranged(), ["korean", "Gaming"], 3)
    subsets = rearranged().subsets
    assert chosen["korean"] == tuple(subsets["korean"][i] for i in (0, 5, 10))
    assert chosen["Gaming"] == tuple(subsets["Gaming"][i] for i in (0, 4, 8))


def test_all_prompts_of_the_bundled_benchmark(tmp_path, capsys):
    code, out, err = run(capsys, "--model", "org/some-model", "--out", tmp_path / "a" / "b")
    assert (code, err) == (0, "")
    assert "192 prompts" in out and "Film & Television 16" in out
    folder = tmp_path / "a" / "b"
    assert sorted(os.listdir(folder)) == ["openai_batch.jsonl", "prompts.jsonl"]
    expected = [
        s for tag, subset in load_benchmark().subsets.items() if tag != "IDTrain" for s in subset
    ]
    written = lines_of(folder / "prompts.jsonl")
    assert written == [
        {
            "sample_ID": s.sample_id,
            "subset_tag": s.tag,
            "messages": prompts.reply_messages(s),
        }
        for s in expected
    ]
    assert lines_of(folder / "openai_batch.jsonl") == [
        {
            "custom_id": row["sample_ID"],
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "org/some-model",
                "messages": row["messages"],
                "max_tokens": 256,
                "temperature": 0,
            },
        }
        for row in written
    ]


def test_no_golden_response_is_given_away(tmp_path, capsys):
    run(capsys, "--out", tmp_path)
    text = (tmp_path / "openai_batch.jsonl").read_text(encoding="utf-8")
    for sample in load_benchmark():
        assert json.dumps(sample.golden, ensure_ascii=False)[1:-1] not in text


def test_choices(tmp_path, capsys):
    code, out, _ = run(
        capsys, "--shifts", " german, dialogue", "--view", "last_turn", "--contexts", 4,
        "--policy", "mine", "--max-tokens", 7, "--out", tmp_path,
    )  # fmt: skip
    assert code == 0
    assert "'mine'" in out
    rows = lines_of(tmp_path / "prompts.jsonl")
    tags = ["IDTest", "german", "TurnLevelComposition", "WordLevelComposition"]
    assert [r["subset_tag"] for r in rows] == [t for t in tags for _ in range(4)]
    by_id = {s.sample_id: s for s in load_benchmark()}
    for row in rows:
        assert row["messages"] == prompts.reply_messages(by_id[row["sample_ID"]], "last_turn")
    for request in lines_of(tmp_path / "openai_batch.jsonl"):
        assert request["body"]["max_tokens"] == 7
        assert request["body"]["model"] == "mine"


def rearranged():
    """The bundled benchmark with subsets in other orders, unpaired ones, and one shorter."""
    subsets = dict(load_benchmark().subsets)
    subsets["german"] = subsets["german"][::-1]
    subsets["Theater"] = subsets["Theater"][3:] + subsets["Theater"][:3]
    subsets["korean"] = tuple(dataclasses.replace(s, extra={}) for s in subsets["korean"][::-1])
    subsets["Gaming"] = subsets["Gaming"][4:]
    return Benchmark("rearranged", subsets)


def test_few_contexts_stay_paired():
    chosen = export.choose_contexts(rearranged(), ["german", "chinese", "Theater"], 5)
    anchors = [s.sample_id for s in chosen["IDTest"]]
    assert anchors == [f"IDTest_0{i}" for i in range(1, 6)]
    for tag, samples in chosen.items():
        if tag != "IDTest":
            assert [s.pair_id for s in samples] == anchors


@pytest.mark.parametrize("contexts", [4, 12, 16])
def test_few_contexts_hold_both_languages_equally(contexts):
    chosen = export.choose_contexts(load_benchmark(), ["user"], contexts)
    for tag in shifts.SHIFTS["user"]:
        languages = [s.extra["language"] for s in chosen[tag]]
        assert languages.count("en") == contexts / 2


def test_a_benchmark_of_ones_own_with_some_subsets(tmp_path, capsys):
    records = [s.to_record() for s in load_benchmark().subsets["korean"]]
    id_test = [s.to_record() for s in load_benchmark().subsets["IDTest"]]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"IDTest": id_test, "OOD1Test": records}), encoding="utf-8")
    code, out, _ = run(capsys, "--benchmark", file, "--out", tmp_path / "out")
    assert code == 0
    assert "(IDTest 16, korean 16)" in out
    assert "not in the benchmark: german, spanish" in out
    err = refused(capsys, "--benchmark", file, "--shifts", "dialogue", "--out", tmp_path / "none")
    assert "has none of TurnLevelComposition, WordLevelComposition" in err
    assert not (tmp_path / "none").exists()
    file.write_text(json.dumps({"OOD1Test": records}), encoding="utf-8")
    assert "no subset IDTest" in refused(capsys, "--benchmark", file, "--out", tmp_path / "none")


def test_same_words_same_bytes(tmp_path, capsys):
    for name in ("one", "two", "one"):
        run(capsys, "--out", tmp_path / name)
    for file in (export.PROMPTS, export.BATCH):
        first, second = ((tmp_path / n / file).read_bytes() for n in ("one", "two"))
        assert first == second
        assert "ä".encode() in first  # readable, not escaped


# Responses in


def odd_text(sample_id, policy):
    return f'{policy} to {sample_id}: «Grüß dich» 안녕\u2028\u0085\n\n\ttab \U0001f600 \\ " {{}}'


def test_round_trip(tmp_path, capsys):
    run(capsys, "--shifts", "japanese,Gaming", "--contexts", 6, "--out", tmp_path)
    requests = lines_of(tmp_path / "openai_batch.jsonl")
    out = tmp_path / "responses" / "all.jsonl"
    for policy in ("first", "second"):
        rows = [answer(r["custom_id"], odd_text(r["custom_id"], policy)) for r in requests]
        batch = write_lines(tmp_path / "output.jsonl", rows[::-1])  # servers keep no order
        code, said, err = run(capsys, "--collect", batch, "--policy", policy, "--out", out)
        assert (code, err) == (0, "")
        assert f"18 responses of '{policy}'" in said
    chosen = export.choose_contexts(load_benchmark(), ["japanese", "Gaming"], 6)
    samples = [s for subset in chosen.values() for s in subset]
    assert load_responses(out, samples) == {
        policy: {s.sample_id: odd_text(s.sample_id, policy) for s in samples}
        for policy in ("first", "second")
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
    code, said, _ = run(capsys, "--collect", batch, "--policy", "new", "--out", out)
    assert code == 0
    assert "1 samples there lack 'new', first 'y'" in said
    assert lines_of(out) == [
        {"sample_ID": "x", "subset_tag": "IDTest", "model_response": {"old": "1", "new": "a"}},
        {"sample_ID": "y", "model_response": {"old": "2"}, "note": [1]},
        {"sample_ID": "z", "model_response": {"new": "c"}},
    ]


def test_a_second_batch_completes_a_policy_and_never_changes_it(tmp_path, capsys):
    out = tmp_path / "r.jsonl"
    first = write_lines(tmp_path / "1.jsonl", [answer("x", "a")])
    retry = write_lines(tmp_path / "2.jsonl", [answer("x", "a"), answer("y", "b")])
    other = write_lines(tmp_path / "3.jsonl", [answer("y", "changed")])
    assert run(capsys, "--collect", first, "--policy", "p", "--out", out)[0] == 0
    assert run(capsys, "--collect", retry, "--policy", "p", "--out", out)[0] == 0
    before = out.read_bytes()
    assert [r["model_response"] for r in lines_of(out)] == [{"p": "a"}, {"p": "b"}]
    err = refused(capsys, "--collect", other, "--policy", "p", "--out", out)
    assert "another response of 'p' to 'y'" in err
    assert out.read_bytes() == before


def test_answers_that_ran_out_of_tokens_are_counted(tmp_path, capsys):
    rows = [answer("x", "a"), answer("y", "b", "length"), answer("z", "c", "length")]
    batch = write_lines(tmp_path / "b.jsonl", rows)
    _, said, _ = run(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
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
    _, said, _ = run(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
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
    _, said, _ = run(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
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
    code, said, _ = run(capsys, "--collect", batch, "--policy", "p", "--out", out)
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
        assert run(capsys, "--collect", batch, "--policy", "p", "--out", out)[0] == 0
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
    _, said, _ = run(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
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
    code, said, _ = run(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
    texts = {r["sample_ID"]: r["model_response"]["p"] for r in lines_of(tmp_path / "r.jsonl")}
    assert (code, texts) == (0, {"x": "e", "y": "c", "z": "a", "w": "d"})
    assert "further draws of p that are not used: 1" in said


def test_nothing_but_failures(tmp_path, capsys):
    batch = write_lines(tmp_path / "b.jsonl", [answer("a", ""), answer("c", "")])
    err = refused(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
    assert "none of the 2 requests has an answer; 'a': the answer is empty" in err


def test_requests_for_servers_that_know_other_keys(tmp_path, capsys):
    options = ("--max-tokens", "9", "--max-tokens-key", "max_completion_tokens")
    run(capsys, "--out", tmp_path, "--contexts", "3", *options, "--temperature", "none")
    body = lines_of(tmp_path / export.BATCH)[0]["body"]
    assert body["max_completion_tokens"] == 9
    assert not {"max_tokens", "temperature"} & set(body)
    run(capsys, "--out", tmp_path, "--contexts", "3", "--temperature", "0.5")
    body = lines_of(tmp_path / export.BATCH)[0]["body"]
    assert (body["max_tokens"], body["temperature"]) == (256, 0.5)


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
    err = refused(capsys, "--collect", batch, "--policy", "p", "--out", tmp_path / "r.jsonl")
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
    assert part in refused(capsys, "--collect", batch, "--policy", "p", "--out", out)
    assert out.read_text(encoding="utf-8") == text


# What a user can get wrong


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ([], ["--out"]),
        (["--shifts", "germn"], ["--out"]),
        (["--out", "OUT", "--shifts", "germn"], ["'germn'", "did you mean 'german'"]),
        (["--out", "OUT", "--shifts", ","], ["no shift was chosen"]),
        (["--out", "OUT", "--view", "all"], ["--view", "last_turn"]),
        (["--out", "OUT", "--contexts", "few"], ["--contexts"]),
        (["--out", "OUT", "--contexts", "-1"], ["--contexts is -1"]),
        (["--out", "OUT", "--max-tokens", "0"], ["--max-tokens is 0"]),
        (["--out", "OUT", "--benchmark", "none.json"], ["not found", "none.json"]),
        (["--out", "OUT", "--polcy", "x"], ["--polcy"]),
        (["--out", "OUT", "--policy", " "], ["--policy is empty"]),
        (["--out", "OUT", "--policy", "a\x1bb"], ["--policy", "control character U+001B"]),
        (["--out", ""], ["--out is empty"]),
        (["--out", "OUT", "--max-tokens-key", "a b"], ["--max-tokens-key"]),
        (["--out", "OUT", "--max-tokens-key", "model"], ["--max-tokens-key"]),
        (["--out", "OUT.jsonl", "--collect", "", "--policy", "p"], ["--collect is empty"]),
        (["--out", "OUT", "--temperature", "-1"], ["--temperature"]),
        (["--out", "OUT", "--temperature", "nan"], ["--temperature"]),
        (["--out", "OUT", "--subset-shifts", "x"], ["'tag=shift'"]),
        (["--out", "OUT", "--in-distribution", "IDtest"], ["no subset IDtest", "'IDTest'"]),
        (["--out", "OUT.jsonl", "--collect", "x.jsonl"], ["--policy"]),
        (["--out", "OUT.jsonl", "--collect", "x.jsonl", "--policy", "p"], ["not found", "x.jsonl"]),
        (["--out", "OUT.json", "--collect", "x.jsonl", "--policy", "p"], ["*.jsonl"]),
    ],
)
def test_wrong_commands(tmp_path, monkeypatch, capsys, argv, parts):
    monkeypatch.chdir(tmp_path)
    err = refused(capsys, *argv)
    for part in parts:
        assert part in err
    assert os.listdir(tmp_path) == []


def test_an_unwritable_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    err = refused(capsys, "--out", tmp_path / "file" / "x")
    assert "cannot write" in err and str(tmp_path / "file" / "x") in err
    assert "cannot write" in refused(capsys, "--out", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "kept"
    (tmp_path / "taken" / export.PROMPTS).mkdir(parents=True)
    assert "cannot write" in refused(capsys, "--out", tmp_path / "taken")
    assert os.listdir(tmp_path / "taken") == [export.PROMPTS]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    file = write_lines(tmp_path / "r.jsonl", [{"old": 1}])

    def rows():
        yield {"new": 1}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.write_jsonl(file, rows())
    assert lines_of(file) == [{"old": 1}]
    assert os.listdir(tmp_path) == ["r.jsonl"]


def test_a_full_disk(tmp_path, monkeypatch, capsys):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(capsys, "--out", tmp_path)
    assert os.listdir(tmp_path) == []


def test_choose_contexts_needs_the_subsets():
    with pytest.raises(UserError, match="no subset IDTest"):
        export.choose_contexts(Benchmark("empty", {}), ["user"])


def test_as_a_command_and_without_heavy_packages(tmp_path):
    heavy = ["jax", "flax", "tensorflow_datasets", "tensorflow", "grain", "torch", "tokenizers"]
    code = (
        "import sys; from remid_jax.benchmark import export; code = export.main(sys.argv[1:]);"
        f"assert not set({heavy}) & set(sys.modules); sys.exit(code)"
    )
    arguments = ["--contexts", "3", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    assert len(lines_of(tmp_path / export.PROMPTS)) == 36
    wrong = subprocess.run(
        [sys.executable, "-m", "remid_jax.benchmark.export", *arguments, "--shifts", "x"],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: unknown shift 'x'")
