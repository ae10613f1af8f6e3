"""Subsets of random scores, and R-EMI of them by loops."""

import dataclasses

import numpy as np

from remid_jax.analysis.measures import Estimates
from remid_jax.analysis.rows import estimate_rows
from remid_jax.data.shifts import SHIFT_OF
from remid_jax.evaluation.config import default_config
from remid_jax.information.pairs import Block, EstimatorSettings, Subset, negatives_for


def settings_of(**changes) -> EstimatorSettings:
    return dataclasses.replace(EstimatorSettings.from_config(default_config()), **changes)


def estimates_of(subsets, **changes) -> Estimates:
    return Estimates(subsets, settings_of(**changes))


def rows_of(subsets, **changes):
    return estimate_rows(estimates_of(subsets, **changes), {})


def row_of(rows, rpm, tag):
    return next(r for r in rows if (r["rpm"], r["subset"]) == (rpm, tag))


def block(seed, lift, where=None, n=8) -> Block:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-80, 6, (n, n)) + lift * np.eye(n)
    lengths = rng.integers(10, 30, n)
    return Block(scores, scores + 1, lengths, np.ones(n, bool) if where is None else where)


def subset(tag, seed, lift, paired=False, where=None, labels=None, n=8, names="ab", **changes):
    """Golden responses and those of RPMs; `where` and `lift` are those of `a`."""
    counterparts = tuple(f"IDTest_{i}" for i in range(n)) if paired else (None,) * n
    rpms = {"a": block(seed + 1, lift, where, n), "b": block(seed + 2, 2.0, n=n)}
    return Subset(
        tag=tag, sample_ids=tuple(f"{tag}_{i}" for i in range(n)), pair_ids=counterparts,
        languages=(None,) * n, golden=block(seed, 20.0, n=n),
        rpms={name: rpms[name] for name in names},
        negatives=negatives_for(n, settings_of(**changes), labels), labels=labels,
        shift=SHIFT_OF.get(tag),
    )  # fmt: skip


def club(scores, keep, labels=None):
    labels = list(range(len(scores))) if labels is None else labels
    pairs = [scores[i, j] for i in keep for j in keep if labels[i] != labels[j]]
    return np.mean([scores[i, i] for i in keep]) - np.mean(pairs)


def r_emi(s, rpm, keep, labels=None):
    return club(s.rpms[rpm].scores, keep, labels) - club(s.golden.scores, keep, labels)


def jackknife_error(values):
    values, g = np.array(values), len(values)
    return np.sqrt((g - 1) / g * ((values - values.mean()) ** 2).sum())


def without_each(labels):
    """The contexts that are left without each cluster."""
    places = range(len(labels))
    return [[i for i in places if labels[i] != g] for g in dict.fromkeys(labels)]
