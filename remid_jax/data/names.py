"""Samples whose character has a name that nobody knows: what is left of it without its fame.

The name of a famous character says more than its profile does. Here it gives way to a made-up one
wherever it stands, and everything else stays. A made-up name tells no era, origin or gender either,
so that what goes with the name is all that it says.
"""

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from remid_jax.data.characters import NO_NAMES, character_text, map_texts
from remid_jax.data.measures import STOP_WORDS
from remid_jax.data.own_words import LONGEST_NAME
from remid_jax.data.rules import COMMON
from remid_jax.data.samples import Sample
from remid_jax.data.speech import PARTICLES

# Script -> made-up words of names, none of which stands in the bundled benchmark. Latin ones end so
# that an English or German genitive can follow.
_LATIN = """
Orvanel Brimeth Caldrine Dunvare Elthorn Farrowin Galdrey Haveline Ivendor Jorwen Keldane Lorimand
Marveth Nolvane Ostrane Pelvorn Quillane Rethmarn Selvane Tarnivel Ulverin Vandreth Wexlane Yorvane
Zandrel Ambrell Bethorne Corvelle Delmarn Estavane Fenwark Gorlend Hestrane Ilvarn Jundrel Kestrane
Lanvoe Mirdane Nethrow Orlinde Penvarl Quendry Rosthane Silvarne Tormeld Uldrane Vernath Wolmeth
"""
_CYRILLIC = """
Велтарн Дорвелин Ильмарет Корвандо Ландрель Мервато Нольварн Орстелан Пелвирт Рандовель Селтарин
Тормельд Ульдрен Фарвелин Хестрань Эльторан
"""
_HAN = "岑野舟 祁云岫 阮溪阑 褚砚澄 乔未晞 裴知洲 虞听澜 濮晚樵 闵之淮 鄢青砚 郗照林 湛若川"
_KANA = "レオルナン ミラベト サルヴェン ノルデイン カルドリ エルソネ ガルドレ ヨルヴァン ペルヴォ"
_HANGUL = "서온결 도하람 라온빛 마루솔 노을찬 가온별 하늘샘 다솜결 이든솔 나루빈"
UNKNOWN = {
    "LATIN": tuple(_LATIN.split()),
    "CYRILLIC": tuple(_CYRILLIC.split()),
    "CJK": tuple(_HAN.split()),
    "KATAKANA": tuple(_KANA.split()),
    "HIRAGANA": tuple(_KANA.split()),
    "HANGUL": tuple(_HANGUL.split()),
}
_CASED = ("LATIN", "CYRILLIC")
_TITLES = """
mr mrs ms miss dr doctor sir dame lady lord captain king queen prince princess emperor empress saint
st professor lieutenant sergeant major colonel general admiral count countess baron duke duchess
pope father mother brother sister uncle aunt detective inspector agent master herr frau fräulein
könig königin kaiser doktor señor señora don doña madame monsieur
"""
_NO_PARTS = frozenset((*_TITLES.split(), *PARTICLES))
_COMMON = frozenset(COMMON.split()).union(NO_NAMES, *STOP_WORDS.values())
_GAP = r"[\s·・•,，.\"“”()–_-]"  # between the words of a name
_LETTER = r"[^\W_]"
# Script -> what may not stand before a word of it, and after. Particles follow Korean words, and
# Chinese and Japanese ones stand without spaces.
_EDGES = {
    "KATAKANA": (r"(?<![\u30a1-\u30fa\u30fc])", r"(?![\u30a1-\u30fa\u30fc])"),
    "HANGUL": (rf"(?<!{_LETTER})", ""),
    "CJK": ("", ""),
    "HIRAGANA": ("", ""),
}
_OTHER_EDGES = (rf"(?<!{_LETTER})", rf"(?!{_LETTER}|[\u0300-\u036f])")


@dataclasses.dataclass(frozen=True)
class Renamed:
    """A sample whose character has another name.

    Attributes:
      sample: with the name replaced in persona, character, dialogue and golden response.
      name: that the character has now.
      left: words of the old name that still stand alone somewhere: ordinary words (`Will`, `Silver`
        where the sample speaks of silver), or words of the user's name as well.
    """

    sample: Sample
    name: str
    left: tuple[str, ...]


def renamed(sample: Sample, draw: int = 0) -> Renamed | None:
    """The sample with a made-up name in the place of the character's, or None.

    Each word of the name becomes a word of the same script that the sample does not hold, the same
    wherever the name is the same: samples that vary one character still have one. Titles and
    particles stay. The whole name is replaced in any case of letters; one word of it where it
    stands as a word in the case of the name or in capitals, a possessive or German genitive
    included, but not where it is an ordinary word too. Nicknames, other inflected forms, and the
    name in another script than the profile's are not found.

    Args:
      sample: to be varied.
      draw: which of the names that are possible, from 0.

    Returns:
      None where no name is known, where it is a description or an ordinary word, where its script
      has no list, or where there are not so many draws.

    >>> from remid_jax.data.reading import load_benchmark
    >>> sample = load_benchmark().subsets["IDTest"][0]
    >>> sample.character["name"], renamed(sample).sample.character["name"]
    ('Florence Nightingale', 'Wolmeth Yorvane')
    """
    name, user = sample.speakers
    words = _split(name)
    texts = _texts(sample)
    kept = _ordinary(texts) | {w.casefold() for w in _split(user)}
    parts = [w for w in dict.fromkeys(words) if _is_part(w)]
    alone = [w for w in parts if not _stands_for_more(w, kept)]
    if not 0 < len(words) <= LONGEST_NAME or not (alone if len(words) == 1 else parts):
        return None
    new = _unknown(name, parts, draw, _found(texts))
    if new is None:
        return None
    change = _changer(words, alone, new)
    changed = {f: map_texts(getattr(sample, f), change) for f in ("persona", "character", "golden")}
    dialogue = tuple((role, change(text)) for role, text in sample.dialogue)
    result = dataclasses.replace(sample, **changed, dialogue=dialogue)
    left = {w for w in parts if w not in alone and _is_in(w, _texts(result))}
    return Renamed(result, change(name), tuple(sorted(left)))


def _split(name: str) -> list[str]:
    plain = unicodedata.normalize("NFC", name).replace("’", "'")
    return [w for w in re.split(rf"{_GAP}+", plain) if w]


def _texts(sample: Sample) -> list[str]:
    """All that is read of a sample, and its golden response."""
    turns = (text for _, text in sample.dialogue)
    return [sample.persona, character_text(sample.character), *turns, sample.golden]


def _script(word: str) -> str:
    """Of the first letter, by its name in Unicode."""
    first = next((c for c in word if c.isalpha()), "")
    return unicodedata.name(first, "").partition(" ")[0] if first else ""


def _is_part(word: str) -> bool:
    """Whether a word of a name is one of its own, neither title, particle nor initial."""
    has_letters = len(word) > 1 and any(map(str.isalpha, word))
    return has_letters and word.casefold() not in _NO_PARTS


def _stands_for_more(word: str, kept: Collection[str]) -> bool:
    """Whether a word can mean something else than the character where it stands alone."""
    folded = word.casefold()
    return folded in _COMMON or (not word.islower() and folded in kept)


def _ordinary(texts: Iterable[str]) -> set[str]:
    """The words that stand in small letters somewhere."""
    return {w for w in _found(texts) if w.islower()}


def _found(texts: Iterable[str]) -> set[str]:
    return {w for text in texts for w in re.findall(rf"{_LETTER}+", text)}


def _is_in(word: str, texts: Iterable[str]) -> bool:
    return any(re.search(_form(word), text) for text in texts)


def _unknown(
    name: str, parts: Sequence[str], draw: int, said: Iterable[str]
) -> dict[str, str] | None:
    """Word of a name, in small letters -> the word that takes its place."""
    avoided = {w.casefold() for w in said}
    found: dict[str, Iterator[str]] = {}
    need = [_script(word) for word in parts]
    for script in set(need):
        pool = sorted(
            (w for w in UNKNOWN.get(script, ()) if w.casefold() not in avoided),
            key=lambda w: hashlib.sha256(f"{name.casefold()} {w}".encode()).digest(),
        )
        count = need.count(script)
        chosen = pool[draw * count : (draw + 1) * count]
        if len(chosen) < count:
            return None
        found[script] = iter(chosen)
    return {w.casefold(): next(found[s]) for w, s in zip(parts, need, strict=True)}


def _form(word: str) -> str:
    """A pattern of a word as it stands in a text, in either normal form of Unicode."""
    before, after = _EDGES.get(_script(word), _OTHER_EDGES)
    forms = dict.fromkeys(unicodedata.normalize(f, word) for f in ("NFC", "NFD"))
    letters = "|".join(re.sub("['’]", "['’]", re.escape(w)) for w in forms)
    genitive = "s?" if _script(word) == "LATIN" else ""
    return rf"{before}(?:{letters}){genitive}{after}"


def _changer(
    words: Sequence[str], alone: Sequence[str], new: Mapping[str, str]
) -> Callable[[str], str]:
    """What replaces a name and its words in a text."""
    whole = re.compile(rf"{_GAP}+".join(map(_form, words)), re.IGNORECASE)
    parts = re.compile("|".join(_form(w) for w in words if w.casefold() in new), re.IGNORECASE)
    cased = [form for w in alone for form in dict.fromkeys((w, w.upper()))]
    single = re.compile("|".join(map(_form, cased))) if cased else None

    def one(match: re.Match[str]) -> str:
        said = unicodedata.normalize("NFC", match[0]).replace("’", "'")
        end = "" if said.casefold() in new else said[-1]  # of a genitive
        word = said.removesuffix(end) if end else said
        made = new[word.casefold()]
        if _script(word) in _CASED and word.isupper():
            made = made.upper()
        return (made.lower() if word.islower() else made) + end

    def change(text: str) -> str:
        text = whole.sub(lambda m: parts.sub(one, m[0]), text)
        return single.sub(one, text) if single else text

    return change
