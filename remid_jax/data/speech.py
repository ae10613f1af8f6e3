"""What was spoken: an RPM's text without what models, templates and servers put around it.

Whatever is scored counts as information about the context. A thought, a speaker label, an end token
or a turn that the model made up for the user would count as speech: the character's name alone is
worth some 20 nats. So every answer passes through `find_speech` before it is scored, whether it was
collected or drawn here.
"""

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

from remid_jax.data.texts import strip_edges

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

_LINE = r"(?:\A|[\n\r\u2028\u2029])[ \t]*"
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
_PARTICLES = (
    "the", "of", "a", "an", "and", "de", "la", "le", "el", "von", "van", "der", "den", "di", "da",
    "du", "del", "bin", "ibn",
)  # fmt: skip
_TITLES = r"(?:(?:mr|mrs|ms|miss|dr|sir|lady|lord|captain|king|queen|prince|princess)\.?\s)?"


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
    text), leading role tokens and speaker labels, everything from a turn made up for the user on,
    end tokens, and white space at the edges. A text that begins with a label of the user is read
    from the character's label on, or where there is none without its own. Nothing more is cut from
    what is left.

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
        (LABEL, _labels(character, user)), (USER_TURN, _user_turn(user)), (END_TOKEN, _end_tokens),
        (THOUGHT, lambda x: (_after_thoughts(x, False), len(x))),
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
    unclosed = _THOUGHT_START.search(text[start:]) or (opened and not ends)
    return len(text) if unclosed else start


# Where the speech stands in a text, from one point of view.
Found = Callable[[str], tuple[int, int]]


def _leading_tokens(text: str) -> tuple[int, int]:
    found = None if _USER_MARKER.match(text) else _LEADING.match(text)
    return (found.end() if found else 0), len(text)


def _end_tokens(text: str) -> tuple[int, int]:
    """Without the tokens at the end, and without anything from a token on that ends a turn."""
    inner = _INNER.search(text)
    end = inner.start() if inner else len(text)
    while found := _TRAILING.search(text[max(0, end - _LONGEST_TOKEN) : end]):
        end -= len(found[0])
        _, end = strip_edges(text, 0, end)
    return 0, end


def _labels(character: str, user: str) -> Found:
    pattern, later, other = _label_pattern(character), _later_label(character), _user_label(user)

    def found(text: str) -> tuple[int, int]:
        match = pattern.match(text)
        if match is None and (match := other.match(text)):
            # The user's turn is told again before the answer, or the label is the wrong one.
            match = later.search(text) or match
        return (match.end() if match else 0), len(text)

    return found


@functools.lru_cache(maxsize=1024)
def _later_label(character: str) -> re.Pattern[str]:
    """A label of the character at the beginning of a later line."""
    names = "|".join((*_parts_of_name(character), *_ROLES))
    return re.compile(rf"[\n\r\u2028\u2029]{_MARKS}(?:{names}){_STAGE}{_COLON}", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _user_label(user: str) -> re.Pattern[str]:
    users = "|".join((*_parts_of_name(user)[:1], *_USERS))
    return re.compile(rf"(?:{_MARKS}(?:{users}){_STAGE}{_COLON})+", re.IGNORECASE)


def _user_turn(user: str) -> Found:
    pattern = _turn_pattern(user)

    def found(text: str) -> tuple[int, int]:
        match = pattern.search(text)
        return 0, match.start() if match else len(text)

    return found


@functools.lru_cache(maxsize=1024)
def _label_pattern(character: str) -> re.Pattern[str]:
    """A leading label: a role or a part of the name with a colon, or the name set apart."""
    parts = _parts_of_name(character)
    names = (
        [rf"{_TITLES}(?:{'|'.join(parts)})(?:['’]s\s(?:response|reply)|\ssays)?"] if parts else []
    )
    forms = [rf"{_MARKS}(?:{'|'.join((*names, *_ROLES))}){_STAGE}{_COLON}", _BARE_ROLE]
    if parts:  # without a colon: bold or bracketed whole names, and any on a line of their own
        whole, some = parts[0], "|".join(parts)
        forms += [rf"\*\*\s?{whole}\s?\*\*(?=\s)", rf"[\[<]{whole}[\]>](?=\s)"]
        forms += [rf"(?:\*\*|#{{1,6}}\s?|\[)?(?:{some})(?:\*\*|\])?[ \t]*\n"]
    return re.compile(rf"(?:{'|'.join(forms)})\s*", re.IGNORECASE)


@functools.lru_cache(maxsize=1024)
def _turn_pattern(user: str) -> re.Pattern[str]:
    """A turn of the user: a token or heading that opens it, or a label at the start of a line."""
    label = _user_label(user).pattern
    users = "|".join((*_parts_of_name(user)[:1], *_USERS))
    alone = rf"(?:\*\*(?:{users})\*\*|\[(?:{users})\]|<user>)\s?"
    line = r"[\n\r\u2028\u2029]"
    return re.compile(
        rf"{_USER_MARKERS}|{_LINE}{_HEADING}|{line}(?:{label}|{_MARKS}human{_COLON}|{alone})",
        re.IGNORECASE,
    )


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
    particle = word.islower() or word.isdigit() or word.casefold() in _PARTICLES
    return len(word) > 1 and not particle


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
