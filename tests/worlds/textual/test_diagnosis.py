"""The whole line of the diagnosis on files written by a textual world."""

import json

import numpy as np
import pytest
from tiny_checkpoint import tiny_tensors, write_hugging_face

from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.config import default_config
from remid_jax.worlds.textual import export, truth
from remid_jax.worlds.textual.facts import NUM_RESPONSES, textual_world

WORLD = textual_world(personas=1, characters=1)
TAGS = ("IDTest", "korean", "Gaming", "WordLevelComposition")


@pytest.fixture
def config(tmp_path):
    """A tiny random model that scores and notes, on three contexts of four subsets."""
    window = {"max_position_embeddings": 4096}
    c = default_config()
    c.model.path = str(write_hugging_face(tmp_path / "tiny", tiny_tensors(), window))
    c.benchmark, c.responses = str(tmp_path / "world.json"), str(tmp_path / "responses.json")
    c.shifts = TAGS[1:]
    c.limits.contexts = 3
    c.sampling.max_tokens, c.reasoning.max_tokens = 4, 3
    return c


def test_a_world_runs_through_the_diagnosis(config, tmp_path):
    subsets = export.write_benchmark(config.benchmark, WORLD, 5)
    samples = [s for tag in TAGS for s in subsets[tag]]
    rows = truth.channel(WORLD)
    channels = {"truth": rows, "constant": np.eye(NUM_RESPONSES)[np.zeros(len(rows), int)]}
    export.write_responses(config.responses, WORLD, samples, channels)
    results = diagnose(config, tmp_path / "run")

    found = {(r["rpm"], r["subset"]): r for r in results["rows"]}
    assert set(found) >= {(p, s) for p in (*channels, "golden") for s in TAGS}
    assert all(np.isfinite(r["r_emi"]) for r in results["rows"])
    assert results["excluded"] == []
    for tag in TAGS:
        # One response to every context carries no information, whatever the model.
        assert found["constant", tag]["retained"] == pytest.approx(0, abs=1e-2)
        assert found["golden", tag]["r_emi"] == 0
        assert found["truth", tag]["n"] == 3
    used = results["provenance"]["counts"]["Gaming"]
    assert used == {"available": 5, "used": 3}

    # What the run kept names contexts of the world, so its exact likelihoods can be set beside.
    lines = (tmp_path / "run" / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    kept = {json.loads(line)["sample_ID"] for line in lines}
    chosen = [s for s in load_benchmark(config.benchmark) if s.sample_id in kept]
    x, y = export.indices_of(WORLD, chosen)
    assert len(x) == 12 and np.isfinite(truth.log_prob(WORLD, y[None, :], x[:, None])).all()
