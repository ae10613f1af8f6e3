"""What was spoken: an RPM's text without what models, templates and servers put around it.

Whatever is scored counts as information about the context: a label with a name is worth 20 nats.
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from remid_jax.data.texts import strip_edges

THOUGHT, LABEL, END_TOKEN, USER_TURN = "thought", "speaker_label", "end_token", "user_turn"
EDGES = "white_space"
CUTS = {  # what can be cut, and how a report names it
    THOUGHT: "a thought before the answer",
    LABEL: "a speaker label",
    END_TOKEN: "end tokens",
    USER_TURN: "a turn made up for the user",
    EDGES: "white space at the edges",
}

_BREAK = r"[\n\r\u2028\u2029]"
_LINE = rf"(?:\A|{_BREAK})[ \t]*"
_TAG = (
    r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|inner_thoughts?|scratchpad|analysis"
    r"|reflection)\s?"
)
_THOUGHT_END = re.compile(
    rf"</{_TAG}>|\[/think\]|◁/think▷|<\|(?:end_thinking|end_of_thought)\|>"
    r"|<\|channel\|>\s?final\s?<\|message\|>|<channel\|>|assistantfinal\s?",
    re.IGNORECASE,
)
# At the beginning of a line: within one they are spoken of.
_THOUGHT_START = re.compile(
    rf"{_LINE}(?:<{_TAG}>|\[think\]|◁think▷|<\|(?:start_thinking|begin_of_thought)\|>"
    r"|<\|channel\|>\s?analysis\s?<\|message\|>|<\|channel>\s?thought)",
    re.IGNORECASE,
)

# `<|im_end|>`, `<｜end▁of▁sentence｜>`, `[|endofturn|]`: nobody speaks these.
_CONTROL = (
    r"<\|[A-Za-z_][\w/ .:-]{2,40}\|>|<｜[^｜<>\n]{3,40}｜>|\[\|[a-z_]{3,40}\|\]"
    r"|<(?:start|end)_of_\w{2,20}>"
)
# These may stand in a text, and are tokens at its edges only.
_AT_EDGES = (
    r"</?(?:s|assistant|answer|response|output|solution|final_answer)>|<(?:eos|bos|pad|eot|unk)>"
    r"|<turn\|>|\[/?INST\]|\[(?:EOS|PAD|SEP|UNK|CLS)\]|\[end of text\]"
)
_LEADING = re.compile(
    r"(?:<\|start_header_id\|>\s?assistant\s?<\|end_header_id\|>"
    r"|(?:<\|im_start\|>|<\|start\|>|<start_of_turn>)\s?(?:assistant|model)\b"
    rf"|{_CONTROL}|{_AT_EDGES})",
    re.IGNORECASE,
)
# The last one may be cut off by a limit.
_TRAILING = re.compile(rf"(?:{_CONTROL}|{_AT_EDGES}|<\|[a-z_]{{3,30}}\|?)\Z", re.IGNORECASE)
_LONGEST_TOKEN = 48  # characters
_INNER = re.compile(_CONTROL)

_MARKS = r"[*_`\"'“‘«\[(<#>【「『《\s•-]{0,12}"  # bold, quotes, brackets, lists around a label
_CLOSED = r"[*_`\"'”’»\])>】」』》]{0,6}"
_COLON = rf"{_CLOSED}\s{{0,3}}[:：]{_CLOSED}"
_STAGE = r"(?:\s{0,2}(?:\([^()\n]{1,60}\)|\[[^\[\]\n]{1,60}\]|\*[^*\n]{1,60}\*))?"  # Ann (smiling):
_ROLES = (
    r"(?:the\s)?(?:(?:ai\s|virtual\s)?assistant|character)", "ai", "chatbot",
    r"\{\{\s?char\s?\}\}", r"(?:(?:assistant|character|agent)(?:['’]s)?[\s_])?(?:response|reply)",
    "assistent(?:in)?", "asistente", "assistente", "ассистент", "助手", "アシスタント",
    "어시스턴트", "antwort", "réponse", "respuesta",
)  # fmt: skip
_BARE_ROLE = r"(?:assistant|model)[ \t]*\n"  # what is left of a turn's opening without its tokens
_USERS = (
    r"(?:the\s)?user(?:\s(?:\d{1,2}|query))?", r"\{\{\s?user\s?\}\}", "benutzer(?:in)?",
    "nutzer(?:in)?", "usuari[oa]", "usuári[oa]", "utilisateur", "utilisatrice", "utente",
    "gebruiker", "użytkownik", "kullanıcı", "пользователь", "người dùng", "المستخدم",
    "उपयोगकर्ता", "用户", "用戶", "使用者", "ユーザー?", "사용자",
)  # fmt: skip
_USER_MARKERS = (
    r"<\|im_start\|>\s?user\b|<\|start_header_id\|>\s?user\b|<start_of_turn>\s?user\b"
    r"|<\|user\|>|<｜User｜>|\[INST\]"
)
_USER_MARKER = re.compile(_USER_MARKERS, re.IGNORECASE)
_HEADING = r"#{2,6}[ \t]?(?:user|human|instruction|input)\b[ \t]{0,3}(?:[:：]|[\n\r]|\Z)"
PARTICLES = (
    "the", "of", "a", "an", "and", "de", "la", "le", "el", "von", "van", "der", "den", "di", "da",
    "du", "del", "bin", "ibn",
)  # fmt: skip
_TITLES = r"(?:(?:mr|mrs|ms|miss|dr|sir|lady|lord|captain|king|queen|prince|princess)\.?\s)?"


@dataclasses.dataclass(frozen=True)
class Speech:
    """Where the speech of a text stands.

    Attributes:
      start: of the speech within the text.
      end: one past it; equal to `start` where nothing was spoken.
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
    text), leading role tokens and speaker labels, everything from a turn made up for the user on,
    end tokens, and white space at the edges. A text that begins with a label of the user is read
    from the character's label on, if there is one. Cutting again cuts nothing.

    Args:
      text: of the answer.
      character: the character's name, or an empty text.
      user: the user's name, or an empty text.
      opened_thought: whether the prompt had opened a thought already.

    >>> answer = "<think>tea?</think>**Ann:** Tea, please.<|im_end|>"
    >>> found = find_speech(answer, "Ann Lee")
    >>> answer[found.start : found.end], found.cuts
    ('Tea, please.', ('thought', 'speaker_label', 'end_token'))
    """
    start, end, cuts = 0, len(text), set()

    def cut(kind: str, first: int, last: int) -> bool:
        nonlocal start, end
        changed = (first, last) != (0, end - start)
        if changed:
            cuts.add(kind)
        start, end = start + first, start + last
        return changed

    finders = (  # kind -> where the speech stands in a text, as far as this kind tells
        (EDGES, lambda x: strip_edges(x, 0, len(x))),
        (END_TOKEN, lambda x: (_after_tokens(x), len(x))),
        (LABEL, lambda x: (_after_label(x, character, user), len(x))),
        (USER_TURN, lambda x: (0, _first(_user_turn(user), x))),
        (END_TOKEN, lambda x: (0, _before_tokens(x))),
        (THOUGHT, lambda x: (_after_thoughts(x, False), len(x))),
    )
    cut(THOUGHT, _after_thoughts(text, opened_thought), len(text))
    while any(cut(kind, *found(text[start:end])) for kind, found in finders):
        pass  # what is cut can lay another piece bare
    return Speech(start, end, tuple(k for k in CUTS if k in cuts))


def speech_of(text: str, speech: Speech) -> str:
    """The speech itself."""
    return text[speech.start : speech.end]


def _first(pattern: re.Pattern[str], text: str) -> int:
    """Where a pattern first stands in the text, or its end."""
    found = pattern.search(text)
    return found.start() if found else len(text)


def _after_thoughts(text: str, opened: bool) -> int:
    """Where the last thought ends; the text's end where it does not."""
    ends = [m.end() for m in _THOUGHT_END.finditer(text)]
    start = ends[-1] if ends else 0
    unclosed = _THOUGHT_START.search(text[start:]) or (opened and not ends)
    return len(text) if unclosed else start


def _after_tokens(text: str) -> int:
    found = None if _USER_MARKER.match(text) else _LEADING.match(text)
    return found.end() if found else 0


def _before_tokens(text: str) -> int:
    """Where the tokens at the end begin, or the first token that ends a turn."""
    end = _first(_INNER, text)
    while found := _TRAILING.search(text[max(0, end - _LONGEST_TOKEN) : end]):
        _, end = strip_edges(text, 0, end - len(found[0]))
    return end


def _after_label(text: str, character: str, user: str) -> int:
    found = _leading_label(character).match(text)
    if found is None and (found := _leading_user_label(user).match(text)):
        # The user's turn is told again before the answer, or the label is the wrong one.
        found = _later_label(character).search(text) or found
    return found.end() if found else 0


def _label(names: Iterable[str]) -> str:
    return rf"{_MARKS}(?:{'|'.join(names)}){_STAGE}{_COLON}"


def _users(user: str) -> tuple[str, ...]:
    return (*_parts_of_name(user)[:1], *_USERS)


@functools.lru_cache(maxsize=1024)
def _leading_label(character: str) -> re.Pattern[str]:
    """A role or a part of the name with a colon, or the name set apart."""
    parts = _parts_of_name(character)
    some = "|".join(parts)
    names = [rf"{_TITLES}(?:{some})(?:['’]s\s(?:response|reply)|\ssays)?"] if parts else []
    forms = [_label((*names, *_ROLES)), _BARE_ROLE]
    if parts:  # without a colon: bold or bracketed whole names, and any on a line of their own
        forms += [rf"\*\*\s?{parts[0]}\s?\*\*(?=\s)", rf"[\[<]{parts[0]}[\]>](?=\s)"]
        forms += [rf"(?:\*\*|#{{1,6}}\s?|\[)?(?:{some})(?:\*\*|\])?[ \t]*\n"]
    return re.compile(rf"(?:{'|'.join(forms)})\s*", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _later_label(character: str) -> re.Pattern[str]:
    """A label of the character at the beginning of a later line."""
    return re.compile(_BREAK + _label((*_parts_of_name(character), *_ROLES)), re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _user_label(user: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{_label(_users(user))})+", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _leading_user_label(user: str) -> re.Pattern[str]:
    """At the beginning a part of the user's name is a label too."""
    return re.compile(rf"(?:{_label((*_parts_of_name(user), *_USERS))})+", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _user_turn(user: str) -> re.Pattern[str]:
    """A turn of the user: a token or heading that opens it, or a label at the start of a line."""
    users = "|".join(_users(user))
    alone = rf"(?:\*\*(?:{users})\*\*|\[(?:{users})\]|<user>)\s?"
    labels = rf"{_BREAK}(?:{_user_label(user).pattern}|{_MARKS}human{_COLON}|{alone})"
    return re.compile(rf"{_USER_MARKERS}|{_LINE}{_HEADING}|{labels}", re.IGNORECASE)


def _parts_of_name(name: str) -> list[str]:
    """Patterns of a name and of its parts, the longest first; particles alone are no part."""
    words = [w for w in re.split(r"[\s·・,，_\"“”()-]+", name) if w]
    n = len(words) if len(words) <= 8 else 0  # no name, but a description
    spans = [words[a:b] for a in range(n) for b in range(n, a, -1)]
    kept = [p for p in spans if p == words or len(p) > 1 or _is_name(p[0])]
    forms = {}
    for part in sorted(kept, key=len, reverse=True):
        for form in ("NFC", "NFD"):
            letters = (re.escape(unicodedata.normalize(form, w)) for w in part)
            joined = r"[\s_·・,\"“”()-]*".join(letters)
            forms[re.sub("['’]", "['’]", joined)] = None
    return list(forms)


def _is_name(word: str) -> bool:
    particle = word.islower() or word.isdigit() or word.casefold() in PARTICLES
    return len(word) > 1 and not particle


def spoken_tokens(
    tokens: Sequence[int], text: str, speech: Speech, decode: Callable[[Sequence[int]], str]
) -> tuple[int, int]:
    """Index of the first token that holds speech, and one past the last; border tokens stay whole.

    Args:
      tokens: ids that were drawn.
      text: what `decode` makes of them.
      speech: of the text.
      decode: ids to text.
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
