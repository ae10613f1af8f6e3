"""JSON that others wrote."""

import pytest

from remid_jax.errors import UserError
from remid_jax.json_files import parse_json, read_json, read_json_lines, read_json_object


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 200 + "]" * 200, "nested deeper than 100"),
        ("[" * 200_000, "nested deeper than 100"),
        ('{"a": ' * 5000 + "1" + "}" * 5000, "nested deeper than 100"),
        ("7" * 5000, "an integer has 5,000 digits"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": NaN}', "holds NaN"),
        ("{", "no valid JSON"),
        ("", "no valid JSON"),
    ],
)
def test_what_is_wrong_is_one_line(text, said):
    with pytest.raises(UserError, match=said) as e:
        parse_json(text, "the file")
    assert str(e.value).startswith("the file") and "\n" not in str(e.value)


def test_sound_json_is_decoded():
    assert parse_json('{"a": [1, "7", -2.5e3, null]}', "x") == {"a": [1, "7", -2500.0, None]}
    assert parse_json("[" * 100 + "]" * 100, "x") is not None
    assert parse_json("[Infinity]", "x", finite=False) == [float("inf")]


def test_a_byte_order_mark_is_skipped(tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file, "a") == {"a": 1}
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"b": "\xe2\x80\xa8"}')
    assert list(read_json_lines(file, "a")) == [(1, {"a": 1}), (3, {"b": "\u2028"})]


def test_files_that_cannot_be_read(tmp_path):
    broken = tmp_path / "x.json"
    broken.write_bytes(b"[\xff]")
    (tmp_path / "list.json").write_text("[]")
    for path, said in [
        (tmp_path / "none.json", "not found"),
        (broken, "is not UTF-8"),
        (tmp_path, "cannot be read"),
        (tmp_path / ("a" * 3000), "too long"),
        ("a\0b", "NUL"),
        ("", "is empty"),
        ("a\udce9b", "no UTF-8"),
        ("~nobody-of-that-name/x", "no such home"),
        (tmp_path / "list.json", "not list"),
    ]:
        with pytest.raises(UserError, match=said):
            read_json_object(path, "model")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.json").write_text("1")
    assert read_json("~/x.json", "a") == 1
