"""Two real processes train together over loopback, and read each other's checkpoints."""

import json
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from children import finished, start
from ml_collections import ConfigDict
from tiny_checkpoint import write_reader

from benchmarks.workers import free_address
from remid_jax.errors import UserError
from remid_jax.processes import ProcessConfig, join
from remid_jax.settings import defaults_of, keys_of

PROGRAM = """
import json, sys
import jax, numpy as np
from jax.experimental import multihost_utils
from pathlib import Path
from tiny_corl import tiny_config
from remid_jax.errors import UserError
from remid_jax.processes import is_primary, join
from remid_jax.training.corl import Corl
from remid_jax.training.experiment import make_experiment

folder, changes = Path(sys.argv[1]), json.loads(sys.argv[2])
config = tiny_config()
config.cold_start, config.round = ("reasoner_sft:2", "policy_sft:1"), ("reasoner_grpo:1",)
config.lora.dropout = 0.0
config.evaluate.every, config.evaluate.ends = 0, False
config.update(changes)
try:
    join(config)
except UserError as e:
    sys.exit(f"error: {e}")
assert jax.process_count() == config.processes.count
state = Corl(config, make_experiment(config, folder), folder).run()
whole = multihost_utils.process_allgather(state.roles, tiled=True)
values = {r: np.concatenate([np.ravel(x) for x in jax.tree.leaves(p)]) for r, p in whole.items()}
if is_primary():
    print(json.dumps({r: v.tolist() for r, v in values.items()}))
"""


def start_one(folder: Path, changes: dict, devices: int) -> subprocess.Popen:
    return start(PROGRAM, str(folder), json.dumps(changes), devices=devices)


def alone(folder: Path, devices: int = 2, **changes) -> dict[str, np.ndarray]:
    out, _ = finished(start_one(folder, changes, devices))
    return {r: np.array(v) for r, v in json.loads(out).items()}


def pair(folder: Path, changes: list[dict], code: int = 0) -> list[tuple[str, str]]:
    address = free_address()
    both = [
        start_one(folder, {**c, "processes": {"coordinator": address, "count": 2, "index": i}}, 1)
        for i, c in enumerate(changes)
    ]
    return [finished(p, code) for p in both]


def together(folder: Path, **changes) -> dict[str, np.ndarray]:
    (out, _), _ = pair(folder, [changes] * 2)
    return {r: np.array(v) for r, v in json.loads(out.splitlines()[-1]).items()}


def metrics(folder: Path) -> list[dict]:
    return [json.loads(t) for t in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    one, two, mesh = tmp_path / "one", tmp_path / "two", {"fsdp": 2}
    expected, found = alone(one, mesh=mesh), together(two, mesh=mesh)
    for role, values in expected.items():
        np.testing.assert_allclose(found[role], values, atol=2e-4)
    assert len(metrics(one)) == len(metrics(two)) == 4
    for a, b in zip(metrics(one), metrics(two), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5), a["kind"]
    # Each reads what the other wrote, to the bit: there is nothing left to train.
    for role, values in alone(two).items():
        np.testing.assert_array_equal(values, found[role])
    for role, values in together(one, mesh=mesh).items():
        np.testing.assert_array_equal(values, expected[role])


@pytest.mark.slow
def test_a_mesh_of_all_axes_trains_as_one_device(tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    # Not the world of `tiny_corl`: its 181 words cannot be halved.
    task = {"task": "benchmark", "model": {"path": str(write_reader(tmp_path / "m"))}}
    expected = alone(one, **task)
    found = alone(many, devices=8, mesh={"data": 2, "fsdp": 2, "tensor": 2}, **task)
    for role, values in expected.items():
        np.testing.assert_allclose(found[role], values, atol=2e-4)
    for a, b in zip(metrics(one), metrics(many), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-5), a["kind"]


def test_processes_of_different_configurations_are_refused(tmp_path):
    changes = [{"mesh": {"data": 2}}, {"mesh": {"data": 2}, "rounds": 3}]
    for _, said in pair(tmp_path, changes, code=1):
        assert "process 1 was started with another configuration than process 0" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changes", "said"), [
    ({"count": 2}, "name process 0 in config.processes.coordinator"),
    ({"count": 2, "index": 2, "coordinator": "127.0.0.1:1"}, "index 2 must lie in 0..1"),
    ({"index": 1}, "index 1 must lie in 0..0"),
    ({"count": 2, "coordinator": "nonsense"}, "coordinator is 'nonsense'; give HOST:PORT"),
    ({"count": 2, "coordinator": "127.0.0.1"}, "give HOST:PORT"),
    ({"count": 2, "coordinator": "http://host:1"}, "give HOST:PORT"),
    ({"count": 2, "coordinator": "127.0.0.1:70000"}, "give HOST:PORT"),
    ({"count": 2, "coordinator": "no.such.host.invalid:1"}, "no.such.host.invalid is not known"),
])  # fmt: skip
def test_numbers_that_do_not_go_together(changes, said):
    config = ConfigDict({"processes": defaults_of(keys_of(ProcessConfig))})
    config.processes.update(changes)
    with pytest.raises(UserError, match=said):
        join(config)


def test_a_port_that_is_taken():
    config = ConfigDict({"processes": defaults_of(keys_of(ProcessConfig))})
    with socket.socket() as s:
        s.bind(("", 0))
        s.listen()
        port = s.getsockname()[1]
        config.processes.update(count=2, coordinator=f"127.0.0.1:{port}")
        with pytest.raises(UserError, match=f"process 0 cannot listen at port {port} "):
            join(config)


ALONE = """
import json, sys
from ml_collections import ConfigDict
from remid_jax import processes, settings

processes.PATIENCE = int(sys.argv[2])
config = ConfigDict(
    {"processes": settings.defaults_of(settings.keys_of(processes.ProcessConfig))}
)
config.processes.update(json.loads(sys.argv[1]))
try:
    processes.join(config)
except processes.UserError as e:
    sys.exit(f"error: {e}")
"""


def test_an_index_that_two_processes_have():
    address = free_address()
    who = [{"count": 3, "index": i, "coordinator": address} for i in (0, 1, 1)]
    running = [start(ALONE, json.dumps(w), "60") for w in who]
    for process in running:
        _, said = finished(process, 1)
        assert "error: two processes were started with config.processes.index 1" in said


@pytest.mark.parametrize("index", [0, 1])
def test_others_that_do_not_come_are_said_in_one_line(index):
    address = free_address()
    who = {"count": 2, "index": index, "coordinator": address}
    _, said = finished(start(ALONE, json.dumps(who), "2"), 1)
    assert said.startswith(f"waiting for 2 processes at {address}, at most 2 s\n")
    assert f"\nerror: not all 2 processes have come to {address} within 2 s; start all" in said


FOLDERS = """
import sys
from pathlib import Path
import jax
from remid_jax import processes, settings
from remid_jax.errors import UserError

address, index, folder, lost = sys.argv[1:]
jax.distributed.initialize(address, 2, int(index))
if lost and index == "1":  # as on a machine of its own: what others write is not there
    Path.exists = lambda self: False
try:
    processes.check_folder(Path(folder))
except UserError as e:
    sys.exit(f"error: {e}")
"""


@pytest.mark.parametrize(("names", "lost", "said"), [
    (("a", "a"), "", None),
    (("a", "b"), "", "error: process 1 was started with another --workdir than process 0 ("),
    (("a", "a"), "1", "error: process 1 does not see what process 0 writes in "),
])  # fmt: skip
def test_all_processes_need_one_folder(tmp_path, names, lost, said):
    address = free_address()
    for name in set(names):
        (tmp_path / name).mkdir()
    running = [
        start(FOLDERS, address, str(i), str(tmp_path / name), lost) for i, name in enumerate(names)
    ]
    for process in running:
        _, err = finished(process, 1 if said else 0)
        assert said is None or said in err.strip().splitlines()[-1]
    assert not any(any((tmp_path / name).iterdir()) for name in names)
