"""What a sound benchmark keeps to: pure checks that yield one `Violation` for each breach.

`GENERAL` holds for any RPGBench file; `STRICT` adds the rules the bundled benchmark was written by.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from remid_jax.data import measures, shifts
from remid_jax.data.characters import character_text
from remid_jax.data.reading import Benchmark
from remid_jax.data.samples import Sample
from remid_jax.data.texts import control_characters, placeholders
from remid_jax.errors import visible

SUBSET_SIZES = {shifts.ID_TRAIN: 48, **dict.fromkeys(shifts.TEST_TAGS, 16)}
USER_TURNS, LONG_USER_TURNS = 4, 8  # the second in TurnLevelComposition
PROFILE_KEYS = (
    "name",
    "occupation",
    "background",
    "personality",
    "speech_style",
    "relations",
)
PERSONA_WORDS = (40, 90)
PROFILE_WORDS = (40, 80)
GOLDEN_WORDS = (20, 60)
MESSAGE_WORDS = (6, 45)
LANGUAGES = {"german": "de", "spanish": "es", "chinese": "zh", "japanese": "ja", "korean": "ko"}
"""User subset -> the language of half of its samples; the other half is English."""

SCRIPT_SHARES = {
    "zh": {"han": (0.9, 1.0), "kana": (0.0, 0.01)},
    "ja": {"kana": (0.3, 1.0)},
    "ko": {"hangul": (0.9, 1.0)},
    **{key: {"latin": (0.95, 1.0)} for key in measures.STOP_WORDS},
}
"""Language -> script -> (least, most) share of the letters."""

COMMON = """
that this with from have your what when they them there which would could about into than then will
been were their more some only like just know over very much also most such does come came goes
made make makes said tell told take took keep kept work works well good time year years never
always every before after still even must should where while because these those other first once
being through back down here think thing things want wants many long little each both under again
against without between upon whose himself herself yourself
"""
"""Words too common to link a response with a persona or a profile."""

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


Check = Callable[[Benchmark], Iterator[Violation]]


def language_of(sample: Sample) -> str | None:
    """The sample's `language` key, or None where it has none that is a text."""
    language = sample.extra.get("language")
    return language if isinstance(language, str) else None


def _messages(sample: Sample) -> list[str]:
    return [text for _, text in sample.dialogue]


def _dialogue_text(sample: Sample) -> str:
    return "\n".join(_messages(sample))


def _profile_text(sample: Sample) -> str:
    """The profile's values without its keys."""
    if isinstance(sample.character, Mapping):
        return " ".join(str(v) for v in sample.character.values())
    return sample.character


def _name(sample: Sample) -> str:
    return str(sample.character.get("name", "")) if isinstance(sample.character, Mapping) else ""


def sample_ids(benchmark: Benchmark) -> Iterator[Violation]:
    """Under RPGBench's splits, each sample_ID begins with its split's name."""
    for s in benchmark if benchmark.has_splits else ():
        split = shifts.split_of(s.tag)
        if s.tag in shifts.ALL_TAGS and not s.sample_id.startswith(split):
            yield Violation(s.sample_id, "sample_ID", f"must begin with {split!r}")


def pairing(benchmark: Benchmark) -> Iterator[Violation]:
    """A pair_id names an in-distribution sample, once a subset, from which one factor differs."""
    home, shift_of = benchmark.in_distribution, benchmark.shift_of
    anchors = {s.sample_id: s for s in benchmark.subsets.get(home, ())}
    for tag, samples in benchmark.subsets.items():
        paired = [s for s in samples if tag in shift_of and s.pair_id is not None]
        uses = Counter(str(s.pair_id) for s in paired)
        for s in paired:
            anchor = anchors.get(str(s.pair_id))
            if anchor is None:
                yield Violation(s.sample_id, "pair_id", f"{s.pair_id!r} is no {home} sample")
                continue
            if uses[str(s.pair_id)] > 1:
                yield Violation(s.sample_id, "pair_id", f"{s.pair_id!r} is used twice in {tag}")
            if shift_of[tag] in shifts.SHIFTS:  # what another shift changes is not known
                yield from _one_factor(s, anchor, shift_of[tag])


def _one_factor(s: Sample, anchor: Sample, shift: str) -> Iterator[Violation]:
    fields = {  # field -> (is it the anchor's?, the shifts that change it)
        "user_persona": (s.persona == anchor.persona, ("user",)),
        "agent_character": (s.character == anchor.character, ("character",)),
        "dialogue_context": (s.dialogue == anchor.dialogue, ("dialogue",)),
        "agent_golden_response": (s.golden == anchor.golden, tuple(shifts.SHIFTS)),
    }
    for field, (same, changed_by) in fields.items():
        if shift in changed_by and same:
            yield Violation(s.sample_id, field, f"must differ from {anchor.sample_id}'s")
        # The dialogue follows the new persona or character, so there it may differ.
        if shift not in changed_by and field != "dialogue_context" and not same:
            yield Violation(s.sample_id, field, f"must equal {anchor.sample_id}'s")
    if shift == "character" and _name(s) and _name(s) == _name(anchor):
        yield Violation(s.sample_id, "agent_character", f"has the name of {anchor.sample_id}'s")


def readable(benchmark: Benchmark) -> Iterator[Violation]:
    """No text holds control characters, or a placeholder for a name that is not known."""
    for s in benchmark:
        fields = [
            ("user_persona", s.persona),
            ("agent_character", character_text(s.character)),
            *((field, text) for field, _, text in _spoken(s)),
        ]
        for field, text in fields:
            if found := control_characters(text):
                yield Violation(s.sample_id, field, f"holds control characters: {', '.join(found)}")
            if found := placeholders(text):
                remedy = "give the record 'user_name'" if "user" in found[0].lower() else "name it"
                yield Violation(s.sample_id, field, f"holds {', '.join(found)}: {remedy}")


def leakage(benchmark: Benchmark) -> Iterator[Violation]:
    """No persona, character name, message or response of IDTrain comes back in another split."""
    train = benchmark.subsets.get(shifts.ID_TRAIN, ())
    rest = [s for s in benchmark if s.tag != shifts.ID_TRAIN]
    yield from _leaked_names(train, rest)
    personas = [("user_persona", s, s.persona) for s in rest]
    yield from _leaked_texts(personas, [(s, s.persona) for s in train])
    spoken = [(s, t) for s in train for t in (*_messages(s), s.golden)]
    yield from _leaked_texts((row for s in rest for row in _spoken(s)), spoken)


def _spoken(s: Sample) -> Iterator[tuple[str, Sample, str]]:
    for i, text in enumerate(_messages(s)):
        yield f"dialogue_context message {i}", s, text
    yield "agent_golden_response", s, s.golden


def _leaked_texts(
    rows: Iterable[tuple[str, Sample, str]], train: list[tuple[Sample, str]]
) -> Iterator[Violation]:
    rows = list(rows)
    found = measures.near_duplicates([t for *_, t in rows], [t for _, t in train], LEAK_UNITS)
    for i, j, alike in found:
        field, s, _ = rows[i]
        how = "stands verbatim" if alike == 1 else f"is {alike:.2f} alike to a text"
        yield Violation(s.sample_id, field, f"{how} in {train[j][0].sample_id}")


def _leaked_names(train: Iterable[Sample], rest: Iterable[Sample]) -> Iterator[Violation]:
    names = {measures.units(_name(s), fold=False): s.sample_id for s in train if _name(s).strip()}
    lengths = sorted({len(n) for n in names})
    for s in rest:
        fields = {
            "user_persona": s.persona,
            "agent_character": character_text(s.character),
            "dialogue_context": _dialogue_text(s),
            "agent_golden_response": s.golden,
        }
        for field, text in fields.items():
            words = measures.units(text, fold=False)
            spans = {words[i : i + n] for n in lengths for i in range(len(words) - n + 1)}
            for name in sorted(spans & names.keys()):
                problem = f"names {' '.join(name)}, the character of {names[name]}"
                yield Violation(s.sample_id, field, problem)


def languages(benchmark: Benchmark) -> Iterator[Violation]:
    """Persona, dialogue and response are in the language that the sample names."""
    for s in benchmark:
        fields = {
            "user_persona": s.persona,
            "dialogue_context": _dialogue_text(s),
            "agent_golden_response": s.golden,
        }
        language = language_of(s)
        for field, text in fields.items():
            problem = None if language is None else language_problem(text, language)
            if problem:
                yield Violation(s.sample_id, field, problem)


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
    groups = [[s for t in ids for s in benchmark.subsets.get(t, ())]]
    groups += [list(samples) for tag, samples in benchmark.subsets.items() if tag not in ids]
    for group in groups:
        for i, j, alike in measures.near_duplicates([s.golden for s in group]):
            problem = f"is {alike:.2f} alike to that of {group[j].sample_id}"
            yield Violation(group[i].sample_id, "agent_golden_response", problem)


def sizes(benchmark: Benchmark) -> Iterator[Violation]:
    """Each subset has its `SUBSET_SIZES`."""
    for tag, want in SUBSET_SIZES.items():
        n = len(benchmark.subsets.get(tag, ()))
        if n != want:
            yield Violation(tag, "size", f"{n} samples, want {want}")


def turns(benchmark: Benchmark) -> Iterator[Violation]:
    """Each dialogue has its number of user turns."""
    for s in benchmark:
        want = LONG_USER_TURNS if s.tag == "TurnLevelComposition" else USER_TURNS
        if s.user_turns != want:
            problem = f"{s.user_turns} user turns, want {want} ({2 * want - 1} messages)"
            yield Violation(s.sample_id, "dialogue_context", problem)


def profile_keys(benchmark: Benchmark) -> Iterator[Violation]:
    """Each profile has exactly the `PROFILE_KEYS`, in their order, with text in each."""
    for s in benchmark:
        if not isinstance(s.character, Mapping) or tuple(s.character) != PROFILE_KEYS:
            problem = f"keys must be {', '.join(PROFILE_KEYS)}"
            yield Violation(s.sample_id, "agent_character", problem)
            continue
        for key, value in s.character.items():
            if not isinstance(value, str) or not value.strip():
                yield Violation(s.sample_id, f"agent_character.{key}", "must be a text")


def word_counts(benchmark: Benchmark) -> Iterator[Violation]:
    """Persona, profile, messages and response have the length they are meant to have."""
    for s in benchmark:
        language = language_of(s) or "en"
        rows = [
            ("user_persona", s.persona, language, PERSONA_WORDS),
            ("agent_character", _profile_text(s), "en", PROFILE_WORDS),
            ("agent_golden_response", s.golden, language, GOLDEN_WORDS),
        ]
        for i, text in enumerate(_messages(s)):
            rows.append((f"dialogue_context message {i}", text, language, MESSAGE_WORDS))
        for field, text, lang, (least, most) in rows:
            n = measures.word_count(text, lang)
            if not least <= n <= most:
                yield Violation(s.sample_id, field, f"{n} words, want {least}-{most}")


def plain_prose(benchmark: Benchmark) -> Iterator[Violation]:
    """No em or en dash, no filler and no markup."""
    for s in benchmark:
        rows = [("user_persona", s, s.persona), ("agent_character", s, _profile_text(s))]
        for field, _, text in (*rows, *_spoken(s)):
            if re.search("[\u2013\u2014]", text):
                yield Violation(s.sample_id, field, "has an em or en dash")
            if re.search(r"\bTODO\b|\blorem\b|\[.*?\]\(|#\w|\*", text):
                yield Violation(s.sample_id, field, "has filler or markup")


def language_halves(benchmark: Benchmark) -> Iterator[Violation]:
    """Half of a user subset is in its own language; everything else is English."""
    for tag, samples in benchmark.subsets.items():
        allowed = {"en", LANGUAGES.get(tag, "en")}
        counts = Counter(language_of(s) for s in samples)
        for s in samples:
            if language_of(s) not in allowed:
                problem = f"{language_of(s)!r}, want {' or '.join(sorted(allowed))}"
                yield Violation(s.sample_id, "language", problem)
        for language in sorted(allowed):
            want = SUBSET_SIZES[tag] // len(allowed)
            if counts[language] != want:
                problem = f"{counts[language]} samples in {language!r}, want {want}"
                yield Violation(tag, "language", problem)


def all_paired(benchmark: Benchmark) -> Iterator[Violation]:
    """Each out-of-distribution sample has a pair_id."""
    for s in benchmark:
        if s.tag in shifts.SHIFT_OF and s.pair_id is None:
            yield Violation(s.sample_id, "pair_id", "is missing")


def linked_responses(benchmark: Benchmark) -> Iterator[Violation]:
    """A response takes up a word of the persona, and of the profile, that the dialogue lacks.

    Compared by the first five letters, in languages with spaces and endings that allow it.
    """
    for s in benchmark:
        language = language_of(s)
        sources = {"user_persona": s.persona} if language in measures.STOP_WORDS else {}
        if language == "en":
            sources["agent_character"] = _profile_text(s)
        given = _stems(_dialogue_text(s), "")
        for field, text in sources.items():
            if not _stems(s.golden, COMMON) & _stems(text, COMMON) - given:
                problem = f"takes up no word of {field} that the dialogue has not given"
                yield Violation(s.sample_id, "agent_golden_response", problem)


def _stems(text: str, common: str) -> set[str]:
    words = set(re.findall(r"[^\W\d_]{4,}", text.lower()))
    return {w[:5] for w in words - set(common.split())}


def composition(benchmark: Benchmark) -> list[str]:
    """Lines that say how new the word pairs of WordLevelComposition and of IDTest are."""

    def texts(*tags: str) -> list[str]:
        samples = [s for tag in tags for s in benchmark.subsets.get(tag, ())]
        return [t for s in samples for t in (s.persona, character_text(s.character), s.golden)] + [
            t for s in samples for t in _messages(s)
        ]

    rows = [("WordLevelComposition", (shifts.ID_TRAIN, shifts.ID_TEST))]
    rows += [(tag, (shifts.ID_TRAIN,)) for tag in ("WordLevelComposition", shifts.ID_TEST)]
    lines = []
    for tag, reference in rows:
        dialogue = [t for s in benchmark.subsets.get(tag, ()) for t in _messages(s)]
        new, all_pairs = measures.unseen_bigram_share(dialogue, texts(*reference))
        if all_pairs:
            share = f"{new} of {all_pairs} = {new / all_pairs:.1%}"
            against = " + ".join(reference)
            lines.append(f"word pairs of known words that are new, {tag} to {against}: {share}")
    return lines


GENERAL: tuple[Check, ...] = (sample_ids, readable, pairing, leakage, languages, similar_responses)
STRICT: tuple[Check, ...] = (
    sizes,
    turns,
    profile_keys,
    word_counts,
    plain_prose,
    language_halves,
    all_paired,
    linked_responses,
)


def violations(benchmark: Benchmark, strict: bool) -> list[Violation]:
    """Every breach of the general rules, and of the bundled benchmark's own where `strict`."""
    chosen = (*GENERAL, *STRICT) if strict else GENERAL
    return [v for check in chosen for v in check(benchmark)]
