"""Rewards of a batch against each likelihood scored alone."""

import dataclasses

import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny_corl import tiny_config

from remid_jax.training.corl import Corl
from remid_jax.training.experiment import make_experiment
from remid_jax.training.groups import Example
from remid_jax.training.judge import partner

THOUGHTS = [["Hello", "bold"], ["bold", "bold"], ["surely", "lantern"], ["lantern", "Hello"]]
G = 2


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    config = tiny_config()
    return Corl(config, make_experiment(config, folder), folder)


def alone(run, sample, note, response, first=0) -> float:
    """log q of one response, in nats, by a batch of its own; of its tokens from `first` on."""
    task, worker = run.experiment.task, run.worker
    row = Example(task.policy_prompt(sample, note), response)
    values = worker.score(run.experiment.initial, worker.batch([[row]], worker.max_golden))
    return float(values.astype(np.float64)[..., first:].sum())


def rewarded(run, role, rewards, texts, completed=(), notes=()):
    with run.config.unlocked():
        run.config[role].rewards = ConfigDict(rewards)
    samples = run.experiment.train[:4]
    stopped = np.ones((4, len(texts[0])), bool)
    _, parts = run.judge.rewards(
        role, run.experiment.initial, samples, notes, texts, completed, stopped
    )
    return {name: values.reshape(4, -1) for name, values in parts.items()}


@pytest.mark.parametrize("free", [0.0, 0.2])
def test_thoughts_are_rewarded_by_the_mixture(run, free):
    run.config.scoring.thought_free = free
    found = rewarded(
        run, "reasoner", {"sequence_likelihood": 1.0, "marginal_likelihood": 1.0}, THOUGHTS
    )
    for b, s in enumerate(run.experiment.train[:4]):
        y = run.experiment.task.encode(s.golden)
        q = np.exp([alone(run, s, n, y) for n in THOUGHTS[b]])
        plain = np.exp(alone(run, s, None, y))
        each = np.log((1 - free) * q + free * plain)
        np.testing.assert_allclose(found["sequence_likelihood"][b], each, atol=2e-3)
        both = np.log((1 - free) * q.mean() + free * plain)
        np.testing.assert_allclose(
            found["marginal_likelihood"][b], both - each[::-1], atol=2e-3
        )  # of two thoughts, the mixture without one is the other
    run.config.scoring.thought_free = 0.0


def test_negatives_hold_the_prompt_without_a_thought_too(run):
    run.config.scoring.thought_free = free = 0.2
    run.config.reasoner.negatives = 1
    found = rewarded(run, "reasoner", {"cross_information": 1.0}, THOUGHTS)
    samples = run.experiment.train[:4]
    for b in range(4):
        y, k = run.experiment.task.encode(samples[b].golden), (b + 1) % 4

        def mixed(s, n, y=y):
            return (1 - free) * np.exp(alone(run, s, n, y)) + free * np.exp(alone(run, s, None, y))

        own, other = mixed(samples[b], THOUGHTS[b][1]), mixed(samples[k], THOUGHTS[k][0])
        expected = np.log(own / ((own + other) / 2))
        assert found["cross_information"][b, 1] == pytest.approx(expected, abs=2e-3)
    run.config.scoring.thought_free = 0.0


def test_candidates_are_rewarded_for_what_they_carry_of_their_context(run, monkeypatch):
    """By their own words, of which the first is none here."""
    task, samples = run.experiment.task, run.experiment.train[:4]
    monkeypatch.setattr(task, "own_tokens", lambda sample, ids: np.arange(len(ids)) > 0)
    run.config.policy.negatives = 2
    texts = [["Hello", "surely, buy"], ["bold", "lantern"], ["buy the", "the"], ["Hello", "buy"]]
    completed = [[task.encode(t) for t in group] for group in texts]
    notes = [[own[0]] for own in THOUGHTS]
    found = rewarded(
        run, "policy", {"cross_information": 1.0, "profile": 1.0}, texts, completed, notes
    )
    fields = ("persona", "character", "dialogue")
    for b, s in enumerate(samples):
        for g, y in enumerate(completed[b]):
            scores = [alone(run, samples[k % 4], notes[k % 4][0], y) for k in range(b, b + 3)]
            expected = scores[0] - np.log(np.mean(np.exp(scores)))
            assert found["cross_information"][b, g] == pytest.approx(expected, abs=2e-3)
            total, plain = 0.0, alone(run, s, None, y, first=1)
            for field in fields:
                values = [getattr(x, field) for x in samples]
                others = [k % 4 for k in range(b + 1, b + 4) if values[k % 4] != values[b]]
                if others:
                    other = dataclasses.replace(s, **{field: values[others[0]]})
                    total += len(others) / 3 * (plain - alone(run, other, None, y, first=1))
            assert found["profile"][b, g] == pytest.approx(total / 3, abs=2e-3)


def test_partners_share_a_language(run):
    samples = [
        dataclasses.replace(s, persona=f"p{k}", extra={"language": "en" if k % 2 else "de"})
        for k, s in enumerate(run.experiment.train[:4])
    ]
    assert [partner(samples, i, "user") for i in range(4)] == [
        (2, 1.0),
        (3, 1.0),
        (0, 1.0),
        (1, 1.0),
    ]
    alike = [dataclasses.replace(s, persona="p") for s in samples]
    assert partner(alike, 2, "user") == (2, 0.0)
