"""Draws of the textual world, as indices and as RPGBench files that the diagnosis reads."""

import json
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.data import shifts
from remid_jax.data.samples import Sample
from remid_jax.files import write_atomically
from remid_jax.information import checks
from remid_jax.worlds.textual import facts, rendering, truth
from remid_jax.worlds.textual.facts import Array, TextualWorld


def sample(
    world: TextualWorld, tag: str, n: int, seed: int = 0, strength: float = 1.0
) -> tuple[Array, Array]:
    """Draws contexts x ~ P of a subset and golden responses y ~ p(y|x): flat indices [n], [n].

    Draws of different tags are independent, IDTrain and IDTest too.

    Args:
      world: the world.
      tag: subset tag of RPGBench.
      n: number of draws.
      seed: any whole number ≥ 0.
      strength: of the shift, as in `truth.mechanisms_of`.

    Raises:
      ValueError: unknown tag, strength out of range, or n < 1.
    """
    if operator.index(n) < 1:
        raise ValueError(f"n is {n}; it must be at least 1")
    p = truth.joint_of(truth.mechanisms_of(world, tag, strength)).ravel()
    rng = np.random.default_rng([seed, shifts.ALL_TAGS.index(tag)])
    x = rng.choice(len(p), size=n, p=p)
    right = truth.right_slots(world, x)
    sizes = np.array(facts.SLOTS)
    offset = rng.integers(1, sizes, size=right.shape)  # 1..n−1 steps from the right word
    wrong = rng.random(right.shape) < world.noise
    slots = (right + offset * wrong) % sizes
    return x, np.ravel_multi_index(slots.T, facts.SLOTS)


def sample_responses(channel: Any, x: Any, seed: int | np.random.SeedSequence = 0) -> Array:
    """Draws y ~ channel(·|x) by the inverse of the cumulated row: [n] flat responses.

    Args:
      channel: [X, Y] rows of any model.
      x: [n] flat contexts.
      seed: any whole number ≥ 0.

    Raises:
      ValueError: the channel is no matrix, x is out of range, or a row is no distribution.
    """
    if np.ndim(channel) != 2:
        raise ValueError(f"channel must be [contexts, responses], got shape {np.shape(channel)}")
    x = truth.checked_index(x, np.shape(channel)[0], "x")
    rows = np.asarray(channel)[x].astype(np.float64)
    checks.distribution(rows, name="channel[x]")
    cumulated = np.cumsum(rows, axis=-1)
    # Below the last sum, so that a response of probability 0 is never drawn.
    level = np.random.default_rng(seed).random(len(x)) * cumulated[:, -1]
    return np.sum(cumulated <= level[:, None], axis=-1)


def to_samples(
    world: TextualWorld, tag: str, x: Any, y: Any, name: str | None = None
) -> tuple[Sample, ...]:
    """Contexts x [n] and golden responses y [n] as samples of a subset.

    Ids are `SPLIT_NAME_00000`, by default with the tag for name; `extra` holds `language` and
    `world`, the indices.

    Raises:
      ValueError: unknown tag, or an index is out of range.
    """
    truth.mechanisms_of(world, tag)  # refuses an unknown tag
    parts = np.stack([*truth.context_parts(world, x)], axis=-1).tolist()
    prefix = f"{shifts.split_of(tag)}_{(name or tag).replace(' ', '_')}"
    y = truth.checked_index(y, facts.NUM_RESPONSES, "y").tolist()
    return tuple(
        Sample(
            sample_id=f"{prefix}_{i:05}",
            persona=rendering.persona_text(world, u),
            character=rendering.character_profile(world, c),
            dialogue=rendering.dialogue_messages(world, d),
            golden=rendering.response_text(answer),
            tag=tag,
            extra={
                "language": "en",
                "world": {"user": u, "character": c, "dialogue": d, "response": answer},
            },
        )
        for i, ((u, c, d), answer) in enumerate(zip(parts, y, strict=True))
    )


def indices_of(world: TextualWorld, samples: Iterable[Sample]) -> tuple[Array, Array]:
    """x [n], y [n] of samples that `to_samples` wrote, parsed from their texts.

    Raises:
      ValueError: a sample's text is none of this world.
    """
    pairs = np.array([rendering.parse_sample(world, s) for s in samples], np.int64)
    return tuple(pairs.reshape(-1, 2).T)


def draw_benchmark(
    world: TextualWorld, n: int, *, train: int | None = None, seed: int = 0, strength: float = 1.0
) -> dict[str, tuple[Sample, ...]]:
    """Samples of all tags, in the order of `shifts.ALL_TAGS`.

    Args:
      world: the world.
      n: samples in each test subset.
      train: samples in IDTrain; by default n.
      seed: any whole number ≥ 0.
      strength: of all shifts, as in `truth.mechanisms_of`.

    Raises:
      ValueError: a number is out of range.
    """
    subsets = {}
    for tag in shifts.ALL_TAGS:
        count = n if train is None or tag != shifts.ID_TRAIN else train
        subsets[tag] = to_samples(world, tag, *sample(world, tag, count, seed, strength))
    return subsets


def write_benchmark(
    path: str | Path, world: TextualWorld, n: int, **settings: Any
) -> dict[str, tuple[Sample, ...]]:
    """Writes `draw_benchmark` as an RPGBench file for `remid_jax.load_benchmark`.

    Args:
      path: the file to write.
      world: as in `draw_benchmark`, with n and settings.

    Returns:
      The samples written, by tag.

    Raises:
      ValueError: a number is out of range.
      UserError: the file cannot be written.
    """
    subsets = draw_benchmark(world, n, **settings)
    splits: dict[str, list[dict[str, Any]]] = {}
    for tag, samples in subsets.items():
        splits.setdefault(shifts.split_of(tag), []).extend(s.to_record() for s in samples)
    _write_json(path, splits)
    return subsets


def write_responses(
    path: str | Path, world: TextualWorld, samples: Iterable[Sample],
    channels: Mapping[str, Any], *, seed: int = 0,
) -> dict[str, Array]:  # fmt: skip
    """Writes responses of model channels to samples, for `remid_jax.load_responses`.

    Args:
      path: the file to write.
      world: the world of the samples.
      samples: whose contexts are answered.
      channels: RPM -> [X, Y] rows; each draws on its own.
      seed: any whole number ≥ 0.

    Returns:
      RPM -> [n] flat responses drawn.

    Raises:
      ValueError: a sample is none of this world, or a channel is none of its contexts and
        responses.
      UserError: the file cannot be written.
    """
    samples = tuple(samples)
    x, _ = indices_of(world, samples)
    drawn: dict[str, Array] = {}
    for i, (rpm, rows) in enumerate(channels.items()):
        want = (world.num_contexts, facts.NUM_RESPONSES)
        if np.shape(rows) != want:
            raise ValueError(f"channel {rpm!r} of shape {np.shape(rows)} must be {want}")
        drawn[rpm] = sample_responses(rows, x, np.random.SeedSequence([seed, i]))
    records = {}
    for i, s in enumerate(samples):
        texts = {rpm: rendering.response_text(y[i]) for rpm, y in drawn.items()}
        records[s.sample_id] = {**s.to_record(), "model_response": texts}
    _write_json(path, records)
    return drawn


def _write_json(path: str | Path, value: Any) -> None:
    write_atomically(Path(path), [json.dumps(value, ensure_ascii=False, indent=1).encode()])
