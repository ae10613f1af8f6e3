"""What a run writes is read back, for TensorBoard too; what no run has written is refused."""

import json
import shutil
import struct
from pathlib import Path

import jax.numpy as jnp
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tiny_corl import tiny_config

from remid_jax.checkpoints import save_tree
from remid_jax.errors import UserError
from remid_jax.training.run_logger import (
    CHECKPOINTS,
    METRICS,
    RunLogger,
    read_lines,
    read_predictions,
)


def events(file: Path) -> list[Event]:
    """The events of a file: each record is a length, its checksum, the event, its checksum."""
    content, at, found = file.read_bytes(), 0, []
    while at < len(content):
        (size,) = struct.unpack_from("<Q", content, at)
        found.append(Event.FromString(content[at + 12 : at + 12 + size]))
        at += 16 + size
    return found


def scalars(file: Path) -> list[tuple[str, int, float]]:
    return [
        (v.tag, e.step, round(v.simple_value, 4)) for e in events(file) for v in e.summary.value
    ]


def test_a_resumed_run_goes_on_where_the_checkpoint_was(tmp_path):
    config = tiny_config()
    config.tensorboard = True
    folder = tmp_path / "tensorboard"
    first = RunLogger(tmp_path, "base", config)
    for step, loss in enumerate((3.0, 2.5, 2.25)):
        if step == 2:
            first.save(0, 2, {"x": jnp.ones(2)})
        first.add_metrics(0, step, "policy_sft", {"loss": loss, "tokens": 8.0}, seconds=0.5)
    first.close()
    (one,) = folder.iterdir()
    assert scalars(one)[::2] == [
        ("policy_sft/loss", 0, 3.0), ("policy_sft/loss", 1, 2.5), ("policy_sft/loss", 2, 2.25),
    ]  # fmt: skip
    again = RunLogger(tmp_path, "base", config)
    again.add_metrics(0, 2, "policy_sft", {"loss": 2.0}, seconds=0.5)
    again.close()
    (two,) = set(folder.iterdir()) - {one}
    assert scalars(two) == [("policy_sft/loss", 2, 2.0)]
    voided = [e.step for e in events(two) if e.session_log.status == SessionLog.START]
    assert voided == [2]  # TensorBoard forgets what it read from step 2 on


def line(step, **more):
    return json.dumps({"stage": 0, "step": step, "kind": "policy_sft", **more}) + "\n"


def test_a_half_written_last_line_is_left_out(tmp_path):
    file = tmp_path / METRICS
    RunLogger(tmp_path, "base", tiny_config()).save(0, 9, {"x": jnp.ones(2)})
    for half in ('{"stage": 0, "st', "", line(2)[:-1]):
        file.write_text(line(0, loss=float("nan")) + line(1) + half)
        steps = [0, 1, 2] if half.endswith("}") else [0, 1]
        assert [x["step"] for x in read_lines(file)] == steps
        RunLogger(tmp_path, "base", tiny_config())
        kept = file.read_text()
        assert kept.endswith("}\n") and len(kept.splitlines()) == len(steps)


@pytest.mark.parametrize("bad", ["[]", "3", "{", '{"stage": 0}', '{"stage": 0, "step": "1"}', ""])
def test_lines_that_no_run_has_written(tmp_path, bad):
    file = tmp_path / METRICS
    file.write_text(line(0) + bad + "\n" + line(1))
    for use in (lambda: read_lines(file), lambda: RunLogger(tmp_path, "base", tiny_config())):
        with pytest.raises(UserError, match=f"{METRICS}: line 2"):
            use()


def test_checkpoints_that_no_run_has_written(tmp_path):
    folder = tmp_path / CHECKPOINTS
    save_tree(folder / "final", {"x": jnp.ones(2)}, {"kind": "corl"})
    with pytest.raises(UserError, match="final: no checkpoint of a run"):
        RunLogger(tmp_path, "base", tiny_config())
    shutil.rmtree(folder)
    save_tree(folder / "000-000001", {"x": jnp.ones(2)}, {"kind": "corl"})
    with pytest.raises(UserError, match="another configuration, base or file"):
        RunLogger(tmp_path, "base", tiny_config())


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"ids": ["a"], "log_q": []}', '{"ids": [[]], "log_q": [1.0]}',
             '{"ids": ["a"], "log_q": ["1"]}', '{"ids": ["a"], "log_q": [NaN]}', "{}",
             '{"ids": ["a"], "log_q": [1.0]}'],
)  # fmt: skip
def test_damaged_predictions(tmp_path, text):
    file = tmp_path / "predictions" / "000-000001-IDTest.json"
    with pytest.raises(UserError, match="not found"):
        read_predictions(tmp_path, 0, 1, "IDTest")
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(UserError, match=file.name):
        read_predictions(tmp_path, 0, 1, "IDTest")
    file.write_text('{"ids": ["a", "b"], "log_q": [-1.5, -2], "log_q_mixture": [-1, -2]}')
    assert read_predictions(tmp_path, 0, 1, "IDTest") == {
        "log_q": {"a": -1.5, "b": -2}, "log_q_mixture": {"a": -1, "b": -2}
    }  # fmt: skip
