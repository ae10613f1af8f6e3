"""The benchmark of the HTML report."""

import importlib.util
import shutil

import pytest

from benchmarks import report

LACKING = [
    *(name for name in ("chromium", "chromedriver") if not shutil.which(name)),
    *(name for name in ("selenium",) if importlib.util.find_spec(name) is None),
]


def test_more_subsets_than_there_are(run, capsys):
    assert run(report.main, "--subsets=99") == (2, None)
    assert "error: --subsets is at most 11" in capsys.readouterr().err


@pytest.mark.skipif("chromium" not in LACKING, reason="Chromium is there")
def test_without_a_browser(run, capsys):
    assert run(report.main) == (2, None)
    assert "apt-get install chromium" in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)} (extra `browser`)")
def test_the_report_is_timed(run, assert_reported):
    code, found = run(report.main, rounds=2)
    assert code == 0
    assert_reported(found, "report", {"kB", "write_s", "open_s", "target_s", "run"})
    assert found["open_s"] > 0 and 50 < found["kB"] < 400
    counts = {r["records"]: r["count"] for r in found["run"]}
    assert counts["rows"] == (2 + 4) * 4 and counts["contributions"] == 5 * counts["rows"]
