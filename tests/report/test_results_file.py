"""results.json: the newest results of a work folder, and older ones."""

import json

import pytest

from remid_jax.report.results_file import write_results


def results(seed: int, value: float) -> dict:
    return {"provenance": {"config": {"seed": seed, "shifts": ("german",)}}, "rows": [value]}


def rows(path) -> list[float]:
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def test_results_of_another_configuration_are_kept_and_named(tmp_path, capsys):
    path = write_results(tmp_path, results(0, 1.0))
    write_results(tmp_path, results(0, 2.0))  # the same configuration again
    assert [f.name for f in tmp_path.iterdir()] == ["results.json"]
    assert capsys.readouterr().err == ""

    assert write_results(tmp_path, results(1, 3.0)) == path
    (kept,) = tmp_path.glob("results-*.json")
    assert rows(path) == [3.0] and rows(kept) == [2.0]
    said = capsys.readouterr().err
    assert said == f"note: results of another configuration are kept as {kept}\n"

    write_results(tmp_path, results(1, 4.0))
    assert len(list(tmp_path.iterdir())) == 2 and capsys.readouterr().err == ""
    write_results(tmp_path, results(0, 5.0))  # back to the first
    assert rows(path) == [5.0] and rows(kept) == [2.0]
    (other,) = set(tmp_path.glob("results-*.json")) - {kept}
    assert rows(other) == [4.0]


@pytest.mark.parametrize("content", ["[1, 2", "[]", "null", "[" * 5000, '{"provenance": 3}'])
def test_what_is_no_results_file_is_kept_too(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    write_results(tmp_path, results(0, 1.0))
    (kept,) = tmp_path.glob("results-*.json")
    assert kept.read_text() == content
