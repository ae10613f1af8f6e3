"""A diagnosis in several processes, as parts of a job array, and killed: the same numbers."""

import json
import shutil
import signal

import numpy as np
import pytest
from children import finished, start

from benchmarks.workers import free_address
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config

PROGRAM = """
import json, sys
from remid_jax import UserError, default_config, diagnose
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import check_config
from remid_jax.models.sharding import MeshConfig
from remid_jax.processes import join

put = Cache._put

def said(*arguments):
    put(*arguments)
    print("stored", flush=True)

Cache._put = said
config = default_config()
config.update(json.loads(sys.argv[1]))
try:
    check_config(config)
    join(config, devices=MeshConfig(**config.mesh).size > 1)
    results = diagnose(config, sys.argv[2])
except UserError as e:
    sys.exit(f"error: {e}")
print(json.dumps(list(results)))
"""


def begin(config, folder, devices=1, **changes):
    settings = {**config.to_dict(), **changes}
    return start(PROGRAM, json.dumps(settings), str(folder), devices=devices)


def pair(config, folder, devices=1, **changes):
    """Two processes that diagnose together."""
    address = free_address()
    return [
        begin(
            config, folder, devices, **changes,
            processes={"coordinator": address, "count": 2, "index": i},
        )
        for i in range(2)
    ]  # fmt: skip


def same_matrices(one, other, per_token=0.0):
    files = sorted((one / "pairs").iterdir())
    assert files
    for file in files:
        with np.load(file) as a, np.load(other / "pairs" / file.name) as b:
            assert a.files == b.files
            for name in a.files:
                if "scores" not in name or not per_token:
                    np.testing.assert_array_equal(a[name], b[name], err_msg=name)
                    continue
                apart = np.abs(a[name] - b[name]) / a[f"{name.split('/')[0]}/num_tokens"]
                assert np.nanmax(apart) < per_token, (file.name, name)


@pytest.fixture(scope="module")
def alone(make_small_config, tmp_path_factory):
    """The folder of a run in this process alone."""
    folder = tmp_path_factory.mktemp("alone")
    diagnose(make_small_config(), folder)
    return folder


def test_two_processes_share_the_work(small_config, alone, tmp_path):
    outs = [finished(p)[0].splitlines() for p in pair(small_config, tmp_path / "two")]
    same_matrices(alone, tmp_path / "two")
    stored = [out.count("stored") for out in outs]
    assert min(stored) > 8 and sum(stored) == 27 + 18  # each result once
    assert "rows" in outs[0][-1] and json.loads(outs[1][-1]) == ["unfinished"]
    found = json.loads((tmp_path / "two" / "results.json").read_text())
    expected = json.loads((alone / "results.json").read_text())
    assert found["rows"] == expected["rows"]
    assert set(found["provenance"]["seconds"]) == {"start_up", "work"}


def test_a_killed_run_goes_on_to_the_same_bits(small_config, alone, tmp_path):
    for _ in range(2):
        process = begin(small_config, tmp_path / "killed")
        with process:
            for _ in range(10):
                assert process.stdout.readline() == "stored\n"
            process.send_signal(signal.SIGKILL)
    out, _ = finished(begin(small_config, tmp_path / "killed"))
    assert 0 < out.count("stored") <= 45 - 20 + 6  # a batch that was cut short runs whole again
    same_matrices(alone, tmp_path / "killed")


def test_a_dead_process_ends_the_job_and_a_restart_completes_it(small_config, tmp_path):
    small_config.sampling.batch_rows = 1
    first, second = pair(small_config, tmp_path / "two")
    with first, second:
        assert second.stdout.readline() == "stored\n"
        second.send_signal(signal.SIGKILL)
        _, said = first.communicate(timeout=300)
        assert first.returncode == 1
        assert "error: process 1 has ended before its work was done" in said
    for process in pair(small_config, tmp_path / "two"):
        finished(process)
    one = tmp_path / "one"
    diagnose(small_config, one)
    same_matrices(one, tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("features", ["none", "hidden"])
def test_one_mesh_over_two_processes(small_config, tmp_path, features):
    small_config.divergences.features = features
    small_config.profile.swaps = 1
    expected = diagnose(small_config, tmp_path / "alone")
    mesh = {"data": 2, "fsdp": 2, "tensor": 2}
    for process in pair(small_config, tmp_path / "two", devices=4, mesh=mesh):
        finished(process)
    same_matrices(tmp_path / "alone", tmp_path / "two", per_token=5e-5)
    found = json.loads((tmp_path / "two" / "results.json").read_text())
    assert found["provenance"]["device_count"] == 8
    for a, b in zip(expected["rows"], found["rows"], strict=True):
        assert a["r_emi"] == pytest.approx(b["r_emi"], abs=1e-3)


def test_an_error_of_one_process_ends_both(small_config, tmp_path):
    running = pair(small_config, tmp_path / "two", limits={"contexts": 3, "excluded_share": 2.0})
    for process in running:
        assert "error: config.limits.excluded_share" in finished(process, 1)[1]


def test_parts_of_a_job_array(small_config, alone, tmp_path):
    """Two parts on folders of their own, whose files are then copied together."""
    left = []
    for name in ("0/2", "1/2"):
        small_config.shard = name
        left.append(diagnose(small_config, tmp_path / name[0])["unfinished"])
    together = tmp_path / "both"
    for part in "01":
        shutil.copytree(tmp_path / part / "cache", together / "cache", dirs_exist_ok=True)
    answers = len(list((together / "cache" / "generate").iterdir()))
    assert answers == 27 and min(left) > 18 and not (together / "cache" / "score").exists()
    small_config.shard = "0/2"  # likelihoods need the answers of all parts
    assert 0 < diagnose(small_config, together)["unfinished"] < 18
    small_config.shard = "1/2"
    assert "rows" in diagnose(small_config, together)
    same_matrices(alone, together)


@pytest.mark.parametrize("shard", ["2/2", "-1/2", "0/0", "1", "a/b", "1/2/3", "0.5/2"])
def test_parts_that_cannot_be(small_config, shard):
    small_config.shard = shard
    with pytest.raises(UserError, match=r"config\.shard"):
        check_config(small_config)
