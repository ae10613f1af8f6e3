"""One role-play sample, and what makes it well formed."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from remid_jax.benchmark import shifts
from remid_jax.errors import UserError, nearest

ROLES = ("user_query", "agent_response")
FIELDS = (
    "sample_ID",
    "user_persona",
    "agent_character",
    "dialogue_context",
    "agent_golden_response",
    "subset_tag",
)


@dataclasses.dataclass(frozen=True)
class Sample:
    """One context X = (user persona, character, dialogue) with its golden response.

    Attributes:
      sample_id: unique name, starting with the split's name in RPGBench.
      persona: the user persona U.
      character: the character profile C, an object of strings or a text.
      dialogue: messages of D as (role, text), role `user` or `character`; the last is the user's.
      golden: the reference response Y.
      tag: subset tag, one of `shifts.ALL_TAGS`.
      extra: all further keys of the record, kept as they were (`pair_id`, `language`, ...).
    """

    sample_id: str
    persona: str
    character: Mapping[str, Any] | str
    dialogue: tuple[tuple[str, str], ...]
    golden: str
    tag: str
    extra: Mapping[str, Any]

    @property
    def pair_id(self) -> str | None:
        """The in-distribution sample that this one varies, or None."""
        named = self.extra.get("pair_id")
        return named if isinstance(named, str) else None

    @property
    def user_turns(self) -> int:
        """Number of user turns in the dialogue."""
        return sum(role == "user" for role, _ in self.dialogue)

    @classmethod
    def from_record(cls, record: Any, where: str) -> "Sample":
        """Checks one RPGBench record and converts it.

        Args:
          record: the decoded JSON object.
          where: file and position, for messages.

        Raises:
          UserError: naming file, record and field.
        """
        if not isinstance(record, dict):
            raise UserError(f"{where}: a sample must be a JSON object, not {_kind(record)}")
        sample_id = record.get("sample_ID")
        if isinstance(sample_id, str) and sample_id.strip():
            where = f"{where} (sample_ID {sample_id!r})"
        if not is_unicode(record):
            raise UserError(f"{where}: holds a \\ud8.. escape without its other half")
        for field in FIELDS:
            if field not in record:
                raise UserError(f"{where}: field {field!r} is missing{nearest(field, record)}")
        for field in ("sample_ID", "user_persona", "agent_golden_response", "subset_tag"):
            _require_text(record[field], f"{where}: field {field!r}")
        tag = record["subset_tag"]
        if tag not in shifts.ALL_TAGS:
            hint = nearest(tag, shifts.ALL_TAGS)
            raise UserError(f"{where}: unknown subset_tag {tag!r}{hint}")
        return cls(
            sample_id=sample_id,
            persona=record["user_persona"],
            character=_character(record["agent_character"], where),
            dialogue=_dialogue(record["dialogue_context"], where),
            golden=record["agent_golden_response"],
            tag=tag,
            extra={k: v for k, v in record.items() if k not in FIELDS},
        )

    def to_record(self) -> dict[str, Any]:
        """The RPGBench record this sample was read from."""
        keys = dict(zip(("user", "character"), ROLES, strict=True))
        return {
            "sample_ID": self.sample_id,
            "user_persona": self.persona,
            "agent_character": self.character,
            "dialogue_context": [{keys[role]: text} for role, text in self.dialogue],
            "agent_golden_response": self.golden,
            "subset_tag": self.tag,
            **self.extra,
        }


def is_unicode(value: Any) -> bool:
    """Whether all strings of a JSON value can be written as UTF-8: a lone surrogate cannot.

    >>> is_unicode({"text": "\\U0001f600"}), is_unicode({"text": "\\ud83d"})
    (True, False)
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _require_text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise UserError(f"{what} must be a string, not {_kind(value)}")
    if not value.strip():
        raise UserError(f"{what} is empty")


def _character(value: Any, where: str) -> Mapping[str, Any] | str:
    if not isinstance(value, (dict, str)):
        raise UserError(f"{where}: 'agent_character' must be an object or a string")
    if not value or (isinstance(value, str) and not value.strip()):
        raise UserError(f"{where}: 'agent_character' is empty")
    return value


def _dialogue(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: 'dialogue_context' must be a non-empty list")
    messages = []
    for i, message in enumerate(value):
        at = f"{where}: 'dialogue_context' message {i}"
        if not isinstance(message, dict) or len(message) != 1:
            raise UserError(f"{at} must be an object with the one key {' or '.join(ROLES)}")
        key, text = next(iter(message.items()))
        if key != ROLES[i % 2]:
            raise UserError(
                f"{at} has the key {key!r} where {ROLES[i % 2]!r} is due "
                "(user and agent alternate, and the user begins)"
            )
        _require_text(text, at)
        messages.append(("user" if key == ROLES[0] else "character", text))
    if len(messages) % 2 == 0:
        raise UserError(f"{where}: 'dialogue_context' must end with a {ROLES[0]}")
    return tuple(messages)
