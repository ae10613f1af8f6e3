"""Which tokens of a response repeat the context word for word, so that the others are its own.

A copied phrase and a name are worth many nats whatever the model has understood: what an answer
carries of its context is therefore read off its own words. Paraphrase is not copying, and nothing
here detects it: the same thing said in other words, or in another language, counts as own.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from remid_jax.data.characters import character_text, name_in
from remid_jax.data.samples import Sample

_APOSTROPHES = "'’‘‛ʼ＇"
LONGEST_NAME = 8  # words; what is longer is a description, as for labels in `speech`
# Blocks without spaces between words; the last line has those of class SA (UAX 14).
WITHOUT_SPACES = re.compile(
    "[\u2e80-\u3007\u3021-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"  # up to here Han, kana and bopomofo
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaadf\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf]"
)

# Patterns on kinds, one letter for each character of a text: see `_kind`.
_UNIT = re.compile(r"w[wm]*(?:'w[wm]*)*|hm*")
_PIECE = re.compile(r"w[wm]*|hm*")  # apart at apostrophes: a possessive holds a name
_WORD_OF_NAME = re.compile(r"w[wm]*(?:'w[wm]*)*|(?:hm*)+")
Unit = tuple[str, int, int, bool]  # as compared, start, end, whether a character and no word


def copied_tokens(
    response: str,
    context: str | Sequence[str],
    names: Sequence[str],
    offsets: np.ndarray,
    *,
    words: int = 4,
    characters: int = 8,
) -> np.ndarray:
    """Marks the tokens of a response that repeat the context word for word, or a name.

    Copied is a run of at least `words` words that stands so in one text of the context, whatever
    the punctuation between them. A word is a run of letters, digits and marks, also across an
    apostrophe, compared in NFKC with its case folded. In scripts without spaces between words, told
    by Unicode's blocks (Han, kana, Thai, Lao, Khmer, Burmese, ...), each letter with its marks is a
    unit, and a run has at least `characters` of them; in a run of both kinds, a word counts as much
    as `characters` / `words` characters. Copied are also the names, and their words of more than 3
    letters, wherever they stand as words, possessives among them. A name that is a common word too
    ("Will") cannot be told from it.

    A token is copied if one of its characters is; white space and punctuation between two words of
    one run are copied with them. An empty span is a part of the character after it, as
    `models.tokenizer_offsets` has it; at the end of the response (the end of turn) it is own.

    Args:
      response: as its tokens spell it.
      context: what can be copied; no run crosses from one text to another.
      names: of character and user; empty texts count for nothing.
      offsets: [T, 2] start and end of each token in `response`, in characters.
      words: least number of words in a copied run.
      characters: least number of characters in one, in scripts without spaces.

    Returns:
      [T] bool, true where the token is copied.

    Raises:
      ValueError: offsets that are no spans of the response, a limit below 1, or names as one text.

    >>> said = "Ann: My wall is damp!"
    >>> copied_tokens(said, "Again my wall is damp.", ["Ann"], [(0, 3), (3, 7), (7, 20), (20, 21)])
    array([ True,  True,  True, False])
    """
    spans = _checked(offsets, len(response))
    if isinstance(names, str):
        raise ValueError(f"names must be a sequence of texts, not the text {names!r}")
    for name, limit in (("words", words), ("characters", characters)):
        if not isinstance(limit, int | np.integer) or limit < 1:
            raise ValueError(f"{name} is {limit!r}; it must be a whole number of at least 1")
    texts = (context,) if isinstance(context, str) else tuple(context)
    copied = np.zeros(len(response) + 1, bool)  # by character; nothing at the end is copied
    units, runs = _units(response, _UNIT), _runs(texts, words, characters)
    for i, j in _stretches(units, words, characters):
        if _keys(units, i, j) in runs:
            copied[units[i][1] : units[j - 1][2]] = True
    for start, end in _named(response, _forms(tuple(names))):
        copied[start:end] = True
    before = np.concatenate([[0], np.cumsum(copied)])
    starts, ends = spans.T
    return before[np.maximum(ends, starts + 1)] > before[starts]


def copied_from(sample: Sample, response: str, offsets: np.ndarray, **limits: int) -> np.ndarray:
    """`copied_tokens` of a response to a sample: what can be copied is its context and names."""
    return copied_tokens(response, context_texts(sample), names_of(sample), offsets, **limits)


def context_texts(sample: Sample) -> tuple[str, ...]:
    """The texts that an answer can copy from: persona, character as prompts have it, each turn."""
    return (sample.persona, character_text(sample.character), *(t for _, t in sample.dialogue))


def names_of(sample: Sample) -> tuple[str, ...]:
    """The names of character and user that a sample gives.

    A profile that is a text gives none, nor does a persona; over eight words it is a description.
    """
    names = name_in(sample.character), sample.user_name
    return tuple(n for n in names if n and len(n.split()) <= LONGEST_NAME)


def _checked(offsets: np.ndarray, length: int) -> np.ndarray:
    spans = np.asarray(offsets)
    spans = spans if spans.size else np.zeros((0, 2), int)
    if spans.ndim != 2 or spans.shape[1] != 2 or spans.dtype.kind not in "iu":
        raise ValueError(f"offsets must be integers [T, 2], not {spans.dtype} {list(spans.shape)}")
    wrong = (spans < 0).any(1) | (spans[:, 0] > spans[:, 1]) | (spans[:, 1] > length)
    if wrong.any():
        found = spans[int(wrong.argmax())].tolist()
        raise ValueError(f"offsets hold {found}, no span of a response of {length} characters")
    return spans.astype(int)


def _kind(c: str) -> str:
    """Apostrophe ', mark m (drawn on, or unseen in, a word), character h, of a word w, other."""
    category = unicodedata.category(c)
    if c in _APOSTROPHES:
        return "'"
    if category[0] == "M" or (category == "Cf" and c != "\u200b"):  # which parts words
        return "m"
    if category[0] not in "LN":
        return "."
    return "h" if WITHOUT_SPACES.match(c) else "w"


class _Kinds(dict):
    """Code point -> kind, each found once; a table for `str.translate`."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _kind(chr(code))
        return found


_KINDS = _Kinds()


@functools.lru_cache(maxsize=1 << 16)
def _folded(word: str) -> str:
    """A word as it is compared: NFKC, one case, one apostrophe, nothing unseen."""
    seen = "".join("'" if c in _APOSTROPHES else c for c in word if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())


def _units(text: str, pattern: re.Pattern[str]) -> list[Unit]:
    kinds = text.translate(_KINDS)
    found = (m.span() for m in pattern.finditer(kinds))
    return [(_folded(text[a:b]), a, b, kinds[a] == "h") for a, b in found]


def _stretches(units: Sequence[Unit], words: int, characters: int) -> set[tuple[int, int]]:
    """The shortest stretches from each unit, up to each, and of two, that are enough for a run.

    Two texts share a run exactly where they share such stretches, which cover all of it.
    """
    sums = np.cumsum([0, *(words if is_character else characters for *_, is_character in units)])
    least, n = words * characters, len(units)
    lasts = np.searchsorted(sums, sums + least).tolist()
    firsts = (np.searchsorted(sums, sums - least, side="right") - 1).tolist()
    found = {(i, j) for i, j in enumerate(lasts) if j <= n}
    found |= {(i, j) for j, i in enumerate(firsts) if i >= 0}
    return found | {(i, i + 2) for i in range(n - 1) if sums[i + 2] - sums[i] >= least}


def _keys(units: Sequence[Unit], first: int, last: int) -> tuple[str, ...]:
    return tuple(unit[0] for unit in units[first:last])


@functools.lru_cache(maxsize=64)
def _runs(texts: tuple[str, ...], words: int, characters: int) -> frozenset[tuple[str, ...]]:
    """The stretches of all texts; kept, as many responses are held against one context."""
    rows = [_units(text, _UNIT) for text in texts]
    return frozenset(_keys(u, i, j) for u in rows for i, j in _stretches(u, words, characters))


@functools.lru_cache(maxsize=1024)
def _forms(names: tuple[str, ...]) -> dict[str, set[tuple[str, ...]]]:
    """First piece -> the pieces of names, and of their words that count alone."""
    forms: dict[str, set[tuple[str, ...]]] = {}
    for name in names:
        found = _WORD_OF_NAME.finditer(name.translate(_KINDS))
        alone = (m.span() for m in found if sum(map(m[0].count, "wh")) > 3)
        for text in (name, *(name[a:b] for a, b in alone)):
            if units := _units(text, _PIECE):
                forms.setdefault(units[0][0], set()).add(_keys(units, 0, len(units)))
    return forms


def _named(response: str, forms: dict[str, set[tuple[str, ...]]]) -> Iterator[tuple[int, int]]:
    units = _units(response, _PIECE)
    for i, (piece, start, *_) in enumerate(units):
        for form in forms.get(piece, ()):
            if _keys(units, i, i + len(form)) == form:
                yield start, units[i + len(form) - 1][2]
