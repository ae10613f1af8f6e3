"""Rules for files of samples: what is likely to be a mistake in any, and the bundled file's own."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from remid_jax.data import measures, shifts
from remid_jax.data.characters import character_text
from remid_jax.data.factors import FIELDS as FACTOR_FIELDS
from remid_jax.data.factors import Factor
from remid_jax.data.reading import Benchmark
from remid_jax.data.samples import FIELDS, Sample
from remid_jax.data.texts import control_characters, placeholders
from remid_jax.errors import visible

_, PERSONA, PROFILE, DIALOGUE, GOLDEN, _ = FIELDS
SUBSET_SIZES = {shifts.ID_TRAIN: 48, **dict.fromkeys(shifts.TEST_TAGS, 16)}
USER_TURNS, LONG_USER_TURNS = 4, 8  # the second in TurnLevelComposition
PROFILE_KEYS = ("name", "occupation", "background", "personality", "speech_style", "relations")
# Field -> (least, most) words of its text, or of each message.
WORDS = {PERSONA: (40, 90), PROFILE: (40, 80), DIALOGUE: (6, 45), GOLDEN: (20, 60)}
# User subset -> the language of half of its samples; the other half is English.
LANGUAGES = {"german": "de", "spanish": "es", "chinese": "zh", "japanese": "ja", "korean": "ko"}
SCRIPT_SHARES = {  # language -> script -> (least, most) share of the letters
    "zh": {"han": (0.9, 1.0), "kana": (0.0, 0.01)},
    "ja": {"kana": (0.3, 1.0)},
    "ko": {"hangul": (0.9, 1.0)},
    **{key: {"latin": (0.95, 1.0)} for key in measures.STOP_WORDS},
}
# Words too common to link a response with a persona or a profile.
COMMON = """
that this with from have your what when they them there which would could about into than then will
been were their more some only like just know over very much also most such does come came goes
made make makes said tell told take took keep kept work works well good time year years never
always every before after still even must should where while because these those other first once
being through back down here think thing things want wants many long little each both under again
against without between upon whose himself herself yourself
"""
LEAK_UNITS = 6  # shorter messages may be the same anywhere ("Good evening!")


@dataclasses.dataclass(frozen=True)
class Violation:
    """One breach of one rule.

    Attributes:
      sample: sample id, or what else is concerned (a subset).
      field: the record's field, or the property.
      problem: what is wrong, and what is wanted.
    """

    sample: str
    field: str
    problem: str

    def __str__(self) -> str:
        return visible(f"{self.sample}: {self.field}: {self.problem}")


Found = Iterator[tuple[str, str]]  # field and text, or field and problem


def language_of(sample: Sample) -> str | None:
    """The sample's `language` key, or None where it has none that is a text."""
    language = sample.extra.get("language")
    return language if isinstance(language, str) else None


def _texts(s: Sample, whole: bool = False, keys: bool = True) -> Found:
    """Field and text of all that is read: the dialogue `whole` or not, the profile with `keys`."""
    yield PERSONA, s.persona
    bare = isinstance(s.character, Mapping) and not keys
    yield PROFILE, " ".join(map(str, s.character.values())) if bare else character_text(s.character)
    messages = [text for _, text in s.dialogue]
    if whole:
        yield DIALOGUE, "\n".join(messages)
    else:
        yield from ((f"{DIALOGUE} message {i}", text) for i, text in enumerate(messages))
    if s.golden:
        yield GOLDEN, s.golden


def _name(s: Sample) -> str:
    return str(s.character.get("name", "")) if isinstance(s.character, Mapping) else ""


def sample_ids(benchmark: Benchmark) -> Iterator[Violation]:
    """Under RPGBench's splits, each sample_ID begins with its split's name."""
    for s in benchmark if benchmark.has_splits else ():
        split = shifts.split_of(s.tag)
        if s.tag in shifts.ALL_TAGS and not s.sample_id.startswith(split):
            yield Violation(s.sample_id, "sample_ID", f"must begin with {split!r}")


def pairing(benchmark: Benchmark) -> Iterator[Violation]:
    """A pair_id names an in-distribution sample, once a subset, from which one factor differs."""
    home, shift_of = benchmark.in_distribution, benchmark.shift_of
    counterparts = {s.sample_id: s for s in benchmark.subsets.get(home, ())}
    for tag, samples in benchmark.subsets.items():
        paired = [s for s in samples if tag in shift_of and s.pair_id is not None]
        uses = Counter(str(s.pair_id) for s in paired)
        for s in paired:
            counterpart = counterparts.get(str(s.pair_id))
            if counterpart is None:
                yield Violation(s.sample_id, "pair_id", f"{s.pair_id!r} is no {home} sample")
                continue
            if uses[str(s.pair_id)] > 1:
                yield Violation(s.sample_id, "pair_id", f"{s.pair_id!r} is used twice in {tag}")
            if shift_of[tag] in shifts.SHIFTS:  # what another shift changes is not known
                for found in _one_factor(s, counterpart, Factor(shift_of[tag])):
                    yield Violation(s.sample_id, *found)


def _one_factor(s: Sample, counterpart: Sample, factor: Factor) -> Found:
    """What else than the factor differs, and what of it does not."""
    for field in (PERSONA, PROFILE, DIALOGUE, GOLDEN):
        attribute = FIELDS[field]
        same = getattr(s, attribute) == getattr(counterpart, attribute)
        changed = attribute in (FACTOR_FIELDS[factor], "golden")
        if changed and same and getattr(s, attribute):
            yield field, f"must differ from {counterpart.sample_id}'s"
        # The dialogue follows the new persona or character, so there it may differ.
        if not changed and field != DIALOGUE and not same:
            yield field, f"must equal {counterpart.sample_id}'s"
    if factor == Factor.CHARACTER and _name(s) and _name(s) == _name(counterpart):
        yield PROFILE, f"has the name of {counterpart.sample_id}'s"


def readable(s: Sample) -> Found:
    """No text holds control characters, or a placeholder for a name that is not known."""
    for field, text in _texts(s):
        if found := control_characters(text):
            yield field, f"holds control characters: {', '.join(found)}"
        if found := placeholders(text):
            remedy = "give the record 'user_name'" if "user" in found[0].lower() else "name it"
            yield field, f"holds {', '.join(found)}: {remedy}"


def leakage(benchmark: Benchmark) -> Iterator[Violation]:
    """No persona, character name, message or response of IDTrain comes back in another split."""
    train = benchmark.subsets.get(shifts.ID_TRAIN, ())
    rest = [s for s in benchmark if s.tag != shifts.ID_TRAIN]
    yield from _leaked_names(train, rest)
    for compared in ((PERSONA,), (DIALOGUE, GOLDEN)):
        known, rows = (
            [(s.sample_id, f, t) for s in part for f, t in _texts(s) if f.split()[0] in compared]
            for part in (train, rest)
        )
        texts, others = ([text for *_, text in part] for part in (rows, known))
        for i, j, alike in measures.near_duplicates(texts, others, LEAK_UNITS):
            how = "stands verbatim" if alike == 1 else f"is {alike:.2f} alike to a text"
            yield Violation(*rows[i][:2], f"{how} in {known[j][0]}")


def _leaked_names(train: Iterable[Sample], rest: Iterable[Sample]) -> Iterator[Violation]:
    names = {measures.units(_name(s), fold=False): s.sample_id for s in train if _name(s).strip()}
    lengths = sorted({len(n) for n in names})
    for s in rest:
        for field, text in _texts(s, whole=True):
            words = measures.units(text, fold=False)
            spans = {words[i : i + n] for n in lengths for i in range(len(words) - n + 1)}
            for name in sorted(spans & names.keys()):
                problem = f"names {' '.join(name)}, the character of {names[name]}"
                yield Violation(s.sample_id, field, problem)


def languages(s: Sample) -> Found:
    """Persona, dialogue and response are in the language that the sample names."""
    language = language_of(s)
    for field, text in _texts(s, whole=True) if language is not None else ():
        if field != PROFILE and (problem := language_problem(text, language)):
            yield field, problem


def language_problem(text: str, language: str) -> str | None:
    """Why a text is not in a language, or None; languages without a rule are never wrong.

    >>> language_problem("Das ist nicht mein Haus, und ich bin es auch nicht.", "en")
    "language is 'en', but its commonest words are those of 'de'"
    """
    for script, (least, most) in SCRIPT_SHARES.get(language, {}).items():
        share = measures.script_share(text, script)
        if not least <= share <= most:
            want = f"at least {least:.0%}" if share < least else f"at most {most:.0%}"
            return f"language is {language!r}, but {share:.0%} of its letters are {script}, {want}"
    counts = measures.stop_word_counts(text)
    best = max(counts, key=lambda name: (counts[name], name == language))
    if language in counts and best != language:
        return f"language is {language!r}, but its commonest words are those of {best!r}"
    return None


def similar_responses(benchmark: Benchmark) -> Iterator[Violation]:
    """No two golden responses of a subset, or of IDTrain and IDTest together, are alike."""
    ids = (shifts.ID_TRAIN, shifts.ID_TEST)
    others = [(tag,) for tag in benchmark.subsets if tag not in ids]
    for tags in (ids, *others):
        group = [s for tag in tags for s in benchmark.subsets.get(tag, ())]
        for i, j, alike in measures.near_duplicates([s.golden for s in group]):
            problem = f"is {alike:.2f} alike to that of {group[j].sample_id}"
            yield Violation(group[i].sample_id, GOLDEN, problem)


def sizes(benchmark: Benchmark) -> Iterator[Violation]:
    """Each subset has its `SUBSET_SIZES`."""
    for tag, want in SUBSET_SIZES.items():
        n = len(benchmark.subsets.get(tag, ()))
        if n != want:
            yield Violation(tag, "size", f"{n} samples, want {want}")


def turns(s: Sample) -> Found:
    """Each dialogue has its number of user turns."""
    want = LONG_USER_TURNS if s.tag == "TurnLevelComposition" else USER_TURNS
    if s.user_turns != want:
        yield DIALOGUE, f"{s.user_turns} user turns, want {want} ({2 * want - 1} messages)"


def profile_keys(s: Sample) -> Found:
    """Each profile has exactly the `PROFILE_KEYS`, in their order, with text in each."""
    if not isinstance(s.character, Mapping) or tuple(s.character) != PROFILE_KEYS:
        yield PROFILE, f"keys must be {', '.join(PROFILE_KEYS)}"
        return
    for key, value in s.character.items():
        if not isinstance(value, str) or not value.strip():
            yield f"{PROFILE}.{key}", "must be a text"


def word_counts(s: Sample) -> Found:
    """Persona, profile, messages and response have the length they are meant to have."""
    for field, text in _texts(s, keys=False):
        least, most = WORDS[field.split()[0]]
        n = measures.word_count(text, "en" if field == PROFILE else language_of(s) or "en")
        if not least <= n <= most:
            yield field, f"{n} words, want {least}-{most}"


def plain_prose(s: Sample) -> Found:
    """No em or en dash, no filler and no markup."""
    for field, text in _texts(s, keys=False):
        if re.search("[\u2013\u2014]", text):
            yield field, "has an em or en dash"
        if re.search(r"\bTODO\b|\blorem\b|\[.*?\]\(|#\w|\*", text):
            yield field, "has filler or markup"


def language_halves(benchmark: Benchmark) -> Iterator[Violation]:
    """Half of a user subset is in its own language; everything else is English."""
    for tag, samples in benchmark.subsets.items():
        allowed = sorted({"en", LANGUAGES.get(tag, "en")})
        counts = Counter(language_of(s) for s in samples)
        for s in samples:
            if language_of(s) not in allowed:
                problem = f"{language_of(s)!r}, want {' or '.join(allowed)}"
                yield Violation(s.sample_id, "language", problem)
        for language in allowed:
            want = SUBSET_SIZES.get(tag, len(samples)) // len(allowed)
            if counts[language] != want:
                problem = f"{counts[language]} samples in {language!r}, want {want}"
                yield Violation(tag, "language", problem)


def all_paired(s: Sample) -> Found:
    """Each out-of-distribution sample has a pair_id."""
    if s.tag in shifts.SHIFT_OF and s.pair_id is None:
        yield "pair_id", "is missing"


def all_golden(s: Sample) -> Found:
    """Each sample has a golden response."""
    if not s.golden:
        yield GOLDEN, "is missing"


def linked_responses(s: Sample) -> Found:
    """A response takes up a word of the persona, and of the profile, that the dialogue lacks."""
    language, texts = language_of(s), dict(_texts(s, whole=True, keys=False))
    linked = {PERSONA: language in measures.STOP_WORDS, PROFILE: language == "en"}
    for field in (f for f, applies in linked.items() if applies and s.golden):
        new = _stems(texts[field], COMMON) - _stems(texts[DIALOGUE])
        if not _stems(s.golden, COMMON) & new:
            yield GOLDEN, f"takes up no word of {field} that the dialogue has not given"


def _stems(text: str, common: str = "") -> set[str]:
    """The first five letters of words of four and more."""
    words = set(re.findall(r"[^\W\d_]{4,}", text.lower()))
    return {w[:5] for w in words - set(common.split())}


def composition(benchmark: Benchmark) -> Iterator[str]:
    """Lines that say how new the word pairs of WordLevelComposition and of IDTest are."""
    new, home, train = "WordLevelComposition", shifts.ID_TEST, shifts.ID_TRAIN
    for tag, reference in ((new, (train, home)), (new, (train,)), (home, (train,))):
        known = [s for t in reference for s in benchmark.subsets.get(t, ())]
        dialogue = [text for s in benchmark.subsets.get(tag, ()) for _, text in s.dialogue]
        texts = [text for s in known for _, text in _texts(s)]
        unseen, pairs = measures.unseen_bigram_share(dialogue, texts)
        if pairs:
            yield (
                f"word pairs of known words that are new, {tag} to {' + '.join(reference)}: "
                f"{unseen} of {pairs} = {unseen / pairs:.1%}"
            )


GENERAL = (pairing, leakage, similar_responses), (readable, languages)
STRICT = (
    (sample_ids, sizes, language_halves),
    (turns, profile_keys, word_counts, plain_prose, all_paired, all_golden, linked_responses),
)


def violations(benchmark: Benchmark, strict: bool) -> list[Violation]:
    """Every breach of the rules for any file, and of the bundled benchmark's own if `strict`."""
    found: list[Violation] = []
    for of_files, of_samples in (GENERAL, STRICT) if strict else (GENERAL,):
        found += [violation for rule in of_files for violation in rule(benchmark)]
        found += [
            Violation(s.sample_id, field, problem)
            for rule in of_samples
            for s in benchmark
            for field, problem in rule(s)
        ]
    return found
