"""Samples as records, files of them, and the one line of an error."""

import json

import pytest

from remid_jax.errors import UserError


def record(sample_id="IDTest_1", tag="IDTest", **changes):
    base = {
        "sample_ID": sample_id,
        "user_persona": "Ann, 30, a nurse.",
        "agent_character": {"name": "Ada Lovelace", "traits": ["curious", "exact"]},
        "dialogue_context": [
            {"user_query": "Good evening."},
            {"agent_response": "Good evening to you."},
            {"user_query": "What are you working on?"},
        ],
        "agent_golden_response": "On the numbers of Bernoulli.",
        "subset_tag": tag,
    }
    return {**base, **changes}


def write(path, data):
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def error_of(call, *args):
    with pytest.raises(UserError) as e:
        call(*args)
    assert "\n" not in str(e.value)
    return str(e.value)
