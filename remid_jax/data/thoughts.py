"""The format of a thought R: three titled sections, how they are read, and drafts by rule.

A thought written to the format has a marker and text for each section, in this order:

    [User Facts]
    ...
    [Character Facts]
    ...
    [Core Features of the Golden Response]
    ...

Only the last section reaches the policy. Models break formats in many ways, so reading never
fails: it says what was found.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from remid_jax.data.characters import character_name, character_text
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import ID_TRAIN, split_of
from remid_jax.errors import UserError

USER_MARKER = "[User Facts]"
CHARACTER_MARKER = "[Character Facts]"
CORE_MARKER = "[Core Features of the Golden Response]"
MARKERS = (USER_MARKER, CHARACTER_MARKER, CORE_MARKER)
"""Titles of the sections, in their order."""

SECTION_INSTRUCTION = (
    "Do not write the reply yet. Prepare it in three parts, each under its title:\n"
    f"{USER_MARKER}\nwhat matters about the user now\n"
    f"{CHARACTER_MARKER}\nwhat {{name}} knows, wants and sounds like\n"
    f"{CORE_MARKER}\nthe key points of the best reply {{name}} could give\n"
    "Keep the titles as they are and write a few words under each."
)
"""Asks a reasoner for the three sections; `{name}` is the character's."""

MIN_WORDS = 4  # of a draft: one for the user, one for the character, two for the core
_PLAIN = str.maketrans("[]`", "()'")

# Thai, Lao, Burmese, Khmer, kana and Han: written without spaces between words.
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff"
    r"\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff"
)
# Dashes, ellipsis, slash, and full-width punctuation: they part words without a space.
_BREAKS = (
    r"\u2013\u2014\u2026/\u3000-\u3004\u3008-\u303f\u30fb"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}{_BREAKS}]+")
_CLAUSE = re.compile(
    r"[.,;:!?]+[\"'”’»)]*(?:\s+|$)|[\u2026\u3001\u3002\uff0c\uff01\uff1f\uff1b\uff1a।،؟]+"
    r"|\s*[\u2013\u2014]\s*"
)
_SUFFIX = re.compile(r"(?:n['’]t|['’](?:s|d|m|t|ll|re|ve))$", re.IGNORECASE)
_FENCE = re.compile(r"`{3,}(?:[ \t]*[\w+#.-]*[ \t]*\r?\n)?(.*?)(?:`{3,}|\Z)", re.DOTALL)

# Function words of four letters and more; shorter words are left out by their length.
_FUNCTION_WORDS = frozenset(
    """
    about after again also because been before being both could does each else even ever every
    from have having here into itself just like many more most much must only other over same
    shall should since some such than that their them then there these they this those though
    through until upon very were what when where whether which while whom whose will with within
    without would your yours yourself
    aber auch dann dass deine denn dich diese dieser doch durch eine einem einen einer haben hatte
    ihnen ihre ihrem ihren ihrer kann mehr mich mein meine nach nicht noch nur oder schon sein seine
    sich sind über unter weil wenn werden wird wurde
    aunque como cuando desde donde ella ellos entre esta este esto estos hasta para pero porque
    pues sino sobre tiene todo usted
    """.split()  # noqa: SIM905
)


def _marker_pattern() -> re.Pattern[str]:
    """Any marker, one group each, with the heading or bold signs that models put around it."""
    titles = (r"\s+".join(marker.strip("[]").split()) for marker in MARKERS)
    any_of = "|".join(rf"(\[\s*{title}\s*\])" for title in titles)
    return re.compile(
        rf"(?:^[ \t]*#{{1,6}}[ \t]*)?(?:\*\*)?(?:{any_of})(?:\*\*)?:?(?:\*\*)?",
        re.IGNORECASE | re.MULTILINE,
    )


_MARKER = _marker_pattern()


@dataclasses.dataclass(frozen=True)
class Thought:
    """What was found in the text of a thought.

    Attributes:
      preamble: the text before the first marker, or all of it where there is none.
      texts: marker -> text of its section, in their order; stripped, without code fences. Where a
        marker is repeated its last section counts.
      duplicated: markers that stand more than once.
      words: number of words outside of the markers, the preamble's too.
    """

    preamble: str
    texts: Mapping[str, str]
    duplicated: tuple[str, ...]
    words: int

    @property
    def sections(self) -> tuple[str, ...]:
        """Markers that are there, in the order of the sections that count."""
        return tuple(self.texts)

    @property
    def missing(self) -> tuple[str, ...]:
        """Markers that are not there."""
        return tuple(marker for marker in MARKERS if marker not in self.texts)

    @property
    def empty(self) -> tuple[str, ...]:
        """Markers that are there without text."""
        return tuple(marker for marker, text in self.texts.items() if not text)

    @property
    def core(self) -> str:
        """The core features; empty where their marker is missing."""
        return self.texts.get(CORE_MARKER, "")

    @property
    def complete(self) -> bool:
        """Whether every section is there and has text, in any order and however often."""
        return not self.missing and not self.empty

    @property
    def well_formed(self) -> bool:
        """Whether every section is there once, in its order and with text.

        A preamble and code fences do no harm.
        """
        return self.sections == MARKERS and not self.empty and not self.duplicated


def parse_thought(text: str) -> Thought:
    """Reads any text as a thought; it never fails.

    A marker counts wherever it stands, also within a line, in any case, with any white space
    between its words, and with heading signs, bold signs or a colon around it. A section ends at
    the next marker, whichever it is. Code fences are taken off each section: the marks, and a
    word alone on the line of an opening one (its language); a fence that is not closed reaches to
    the section's end.

    >>> thought = parse_thought("[User Facts] a nurse [core features of the golden response]: tea")
    >>> thought.core, thought.missing, thought.words
    ('tea', ('[Character Facts]',), 3)
    """
    found = list(_MARKER.finditer(text))
    names = [MARKERS[match.lastindex - 1] for match in found]
    starts = [match.start() for match in found] + [len(text)]
    texts: dict[str, str] = {}
    for name, match, end in zip(names, found, starts[1:], strict=True):
        texts.pop(name, None)  # the last of several gives the place, too
        texts[name] = _FENCE.sub(r"\1", text[match.end() : end]).strip()
    return Thought(
        preamble=text[: starts[0]].strip(),
        texts=texts,
        duplicated=tuple(marker for marker in MARKERS if names.count(marker) > 1),
        words=len(split_words(without_markers(text))),
    )


def core_features(text: str) -> str:
    """The section after the last core marker, without code fences; empty without marker.

    >>> core_features("[Core Features of the Golden Response]\\n```text\\nname the tea\\n```")
    'name the tea'
    """
    return parse_thought(text).core


def scorer_notes(text: str) -> str:
    """What the policy reads of a thought: its core features.

    A thought without the core marker, as of a model that never saw the format, is given whole; one
    whose core section is empty gives nothing.

    >>> scorer_notes(" Mention the tea. ")
    'Mention the tea.'
    """
    thought = parse_thought(text)
    return thought.core if CORE_MARKER in thought.texts else text.strip()


def without_markers(text: str) -> str:
    """The text with a line break in the place of each marker."""
    return _MARKER.sub("\n", text)


def render_thought(user: str, character: str, core: str) -> str:
    """A thought in the format: each marker on a line of its own, then the section's text."""
    texts = zip(MARKERS, (user, character, core), strict=True)
    return "\n".join(f"{marker}\n{text.strip()}" for marker, text in texts)


def split_words(text: str) -> list[str]:
    """The words of a text, without the punctuation around them.

    Each character of a script that is written without spaces counts as a word.

    >>> split_words("Well, it's the old barn: 古い納屋。")
    ['Well', "it's", 'the', 'old', 'barn', '古', 'い', '納', '屋']
    """
    return [text[start:end] for start, end in _spans(text)]


def comparable_words(text: str) -> list[str]:
    """The words of a text in one case and one Unicode form, to be compared with others."""
    return split_words(unicodedata.normalize("NFKC", text).casefold())


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _WORD.finditer(text):
        start, end = match.span()
        while start < end and _is_sign(text[start]):
            start += 1
        while start < end and _is_sign(text[end - 1]):
            end -= 1
        if start < end:
            yield start, end


def _is_sign(character: str) -> bool:
    return unicodedata.category(character)[0] in "PSC"  # punctuation, symbols, controls


def draft_thought(sample: Sample, max_words: int = 64, leaky: bool = False) -> str:
    """A thought for the cold start, written by rule from a training sample and its golden response.

    User facts are the first clauses of the persona, character facts the name and the two shortest
    entries of the profile, each in at most a quarter of the words; core features are the content
    words of the golden response, clause by clause (in scripts without spaces its first clause).

    Args:
      sample: of IDTrain.
      max_words: words of the three sections together, at least 4.
      leaky: allows samples of other splits: what is trained on them cannot be tested on them.

    Returns:
      A well-formed thought.

    Raises:
      UserError: the sample is not of IDTrain, or too few words.
    """
    if sample.tag != ID_TRAIN and not leaky:
        raise UserError(
            f"sample {sample.sample_id!r} is of {split_of(sample.tag)}: a thought drafted from its "
            f"golden response would leak into the test; take {ID_TRAIN}, or set leaky=True"
        )
    if max_words < MIN_WORDS:
        raise UserError(f"max_words of a drafted thought must be at least {MIN_WORDS}: {max_words}")
    part = max_words // 4
    return render_thought(
        _first_clauses(_plain(sample.persona), part),
        _character_facts(sample, part),
        _key_points(_plain(sample.golden), max_words - 2 * part),
    )


def _plain(text: str) -> str:
    """In one line, without signs that could be read as a marker or a fence."""
    return " ".join(text.split()).translate(_PLAIN)


def _clauses(text: str) -> list[str]:
    """The clauses that hold words, or the whole text where none does."""
    parts = (part.strip() for part in _CLAUSE.split(text))
    return [part for part in parts if split_words(part)] or [text]


def _cut(text: str, limit: int) -> str:
    spans = list(_spans(text))
    return text if len(spans) <= limit else text[: spans[limit - 1][1]]


def _fitting(parts: Sequence[str], limit: int) -> list[str]:
    """As many parts from the first one on as stay within the limit, or the first one's start."""
    words = 0
    for count, part in enumerate(parts):
        words += len(split_words(part))
        if words > limit:
            return list(parts[:count]) or [_cut(part, limit)]
    return list(parts)


def _first_clauses(text: str, limit: int) -> str:
    return ", ".join(_fitting(_clauses(text), limit))


def _character_facts(sample: Sample, limit: int) -> str:
    profile = sample.character
    if not isinstance(profile, Mapping):
        return _first_clauses(_plain(character_text(profile)), limit)
    entries = [
        _plain(character_text({key: value})).rstrip(".")
        for key, value in profile.items()
        if key != "name" and value
    ]
    short = sorted(range(len(entries)), key=lambda i: len(split_words(entries[i])))[:2]
    facts = [_plain(character_name(sample)), *(entries[i] for i in sorted(short))]
    return "; ".join(_fitting(facts, limit))


def _key_points(golden: str, limit: int) -> str:
    words = split_words(golden)
    if 2 * sum(re.fullmatch(rf"[{_UNSPACED}]", word) is not None for word in words) > len(words):
        return _cut(_clauses(golden)[0], limit)
    points = (" ".join(_content_words(clause)) for clause in _clauses(golden))
    return _cut("; ".join(filter(None, points)), limit) or _first_clauses(golden, limit)


def _content_words(clause: str) -> list[str]:
    return [word for i, word in enumerate(split_words(clause)) if _is_content(word, i == 0)]


def _is_content(word: str, first: bool) -> bool:
    """Whether a word has a digit, is long and no function word, or is a short name in a clause."""
    if any(character.isdigit() for character in word):
        return True
    stem = _SUFFIX.sub("", word) or word
    if stem.casefold() in _FUNCTION_WORDS:
        return False
    alphabetic = stem[0] < "\u0590"  # Latin, Greek, Cyrillic, Armenian; others write shorter words
    long = len(stem) >= (4 if alphabetic else 2)
    return long or (not first and len(stem) > 1 and stem[0].isupper())
