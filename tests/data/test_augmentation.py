"""Augmented samples: consistent, of known words, and the rest as it was."""

import dataclasses

import numpy as np
import pytest

from remid_jax.data.augmentation import STYLES, augmented, exchanged, recombined, restyled
from remid_jax.data.reading import load_benchmark
from remid_jax.worlds.textual import export, facts, rendering, tokenisation

WORLD = facts.textual_world(personas=2, characters=2)


@pytest.fixture(scope="module")
def samples():
    """IDTrain of a world."""
    return export.draw_benchmark(WORLD, 2, train=24)["IDTrain"]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_word_of_the_dialogue_is_exchanged_everywhere(samples):
    """A place or a verb changes with the persona or the answer: the world's rule still holds."""
    changed = 0
    for k, sample in enumerate(samples):
        new = recombined(sample, samples[(k + 1) % len(samples)], rng(k))
        if new == sample:
            continue
        changed += 1
        before, after = (s.extra["world"] for s in (sample, new))
        assert before == after and new.sample_id == sample.sample_id
        asked, now = (x.dialogue[-1][1].removesuffix("?").split()[-1] for x in (sample, new))
        right = f", {asked} the " in sample.golden  # most are: a world's answers have noise
        assert not right or f", {now} the " in new.golden
        place = new.dialogue[2][1].removesuffix(".").split()[-1]
        said = sample.dialogue[2][1].removesuffix(".").split()[-1]
        mood = next(c for c in sample.persona.split(", ") if f" {said}" in c).split()[0]
        assert f"{mood} {place}" in new.persona
        tokenisation.encode(f"{new.persona} {new.golden}")
    assert changed > 4


def test_words_meet_that_the_data_has_only_apart(samples):
    def pairs(s):
        return s.dialogue[2][1], s.dialogue[-1][1]

    known = {pairs(s) for s in samples}
    new = {pairs(recombined(a, b, rng(k))) for k, a in enumerate(samples) for b in samples}
    assert new - known


def test_without_a_word_to_exchange_the_sample_stays(samples):
    assert recombined(samples[0], samples[0], rng()) is samples[0]


def test_case_and_parts_of_words_stay():
    assert exchanged("Build it. Rebuild; build!", "build", "bring") == "Bring it. Rebuild; bring!"


@pytest.mark.parametrize("style", STYLES)
def test_a_persona_keeps_its_facts_in_every_style(style):
    sample = load_benchmark().subsets["IDTrain"][0]
    new = restyled(sample, style, rng(1))
    assert new.persona != sample.persona
    assert dataclasses.replace(new, persona=sample.persona) == sample
    kept = set(new.persona.replace(";", "").replace("- ", "").split())
    assert kept <= set(sample.persona.split()) | {w.strip(".,;") for w in sample.persona.split()}


def test_a_world_knows_the_words_of_reordered_personas(samples):
    new = restyled(samples[0], "reordered", rng(3)).persona
    assert new != samples[0].persona
    moods = rendering.persona_text(WORLD, samples[0].extra["world"]["user"]).split(", ")[2:]
    assert all(m.rstrip(".") in new for m in moods)
    tokenisation.encode(new)


def test_a_share_is_augmented_and_no_other_language_lends_words(samples):
    drawn = augmented(samples * 20, samples, 0.25, ("reordered",), rng())
    told = [a.persona.split(", ")[0] != b.persona.split(", ")[0]
            for a, b in zip(drawn, samples * 20, strict=True)]  # fmt: skip
    assert 0.1 < np.mean(told) < 0.3
    assert augmented(samples, samples, 0.0, ("reordered",), rng()) == list(samples)
    foreign = [dataclasses.replace(s, extra={**s.extra, "language": "de"}) for s in samples]
    assert augmented(samples, foreign, 1.0, (), rng()) == list(samples)
