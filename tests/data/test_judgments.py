"""Files of judgments, and replies of judges that say less, more or something else than asked."""

import json
import logging

import pytest

from remid_jax.data.judgments import Rating, Verdict, read_judgments, read_rating, read_verdict
from remid_jax.errors import UserError

IDS, NAMES = ("IDTest_0", "IDTest_1"), ("mine", "golden", "echo")
PAIR = {"sample_ID": "IDTest_0", "first": "mine", "second": "golden", "winner": "tie"}
SCORE = {"sample_ID": "IDTest_1", "rpm": "mine", "score": 7}


def write(tmp_path, rows, name="judged.jsonl"):
    file = tmp_path / name
    lines = rows if isinstance(rows, str) else "\n".join(map(json.dumps, rows))
    file.write_text(json.dumps(rows) if name.endswith(".json") else lines, encoding="utf-8")
    return file


def read(tmp_path, rows, name="judged.jsonl"):
    return read_judgments(write(tmp_path, rows, name), IDS, NAMES)


@pytest.mark.parametrize("name", ["judged.jsonl", "judged.json"])
def test_rows_become_judgments(tmp_path, name):
    turned = {**PAIR, "first": "golden", "second": "mine", "winner": None}
    assert read(tmp_path, [PAIR, turned, PAIR], name) == [
        Verdict("IDTest_0", "mine", "golden", "tie"),
        Verdict("IDTest_0", "golden", "mine", None),
        Verdict("IDTest_0", "mine", "golden", "tie"),
    ]
    found = read(tmp_path, [SCORE, {**SCORE, "score": None}], name)
    assert found == [Rating("IDTest_1", "mine", 7.0), Rating("IDTest_1", "mine", None)]


def test_other_ids_are_one_line(tmp_path, caplog):
    other = [{**PAIR, "sample_ID": f"IDTst_{i}"} for i in range(3)]
    with pytest.raises(UserError, match=r"judges 3 samples .* none that is, first 'IDTst_0' \(did"):
        read(tmp_path, other)
    with caplog.at_level(logging.WARNING, "remid_jax"):
        assert read(tmp_path, [*other, PAIR]) == [Verdict("IDTest_0", "mine", "golden", "tie")]
    assert "judges 3 samples that are not in this run, first 'IDTst_0'" in caplog.text


@pytest.mark.parametrize(
    "rows, said",
    [
        ([], "is empty"),
        ("\n \n", "is empty"),
        ([PAIR, SCORE], "both winners and scores"),
        ([{**PAIR, "winner": "First"}], r"'winner' is 'First' \(did you mean 'first'"),
        ([{**PAIR, "winner": "A"}], "must be 'first', 'second', 'tie' or null"),
        ([{**PAIR, "winner": ["first"]}], "'winner' is"),
        ([{**PAIR, "winner": 1}], "'winner' is 1"),
        ([{**PAIR, "first": "mien"}], r"line 1: 'first' is 'mien' \(did you mean 'mine'"),
        ([{**PAIR, "first": "golden"}], "compares 'golden' with itself"),
        ([{**PAIR, "first": None}], "'first'"),
        ([PAIR, {"sample_ID": "IDTest_0"}], "line 2 lacks 'rpm'"),
        ([{"first": "mine", "second": "echo", "winner": "tie"}], "lacks 'sample_ID'"),
        ([{**SCORE, "rpm": "yours"}], "this run has mine, golden, echo"),
        ([{**SCORE, "score": "7"}], "must be a number from -1,000,000,000 to 1,000,000,000"),
        ([{**SCORE, "score": 10**320}], "'score' is 1000"),
        ([{**SCORE, "score": 1e308}], "'score' is 1e\\+308"),
        ([{**SCORE, "score": True}], "'score' is True"),
        ('{"sample_ID": "IDTest_0", "rpm": "mine", "score": NaN}', "NaN"),
        ("[1]", "must be an object, not list"),
        ("{", "no valid JSON"),
    ],
)
def test_what_is_no_judgment_is_named(tmp_path, rows, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, rows)


def test_a_file_that_is_no_list(tmp_path):
    with pytest.raises(UserError, match="must be a JSON list or JSONL, not dict"):
        read(tmp_path, PAIR, "judged.json")
    with pytest.raises(UserError, match=r"\[0\] must be an object, not int"):
        read(tmp_path, [1], "judged.json")
    with pytest.raises(UserError, match="not found"):
        read_judgments(tmp_path / "none.json", IDS, NAMES)


@pytest.mark.parametrize(
    "reply, winner",
    [
        ('{"winner": "A"}', "first"),
        ('\n {"winner":"B"} ', "second"),
        ('{"winner": "tie"}', "tie"),
        ("A", "first"),
        (" B\n", "second"),
        ("tie", "tie"),
        ("", None),
        ("  \n", None),
        ("a", None),
        ("A.", None),
        ("A is better", None),
        ("Answer A", None),
        ("BAD", None),
        ("INCORRECT", None),
        ("not a tie", None),
        ('"A"', None),
        ('{"winner": "A", "why": "B lies"}', None),
        ('{"winner": "A", "winner": "B"}', None),
        ('{"winner": "C"}', None),
        ('{"winner": ["A"]}', None),
        ('{"winner": {"A": 1}}', None),
        ('{"Winner": "A"}', None),
        ('{"winner": "A"', None),
        ('{"winner": "A"} {"winner": "B"}', None),
        ('```json\n{"winner": "A"}\n```', None),
        ("[" * 100_000, None),
        ('{"winner":' * 100_000, None),
    ],
)
def test_a_verdict_is_the_whole_reply(reply, winner):
    assert read_verdict(reply) == winner


@pytest.mark.parametrize(
    "reply, score",
    [
        ('{"score": 1}', 1),
        ('{"score": 10}', 10),
        (" 8 ", 8),
        ("10", 10),
        ('{"score": 0}', None),
        ('{"score": 11}', None),
        ('{"score": 7.0}', None),
        ('{"score": "7"}', None),
        ('{"score": true}', None),
        ('{"score": null}', None),
        ("0", None),
        ("11", None),
        ("07", None),
        ("7.5", None),
        ("-7", None),
        ("7/10", None),
        ("８", None),
        ("seven", None),
        ("Score: 7", None),
        ("1" * 10_000, None),
        ("", None),
    ],
)
def test_a_rating_is_the_whole_reply(reply, score):
    assert read_rating(reply) == score
