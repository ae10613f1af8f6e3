"""The files that are made of a run's records: results.csv, and the page with its pictures."""

import csv
import io
import subprocess
import sys

import pytest
from report.made_up_results import HOME
from report.made_up_runs import RPM, TAGS, everything, one_rpm, write_run

from remid_jax.analysis.schema import VERSION, check_run
from remid_jax.errors import UserError
from remid_jax.report.files import csv_text, write_report
from remid_jax.report.run_folder import read_run


def rows_of(results, **values):
    rows = csv.DictReader(io.StringIO(csv_text(results)))
    return [r for r in rows if all(r[k] == v for k, v in values.items())]


def test_the_table_holds_every_measure_of_every_row():
    cells = {("german", "user"): {"share": None}, (HOME, "dialogue"): {"share": 0.5}}
    results = one_rpm(cells=cells)
    table = rows_of(results)
    places = [(r["rpm"], r["subset"], r["measure"], r["factor"]) for r in table]
    assert len(set(places)) == len(places)
    for row in results["rows"]:
        own = [p for p in places if p[:2] == (row["rpm"], row["subset"])]
        expected = 1 + 1 + 1 + 1 + 4 * 5 + 1  # r_emi, per token, retained, baseline, 4 by factor
        assert len(own) == expected + (0 if row["subset"] == HOME else 1 + 5)
    (cell,) = rows_of(results, rpm=RPM, subset=HOME, measure="share", factor="dialogue")
    assert (float(cell["value"]), float(cell["low"]), float(cell["high"])) == (0.5, 0.4, 0.6)
    assert (cell["shown"], cell["n"], cell["reason"], cell["se"]) == ("True", "10", "", "")
    (cell,) = rows_of(results, rpm=RPM, subset="german", measure="share", factor="user")
    assert (cell["value"], cell["shown"], cell["shift"]) == ("", "False", "user")
    assert cell["reason"] == "golden answers show nothing of the user at n = 10"
    (r_emid,) = rows_of(results, rpm=RPM, subset=TAGS[1], measure="r_emid")
    assert [float(r_emid[k]) for k in ("value", "se", "low", "high", "p_holm")] == [
        1,
        2,
        -3,
        5,
        0.4,
    ]
    assert (r_emid["unit"], r_emid["shift"]) == ("nats per response", "character")
    assert {r["unit"] for r in rows_of(results, measure="baseline")} == {"nats per token"}
    assert not rows_of(results, measure="emi") and not rows_of(results, measure="predicted")


def test_r_emid_has_the_n_of_its_pairs():
    results = one_rpm()
    for row in results["rows"]:
        row["n_paired"] = row["n_paired"] and 7
    assert {r["n"] for r in rows_of(results, rpm=RPM, measure="r_emid")} == {"7"}
    assert {r["n"] for r in rows_of(results, rpm=RPM, measure="r_emi")} == {"10"}


def test_values_of_tokens_have_their_unit():
    results = one_rpm()
    results["provenance"]["config"]["estimator"]["normalisation"] = "token"
    assert {r["unit"] for r in rows_of(results, measure="r_emi")} == {"nats per token"}
    assert {r["unit"] for r in rows_of(results, measure="info")} == {"nats per response"}


def test_all_files_are_written_and_a_run_is_read_again(tmp_path):
    results = everything()
    run = read_run(write_run(tmp_path / "run", results), VERSION, check_run)
    assert run.results["rows"] == results["rows"] and run.examples is None
    gate = [{"limit": "r_emid > 5", "answer": "cannot be told", "why": "<b>so</b>"}]
    write_report(run.folder, run.results, run.contributions, run.examples, gate)
    made = {f.name: f.read_text(encoding="utf-8") for f in run.folder.iterdir()}
    assert made.keys() >= {"report.html", "profile.svg", "r_emid.svg", "results.csv"}
    assert made["results.csv"] == csv_text(results)
    assert "<svg" in made["profile.svg"] and "<svg" in made["r_emid.svg"]
    assert "cannot be told" in made["report.html"] and "<b>so</b>" not in made["report.html"]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"schema": 3}, "schema 3, older than 4: run its command again in the same folder"),
        ({"schema": 5}, "schema 5, newer than 4: update remid_jax"),
        ({"schema": None}, "is no results file of a diagnosis: its schema is None"),
        ({"worst": None}, "was changed since it was written"),
        ({"rows": [{"rpm": "x"}]}, r"was changed since it was written: .*rows\[0\]: missing keys"),
        ({"more": 1}, "unknown keys .'more'."),
    ],
)
def test_results_that_cannot_be_read_are_refused(tmp_path, change, said):
    folder = write_run(tmp_path / "run", {**one_rpm(), **change})
    with pytest.raises(UserError, match=said):
        read_run(folder, 4, check_run)


def test_folders_without_a_finished_run_are_refused(tmp_path):
    def refused(folder):
        with pytest.raises(UserError) as e:
            read_run(folder, VERSION, check_run)
        return str(e.value)

    assert "run folder not found" in refused(tmp_path / "none")
    assert "it is no folder of a run" in refused(tmp_path)
    (tmp_path / "begun" / "cache").mkdir(parents=True)
    assert "the run did not finish; run its command again" in refused(tmp_path / "begun")
    folder = write_run(tmp_path / "run", one_rpm())
    assert f"name its folder {folder}" in refused(folder / "results.json")
    lines = folder / "contributions.jsonl"
    lines.write_text('{"rpm": "x"}')
    assert "contributions.jsonl[0]: missing keys" in refused(folder)
    lines.write_text("")
    assert "is empty: run the command of the run again" in refused(folder)
    lines.unlink()
    assert "contributions file not found" in refused(folder)
    (folder / "results.json").write_text("{")
    assert "is no valid JSON" in refused(folder)


CHILD = """
import sys
from experiments.report import main
code = main(sys.argv[1:])
assert "jax" not in sys.modules, "jax was imported"
sys.exit(code)
"""


def test_reports_need_no_jax(tmp_path):
    folder = write_run(tmp_path / "run", everything())
    other = write_run(tmp_path / "other", everything())
    limits = ["--fail-if", "r_emid > 500", "--fail-if", "share.user < 2"]
    words = [str(folder), str(other), *limits, "--quiet"]
    child = [sys.executable, "-c", CHILD, *words]
    done = subprocess.run(child, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"report: {folder / 'report.html'}" in done.stdout
    for run in (folder, other):
        assert f"{run.name}: passes (fails if r_emid > 500)" in done.stdout
