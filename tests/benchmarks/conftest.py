"""Benchmarks without the seconds in which they wait."""

import dataclasses
import json
import math

import jax
import pytest

from benchmarks import harness, load_check

ORIGIN = {
    "benchmark", "command", "arguments", "date", "commit", "machine", "versions", "quiet",
    "cpu_share_of_others",
}  # fmt: skip


def assert_finite(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for v in value:
            assert_finite(v)
    elif isinstance(value, float):
        assert math.isfinite(value)


@pytest.fixture
def assert_reported():
    """Checks the JSON of a benchmark: where it comes from, its keys, and that all is finite."""

    def check(found, name, keys):
        assert found.keys() >= ORIGIN | set(keys)
        assert found["benchmark"] == name and found["quiet"] is True
        assert found["versions"]["jax"] == jax.__version__
        assert_finite(found)

    return check


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a benchmark's command on its tiny shape; returns its exit code and its JSON, or None."""
    monkeypatch.setattr(harness, "PAUSE", 0.0)
    monkeypatch.setattr(load_check, "listen", lambda: 0.0)
    monkeypatch.setattr(load_check, "share", lambda *moments: 0.0)
    path = tmp_path / "found.json"

    def command(main, *flags, rounds=1):
        code = main(["--small", "--json", str(path), "--rounds", str(rounds), *flags])
        return code, json.loads(path.read_text()) if path.exists() else None

    return command


@pytest.fixture
def one_thread():
    """PyTorch's threads wait for each other, for seconds where other programs share the cores."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def other_weights(monkeypatch):
    """PyTorch is given other weights than ours."""
    from benchmarks import torch_side

    class Perturbed(torch_side.TorchModel):
        def __init__(self, model):
            changed = jax.tree.map(lambda p: 1.01 * p, model.params)
            super().__init__(dataclasses.replace(model, params=changed))

    monkeypatch.setattr(torch_side, "TorchModel", Perturbed)
