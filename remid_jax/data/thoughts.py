"""The format of a thought R: three titled sections, how they are read, and drafts by rule.

Only the last section reaches the scorer. Models break formats in many ways: reading never fails.
"""

import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from remid_jax.data.characters import Profile, character_name, character_text
from remid_jax.data.samples import Sample
from remid_jax.data.shifts import ID_TRAIN, split_of
from remid_jax.errors import UserError

USER_MARKER = "[User Facts]"
CHARACTER_MARKER = "[Character Facts]"
CORE_MARKER = "[Core Features of the Golden Response]"
MARKERS = (USER_MARKER, CHARACTER_MARKER, CORE_MARKER)  # titles of the sections, in their order

# Asks a reasoner for the three sections; `{name}` is the character's.
SECTION_INSTRUCTION = (
    "Do not write the reply yet. Prepare it in three parts, each under its title:\n"
    f"{USER_MARKER}\nwhat matters about the user now\n"
    f"{CHARACTER_MARKER}\nwhat {{name}} knows, wants and sounds like\n"
    f"{CORE_MARKER}\nthe key points of the best reply {{name}} could give\n"
    "Keep the titles as they are and write a few words under each."
)

DRAFT_WORDS = 64  # at most: a quarter for the user, one for the character, half for the core
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


# Any marker, a group each, with the heading or bold signs that models put around it.
_TITLES = "|".join(
    r"(\[\s*" + r"\s+".join(marker.strip("[]").split()) + r"\s*\])" for marker in MARKERS
)
_MARKER = re.compile(
    rf"(?:^[ \t]*#{{1,6}}[ \t]*)?(?:\*\*)?(?:{_TITLES})(?:\*\*)?:?(?:\*\*)?",
    re.IGNORECASE | re.MULTILINE,
)


@dataclasses.dataclass(frozen=True)
class Thought:
    """What was found in the text of a thought.

    Attributes:
      texts: marker -> text of its last section, in their order.
      words: number of words outside of the markers.
    """

    texts: Mapping[str, str]
    words: int

    @property
    def core(self) -> str:
        """The core features; empty where their marker is missing."""
        return self.texts.get(CORE_MARKER, "")

    @property
    def complete(self) -> bool:
        """Whether every section is there and has text, in any order and however often."""
        return all(map(self.texts.get, MARKERS))


def parse_thought(text: str) -> Thought:
    """Reads any text as a thought; it never fails.

    A marker counts wherever it stands, in any case and spacing, with heading signs, bold signs or a
    colon around it. A section ends at the next marker; code fences are taken off it.

    >>> thought = parse_thought("[User Facts] a nurse [core features of the golden response]: tea")
    >>> thought.core, list(thought.texts), thought.words
    ('tea', ['[User Facts]', '[Core Features of the Golden Response]'], 3)
    """
    found = list(_MARKER.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    texts: dict[str, str] = {}
    for match, end in zip(found, ends, strict=False):
        name = MARKERS[match.lastindex - 1]
        texts.pop(name, None)  # the last of several gives the place, too
        texts[name] = _FENCE.sub(r"\1", text[match.end() : end]).strip()
    return Thought(texts, words=len(split_words(without_markers(text))))


def scorer_notes(text: str) -> str:
    """What the scorer reads of a thought: its core features, or all where their marker is missing.

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
    """The words of a text, without punctuation around them; scripts without spaces by character.

    >>> split_words("Well, it's the old barn: 古い納屋。")
    ['Well', "it's", 'the', 'old', 'barn', '古', 'い', '納', '屋']
    """
    return [text[start:end] for start, end in _spans(text)]


def comparable_words(text: str) -> list[str]:
    """The words of a text in one case and one Unicode form, to be compared with others."""
    return split_words(unicodedata.normalize("NFKC", text).casefold())


def word_agreement(texts: Sequence[str | None]) -> float:
    """How alike several texts are: the mean over pairs of the share of words that both have.

    The share of two texts is that of their distinct words which stand in both; two without words
    are alike. NaN for fewer than two texts.

    >>> word_agreement(["buy the kettle", "Buy the lantern!"])
    0.5
    """
    sets = [set(comparable_words(text or "")) for text in texts]
    pairs = itertools.combinations(sets, 2)
    shares = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs]
    return sum(shares) / len(shares) if shares else math.nan


def check_some_text(tag: str, notes: Sequence[Sequence[str | None]]) -> None:
    """Refuses a mixture over thoughts of a subset where none has any text.

    Raises:
      UserError: naming the subset.
    """
    if not any(text and text.strip() for own in notes for text in own):
        raise UserError(
            f"all {sum(map(len, notes))} thoughts about {tag!r} are empty: there is nothing to "
            "mix; train the reasoner longer, or set draws to 1"
        )


def _spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _WORD.finditer(text):
        # Without punctuation, symbols and controls at the edges.
        inner = [i for i in range(*match.span()) if unicodedata.category(text[i])[0] not in "PSC"]
        if inner:
            yield inner[0], inner[-1] + 1


def draft_thought(sample: Sample, train_on_test: bool = False) -> str:
    """A thought for the cold start, of at most `DRAFT_WORDS` words, written by rule.

    It holds the first clauses of the persona, the name and the two shortest entries of the profile,
    and the content words of the golden response (in scripts without spaces its first clause).

    Raises:
      UserError: the sample is not of IDTrain, and `train_on_test` does not allow others.
    """
    if sample.tag != ID_TRAIN and not train_on_test:
        raise UserError(
            f"sample {sample.sample_id!r} is of {split_of(sample.tag)}: a thought drafted from its "
            f"golden response would leak into the test; take {ID_TRAIN}, or set train_on_test=True"
        )
    return render_thought(
        _first_clauses(_plain(sample.persona), DRAFT_WORDS // 4),
        _character_facts(sample.character, DRAFT_WORDS // 4),
        _key_points(_plain(sample.golden), DRAFT_WORDS // 2),
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


def _character_facts(profile: Profile, limit: int) -> str:
    if not isinstance(profile, Mapping):
        return _first_clauses(_plain(character_text(profile)), limit)
    entries = [
        _plain(character_text({key: value})).rstrip(".")
        for key, value in profile.items()
        if key != "name" and value
    ]
    shortest = sorted(range(len(entries)), key=lambda i: len(split_words(entries[i])))[:2]
    facts = [_plain(character_name(profile)), *(entries[i] for i in sorted(shortest))]
    return "; ".join(_fitting(facts, limit))


def _key_points(golden: str, limit: int) -> str:
    words = split_words(golden)
    if 2 * sum(re.fullmatch(rf"[{_UNSPACED}]", word) is not None for word in words) > len(words):
        return _cut(_clauses(golden)[0], limit)
    clauses = map(split_words, _clauses(golden))
    points = (" ".join(w for i, w in enumerate(c) if is_content_word(w, i == 0)) for c in clauses)
    return _cut("; ".join(filter(None, points)), limit) or _first_clauses(golden, limit)


def is_content_word(word: str, first: bool = True) -> bool:
    """Whether a word has a digit, is long and no function word, or is a short name in a clause."""
    if any(map(str.isdigit, word)):
        return True
    stem = _SUFFIX.sub("", word) or word
    if stem.casefold() in _FUNCTION_WORDS:
        return False
    least = 4 if stem[0] < "\u0590" else 2  # Latin, Greek, Cyrillic, Armenian; others are shorter
    return len(stem) >= least or (not first and len(stem) > 1 and stem[0].isupper())
