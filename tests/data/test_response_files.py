"""Response files that must answer all samples."""

import json

import pytest
from sample_files import error_of, record, write

from remid_jax.data.reading import load_responses
from remid_jax.data.samples import Sample


def samples(*ids):
    return [Sample.from_record(record(i), "here") for i in ids]


def line(sample_id, **responses):
    return json.dumps({"sample_ID": sample_id, "model_response": responses}, ensure_ascii=False)


def test_responses_json_as_the_reference_writes_them(tmp_path):
    data = {
        i: {**record(i), "model_response": {"b": f"b {i}", "a": f"a {i}"}} for i in ("x", "y", "z")
    }
    file = write(tmp_path / "r.json", data)
    table = load_responses(file, samples("z", "x"))
    assert table == {"b": {"z": "b z", "x": "b x"}, "a": {"z": "a z", "x": "a x"}}
    assert list(table) == ["b", "a"]
    assert list(table["a"]) == ["z", "x"]


def test_responses_jsonl(tmp_path):
    odd = "two\u2028lines\u0085and\x0bmore\nend"
    text = "\n".join([line("x", a=odd), "", line("y", a=" kept as it is ")]) + "\n"
    table = load_responses(write(tmp_path / "r.jsonl", text), iter(samples("x", "y")))
    assert table == {"a": {"x": odd, "y": "kept as it is"}}


def test_jsonl_with_windows_line_ends(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_bytes((line("x", a="1") + "\r\n" + line("y", a="2") + "\r\n").encode())
    assert load_responses(file, samples("x", "y")) == {"a": {"x": "1", "y": "2"}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (line("x", a="1"), ["lacks 2 of 3 samples", "first 'y'"]),
        ("", ["lacks 3 of 3 samples"]),
        ("\n".join(line(i) for i in "xyz"), ["names no model"]),
        (
            "\n".join([line("x", a="1"), line("y", a="1", b="1"), line("z", a="1")]),
            ["sample 'x' has no response of 'b'"],
        ),
        (
            "\n".join([line("x", a="1"), line("y", a=" \n"), line("z", a="1")]),
            ["sample 'y' has no response of 'a'", "is empty"],
        ),
        (
            "\n".join([line("x", a="1"), line("y", a=None), line("z", a="1")]),
            ["sample 'y' has no response of 'a'", "holds nothing"],
        ),
        (
            "\n".join(
                [
                    line("x", a="1"),
                    json.dumps({"sample_ID": "y", "model_response": {"a": "\ud800"}}),
                    line("z", a="1"),
                ]
            ),
            ["sample 'y'", "\\ud8.."],
        ),
        ("\n".join(line(i, a="1") for i in "xyx"), ["line 3", "duplicate sample_ID 'x'"]),
        ("\n".join([line("x", a="1"), '{"sample_ID": "y"']), ["line 2", "no valid JSON"]),
        ("\n".join([line("x", a="1"), "[1]"]), ["line 2", "must be an object"]),
        ('{"sample_ID": "x"}', ["line 1", "'model_response'"]),
        ('{"model_response": {"a": "1"}}', ["line 1", "'sample_ID'"]),
        ('{"sample_ID": "x", "model_response": "text"}', ["line 1", "'model_response'"]),
        (
            '{"sample_ID": "x", "model_response": {"a": "1", "a": "2"}}',
            ["line 1", "'a' stands twice"],
        ),
    ],
)
def test_wrong_jsonl_responses(tmp_path, text, parts):
    file = write(tmp_path / "r.jsonl", text)
    message = error_of(load_responses, file, samples("x", "y", "z"))
    for part in [str(file), *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("3", "must be an object keyed by sample_ID, or a list"),
        ("[3]", "[0]: needs 'sample_ID'"),
        ('{"x": "text"}', "'x'"),
        ('{"x": {"model_response": ["text"]}}', "'model_response'"),
        ('{"x": {"model_response": {"a": ""}}}', "is empty"),
        ('{"x": {"model_response": {"a": 3}}}', "holds int"),
        ('{"y": {"model_response": {"a": "1"}}}', "lacks 1 of 1"),
        (
            '{"x": {"model_response": {"a": "1"}}, "x": {"model_response": {"a": "2"}}}',
            "'x' stands twice",
        ),
        ('{"x": {"model_response": {"a": "1"}}', "line 1"),
    ],
)
def test_wrong_json_responses(tmp_path, text, part):
    file = write(tmp_path / "r.json", text)
    message = error_of(load_responses, file, samples("x"))
    assert str(file) in message
    assert part in message


@pytest.mark.parametrize("name", ["none.json", "none.jsonl"])
def test_no_response_file(tmp_path, name):
    assert "response file not found" in error_of(load_responses, tmp_path / name, samples("x"))
