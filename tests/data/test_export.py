import dataclasses
import json
import os
import subprocess
import sys

import pytest
from export_files import lines_of, refused, run, write_lines

from remid_jax.data import export, prompts, shifts
from remid_jax.data.reading import Benchmark, load_benchmark
from remid_jax.errors import UserError
from remid_jax.json_files import write_json_lines

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
        "--rpm", "mine", "--max-tokens", 7, "--out", tmp_path,
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
    counterparts = [s.sample_id for s in chosen["IDTest"]]
    assert counterparts == [f"IDTest_0{i}" for i in range(1, 6)]
    for tag, samples in chosen.items():
        if tag != "IDTest":
            assert [s.pair_id for s in samples] == counterparts


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


# Requests for other servers


def test_requests_for_servers_that_know_other_keys(tmp_path, capsys):
    options = ("--max-tokens", "9", "--max-tokens-key", "max_completion_tokens")
    run(capsys, "--out", tmp_path, "--contexts", "3", *options, "--temperature", "none")
    body = lines_of(tmp_path / export.BATCH)[0]["body"]
    assert body["max_completion_tokens"] == 9
    assert not {"max_tokens", "temperature"} & set(body)
    run(capsys, "--out", tmp_path, "--contexts", "3", "--temperature", "0.5")
    body = lines_of(tmp_path / export.BATCH)[0]["body"]
    assert (body["max_tokens"], body["temperature"]) == (256, 0.5)


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
        (["--out", "OUT", "--rpm", " "], ["--rpm is empty"]),
        (["--out", "OUT", "--rpm", "a\x1bb"], ["--rpm", "control character U+001B"]),
        (["--out", ""], ["--out is empty"]),
        (["--out", "OUT", "--max-tokens-key", "a b"], ["--max-tokens-key"]),
        (["--out", "OUT", "--max-tokens-key", "model"], ["--max-tokens-key"]),
        (["--out", "OUT.jsonl", "--collect", "", "--rpm", "p"], ["--collect is empty"]),
        (["--out", "OUT", "--temperature", "-1"], ["--temperature"]),
        (["--out", "OUT", "--temperature", "nan"], ["--temperature"]),
        (["--out", "OUT", "--subset-shifts", "x"], ["'tag=shift'"]),
        (["--out", "OUT", "--in-distribution", "IDtest"], ["no subset IDtest", "'IDTest'"]),
        (["--out", "OUT.jsonl", "--collect", "x.jsonl"], ["--rpm"]),
        (["--out", "OUT", "--policy", "x"], ["--policy is gone; use --rpm NAME"]),
        (["--out", "OUT.jsonl", "--collect", "x.jsonl", "--rpm", "p"], ["not found", "x.jsonl"]),
        (["--out", "OUT.json", "--collect", "x.jsonl", "--rpm", "p"], ["*.jsonl"]),
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
        write_json_lines(file, rows())
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
        "import sys; from remid_jax.data import export; code = export.main(sys.argv[1:]);"
        f"assert not set({heavy}) & set(sys.modules); sys.exit(code)"
    )
    arguments = ["--contexts", "3", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    assert len(lines_of(tmp_path / export.PROMPTS)) == 36
    wrong = subprocess.run(
        [sys.executable, "-m", "remid_jax.data.export", *arguments, "--shifts", "x"],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: unknown shift 'x'")
