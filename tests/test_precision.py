"""A run that chooses the type of its likelihoods itself."""

import json

import jax
import numpy as np
import pytest
from tiny_model import filled

from remid_jax import precision
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config
from remid_jax.models.adapters import new_adapter, save_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import load_language_model
from remid_jax.report.terminal import print_report


@pytest.fixture
def config(small_config, monkeypatch):
    """Chooses by its error alone; that of a random model may be large."""
    monkeypatch.setattr(precision, "LEAST_GAIN", 0.0)
    monkeypatch.setattr(precision, "MOST", np.inf)
    small_config.profile.swaps, small_config.model.dtype = 1, "auto"
    return small_config


def run(config, folder):
    results = diagnose(config, folder)
    with np.load(folder / "pairs" / "german.npz") as saved:
        blocks = {k: saved[k] for k in saved.files}
    return results, blocks, (folder / "responses.jsonl").read_text()


def test_half_precision_scores_what_float32_has_answered(config, tmp_path, capsys):
    results, blocks, answers = run(config, tmp_path / "auto")
    found = results["provenance"]["precision"]
    assert found["dtype"] == results["provenance"]["model"]["dtype"] == "bfloat16"
    assert found["contexts"] == 3 and found["r_emi"]["change"] > 0 and found["lost"]["se"] > 0
    print_report(results, tmp_path / "auto")
    assert "likelihoods in bfloat16: bfloat16 changes R-EMI by" in capsys.readouterr().out
    config.model.dtype = "float32"
    whole, exact, same = run(config, tmp_path / "whole")
    assert answers == same and whole["provenance"]["precision"] is None
    names = [f"{who}/scores" for who in ("golden", "full_context")]
    for name in names:
        assert not np.array_equal(blocks[name], exact[name])
        np.testing.assert_allclose(blocks[name], exact[name], atol=0.5)
    # The three contexts that were compared are all there are.
    changes = [
        abs(a["r_emi"] - b["r_emi"])
        for a, b in zip(results["rows"], whole["rows"], strict=True)
        if a["subset"] == "IDTest" and a["rpm"] in ("full_context", "last_turn_only")
    ]
    assert 0 < min(changes) <= found["r_emi"]["change"] * 1.001


def test_a_slower_type_is_not_tried(config, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "LEAST_GAIN", np.inf)
    found = diagnose(config, tmp_path)["provenance"]["precision"]
    assert found["dtype"] == "float32" and "times as fast" in found["why"]
    assert "contexts" not in found


def test_the_choice_stays_for_the_same_configuration_and_too_large_an_error_is_refused(
    config, tmp_path, monkeypatch
):
    first = diagnose(config, tmp_path)["provenance"]
    monkeypatch.setattr(precision, "MOST", 0.0)
    again = diagnose(config, tmp_path)["provenance"]
    assert again["precision"] == first["precision"] and again["programs"]["compiled"] == 0
    config.limits.contexts = 4
    assert diagnose(config, tmp_path)["provenance"]["precision"]["dtype"] == "float32"


def test_a_trained_pair_is_rounded_with_its_adapter(config, tmp_path):
    model = load_language_model(config.model.path)
    for i, role in enumerate(("reasoner", "policy")):
        new = new_adapter(model, LoraConfig(rank=2, dropout=0.0), jax.random.key(i))
        save_adapter(tmp_path / "pair" / role, filled(new, seed=10 + i, scale=0.3))
    config.scorer.checkpoint, config.shifts = str(tmp_path / "pair"), ("german",)
    found = diagnose(config, tmp_path / "run")["provenance"]
    assert found["precision"]["dtype"] == "bfloat16" and "policy" in found["model"]["name"]


def test_several_machines_must_agree(config):
    for change in ({"shard": "0/2"}, {"processes.coordinator": "host:1"}):
        c = config.copy_and_resolve_references()
        for name, value in change.items():
            c.update_from_flattened_dict({name: value})
        with pytest.raises(UserError, match="several must agree; name float32 or bfloat16"):
            check_config(c)


@pytest.mark.parametrize("n", [4, 400])
def test_what_contexts_share_of_a_change_stays_and_the_rest_averages_out(n):
    rng = np.random.default_rng(0)
    whole = rng.normal(size=2000)
    half = whole + 0.3 + rng.normal(scale=2.0, size=2000)
    found = precision.expected_change(whole, half, n)
    assert found["change"] == pytest.approx(np.sqrt(0.09 + 4 / n), rel=0.05)
    assert found["se"] == pytest.approx(1 / np.sqrt(n), rel=0.05)
    assert json.dumps(found)
