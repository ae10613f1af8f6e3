"""Numbers on meshes beside those of one device."""

import copy
import json

import jax
import pytest
from children import finished, start

from benchmarks import meshes

COMMAND = """
import sys
from benchmarks import meshes

sys.exit(meshes.main(sys.argv[1:]))
"""
ONE = {
    "log_q": [[-1.0, -2.0], [-3.0, -4.0]], "tokens": [[1, 2], [3]],
    "draws_log_q": [[-1.0, -2.0], [-3.0]],
    "sft": {"loss": 3.0, "grad_norm": 20.0}, "grpo": {"loss": 0.5, "kl": 0.1, "grad_norm": 4.0},
}  # fmt: skip


@pytest.mark.slow
def test_meshes_give_the_numbers_of_one_device(tmp_path):
    path = tmp_path / "found.json"
    out, _ = finished(start(COMMAND, "--json", str(path), devices=meshes.DEVICES))
    found = json.loads(path.read_text())["meshes"]
    assert list(found) == ["x".join(map(str, m)) for m in meshes.MESHES]
    assert all(name in out for name in found)
    assert meshes.exceeded(found) == []
    # They are other programs: some sums are taken in another order.
    assert any(values["log q"] > 0 for values in found.values())
    assert any(values["gradient norm"] > 0 for values in found.values())


def test_nothing_differs_from_itself():
    assert set(meshes.differences(ONE, ONE).values()) == {0.0}
    assert meshes.differences(ONE, ONE).keys() == meshes.BOUNDS.keys()


def changed(*where, to):
    other = copy.deepcopy(ONE)
    *groups, last = where
    inner = other
    for key in groups:
        inner = inner[key]
    inner[last] = to
    return other


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (changed("log_q", 1, 0, to=-3.0001), "log q"),
        (changed("log_q", 1, 0, to=float("nan")), "log q"),
        (changed("tokens", 0, to=[1, 3]), "other tokens"),
        (changed("draws_log_q", 1, 0, to=-3.0001), "log q of draws"),
        (changed("draws_log_q", 1, to=[-3.0, -1.0]), "log q of draws"),
        (changed("sft", "loss", to=3.0001), "SFT"),
        (changed("grpo", "kl", to=0.10002), "GRPO"),
        (changed("grpo", "clip_ratio", to=0.0), "GRPO"),
        (changed("sft", "grad_norm", to=20.01), "gradient norm"),
        (changed("grpo", "grad_norm", to=float("nan")), "gradient norm"),
    ],
)
def test_more_than_rounding_is_said(other, what):
    (line,) = meshes.exceeded({"2x1x1": meshes.differences(other, ONE)})
    assert line.startswith(f"2x1x1: {what} differs by ")


def test_rounding_is_not_said():
    other = changed("log_q", 1, 0, to=-3.00001)
    assert meshes.differences(other, ONE)["log q"] == pytest.approx(1e-5)
    assert meshes.exceeded({"2x1x1": meshes.differences(other, ONE)}) == []


def test_too_few_devices(capsys, monkeypatch):
    jax.devices()  # from here on their number stays
    monkeypatch.setattr(meshes, "DEVICES", 4096)
    assert meshes.main([]) == 2
    assert "error: benchmarks.meshes needs 4096 devices; there are " in capsys.readouterr().err


def test_an_infinite_difference_is_written_as_none():
    apart = meshes.differences(changed("log_q", 1, 0, to=float("nan")), ONE)
    assert apart["log q"] == float("inf")
    written = meshes._in_json({"2x1x1": apart})["2x1x1"]
    assert written == {**apart, "log q": None}
