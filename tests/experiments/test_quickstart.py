"""The small variant of the main job on the embedded default model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_runlocal_and_again(tmp_path):
    main = [sys.executable, "-m", "experiments.main", "--config", "configs/quickstart.py:runlocal"]
    command = [*main, "--workdir", str(tmp_path)]
    outputs, results = [], []
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
        results.append(json.loads((tmp_path / "results.json").read_text()))
    assert outputs[0] == outputs[1] and results[0]["rows"] == results[1]["rows"]
    rows = {(r["rpm"], r["subset"]): r for r in results[0]["rows"]}
    for subset in ("IDTest", "german", "Literature"):
        # The golden responses tell which context they belong to; moved by one they mislead.
        assert rows["shuffled golden", subset]["r_emi"] < rows["golden", subset]["r_emi"] == 0
        assert rows["shuffled golden", subset]["retained"] < 0
