import copy
import json
import subprocess
import sys
import textwrap

import pytest
from sample_files import error_of, record, write

from remid_jax.data import shifts
from remid_jax.data.contexts import absent_subsets, choose_contexts
from remid_jax.data.reading import bundled_path, load_benchmark
from remid_jax.data.rules import violations
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError

# The bundled benchmark


def test_bundled_is_complete_and_written_back_unchanged():
    benchmark = load_benchmark()
    assert benchmark.name == "bundled"
    assert tuple(benchmark.subsets) == shifts.ALL_TAGS
    raw = json.loads(bundled_path().read_text(encoding="utf-8"))
    for split, records in raw.items():
        again = [
            s.to_record()
            for tag, samples in benchmark.subsets.items()
            if shifts.split_of(tag) == split
            for s in samples
        ]
        assert again == records


def test_bundled_samples_are_unique_and_paired():
    benchmark = load_benchmark()
    ids = [s.sample_id for s in benchmark]
    assert len(ids) == len(set(ids)) == 240
    counterparts = {s.sample_id for s in benchmark.subsets["IDTest"]}
    for tag in shifts.SHIFT_OF:
        assert {s.pair_id for s in benchmark.subsets[tag]} <= counterparts
    assert all(s.pair_id is None for s in benchmark.subsets["IDTest"])


def test_bundled_by_its_path_is_the_same(tmp_path):
    copied = write(tmp_path / "copy.json", bundled_path().read_text(encoding="utf-8"))
    by_path = load_benchmark(copied)
    assert by_path.name == str(copied)
    assert by_path.subsets == load_benchmark().subsets
    assert load_benchmark(str(copied)) == by_path


# Any file by its path


def test_a_small_file(tmp_path):
    data = {
        "OOD2Test": [record("OOD2Test_g", "Gaming"), record("OOD2Test_l", "Literature")],
        "IDTest": [record("IDTest_2"), record("IDTest_1")],
        "about": {"version": 3},
    }
    benchmark = load_benchmark(write(tmp_path / "b.json", data))
    assert list(benchmark.subsets) == ["IDTest", "Literature", "Gaming"]
    assert [s.sample_id for s in benchmark.subsets["IDTest"]] == ["IDTest_2", "IDTest_1"]
    sample = benchmark.subsets["Gaming"][0]
    assert sample.dialogue == (
        ("user", "Good evening."),
        ("character", "Good evening to you."),
        ("user", "What are you working on?"),
    )
    assert sample.user_turns == 2
    assert sample.golden == "On the numbers of Bernoulli."
    assert sample.pair_id is None


def test_extra_keys_are_kept(tmp_path):
    extra = {"pair_id": "IDTest_7", "language": "de", "notes": {"a": [1, None, "ü\u2028"]}}
    data = {"IDTest": [record(**extra)]}
    (sample,) = load_benchmark(write(tmp_path / "b.json", data))
    assert sample.extra == extra
    assert sample.pair_id == "IDTest_7"
    assert sample.to_record() == data["IDTest"][0]


def test_a_profile_may_be_text(tmp_path):
    (sample,) = load_benchmark(
        write(tmp_path / "b.json", {"IDTest": [record(agent_character="A grumpy wizard.")]})
    )
    assert sample.character == "A grumpy wizard."
    assert sample.to_record()["agent_character"] == "A grumpy wizard."


def test_flat_files_of_samples(tmp_path):
    rows = [record("a"), record("b", "german"), record(7)]
    text = "\ufeff" + "\r\n".join(map(json.dumps, rows)) + "\n\n"
    for file in (
        write(tmp_path / "b.json", rows), write(tmp_path / "b.jsonl", text),
        write(tmp_path / "b.NDJSON", text),
    ):  # fmt: skip
        benchmark = load_benchmark(file)
        assert [s.sample_id for s in benchmark] == ["a", "7", "b"]
        assert not benchmark.has_splits and benchmark.own_shifts == {}
        assert not [v for v in violations(benchmark, strict=False) if v.field == "sample_ID"]
    bad = write(tmp_path / "c.jsonl", text + "[1]")
    assert "line 5 must be an object" in error_of(load_benchmark, bad)
    assert "[1]: a sample must be" in error_of(
        load_benchmark, write(tmp_path / "d.json", [*rows[:1], 3])
    )


def test_whole_numbers_are_ids(tmp_path):
    data = {"IDTest": [record(7)], "OOD1Test": [record(8, "german", pair_id=7)]}
    home, german = load_benchmark(write(tmp_path / "b.json", data))
    assert (home.sample_id, german.pair_id) == ("7", "7")


def test_tags_and_shifts_of_ones_own(tmp_path):
    rows = [
        record("a", "mine"), record("b", "french", shift="user"), record("c", "noir"),
        record("d", "noir"), record("e", "german"),
    ]  # fmt: skip
    file = write(tmp_path / "b.json", rows)
    benchmark = load_benchmark(file, "mine", ("noir=genre",))
    assert benchmark.own_shifts == {"french": "user", "noir": "genre"}
    assert list(benchmark.subsets) == ["german", "mine", "french", "noir"]
    assert benchmark.shift_of["german"] == "user" and "mine" not in benchmark.shift_of
    chosen = choose_contexts(benchmark, ["user", "genre"])
    assert list(chosen) == ["mine", "german", "french", "noir"]
    assert absent_subsets(benchmark, ["user", "character"])[:2] == ("spanish", "chinese")
    assert load_benchmark(file, "mine", ["noir=x", "german=y"]).shift_of["german"] == "y"


@pytest.mark.parametrize(
    ("changes", "settings", "parts"),
    [
        ({}, {}, ["unknown subset_tag 'noir'", "subset_shifts=('noir=SHIFT',)"]),
        ({}, {"subset_shifts": ["noire=x"]}, ["unknown subset_tag 'noir'"]),
        ({"shift": "genre"}, {"subset_shifts": ["noire=x"]}, ["no subset 'noire'", "'noir'"]),
        ({"shift": "genre"}, {"subset_shifts": ["noir"]}, ["write 'tag=shift'"]),
        ({"shift": "genre"}, {"subset_shifts": ["noir=x", "noir=y"]}, ["names 'noir' twice"]),
        ({"shift": 3.5}, {}, ["field 'shift'"]),
    ],
)
def test_tags_without_a_shift_of_their_own(tmp_path, changes, settings, parts):
    file = write(tmp_path / "b.json", [record("a"), record("b", "noir", **changes)])
    with pytest.raises(UserError) as e:
        load_benchmark(file, **settings)
    for part in parts:
        assert part in str(e.value)


def test_one_tag_has_one_shift(tmp_path):
    rows = [record("a"), record("b", "noir", shift="genre"), record("c", "noir", shift="user")]
    assert "has the shift 'genre' in earlier" in error_of(
        load_benchmark, write(tmp_path / "b.json", rows)
    )


def test_none_of_the_chosen_shifts(tmp_path):
    rows = [record("a"), record("b", "noir", shift="genre")]
    benchmark = load_benchmark(write(tmp_path / "b.json", rows))
    with pytest.raises(
        UserError, match=r"none of user, dialogue; it has noir \(genre\): set config"
    ):
        choose_contexts(benchmark, ["user", "dialogue"])
    with pytest.raises(UserError, match=r"unknown shift 'genr' .did you mean 'genre'"):
        choose_contexts(benchmark, ["genr"])
    with pytest.raises(UserError, match="no subset mine to compare with"):
        choose_contexts(load_benchmark(tmp_path / "b.json", "mine", ["IDTest=x"]), ["genre"])


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (3, ["must be an object of splits", "not int"]),
        ({"train": [record()]}, ["holds none of the splits", "IDTest", "OOD3Test"]),
        ({"IDTest": {"a": 1}}, ["split 'IDTest' must be a list"]),
        ({"IDTest": []}, ["has no samples"]),
        ({"IDTest": [record()], "OOD1test": {}}, ["unknown split 'OOD1test'", "'OOD1Test'"]),
        ({"IDTest": [record()], "OOD1test": [record("x", "german")]}, ["'OOD1test'", "'OOD1Test'"]),
        ({"IDTest": [record(), "text"]}, ["IDTest[1]", "must be a JSON object, not str"]),
        ({"IDTest": [record(), None]}, ["IDTest[1]", "not null"]),
        ({"IDTest": [record(tag="german")]}, ["IDTest[0]", "'german' does not belong"]),
        ({"IDTest": [record(), record()]}, ["IDTest[1]", "duplicate sample_ID 'IDTest_1'"]),
        (
            {"IDTest": [record()], "OOD1Test": [record("IDTest_1", "german")]},
            ["OOD1Test[0]", "duplicate sample_ID 'IDTest_1'"],
        ),
        (
            {"OOD1Test": [record("a", "German")]},
            ["OOD1Test[0]", "unknown subset_tag 'German'", "did you mean 'german'?"],
        ),
    ],
)
def test_wrong_files(tmp_path, data, parts):
    file = write(tmp_path / "b.json", data)
    message = error_of(load_benchmark, file)
    for part in [str(file), *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("user_persona", "", "is empty"),
        ("user_persona", " \n", "is empty"),
        ("user_persona", None, "must be a string, not null"),
        ("user_persona", ["x"], "must be a string, not list"),
        ("agent_golden_response", 3, "must be a string or null, not int"),
        ("sample_ID", "", "is empty"),
        ("sample_ID", 7.5, "must be a string, not float"),
        ("sample_ID", True, "must be a string, not bool"),
        ("subset_tag", "a\x1bb", "control character U+001B"),
        ("user_persona", "\u2060\u200b", "nothing in it can be seen"),
        ("agent_character", {"age": None, "kin": {"sister": None}}, "is empty"),
        ("agent_character", {"spec": "chara_card_v3", "data": []}, "without an object 'data'"),
        ("pair_id", ["IDTest_0"], "must be a string, not list"),
        ("shift", 1.5, "must be a string, not float"),
        ("subset_tag", None, "must be a string, not null"),
        ("agent_character", None, "must be an object or a string"),
        ("agent_character", {}, "is empty"),
        ("agent_character", "  ", "is empty"),
        ("agent_character", ["x"], "must be an object or a string"),
        ("dialogue_context", [], "must be a non-empty list"),
        ("dialogue_context", None, "must be a non-empty list"),
        ("dialogue_context", "Hello", "must be a non-empty list"),
        ("dialogue_context", ["Hello"], "message 0"),
        ("dialogue_context", [{"user_query": ""}], "message 0 is empty"),
        ("dialogue_context", [{"user_query": None}], "message 0 must be a string, not null"),
        ("dialogue_context", [{"agent_response": "x"}], "message 0 has the key 'agent_response'"),
        ("dialogue_context", [{"user_query": "x"}, {"user_query": "y"}], "message 1 has the key"),
        ("dialogue_context", [{"user_query": "x", "agent_response": "y"}], "message 0"),
        ("dialogue_context", [{"user_query": "x"}, {"agent_response": "y"}], "must end with a"),
    ],
)
def test_wrong_fields(tmp_path, field, value, says):
    good = record("IDTest_0")
    file = write(tmp_path / "b.json", {"IDTest": [good, record(**{field: value})]})
    message = error_of(load_benchmark, file)
    for part in (f"{file}: IDTest[1]", field, says):
        assert part in message
    if field != "sample_ID":
        assert "'IDTest_1'" in message


def test_every_field_is_needed_and_a_misspelt_one_is_named(tmp_path):
    for field in record():
        lacking = record()
        lacking[field + "s"] = lacking.pop(field)
        message = error_of(load_benchmark, write(tmp_path / "b.json", {"IDTest": [lacking]}))
        assert f"field {field!r} is missing (did you mean {field + 's'!r}?)" in message


def test_golden_responses_may_lack(tmp_path):
    """Absent, null, or nothing that can be seen."""
    lacking = record("a")
    del lacking["agent_golden_response"]
    lacking["model_response"] = lacking["agent_response"] = "Aye."  # no misspelt golden response
    values = (None, "", " \n", "\u200e")
    rows = [lacking, *(record(str(i), agent_golden_response=v) for i, v in enumerate(values))]
    read = load_benchmark(write(tmp_path / "b.json", rows)).subsets["IDTest"]
    assert [s.golden for s in read] == [""] * 5
    again = load_benchmark(write(tmp_path / "again.json", [s.to_record() for s in read]))
    assert tuple(again) == read
    lacking["golden_response"] = "Aye."
    said = "'agent_golden_response' is missing (did you mean 'golden_response'?)"
    assert said in error_of(load_benchmark, write(tmp_path / "c.json", [lacking]))


@pytest.mark.parametrize("field", ["user_persona", "agent_golden_response", "pair_id"])
def test_half_a_surrogate_pair_is_no_text(tmp_path, field):
    text = json.dumps({"IDTest": [record(**{field: "x \ud83d"})]})
    assert "\\ud8.." in error_of(load_benchmark, write(tmp_path / "b.json", text))
    whole = json.dumps({"IDTest": [record(**{field: "x \U0001f600"})]})
    assert len(list(load_benchmark(write(tmp_path / "b.json", whole)))) == 1


def test_broken_json_names_the_line(tmp_path):
    text = json.dumps({"IDTest": [record()]}, indent=1)
    lines = text.splitlines()
    lines[4] = lines[4].replace('"', "", 1)
    file = write(tmp_path / "b.json", "\n".join(lines))
    message = error_of(load_benchmark, file)
    assert str(file) in message
    assert "line 5" in message


@pytest.mark.parametrize("text", ["", '{"IDTest": [', "\ufeff{"])
def test_cut_empty_or_marked_files(tmp_path, text):
    assert "is no valid JSON" in error_of(load_benchmark, write(tmp_path / "b.json", text))


def test_a_repeated_key_is_not_passed_over(tmp_path):
    one = json.dumps([record()])
    other = json.dumps([record("IDTest_2")])
    message = error_of(
        load_benchmark, write(tmp_path / "b.json", f'{{"IDTest": {one}, "IDTest": {other}}}')
    )
    assert "the key 'IDTest' stands twice" in message


def test_unreadable_files(tmp_path):
    assert "not found" in error_of(load_benchmark, tmp_path / "none.json")
    assert "cannot be read" in error_of(load_benchmark, tmp_path)
    latin = tmp_path / "latin.json"
    latin.write_bytes(
        json.dumps({"IDTest": [record(user_persona="ü")]}, ensure_ascii=False).encode("latin-1")
    )
    assert "cannot be read" in error_of(load_benchmark, latin)


GROWTH = """
    import resource, sys
    from remid_jax.data.reading import load_benchmark

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = peak()
    benchmark = load_benchmark(sys.argv[1])
    print(before, peak() - before, sum(len(s) for s in benchmark.subsets.values()))
"""


def big_file(path, count):
    """Distinct texts of about 1.5 kB a sample, in every subset."""
    data = {split: [] for split in ("IDTrain", "IDTest", *shifts.SPLITS.values())}
    for i in range(count):
        tag = shifts.ALL_TAGS[i % len(shifts.ALL_TAGS)]
        texts = [" ".join(f"w{i}x{k}y{j}" for j in range(25)) for k in range(5)]
        sample = record(
            f"{shifts.split_of(tag)}_{i}",
            tag,
            user_persona=texts[0],
            agent_character={"name": f"Character {i}", "background": texts[1]},
            agent_golden_response=texts[2],
            dialogue_context=[
                {"user_query": texts[3]},
                {"agent_response": texts[4]},
                {"user_query": f"And then, {i}?"},
            ],
        )
        data[shifts.split_of(tag)].append(sample)
    write(path, data)
    return path.stat().st_size / count


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_twenty_thousand_samples_in_little_memory(tmp_path):
    file = tmp_path / "big.json"
    assert 1300 < big_file(file, 20_000) < 2300
    # A process starts with its parent's peak on its account: the shell between keeps ours out.
    command = [sys.executable, "-c", textwrap.dedent(GROWTH), str(file)]
    run = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command], capture_output=True, text=True, check=True
    )
    before, growth, count = map(float, run.stdout.split())
    assert before < 200, "the baseline is not the child's own"
    assert count == 20_000
    assert growth < 400  # MB, of 90 measured; the file has 33


def test_reading_leaves_the_record_alone():
    given = record(pair_id="IDTest_9")
    before = copy.deepcopy(given)
    Sample.from_record(given, "here")
    assert given == before
