"""The SFT benchmark: what both sides must agree on, and its tiny run beside peft."""

import pytest

from benchmarks import sft
from remid_jax.errors import UserError


@pytest.mark.parametrize("name", ["loss", "norm"])
def test_steps_that_differ_are_refused(name):
    theirs = {"loss": 5.0, "norm": 2.0}
    sft.agree(0, {"ours": {"loss": 5.0004, "norm": 2.001}, "peft": theirs})
    for wrong in (5.1, float("nan")):
        with pytest.raises(UserError, match=f"the {name} is .* no time is reported"):
            sft.agree(0, {"ours": {**theirs, name: wrong}, "peft": theirs})


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("one_thread")
def test_a_run(run, assert_reported):
    pytest.importorskip("peft")
    code, found = run(sft.main)
    assert code == 0
    assert_reported(found, "sft", ["ratio", "gemm_share"])
    assert found["contestants"]["ours"]["setting"] in ("1 part", "4 parts")
    assert "logits" in found["contestants"]["peft"]["setting"]


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("one_thread", "other_weights")
def test_other_weights_are_refused(run, capsys):
    pytest.importorskip("peft")
    assert run(sft.main) == (2, None)
    assert "no time is reported" in capsys.readouterr().err
