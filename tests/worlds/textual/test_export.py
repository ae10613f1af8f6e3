"""Draws of the textual world, as indices and as files that the benchmark readers take."""

import json

import numpy as np
import pytest

from remid_jax.data import shifts
from remid_jax.data.reading import load_benchmark, load_responses
from remid_jax.data.samples import Sample
from remid_jax.worlds.textual import export, facts, rendering, truth
from remid_jax.worlds.textual.facts import NUM_RESPONSES, noise_entropy, textual_world

WORLD = textual_world(personas=1, characters=1)


def close_to(counts, p):
    """A chi-squared statistic within 4 standard deviations of its mean, and no impossible draw."""
    n, kept = counts.sum(), p > 0
    assert counts[~kept].sum() == 0
    chi2 = np.sum((counts[kept] - n * p[kept]) ** 2 / (n * p[kept]))
    freedom = kept.sum() - 1
    assert abs(chi2 - freedom) < 4 * np.sqrt(2 * max(freedom, 1))


@pytest.mark.parametrize("tag", shifts.ALL_TAGS)
def test_contexts_follow_the_law_of_their_subset(tag):
    x, _ = export.sample(WORLD, tag, 20_000, seed=2, strength=0.4)
    law = truth.joint_of(truth.mechanisms_of(WORLD, tag, 0.4)).ravel()
    close_to(np.bincount(x, minlength=len(law)), law)


def test_responses_follow_the_channel():
    x, y = export.sample(WORLD, "Gaming", 60_000, seed=3)
    most = np.bincount(x).argmax()
    rows = truth.channel(WORLD, [most])[0]
    counts = np.bincount(y[x == most], minlength=NUM_RESPONSES)
    slots = counts.reshape(facts.SLOTS), rows.reshape(facts.SLOTS)
    for slot in range(4):
        rest = tuple(k for k in range(4) if k != slot)
        close_to(slots[0].sum(rest), slots[1].sum(rest))
    value = truth.log_prob(WORLD, y, x)
    want = -noise_entropy(WORLD.noise)
    assert abs(value.mean() - want) < 4 * value.std() / np.sqrt(len(value))


def test_draws_repeat_with_the_seed_and_differ_between_splits():
    def draw(tag, seed):
        return np.stack(export.sample(WORLD, tag, 200, seed))

    assert np.array_equal(draw("IDTest", 0), draw("IDTest", 0))
    for other in (draw("IDTrain", 0), draw("IDTest", 1)):
        agree = (draw("IDTest", 0)[1] == other[1]).mean()  # responses, drawn alike by chance only
        assert agree < 0.3


def test_model_responses_follow_any_channel():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(11, 0.5), size=5)
    rows[:, 3] = 0
    rows /= rows.sum(1, keepdims=True)
    y = export.sample_responses(rows, np.full(30_000, 4), seed=1)
    close_to(np.bincount(y, minlength=11), rows[4])
    sure = np.eye(11, dtype=np.float32)[[3, 0, 10, 5, 5]]
    x = np.array([4, 0, 1, 2, 3, 2])
    assert export.sample_responses(sure, x).tolist() == [5, 3, 0, 10, 5, 10]


def test_bad_channels_and_counts_are_refused():
    rows = np.full((3, 4), 0.25)
    rows[1, 2] = 0.5
    with pytest.raises(ValueError, match=r"channel\[x\] of shape \(2, 4\): row \(1,\) sums to"):
        export.sample_responses(rows, [0, 1])
    rows[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"holds nan at \(0, 2\)"):
        export.sample_responses(rows, [1])
    with pytest.raises(ValueError, match="x of shape"):
        export.sample_responses(rows, [3])
    with pytest.raises(ValueError, match=r"got shape \(4,\)"):
        export.sample_responses(rows[0], [0])
    with pytest.raises(ValueError, match="n is 0"):
        export.sample(WORLD, "IDTest", 0)
    with pytest.raises(ValueError, match="unknown tag"):
        export.to_samples(WORLD, "klingon", [0], [0])


def test_records_are_samples_of_the_schema():
    x, y = export.sample(WORLD, "Film & Television", 5, seed=0)
    samples = export.to_samples(WORLD, "Film & Television", x, y)
    for i, s in enumerate(samples):
        record = json.loads(json.dumps(s.to_record()))
        assert Sample.from_record(record, "here") == s
        assert s.sample_id.startswith("OOD2Test") and record["language"] == "en"
        u, c, d = (record["world"][k] for k in ("user", "character", "dialogue"))
        assert np.ravel_multi_index((u, c, d), WORLD.shape) == x[i]
        assert record["world"]["response"] == y[i]
    back = export.indices_of(WORLD, samples)
    assert np.array_equal(back[0], x) and np.array_equal(back[1], y)


def test_the_benchmark_file_is_read_with_every_subset(tmp_path):
    path = tmp_path / "world.json"
    written = export.write_benchmark(path, WORLD, 6, train=9, seed=4, strength=0.5)
    benchmark = load_benchmark(path)
    assert set(benchmark.subsets) >= set(shifts.TEST_TAGS) and benchmark.subsets == written
    assert {tag: len(s) for tag, s in benchmark.subsets.items()} == {
        tag: 9 if tag == "IDTrain" else 6 for tag in shifts.ALL_TAGS
    }
    for tag, samples in benchmark.subsets.items():
        x, y = export.indices_of(WORLD, samples)
        n = len(samples)
        want = export.sample(WORLD, tag, n, seed=4, strength=0.5)
        assert np.array_equal(x, want[0]) and np.array_equal(y, want[1])
    turns = {s.user_turns for s in benchmark.subsets["TurnLevelComposition"]}
    assert turns == {4, 8}  # half strength: both kinds


def test_the_response_file_is_read_for_every_policy(tmp_path):
    samples = export.to_samples(WORLD, "IDTest", *export.sample(WORLD, "IDTest", 8))
    rows = truth.channel(WORLD, dtype=np.float32)
    greedy = np.eye(NUM_RESPONSES, dtype=np.float32)[rows.argmax(1)]
    path = tmp_path / "responses.json"
    channels = {"truth": rows, "greedy": greedy, "truth again": rows}
    drawn = export.write_responses(path, WORLD, samples, channels, seed=7)
    table = load_responses(path, samples)
    assert list(table) == list(channels)
    for policy, y in drawn.items():
        texts = [rendering.response_text(i) for i in y]
        assert [table[policy][s.sample_id] for s in samples] == texts
    x, _ = export.indices_of(WORLD, samples)
    assert np.array_equal(drawn["greedy"], rows[x].argmax(1))
    assert not np.array_equal(drawn["truth"], drawn["truth again"])
    with pytest.raises(ValueError, match=r"channel 'short' of shape \(7, 960\) must be"):
        export.write_responses(path, WORLD, samples, {"short": rows[:7]})
