"""A character profile as text, for prompts and drafts alike."""

from collections.abc import Mapping
from typing import Any

from remid_jax.benchmark.samples import Sample


def character_name(sample: Sample) -> str:
    """The character's name, or `the character` where the profile has none."""
    if isinstance(sample.character, Mapping):
        name = sample.character.get("name")
        if isinstance(name, str) and name.strip():
            return name.strip()
    return "the character"


def character_text(character: Mapping[str, Any] | str) -> str:
    """The profile as plain text, one `key: value` line for each entry of an object."""
    if isinstance(character, str):
        return character.strip()
    return "\n".join(f"{key.replace('_', ' ')}: {_flat(value)}" for key, value in character.items())


def _flat(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_flat(v) for v in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_flat(v)}" for k, v in value.items())
    return str(value)
