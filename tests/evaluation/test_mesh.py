"""The whole line on eight simulated devices gives the numbers of one."""

import json

import numpy as np
import pytest
from children import answer, finished, start

from benchmarks.workers import free_address
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError

PROGRAM = """
import json, sys
from ml_collections import ConfigDict
from remid_jax.evaluation.config import default_config
from remid_jax.diagnosis import diagnose

config = default_config()
config.update(json.loads(sys.argv[1]))
config.mesh.update(json.loads(sys.argv[2]))
diagnose(config, sys.argv[3])
print("{}")
"""
PER_TOKEN = 5e-5


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "features"), [
    ({"data": 2, "fsdp": 2, "tensor": 2}, "none"),
    ({"fsdp": 8}, "hidden"),
    ({"data": 2, "tensor": 2}, "none"),
])  # fmt: skip
def test_a_mesh_gives_the_numbers_of_one_device(small_config, tmp_path, mesh, features):
    small_config.divergences.features = features
    changes = {k: v for k, v in small_config.to_dict().items() if k != "mesh"}
    one, many = tmp_path / "one", tmp_path / "many"
    expected = diagnose(small_config, one)
    answer(PROGRAM, json.dumps(changes), json.dumps(mesh), str(many), devices=8)
    for file in (one / "pairs").iterdir():
        with np.load(file) as a, np.load(many / "pairs" / file.name) as b:
            assert a.files == b.files
            for name in a.files:
                if "scores" not in name:
                    np.testing.assert_array_equal(a[name], b[name], err_msg=name)
                    continue
                tokens = a[f"{name.split('/')[0]}/num_tokens"]
                apart = np.abs(a[name] - b[name]) / tokens
                assert np.nanmax(apart) < PER_TOKEN, (file.name, name)
    assert (one / "responses.jsonl").read_text() == (many / "responses.jsonl").read_text()
    found = json.loads((many / "results.json").read_text())
    for a, b in zip(expected["divergences"], found["divergences"], strict=True):
        assert a["rjsd"] == pytest.approx(b["rjsd"], rel=1e-4), a
    assert found["provenance"]["device_count"] == 8


WITH_OTHERS = (
    """
import sys, jax

jax.distributed.initialize(sys.argv[4], 2, int(sys.argv[5]))
assert (jax.device_count(), jax.local_device_count()) == (4, 2)
"""
    + PROGRAM
)


@pytest.mark.slow
def test_processes_of_one_runtime_diagnose_as_workers(small_config, tmp_path):
    changes = {k: v for k, v in small_config.to_dict().items() if k != "mesh"}
    expected = diagnose(small_config, tmp_path / "one")
    mesh, many = json.dumps({"data": 2}), str(tmp_path / "many")
    address = free_address()
    running = [
        start(WITH_OTHERS, json.dumps(changes), mesh, many, address, str(i), devices=2)
        for i in range(2)
    ]
    for process in running:
        finished(process)
    found = json.loads((tmp_path / "many" / "results.json").read_text())
    for a, b in zip(expected["rows"], found["rows"], strict=True):
        assert (a["rpm"], a["subset"]) == (b["rpm"], b["subset"])
        assert a["r_emi"] == pytest.approx(b["r_emi"], abs=1e-3)


def test_a_mesh_that_does_not_fit(small_config, tmp_path):
    small_config.mesh.fsdp = 64
    with pytest.raises(UserError, match=r"config.mesh needs 1 x 64 x 1 devices .* there are"):
        diagnose(small_config, tmp_path)
