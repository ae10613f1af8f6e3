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
    small_config.shifts = ("german",)
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
    assert (
        "likelihoods in bfloat16: in 3 contexts in distribution bfloat16 changes"
        in capsys.readouterr().out
    )
    config.model.dtype = "float32"
    whole, exact, same = run(config, tmp_path / "whole")
    assert answers == same and whole["provenance"]["precision"] is None
    names = [f"{who}/scores" for who in ("golden", "full_context")]
    for name in names:
        assert not np.array_equal(blocks[name], exact[name])
        np.testing.assert_allclose(blocks[name], exact[name], atol=0.5)
    # The three contexts that were compared are all there are: so is their standard error.
    rows = {r["rpm"]: (r, b) for r, b in zip(results["rows"], whole["rows"], strict=True)
            if r["subset"] == "IDTest"}  # fmt: skip
    changes = [
        (abs(half["r_emi"] - b["r_emi"]) / b["r_emi_se"], b["r_emi_se"])
        for half, b in (rows["full_context"], rows["last_turn_only"])
    ]
    share, se = max(changes)
    assert found["r_emi"]["se"] == pytest.approx(se, rel=1e-4)
    assert found["r_emi"]["change"] == pytest.approx(share * se, rel=1e-2)


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
    config.scorer.checkpoint = str(tmp_path / "pair")
    found = diagnose(config, tmp_path / "run")["provenance"]
    assert found["precision"]["dtype"] == "bfloat16" and "policy" in found["model"]["name"]


def test_several_machines_must_agree(config):
    for change in ({"shard": "0/2"}, {"processes.coordinator": "host:1"}):
        c = config.copy_and_resolve_references()
        for name, value in change.items():
            c.update_from_flattened_dict({name: value})
        with pytest.raises(UserError, match="several must agree; name float32 or bfloat16"):
            check_config(c)


def test_a_standard_error_falls_with_the_contexts_and_a_change_stays():
    whole = [{"n": 8, "lost": 3.0, "lost_se": 1.0}, {"n": 2, "lost": 1.0, "lost_se": None}]
    half = [{"n": 8, "lost": 3.1, "lost_se": 1.0}, {"n": 2, "lost": 9.0, "lost_se": None}]
    found = precision._most_changed(whole, half, "lost", 32)
    assert found == {"change": pytest.approx(0.1), "se": 0.5}
    assert precision._most_changed(whole, half, "info", 32) is None


def test_a_dry_run_reads_the_choice_and_a_damaged_one_is_made_again(config, tmp_path):
    diagnose(config, tmp_path)
    config.dry_run = True
    plan = diagnose(config, tmp_path)["plan"]
    assert plan["stages"] == []
    config.dry_run = False
    file = tmp_path / "precision.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({"key": kept["key"]}))
    assert diagnose(config, tmp_path)["provenance"]["precision"]["dtype"] == "bfloat16"
    file.write_text("{")
    with pytest.raises(UserError, match=r"precision\.json"):
        diagnose(config, tmp_path)
