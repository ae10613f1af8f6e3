"""What a chat template does, found out by rendering a chat of digits when it is loaded."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from remid_jax.errors import UserError
from remid_jax.models.chat_template import Messages, without_system
from remid_jax.models.structure import any_of

Render = Callable[[Messages, bool], str]

THINK, THINK_END = "<think>", "</think>"
# Digits, which no filter for case or white space changes, and no template writes by itself.
SYSTEM = {"role": "system", "content": "8250417361"}
USER = {"role": "user", "content": "3179604825"}
ANSWER = {"role": "assistant", "content": "6401938257"}
MORE = {"role": "user", "content": "5928471036"}


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a template does.

    Attributes:
      end: the token that it writes after an answer, or None.
      around_turns: tokens without a flag that it writes around turns.
      folds_system: whether the system text must stand in the first user turn.
      notes: what was decided on its behalf, for people.
    """

    end: str | None
    around_turns: tuple[str, ...]
    folds_system: bool
    notes: tuple[str, ...]


def examine(render: Render, added: Mapping[str, bool], ends: Sequence[str] = ()) -> Findings:
    """Renders chats by a template, and reads off what it does.

    Args:
      render: (messages, whether an answer is to follow) -> text.
      added: the tokenizer's added tokens, and whether each is flagged as special.
      ends: tokens that end a text or a turn by the model's files.

    Raises:
      UserError: the template leaves a message's text out, or renders differently each time.
    """
    prompt, note = _prompt(render)
    whole = [SYSTEM, USER, ANSWER]
    whole = without_system(whole) if note else whole
    answered, _ = _attempt(render, whole, False)
    continued, _ = _attempt(render, [*whole, MORE], False)
    pattern = any_of(token for token in added if token.strip())
    before_more, _, _ = continued.rpartition(MORE["content"])
    last, within = (_first_after(pattern, text) for text in (answered, before_more))
    end = _end(last, within, ANSWER["content"] in before_more, ends)
    written = pattern.findall(prompt + answered)
    unflagged = {t for t in written if not added[t] and t not in (THINK, THINK_END)}
    return Findings(end, tuple(sorted(unflagged)), bool(note), (note,) if note else ())


def _first_after(pattern: re.Pattern[str], text: str) -> str | None:
    """The first token after the answer in a text."""
    _, said, after = text.rpartition(ANSWER["content"])
    found = pattern.search(after) if said else None
    return found[0] if found else None


def _end(last: str | None, within: str | None, goes_on: bool, ends: Sequence[str]) -> str | None:
    """The token that ends an answer.

    Args:
      last: the first token after an answer at the end of a chat.
      within: the same where another turn follows.
      goes_on: whether the template renders such a chat, the answer too.
      ends: see `examine`.
    """
    if last == within or not goes_on:
        return last
    # One of them begins what comes next.
    return next((token for token in (last, within) if token in ends), None)


def opens_thought(render: Render) -> bool:
    """Whether an answer begins within `<think>`, which the template has opened."""
    prompt, _ = _attempt(render, [USER], True)
    return prompt.rfind(THINK) > prompt.rfind(THINK_END)


def _prompt(render: Render) -> tuple[str, str]:
    """The prompt of a system text and a question, and what had to be done for it."""
    chat, note = [SYSTEM, USER], ""
    prompt, problem = _attempt(render, chat, True)
    if not _shows(prompt, chat):
        folded, again = _attempt(render, without_system(chat), True)
        if not _shows(folded, chat):
            raise UserError(again or problem or _left_out(prompt, chat))
        chat, prompt = without_system(chat), folded
        note = (
            "the system text stands in the first user turn: the chat template does not take it "
            f"elsewhere ({problem or 'it leaves it out'})"
        )
    if render(chat, True) != prompt:
        raise UserError("the chat template renders a chat differently from time to time")
    alone, problem = _attempt(render, [USER], True)
    if not (problem or _shows(alone, [USER])):
        raise UserError(_left_out(alone, [USER]))
    return prompt, note


def _attempt(render: Render, chat: Messages, prompt: bool) -> tuple[str, str]:
    """What is rendered, or why nothing is."""
    try:
        return render(chat, prompt), ""
    except UserError as e:
        return "", str(e)


def _shows(text: str, chat: Iterable[dict[str, str]]) -> bool:
    return all(m["content"] in text for m in chat)


def _left_out(text: str, chat: Iterable[dict[str, str]]) -> str:
    roles = " and ".join(m["role"] for m in chat if m["content"] not in text)
    return (
        f"the chat template leaves out the text of the {roles}, and prompts would be alike; it "
        "must write the 'content' of each of 'messages'"
    )
