"""The bundled benchmark as JSON, and what tests find and change in a copy of it."""

import json

from remid_jax.data import reading

BUNDLED = json.loads(reading.bundled_path().read_text(encoding="utf-8"))


def find(data, sample_id):
    return next(s for split in data.values() for s in split if s["sample_ID"] == sample_id)


def subset(data, tag):
    return [s for split in data.values() for s in split if s["subset_tag"] == tag]


def english(data, tag):
    return next(s for s in subset(data, tag) if s["language"] == "en")


def foreign(data, tag):
    return next(s for s in subset(data, tag) if s["language"] != "en")


def say(sample, i, text):
    """Replaces message i of a dialogue."""
    (key,) = sample["dialogue_context"][i]
    sample["dialogue_context"][i] = {key: text}


def said(sample, i):
    return next(iter(sample["dialogue_context"][i].values()))
