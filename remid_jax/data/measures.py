"""Measures of text: words, scripts, languages, near-duplicates and new combinations of words."""

import collections
import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

CHARACTERS_PER_WORD = {"zh": 1.7, "ja": 2.2}  # in languages without spaces
KANA = 0.1  # share of the letters from which a text is Japanese
NEAR_DUPLICATE = 0.6  # similarity from which two texts count as the same

SCRIPTS = {  # script -> its letters, as the inside of a regular expression's class
    "han": "\u3400-\u4dbf\u4e00-\u9fff々",
    "kana": "\u3041-\u3096\u30a1-\u30fa\u30fc\u31f0-\u31ff",
    "hangul": "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3",
    "latin": "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff",
}

# Language -> its commonest words; none stands in two lists, so that they can be compared.
_COMMONEST = {
    "en": "the and of to that it is for with you my this have but not are they what be from we she "
    "your her his at",
    "de": "der und das ist nicht ich sie mit auf für von dem den ein eine zu im sich auch wie aber "
    "bei als wir noch wenn nur mir",
    "es": "el la los las que de y en un una por con del se lo su para más como pero al si ya le mi",
}
STOP_WORDS = {language: frozenset(words.split()) for language, words in _COMMONEST.items()}
_SPACELESS = SCRIPTS["han"] + SCRIPTS["kana"]
_UNIT = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+(?:'[^\W_{_SPACELESS}]+)*")


def word_count(text: str, language: str) -> int:
    """Words between spaces, or characters by `CHARACTERS_PER_WORD` in Chinese and Japanese.

    >>> word_count("Two   words", "en"), word_count("二十个字", "zh")
    (2, 2)
    """
    words = text.split()
    if language in CHARACTERS_PER_WORD:
        return round(sum(map(len, words)) / CHARACTERS_PER_WORD[language])
    return len(words)


def units(text: str, fold: bool = True) -> tuple[str, ...]:
    """Words without punctuation, in one case where `fold`; Chinese and Japanese by character.

    >>> units("Don't, 東京 Bob!")
    ("don't", '東', '京', 'bob')
    """
    found = _UNIT.findall(text.replace("’", "'"))
    return tuple(w.casefold() for w in found) if fold else tuple(found)


def script_share(text: str, script: str) -> float:
    """The share of a text's letters that belong to a script of `SCRIPTS`; 0 without letters.

    >>> script_share("abc 東", "han")
    0.25
    """
    letters = "".join(c for c in text if c.isalpha())
    return len(re.findall(f"[{SCRIPTS[script]}]", letters)) / len(letters) if letters else 0.0


def stop_word_counts(text: str) -> dict[str, int]:
    """How many words of a text are stop words of each language of `STOP_WORDS`.

    >>> stop_word_counts("Ich sehe das Haus, and the dog.")
    {'en': 2, 'de': 2, 'es': 0}
    """
    words = units(text)
    return {lang: sum(w in stop for w in words) for lang, stop in STOP_WORDS.items()}


def likely_language(text: str) -> str:
    """The language of a text by its letters and commonest words; else the script of its letters.

    >>> likely_language("Ich sehe das Haus."), likely_language("これは家です")
    ('de', 'ja')
    >>> likely_language("Это дом")
    'cyrillic'
    """
    if script_share(text, "kana") > KANA:
        return "ja"
    for language, script in (("zh", "han"), ("ko", "hangul")):
        if script_share(text, script) > 0.5:
            return language
    counts = stop_word_counts(text)
    if any(counts.values()):
        return max(counts, key=counts.__getitem__)
    names = (unicodedata.name(c, "") for c in text if c.isalpha())
    scripts = collections.Counter(name.partition(" ")[0].lower() for name in names)
    return max(scripts, key=scripts.__getitem__, default="")


def similarity(a: Sequence[str], b: Sequence[str]) -> float:
    """How alike two lists of units are: 1 where one holds the other whole, 0 for nothing common.

    Otherwise 2·matched / (len(a) + len(b)), matched in order (`difflib.SequenceMatcher.ratio`).

    >>> similarity("a b c d".split(), "a b x d".split())
    0.75
    """
    inner, outer = (f" {' '.join(x)} " for x in sorted((a, b), key=len))
    if inner.strip() and inner in outer:
        return 1.0
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() > NEAR_DUPLICATE else matcher.quick_ratio()


def near_duplicates(
    texts: Sequence[str], others: Sequence[str] | None = None, least_units: int = 0
) -> Iterator[tuple[int, int, float]]:
    """Pairs of texts, of at least `least_units`, more alike than `NEAR_DUPLICATE`.

    Only pairs that share a fifth of the shorter one's word pairs are compared in full.

    Yields:
      (index in `texts`, index in `others` or a smaller one in `texts`, similarity).
    """
    rows = [units(t) for t in texts]
    pool = rows if others is None else [units(t) for t in others]
    holders: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
    for j, row in enumerate(pool):
        for pair in set(itertools.pairwise(row)):
            holders[pair].append(j)
    for i, row in enumerate(rows):
        pairs = set(itertools.pairwise(row))
        shared = collections.Counter(j for pair in pairs for j in holders.get(pair, ()))
        for j, count in sorted(shared.items()):
            shorter = min(len(row), len(pool[j]))
            if (others is None and j >= i) or shorter < least_units or count < 0.2 * (shorter - 1):
                continue
            alike = similarity(row, pool[j])
            if alike > NEAR_DUPLICATE:
                yield i, j, alike


def unseen_bigram_share(texts: Iterable[str], reference: Iterable[str]) -> tuple[int, int]:
    """(new pairs, all pairs) of neighbouring words of `texts` that the reference knows.

    >>> unseen_bigram_share(["b a c", "a new b"], ["a b", "c", "b a"])
    (1, 2)
    """
    known = [units(t) for t in reference]
    words = {w for row in known for w in row}
    seen = {pair for row in known for pair in itertools.pairwise(row)}
    pairs = [pair for t in texts for pair in itertools.pairwise(units(t)) if words.issuperset(pair)]
    return sum(pair not in seen for pair in pairs), len(pairs)
