"""Thoughts are written, read whatever they look like, and drafted from training samples only."""

import dataclasses
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from remid_jax.data import shifts, thoughts
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import CHARACTER_MARKER, CORE_MARKER, MARKERS, USER_MARKER
from remid_jax.errors import UserError

BENCHMARK = load_benchmark()
SAMPLE = Sample(
    sample_id="IDTrain_1",
    persona="Ann, 41, a nurse. She is tired.",
    character={
        "name": "Ada",
        "background": "Born in London, taught by her mother and by tutors, wrote notes.",
        "occupation": "Mathematician",
        "traits": ["curious", "exact"],
    },
    dialogue=(("user", "What now?"),),
    golden="Rest, Ann, and then write to Eve about the 3 engines that you've drawn!",
    tag="IDTrain",
    extra={},
)
WHOLE = f"{USER_MARKER}\na nurse\n{CHARACTER_MARKER}\ndry, exact\n{CORE_MARKER}\nname the tea"
U, C, K = MARKERS


def with_(**changes):
    return dataclasses.replace(SAMPLE, **changes)


def well_formed(text):
    """Whether every section stands there once, in its order, with text, and nothing before it."""
    once = all(text.count(marker) == 1 for marker in MARKERS)
    found = thoughts.parse_thought(text)
    return once and tuple(found.texts) == MARKERS and found.complete and text.startswith(U)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        WHOLE.replace("\n", " "),
        WHOLE.replace("\n", "\r\n"),
        "Here are my notes:\n" + WHOLE,
        WHOLE.lower(),
        WHOLE.upper().replace("NAME THE TEA", "name the tea").replace("[USER", "[  USER\t"),
        WHOLE.replace("Core Features", "Core\u00a0 Features").replace("Response]", "Response ]"),
        WHOLE.replace("[", "**[").replace("]", "]:**"),
        WHOLE.replace("[", "**[").replace("]", "]**:"),
        WHOLE.replace("[", "## [").replace("]", "]:"),
        WHOLE.replace("name the tea", "```\nname the tea\n```"),
        WHOLE.replace("name the tea", "```text\nname the tea\n```\n"),
        WHOLE.replace("name the tea", "````c++ \nname the tea\n````"),
        WHOLE.replace("name the tea", "``` name the tea ```"),
        WHOLE.replace("name the tea", "```\nname the tea"),
        f"```markdown\n{WHOLE}\n```",
        WHOLE + "\n```",
    ],
)
def test_variants_of_a_whole_thought(text):
    found = thoughts.parse_thought(text)
    assert tuple(found.texts) == MARKERS and found.complete
    assert found.core == thoughts.scorer_notes(text)
    assert found.core == "name the tea"
    assert [t.lower() for t in list(found.texts.values())[:2]] == ["a nurse", "dry, exact"]


@pytest.mark.parametrize(
    ("text", "sections", "empty", "core"),
    [
        ("", (), (), ""),
        ("no marker", (), (), ""),
        (f"{K} tea", (K,), (), "tea"),
        (f"{U} a {C} b", (U, C), (), ""),
        (f"{U} a {C} b {K}", (U, C, K), (K,), ""),
        (f"{U} a {C}\n \n{K} c", (U, C, K), (C,), "c"),
        (f"{U} a {C} b {K}\n```text\n```", (U, C, K), (K,), ""),
        (f"{U} a {C} b {K}\n```", (U, C, K), (K,), ""),
        (f"{K} c {U} a {C} b", (K, U, C), (), "c"),
        (f"{U} a {K} c {C} b", (U, K, C), (), "c"),
        (f"{U} a {C} b {K} c {K} d", (U, C, K), (), "d"),
        (f"{U} a {C} b {K} c {U} e", (C, K, U), (), "c"),
        (f"{U} a {C} b {K} c {K}", (U, C, K), (K,), ""),
        ("[User Fact] a [Character facts: b] [Core Features] c", (), (), ""),
    ],
)
def test_malformed_thoughts(text, sections, empty, core):
    found = thoughts.parse_thought(text)
    assert tuple(found.texts) == sections
    assert tuple(marker for marker, text in found.texts.items() if not text) == empty
    assert found.complete == (set(sections) == set(MARKERS) and not empty)
    assert found.core == core


@pytest.mark.parametrize(
    ("text", "core"),
    [
        ("before\n```\ninside\n```\nafter", "before\ninside\n\nafter"),
        ("```\na\n```\n```json\nb\n```", "a\n\nb"),
        ("```two words\nb\n```", "two words\nb"),
        ("`code` and ``more``", "`code` and ``more``"),
    ],
)
def test_fences_in_the_core(text, core):
    assert thoughts.parse_thought(f"{CORE_MARKER}\n{text}").core == core


def test_an_open_fence_of_another_section_does_not_reach_the_core():
    text = f"{USER_MARKER}\n```\na\n{CORE_MARKER}\n```text\nb\n```"
    assert thoughts.parse_thought(text).core == "b"


def test_what_the_scorer_reads():
    assert thoughts.scorer_notes("  any model's notes \n") == "any model's notes"
    assert thoughts.scorer_notes(f"{USER_MARKER} a ") == f"{USER_MARKER} a"  # cut before the core
    assert thoughts.scorer_notes(f"{USER_MARKER} a {CORE_MARKER}") == ""
    assert thoughts.scorer_notes("") == ""


def test_words_outside_of_the_markers():
    assert thoughts.parse_thought(f"Now: {WHOLE}").words == 8
    assert thoughts.parse_thought(f"{WHOLE}\n{' '.join(MARKERS)}").words == 7
    assert thoughts.parse_thought("one two, three - '").words == 3
    assert thoughts.parse_thought("").words == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't — well…no: 'yes'!", ["Don't", "well", "no", "yes"]),
        ("1,000 km/h (fast)", ["1,000", "km", "h", "fast"]),
        ("先治那份静。好！", list("先治那份静好")),
        ("人々のコーヒー・茶", list("人々のコーヒー茶")),
        ("양반은 천천히 걷습니다.", ["양반은", "천천히", "걷습니다"]),
        ("नमस्ते, दुनिया।", ["नमस्ते", "दुनिया"]),
        ("Straße über «Köln»", ["Straße", "über", "Köln"]),
        ("😀 ... --", []),
    ],
)
def test_words_of_any_script(text, words):
    assert thoughts.split_words(text) == words


def test_comparable_words():
    assert thoughts.comparable_words("STRASSE ｔｅａ Cafe\u0301") == ["strasse", "tea", "café"]
    assert thoughts.comparable_words("straße") == ["strasse"]


plain = st.text(st.characters(exclude_characters="[`", codec="utf-8")).map(str.strip).filter(bool)


@settings(deadline=None)
@given(plain, plain, plain)
@example("**", "#", ":")
@example("]**:", "b\n##", "**c")
def test_a_rendered_thought_is_read_back(user, character, core):
    text = thoughts.render_thought(user, character, core)
    found = thoughts.parse_thought(text)
    assert tuple(found.texts.values()) == (user, character, core)
    assert found.complete and found.core == core and text.startswith(USER_MARKER)
    together = thoughts.split_words("\n".join((user, character, core)))
    assert found.words == len(together)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*MARKERS, "```", "```text", "\n", " a ", "**", "#", "[", "]"])))
def test_reading_never_fails(parts):
    found = thoughts.parse_thought("".join(parts))
    assert set(found.texts) <= set(MARKERS)
    assert "```" not in found.core


def test_the_instruction_is_short_and_names_the_sections():
    text = thoughts.SECTION_INSTRUCTION.format(name="Ada {x}")
    assert len(text.split()) <= 70
    assert tuple(thoughts.parse_thought(text).texts) == MARKERS
    assert text.count("Ada {x}") == 2 and "{name}" not in text
    for marker in MARKERS:
        assert f"\n{marker}\n" in text


def test_drafts_of_all_bundled_training_samples():
    samples = BENCHMARK.subsets["IDTrain"]
    assert samples
    for sample in samples:
        draft = thoughts.draft_thought(sample)
        found = thoughts.parse_thought(draft)
        assert well_formed(draft) and found.words <= 64
        assert draft == thoughts.draft_thought(sample)
        golden = iter(thoughts.split_words(sample.golden))
        assert all(word in golden for word in thoughts.split_words(found.core))  # in order
        assert found.texts[CHARACTER_MARKER].startswith(sample.character["name"])
        assert len(thoughts.split_words(found.core)) >= 8
        assert len(found.core) < len(sample.golden)


def test_a_draft_holds_what_is_due(monkeypatch):
    assert thoughts.draft_thought(SAMPLE) == thoughts.render_thought(
        "Ann, 41, a nurse, She is tired",
        "Ada; occupation: Mathematician; traits: curious; exact",
        "Rest; write Eve 3 engines drawn",
    )
    monkeypatch.setattr(thoughts, "DRAFT_WORDS", 10)
    assert thoughts.draft_thought(SAMPLE) == thoughts.render_thought(
        "Ann, 41", "Ada", "Rest; write Eve 3 engines"
    )


@pytest.mark.parametrize(
    ("golden", "core"),
    [
        ("先治那份静。大衣柜顶上的唢呐请下来，", "先治那份静"),
        ("日陰は運べなくとも、その長さなら運べます。", "日陰は運べなくとも"),
        ("양반은 천천히, 종만 씨, 걷습니다.", "양반은 천천히; 종만; 걷습니다"),
        ("Nimm den Kompass, aber nicht über München!", "Nimm Kompass; München"),
        ("Yes. I do so.", "Yes, I do so"),
        ("...", "..."),
        ("Look: [User Facts] ``` x", "Look; User Facts"),
    ],
)
def test_core_features_of_any_language(golden, core):
    found = thoughts.parse_thought(thoughts.draft_thought(with_(golden=golden)))
    assert found.complete and found.core == core


@settings(deadline=None)
@given(
    persona=plain | st.sampled_from(MARKERS),
    character=plain | st.dictionaries(st.text(), plain | st.none() | st.lists(plain), min_size=1),
    golden=plain | st.sampled_from(["```", "[", *MARKERS]),
    words=st.integers(4, 40),
)
def test_any_sample_has_a_well_formed_draft(persona, character, golden, words):
    sample = with_(persona=persona, character=character, golden=golden)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(thoughts, "DRAFT_WORDS", words)
        draft = thoughts.draft_thought(sample)
    assert well_formed(draft) and thoughts.parse_thought(draft).words <= words


def test_a_profile_of_text_and_one_without_a_name():
    facts = lambda c: thoughts.parse_thought(  # noqa: E731
        thoughts.draft_thought(with_(character=c))
    ).texts[CHARACTER_MARKER]
    assert facts(" A grumpy wizard, old. ") == "A grumpy wizard, old"
    assert facts({"age": 36, "note": ""}) == "the character; age: 36"
    assert facts({"name": "[Core] `x`"}) == "(Core) 'x'"


@pytest.mark.parametrize("tag", shifts.TEST_TAGS)
def test_no_draft_from_a_test_sample(tag):
    sample = with_(tag=tag, sample_id="held_out_7")
    split = shifts.split_of(tag)
    with pytest.raises(
        UserError, match=rf"'held_out_7' is of {split}.*IDTrain.*train_on_test=True"
    ):
        thoughts.draft_thought(sample)
    assert thoughts.draft_thought(sample, train_on_test=True) == thoughts.draft_thought(SAMPLE)


def test_every_bundled_sample_can_be_drafted_when_leaks_are_wanted():
    for sample in BENCHMARK:
        draft = thoughts.draft_thought(sample, train_on_test=True)
        assert well_formed(draft) and thoughts.parse_thought(draft).words <= 64


@pytest.mark.parametrize("texts, share", [
    (["a b", "a b", "B, a!"], 1.0),
    (["a b", "c"], 0.0),
    (["a b", "b c", "b"], (1 / 3 + 1 / 2 + 1 / 2) / 3),
    (["", "."], 1.0),
    (["", "a"], 0.0),
])  # fmt: skip
def test_agreement_is_the_mean_share_of_common_words(texts, share):
    assert thoughts.word_agreement(texts) == pytest.approx(share)


def test_one_thought_agrees_with_nothing():
    assert math.isnan(thoughts.word_agreement(["a"]))
    assert math.isnan(thoughts.word_agreement([None]))


def test_a_mixture_of_empty_thoughts_is_refused():
    thoughts.check_some_text("german", [["", ""], ["", "a"]])
    with pytest.raises(UserError, match="all 4 thoughts about 'german' are empty"):
        thoughts.check_some_text("german", [["", " "], ["\n", None]])
