"""Changed copies of the bundled benchmark."""

import copy
import dataclasses
import json

import pytest
from bundled_edits import BUNDLED

from remid_jax.data import reading, rules


@pytest.fixture
def write(tmp_path):
    """Writes a changed copy of the bundled benchmark and returns its path."""

    def written(change=lambda data: None):
        data = copy.deepcopy(BUNDLED)
        change(data)
        path = tmp_path / "benchmark.json"
        path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        return path

    return written


@pytest.fixture
def broken(write):
    """The violations of a changed copy of the bundled benchmark, as (sample, field, problem)."""

    def found(change, strict=True):
        benchmark = reading.load_benchmark(write(change))
        return [dataclasses.astuple(v) for v in rules.violations(benchmark, strict)]

    return found
