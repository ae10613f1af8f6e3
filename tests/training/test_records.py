"""What a run writes for TensorBoard: scalars by step; a resumed run voids those it repeats."""

import struct
from pathlib import Path

import jax.numpy as jnp
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tiny_corl import tiny_config

from remid_jax.training.records import Records


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
    first = Records(tmp_path, "base", config)
    for step, loss in enumerate((3.0, 2.5, 2.25)):
        if step == 2:
            first.save(0, 2, {"x": jnp.ones(2)})
        first.add_metrics(0, step, "policy_sft", {"loss": loss, "tokens": 8.0}, seconds=0.5)
    first.close()
    (one,) = folder.iterdir()
    assert scalars(one)[::2] == [
        ("policy_sft/loss", 0, 3.0), ("policy_sft/loss", 1, 2.5), ("policy_sft/loss", 2, 2.25),
    ]  # fmt: skip
    again = Records(tmp_path, "base", config)
    again.add_metrics(0, 2, "policy_sft", {"loss": 2.0}, seconds=0.5)
    again.close()
    (two,) = set(folder.iterdir()) - {one}
    assert scalars(two) == [("policy_sft/loss", 2, 2.0)]
    voided = [e.step for e in events(two) if e.session_log.status == SessionLog.START]
    assert voided == [2]  # TensorBoard forgets what it read from step 2 on
