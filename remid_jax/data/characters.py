"""Character profiles: what files hold, and their text for prompts and drafts."""

from collections.abc import Mapping
from typing import Any

from remid_jax.data.texts import fill_placeholders, has_text
from remid_jax.errors import UserError
from remid_jax.json_files import kind_of, part_of

Profile = Mapping[str, Any] | str

UNNAMED = "the character"
_CARDS = ("chara_card_v2", "chara_card_v3")
# What a card says to programs and people, not of the character; its specification keeps these
# out of prompts.
_NOT_OF_THE_CHARACTER = (
    "creator_notes", "creator_notes_multilingual", "extensions", "creator", "character_version",
    "tags", "source", "assets", "creation_date", "modification_date",
)  # fmt: skip


def read_character(value: Any, where: str) -> Profile:
    """Reads a profile from a file: an object, a character card, or a text.

    Nulls are left out wherever they stand. Of a character card of version 2 or 3 the `data` is the
    profile, without what is not about the character (creator's notes, extensions ...).

    Raises:
      UserError: another kind of value, a card without data, or nothing that can be read; it begins
        with `where`.
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
    """What a card says of the character; of its book the contents of the entries."""
    if not isinstance(data, dict):
        raise UserError(f"{where} is a character card without an object 'data'")
    said = {k: v for k, v in data.items() if k not in _NOT_OF_THE_CHARACTER and v not in ("", [])}
    entries = part_of(said.pop("character_book", None), "entries", list)
    return {**said, "character_book": [e.get("content") for e in entries if isinstance(e, dict)]}


def _without_nulls(value: Any) -> Any:
    """The value without nulls, and without what holds nothing but nulls."""
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
    if isinstance(value, str):
        return fill_placeholders(value, character, user)
    if isinstance(value, list | tuple):
        return type(value)(filled(v, character, user) for v in value)
    if isinstance(value, Mapping):
        return {k: filled(v, character, user) for k, v in value.items()}
    return value


def name_in(character: Profile) -> str:
    """The name that a profile gives, or an empty text."""
    profile = character if isinstance(character, Mapping) else {}
    named = {str(key).lower(): value for key, value in profile.items()}
    found = (named.get(key) for key in ("name", "char_name", "character_name"))
    return next((n.strip() for n in found if isinstance(n, str) and has_text(n)), "")


def character_name(character: Profile) -> str:
    """The name that a profile gives, or `the character`."""
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
