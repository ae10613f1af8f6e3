"""What was spoken: an RPM's text without what models, templates and servers put around it.

Whatever is scored counts as information about the context. A thought, a speaker label, an end token
or a turn that the model made up for the user would count as speech: the character's name alone is
worth some 20 nats. So every answer passes through `find_speech` before it is scored, whether it was
collected or drawn here.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence

from remid_jax.benchmark.texts import strip_edges

THOUGHT, LABEL, END_TOKEN, USER_TURN = "thought", "speaker_label", "end_token", "user_turn"
EDGES = "white_space"
CUTS = {
    THOUGHT: "a thought before the answer",
    LABEL: "a speaker label",
    END_TOKEN: "end tokens",
    USER_TURN: "a turn made up for the user",
    EDGES: "white space at the edges",
}
"""What can be cut, and how a report names it."""

_TAGS = r"think(?:ing)?|thoughts?|reason(?:ing)?"
_THOUGHT_END = re.compile(
    rf"</(?:{_TAGS})>|\[/think\]|<\|channel\|>\s*final\s*<\|message\|>", re.IGNORECASE
)
_THOUGHT_START = re.compile(
    rf"<(?:{_TAGS})>|\[think\]|<\|channel\|>\s*analysis\s*<\|message\|>", re.IGNORECASE
)

# `<|im_end|>`, `<|eot_id|>`, `<｜end▁of▁sentence｜>`: nobody speaks these.
_CONTROL = r"<\|[\w/ .:-]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:start|end)_of_turn>"
# These may stand in a text, and are tokens at its edges only.
_AT_EDGES = r"</?s>|<eos>|<bos>|<pad>|<eot>|\[/?INST\]|\[EOS\]|<end_of_utterance>"
_LEADING = re.compile(
    r"(?:<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>"
    r"|(?:<\|im_start\|>|<\|start\|>|<start_of_turn>)\s*(?:assistant|model)\b"
    rf"|{_CONTROL}|{_AT_EDGES})\s*",
    re.IGNORECASE,
)
_TRAILING = re.compile(rf"(?:{_CONTROL}|{_AT_EDGES})\Z", re.IGNORECASE)
_LONGEST_TOKEN = 48  # characters
_INNER = re.compile(_CONTROL)

_MARKS = r"[*_`\"'\[(<#>\s]{0,12}"  # bold, italics, quotes and brackets around a label
_CLOSED = r"[*_`\"'\])>]{0,6}"
_COLON = rf"{_CLOSED}\s*[:：]{_CLOSED}"
_ROLES = (
    r"(?:the\s+)?(?:assistant|character|agent)", r"ai", r"bot", r"model", r"\{\{\s*char\s*\}\}",
    r"(?:(?:assistant|character|agent)(?:['’]s)?\s+)?(?:response|reply)",
)  # fmt: skip
_USERS = (
    "user", "human", r"\{\{\s*user\s*\}\}", "benutzer(?:in)?", "nutzer(?:in)?", "usuari[oa]",
    "utilisateur", "utilisatrice", "utente", "用户", "使用者", "ユーザー?", "사용자",
)  # fmt: skip
_USER_MARKERS = (
    r"<\|im_start\|>\s*user\b|<\|start_header_id\|>\s*user\b|<start_of_turn>\s*user\b"
    r"|<\|user\|>|<｜User｜>|\[INST\]|#{2,}\s*(?:user|human|instruction)\b"
)
_USER_MARKER = re.compile(_USER_MARKERS, re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Speech:
    """Where the speech of a text stands.

    Attributes:
      start, end: of the speech within the text; equal where nothing was spoken.
      cuts: what was cut, among `CUTS`.
    """

    start: int
    end: int
    cuts: tuple[str, ...]


def find_speech(
    text: str, character: str = "", user: str = "", opened_thought: bool = False
) -> Speech:
    """Finds what a character speaks in the text of an answer.

    Cut are everything up to the end of the last thought (one without end is an answer without
    text), leading role tokens and speaker labels of the character or of an assistant, everything
    from a turn made up for the user on, end tokens, and white space at the edges. Nothing more is
    cut from what is left.

    Args:
      text: the answer.
      character: the character's name, where it is known.
      user: the user's name, where it is known.
      opened_thought: whether the prompt had opened a thought already.

    >>> answer = "<think>tea?</think>**Ann:** Tea, please.<|im_end|>"
    >>> found = find_speech(answer, "Ann Lee")
    >>> answer[found.start : found.end], found.cuts
    ('Tea, please.', ('thought', 'speaker_label', 'end_token'))
    """
    start, end, cuts = 0, len(text), []

    def cut(kind: str, to: tuple[int, int]) -> bool:
        nonlocal start, end
        changed = to != (0, end - start)
        if changed and kind not in cuts:
            cuts.append(kind)
        start, end = start + to[0], start + to[1]
        return changed

    finders = (
        (EDGES, lambda x: strip_edges(x, 0, len(x))), (END_TOKEN, _leading_tokens),
        (LABEL, _labels(character)), (USER_TURN, _user_turn(user)), (END_TOKEN, _end_tokens),
    )  # fmt: skip
    cut(THOUGHT, (_after_thoughts(text, opened_thought), len(text)))
    while any(cut(kind, found(text[start:end])) for kind, found in finders):
        pass  # what is cut can lay another piece bare
    return Speech(start, end, tuple(k for k in CUTS if k in cuts))


def speech_of(text: str, speech: Speech) -> str:
    """The speech itself."""
    return text[speech.start : speech.end]


def _after_thoughts(text: str, opened: bool) -> int:
    """Where the last thought ends; the text's end where it does not."""
    ends = [m.end() for m in _THOUGHT_END.finditer(text)]
    start = ends[-1] if ends else 0
    unclosed = _THOUGHT_START.search(text, start) or (opened and not ends)
    return len(text) if unclosed else start


# Where the speech stands in a text, from one point of view.
Found = Callable[[str], tuple[int, int]]


def _leading_tokens(text: str) -> tuple[int, int]:
    found = None if _USER_MARKER.match(text) else _LEADING.match(text)
    return (found.end() if found else 0), len(text)


def _end_tokens(text: str) -> tuple[int, int]:
    """Without the token at the end, and without anything from a token on that ends a turn."""
    if inner := _INNER.search(text):
        return 0, inner.start()
    before = max(0, len(text) - _LONGEST_TOKEN)
    trailing = _TRAILING.search(text, before)
    return 0, trailing.start() if trailing else len(text)


def _labels(character: str) -> Found:
    pattern = _label_pattern(character)

    def found(text: str) -> tuple[int, int]:
        match = pattern.match(text)
        return (match.end() if match else 0), len(text)

    return found


def _user_turn(user: str) -> Found:
    pattern = _turn_pattern(user)

    def found(text: str) -> tuple[int, int]:
        match = pattern.search(text)
        return 0, match.start() if match else len(text)

    return found


@functools.lru_cache(maxsize=1024)
def _label_pattern(character: str) -> re.Pattern[str]:
    """A leading label: a role or a part of the name with a colon, or a part of it in bold."""
    names = "|".join(_parts_of_name(character))
    labels = "|".join((names, *_ROLES)) if names else "|".join(_ROLES)
    stage = r"(?:\s*\([^()\n]{1,60}\))?"  # Ann (smiling): ...
    bold = rf"|\*\*\s*(?:{names})\s*\*\*(?=\s)" if names else ""
    return re.compile(rf"(?:{_MARKS}(?:{labels}){stage}{_COLON}{bold})\s*", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _turn_pattern(user: str) -> re.Pattern[str]:
    users = "|".join((*_parts_of_name(user), *_USERS))
    return re.compile(
        rf"{_USER_MARKERS}|(?:\n|\A){_MARKS}(?:{users}){_COLON}|\n{_MARKS}You{_COLON}",
        re.IGNORECASE,
    )


def _parts_of_name(name: str) -> list[str]:
    """Patterns of a name and of its parts, the longest first; particles alone are no part."""
    words = name.split()
    n = len(words) if len(words) <= 8 else 0  # no name, but a description
    parts = [words[a:b] for a in range(n) for b in range(n, a, -1)]
    parts = [p for p in parts if p == words or len(p) > 1 or (len(p[0]) > 1 and not p[0].islower())]
    return [r"\s+".join(map(re.escape, p)) for p in sorted(parts, key=len, reverse=True)]


def spoken_tokens(
    tokens: Sequence[int], text: str, speech: Speech, decode: Callable[[Sequence[int]], str]
) -> tuple[int, int]:
    """The tokens that hold the speech of a drawn text, whole: a border token stays.

    Args:
      tokens: ids that were drawn; text: what they decode to.
      speech: of the text.
      decode: ids to text.

    Returns:
      First and one past the last of them.
    """
    if speech.start == speech.end:
        return 0, 0
    first, last = 0, len(tokens)
    if speech.start:
        while first < last and len(decode(tokens[: first + 1])) <= speech.start:
            first += 1
    if speech.end < len(text):
        heard = text[: speech.end]
        # A token may hold a part of a character: then the text is there with its other part only.
        while last > first + 1 and decode(tokens[: last - 1]).startswith(heard):
            last -= 1
    return first, last
