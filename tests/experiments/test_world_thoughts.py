"""Which facts of thoughts are right, and where log q is lost."""

import numpy as np
import pytest
from tiny_corl import tiny_config

from experiments.corl_world_thoughts import FACTS, MIXED, SLOTS, measure_pair, right_facts
from remid_jax.training.experiment import make_experiment
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.worlds.textual import reasoning, rendering
from remid_jax.worlds.textual.facts import textual_world


def test_right_facts_of_thoughts():
    world = textual_world(personas=2, characters=2)
    right = int(reasoning.right_thought(world, 7))
    facts = reasoning.thought_facts(right)
    facts[FACTS.index("voice")] = (facts[FACTS.index("voice")] + 1) % 5
    wrong = int(np.ravel_multi_index(facts, reasoning.FACTS))
    texts = [rendering.thought_text(right), rendering.thought_text(wrong), "no thought"]
    shares = dict(zip(FACTS, right_facts(world, 7, texts), strict=True))
    assert shares == pytest.approx({f: 1 / 3 if f == "voice" else 2 / 3 for f in FACTS})


@pytest.mark.parametrize("notes", [pytest.param("own", marks=pytest.mark.slow), "none"])
def test_slots_add_up_to_what_evaluation_says(tmp_path, notes):
    config = tiny_config()
    config.notes = notes
    experiment = make_experiment(config, tmp_path)
    worker = RolloutWorker(config, experiment)
    found = measure_pair(worker, experiment.start)
    assert set(found) == {"id", "user", "IDTest", "german"}
    assert set(found["id"]) == (
        {"kl"} if notes == "none" else {"kl", "kl_right", "right", "mixture"}
    )
    assert found["id"] == found["IDTest"]
    samples = experiment.tests["IDTest"]
    whole = -worker.predict(samples, experiment.start).sums.mean()
    # A response has as many marks and function words as words of slots; the exact log p is small.
    assert set(found["id"]["kl"]) == set(SLOTS)
    assert 0 < sum(found["id"]["kl"].values()) < whole
    if notes == "own":  # more thoughts predict better, on the same draws
        values = [found["id"]["mixture"][name] for name in MIXED[:-1]]
        assert values == sorted(values, reverse=True) and values[-1] < values[0]
