"""Character profiles: what files hold, and their text for prompts and drafts."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from remid_jax.data.texts import fill_placeholders, has_text
from remid_jax.errors import UserError
from remid_jax.json_files import kind_of, part_of

Profile = Mapping[str, Any] | str

UNNAMED = "the character"
_NAME_LINE = re.compile(
    r"^[\s#*_>-]*(?:full |character )?name[*_\s]*[:：][*_\s]*([^\n]+?)[*_.\s]*$",
    re.IGNORECASE | re.MULTILINE,
)
_INTRODUCED = re.compile(
    r"(?:(?:you are|you're|i am|i'm|my name is)\s+)?([^\n,]{1,60}?)(?:,|\s(?:is|was)\s)",
    re.IGNORECASE,
)
_MOST_WORDS = 4  # of a name within a text
_NO_NAME = re.compile(r"[.!?。！？:：;\n](?!\s?[A-Z]\w)|\d")  # but of `Dr. John Watson`
NO_NAMES = (
    "a", "an", "the", "he", "she", "it", "they", "i", "you", "we", "this", "that", "there", "his",
    "her", "their", "my", "your", "our",
)  # fmt: skip
_CARDS = ("chara_card_v2", "chara_card_v3")
_NOT_OF_THE_CHARACTER = (  # which the specification of cards keeps out of prompts
    "creator_notes", "creator_notes_multilingual", "extensions", "creator", "character_version",
    "tags", "source", "assets", "creation_date", "modification_date",
)  # fmt: skip


def read_character(value: Any, where: str) -> Profile:
    """Reads a profile without its nulls; of a character card, what is about the character.

    Raises:
      UserError: neither an object nor a text, a card without data, or nothing that can be read.
    """
    if not isinstance(value, (dict, str)):
        raise UserError(f"{where} must be an object or a string, not {kind_of(value)}")
    if isinstance(value, dict) and str(value.get("spec")).lower() in _CARDS:
        value = _of_card(value.get("data"), where)
    profile = _without_nulls(value)
    if not _any_text(profile):
        raise UserError(f"{where} is empty")
    return profile


def _of_card(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UserError(f"{where} is a character card without an object 'data'")
    said = {k: v for k, v in data.items() if k not in _NOT_OF_THE_CHARACTER and v not in ("", [])}
    entries = part_of(said.pop("character_book", None), "entries", list)
    return {**said, "character_book": [e.get("content") for e in entries if isinstance(e, dict)]}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: _without_nulls(v) for k, v in value.items() if v is not None}
        return {k: v for k, v in kept.items() if v not in ({}, [])}
    if isinstance(value, list):
        return list(_without_nulls(dict(enumerate(value))).values())
    return value


def _any_text(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return any(map(_any_text, value)) if isinstance(value, list) else has_text(str(value))


def filled(value: Any, character: str, user: str) -> Any:
    """A profile, a dialogue or a text with names in the place of placeholders."""
    return map_texts(value, lambda text: fill_placeholders(text, character, user))


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with each of its texts changed; keys and all else stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(map_texts(v, change) for v in value)
    if isinstance(value, Mapping):
        return {k: map_texts(v, change) for k, v in value.items()}
    return value


def name_in(character: Profile) -> str:
    """The name that a profile gives, or an empty text."""
    profile = character if isinstance(character, Mapping) else {}
    named = {str(key).lower(): value for key, value in profile.items()}
    found = (named.get(key) for key in ("name", "char_name", "character_name"))
    return next((n.strip() for n in found if isinstance(n, str) and has_text(n)), "")


def known_name(profile: Profile) -> str:
    """The name in a profile, one that is a text included, or an empty text.

    A text tells it where it is nothing but a name, has a line `Name: …`, or begins with one, as
    in `You are Ann Lee, a nurse` and `Ann Lee is a nurse`.

    >>> known_name("You are Ann Lee, a nurse."), known_name("She is a nurse.")
    ('Ann Lee', '')
    """
    if not isinstance(profile, str):
        return name_in(profile)
    text = profile.strip()
    found = _NAME_LINE.search(text) or _INTRODUCED.match(text)
    name = (found[1] if found else text).strip()
    words = name.split()
    if not words or len(words) > _MOST_WORDS or _NO_NAME.search(name):
        return ""
    if words[0].casefold() in NO_NAMES or any(w[0].islower() for w in (words[0], words[-1])):
        return ""
    return name


def character_name(character: Profile) -> str:
    """The name that a profile gives, or `UNNAMED`."""
    return name_in(character) or UNNAMED


def character_text(character: Profile) -> str:
    """The profile as plain text, one `key: value` line for each entry of an object."""
    if isinstance(character, str):
        return character.strip()
    return "\n".join(f"{key.replace('_', ' ')}: {_flat(value)}" for key, value in character.items())


def _flat(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_flat, value))
    if isinstance(value, Mapping):
        return "; ".join(f"{k}: {_flat(v)}" for k, v in value.items())
    return str(value)
