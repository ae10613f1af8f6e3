"""One role-play sample, and what makes it well formed."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from remid_jax.data.characters import Profile, filled, known_name, name_in, read_character
from remid_jax.data.shifts import SHIFT_OF
from remid_jax.data.texts import control_characters, has_text
from remid_jax.errors import UserError, nearest
from remid_jax.json_files import kind_of, part_of

FIELDS = {  # key of an RPGBench record -> attribute of `Sample`
    "sample_ID": "sample_id",
    "user_persona": "persona",
    "agent_character": "character",
    "dialogue_context": "dialogue",
    "agent_golden_response": "golden",
    "subset_tag": "tag",
}
GOLDEN = "agent_golden_response"  # the one key that a record may lack
MISSPELT = 0.82  # likeness of a key that is taken for it: `golden_response`, not `agent_response`
SPEAKERS = {"user_query": "user", "agent_response": "character"}  # key of a message -> role


@dataclasses.dataclass(frozen=True)
class Sample:
    """One context X = (user persona, character, dialogue) with its golden response.

    Attributes:
      sample_id: unique name, starting with the split's name in RPGBench.
      persona: the user persona U.
      character: the character profile C, an object or a text.
      dialogue: messages of D as (role, text), role `user` or `character`; the last is the user's.
      golden: the reference response Y; empty where there is none.
      tag: subset tag, one of `shifts.ALL_TAGS` or of one's own.
      extra: all further keys of the record, kept as they were (`pair_id`, `language`, ...).
    """

    sample_id: str
    persona: str
    character: Profile
    dialogue: tuple[tuple[str, str], ...]
    golden: str
    tag: str
    extra: Mapping[str, Any]

    @property
    def pair_id(self) -> str | None:
        """Id of the counterpart, the in-distribution sample that this one varies, or None."""
        return self.extra.get("pair_id")

    @property
    def shift(self) -> str | None:
        """The shift that the record names, or to which the paper's tag belongs; or None."""
        return self.extra.get("shift") or SHIFT_OF.get(self.tag)

    @property
    def user_name(self) -> str:
        """The user's name where the record gives it as `user_name`, or an empty text."""
        return part_of(self.extra, "user_name", str).strip()

    @property
    def speakers(self) -> tuple[str, str]:
        """Names of character and user as far as they can be known, for labels in an answer."""
        return known_name(self.character), self.user_name or known_name(self.persona)

    @property
    def user_turns(self) -> int:
        """Number of user turns in the dialogue."""
        return sum(role == "user" for role, _ in self.dialogue)

    @classmethod
    def from_record(cls, record: Any, where: str) -> "Sample":
        """Checks a decoded RPGBench record, and fills in the names that it knows.

        Raises:
          UserError: naming the file and position `where`, record and field.
        """
        if not isinstance(record, dict):
            raise UserError(f"{where}: a sample must be a JSON object, not {kind_of(record)}")
        if "sample_ID" in record:
            sample_id = read_name(record["sample_ID"], f"{where}: field 'sample_ID'")
            where = f"{where} (sample_ID {sample_id!r})"
        if not is_unicode(record):
            raise UserError(f"{where}: holds a \\ud8.. escape without its other half")
        for field in FIELDS:
            hint = "" if field in record else _hint(field, record)
            if field not in record and (hint or field != GOLDEN):
                raise UserError(f"{where}: field {field!r} is missing{hint}")
        _require_text(record["user_persona"], f"{where}: field 'user_persona'")
        extra = {k: v for k, v in record.items() if k not in FIELDS}
        for field in ("pair_id", "shift"):
            if extra.get(field) is not None:
                extra[field] = read_name(extra[field], f"{where}: field {field!r}")
        sample = cls(
            sample_id=sample_id,
            persona=record["user_persona"],
            character=read_character(record["agent_character"], f"{where}: 'agent_character'"),
            dialogue=_dialogue(record["dialogue_context"], where),
            golden=_golden(record.get(GOLDEN), f"{where}: field {GOLDEN!r}"),
            tag=read_name(record["subset_tag"], f"{where}: field 'subset_tag'"),
            extra=extra,
        )
        names = name_in(sample.character), sample.user_name
        texts = ("persona", "character", "dialogue", "golden")
        return dataclasses.replace(sample, **{t: filled(getattr(sample, t), *names) for t in texts})

    def to_record(self) -> dict[str, Any]:
        """The RPGBench record of this sample."""
        keys = {role: key for key, role in SPEAKERS.items()}
        record = {key: getattr(self, attribute) for key, attribute in FIELDS.items()}
        record["dialogue_context"] = [{keys[role]: text} for role, text in self.dialogue]
        return {**record, **self.extra}


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


def read_name(value: Any, what: str) -> str:
    """A name or an id: a text without control characters, or a whole number as text.

    Raises:
      UserError: something else, or nothing that can be seen.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    _require_text(value, what)
    if found := control_characters(value) + [c for c in value if c in "\n\r\t"]:
        raise UserError(f"{what} is {value!r}: it holds the control character {found[0]}")
    return value


def _hint(field: str, record: Mapping[str, Any]) -> str:
    """The key that stands for a missing field; of a golden response only one that must be it."""
    if field != GOLDEN:
        return nearest(field, record)
    return nearest(field, (key for key in record if key not in FIELDS), MISSPELT)


def _golden(value: Any, what: str) -> str:
    """A golden response; empty for null, and where nothing of it can be seen."""
    if value is not None and not isinstance(value, str):
        raise UserError(f"{what} must be a string or null, not {kind_of(value)}")
    return value if value and has_text(value) else ""


def _require_text(value: Any, what: str) -> None:
    if not isinstance(value, str):
        raise UserError(f"{what} must be a string, not {kind_of(value)}")
    if not has_text(value):
        why = ": nothing in it can be seen" if value.strip() else ""
        raise UserError(f"{what} is empty{why}")


def _dialogue(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise UserError(f"{where}: 'dialogue_context' must be a non-empty list")
    keys, messages = list(SPEAKERS), []
    for i, message in enumerate(value):
        at, due = f"{where}: 'dialogue_context' message {i}", keys[i % 2]
        if not isinstance(message, dict) or len(message) != 1:
            raise UserError(f"{at} must be an object with the one key {' or '.join(keys)}")
        ((key, text),) = message.items()
        if key != due:
            raise UserError(
                f"{at} has the key {key!r} where {due!r} is due "
                "(user and agent alternate, and the user begins)"
            )
        _require_text(text, at)
        messages.append((SPEAKERS[key], text))
    if len(messages) % 2 == 0:
        raise UserError(f"{where}: 'dialogue_context' must end with a {keys[0]}")
    return tuple(messages)
