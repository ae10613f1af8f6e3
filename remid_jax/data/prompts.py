"""Chat messages for the three roles: the evaluated model, the reasoner, and the scorer.

All roles read the same text first (persona, character, dialogue) and their own instruction last, so
that one prefill of a context serves every role.
"""

import dataclasses

from remid_jax.data.characters import UNNAMED, character_name, character_text
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import SECTION_INSTRUCTION
from remid_jax.errors import UserError

Messages = list[dict[str, str]]

FULL = "full"
LAST_TURN = "last_turn"
VIEWS = (FULL, LAST_TURN)
"""What an evaluated model may see: everything, or the last user turn alone."""

SYSTEM = "You give a voice to a character who talks with a user."
REPLY = (
    "Write the next reply of {name}. Speak as {name}, to this user, in the user's language, "
    "and write nothing but the words spoken."
)
REASON = (
    "Do not write the reply yet. In one or two short sentences, name the facts about the user, "
    "the traits of {name} and the point of the last message that the reply should take up."
)
NOTES = "Notes on the reply:\n{thought}"
MATCH = (
    "Features that a reply should have:\n{features}\n\nA reply:\n{reply}\n\n"
    "What percentage of these features does the reply have? Answer with the percentage alone."
)
FULL_MATCH = "100%"


def context_text(sample: Sample) -> str:
    """Persona, character and dialogue as the text every role reads first."""
    name = character_name(sample.character)
    speaker = {"user": "User", "character": name if name != UNNAMED else "Character"}
    turns = "\n".join(f"{speaker[role]}: {text}" for role, text in sample.dialogue)
    return (
        f"User persona:\n{sample.persona.strip()}\n\n"
        f"Character:\n{character_text(sample.character)}\n\nDialogue:\n{turns}"
    )


def _chat(*parts: str) -> Messages:
    asked = "\n\n".join(parts)
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]


def _asked(sample: Sample, instruction: str, *notes: str) -> Messages:
    named = instruction.format(name=character_name(sample.character))
    return _chat(context_text(sample), *notes, named)


def reply_messages(sample: Sample, view: str = FULL) -> Messages:
    """What the evaluated model reads: all, or without persona, character and history.

    Raises:
      UserError: the view is none of `VIEWS`.
    """
    if view == FULL:
        return _asked(sample, REPLY)
    if view == LAST_TURN:
        return _chat(f"User: {sample.dialogue[-1][1]}", REPLY.format(name=UNNAMED))
    raise UserError(f"unknown view {view!r} of an evaluated model; choose among {', '.join(VIEWS)}")


def reason_messages(sample: Sample) -> Messages:
    """What the reasoner reads before it writes R."""
    return _asked(sample, REASON)


def section_messages(sample: Sample) -> Messages:
    """What a trained reasoner reads: it writes R in the sections of `thoughts`."""
    return _asked(sample, SECTION_INSTRUCTION)


def scorer_messages(sample: Sample, thought: str | None = None) -> Messages:
    """What the scorer reads before a response is scored: X, or (X, R) when a thought is given."""
    notes = [] if thought is None else [NOTES.format(thought=thought.strip())]
    return _asked(sample, REPLY, *notes)


def match_messages(features: str, reply: str) -> Messages:
    """What a judge reads who says what share of the features a reply has."""
    return [{"role": "user", "content": MATCH.format(features=features, reply=reply)}]


def drop_oldest_turn(sample: Sample) -> Sample | None:
    """The sample without its oldest exchange, or None when only the last user turn is left."""
    if len(sample.dialogue) <= 1:
        return None
    return dataclasses.replace(sample, dialogue=sample.dialogue[2:])
