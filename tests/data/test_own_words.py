"""What is copied and what is own: by hand, and against comparing every run with every run."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import remid_jax
from remid_jax.data.own_words import context_texts, copied_tokens, names_of
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.models.tokenizer_offsets import token_offsets

CONTEXT = "The damp wall in my bedroom faces north, and it's cold."
NAME = "Florence Nightingale"


def marked(response, context=CONTEXT, names=(), **limits):
    """The response with its copied characters in brackets, each character a token."""
    spans = np.stack([np.arange(len(response)), np.arange(len(response)) + 1], axis=1)
    flags = copied_tokens(response, context, names, spans, **limits)
    shown = "".join(f"[{c}]" if f else c for c, f in zip(response, flags, strict=True))
    return shown.replace("][", "")


@pytest.mark.parametrize(
    "response, expected",
    [
        ("Yes, the damp wall in Leeds.", "Yes, [the damp wall in] Leeds."),  # 4
        ("Yes, the damp wall of Leeds.", "Yes, the damp wall of Leeds."),  # 3
        ("the damp wall in", "[the damp wall in]"),
        ("So: my bedroom faces north", "So: [my bedroom faces north]"),
        ("damp wall in my, wall in my bedroom", "[damp wall in my], [wall in my bedroom]"),
        ("THE DAMP -- wall (in) MY... hat", "[THE DAMP -- wall (in) MY]... hat"),
        ("the damp wall the damp wall in", "the damp wall [the damp wall in]"),
        ("my bedroom north faces", "my bedroom north faces"),
        ("faces north and it’s warm", "[faces north and it’s] warm"),
        ("faces north and it ' s", "faces north and it ' s"),
        ("faces north and its", "faces north and its"),
        ("the damp wall_in my", "[the damp wall_in my]"),
        ("the damp\u00ad wa\u00adll in", "[the damp\u00ad wa\u00adll in]"),
        ("ｔｈｅ ｄａｍｐ wall in", "[ｔｈｅ ｄａｍｐ wall in]"),
        ("the wet wall in my bedroom", "the wet [wall in my bedroom]"),
        ("The moist wall where I sleep", "The moist wall where I sleep"),
        ("", ""),
        ("?! 👍", "?! 👍"),
    ],
)  # fmt: skip
def test_words(response, expected):
    assert marked(response) == expected


def test_words_in_other_dress():
    assert marked("STRASSE IN KÖLN AN", "Die Straße in Ko\u0308ln an") == "[STRASSE IN KÖLN AN]"
    assert marked("ﬁve old men sat", "Five old men sat.") == "[ﬁve old men sat]"
    assert marked("‘Don’t go there now’", "don't go there now") == "‘[Don’t go there now]’"
    hindi = "मैं कल दिल्ली जाऊँगा"
    assert marked(f"हाँ, {hindi}।", hindi) == f"हाँ, [{hindi}]।"
    assert (
        marked("밤 농장의 형님에게 먼저요", "밤 농장의 형님에게 먼저")
        == "밤 농장의 형님에게 먼저요"
    )
    assert (
        marked("밤 농장의 형님에게 먼저", "또 밤 농장의 형님에게 먼저!")
        == "[밤 농장의 형님에게 먼저]"
    )


def test_runs_that_touch_share_no_white_space():
    texts = ["one two three four", "five six seven eight"]
    assert marked("one two three four five six seven eight", texts) == (
        "[one two three four] [five six seven eight]"
    )
    assert marked("one two three four five", "one two three four. two three four five") == (
        "[one two three four five]"
    )


def test_no_run_crosses_from_text_to_text():
    assert marked("one two three four", ["one two", "three four"]) == "one two three four"
    assert marked("one two three four", ["one two three four"]) == "[one two three four]"
    assert marked("one two three four", "one two. Three, four") == "[one two three four]"


@pytest.mark.parametrize(
    "context, response, expected",
    [
        ("我今天早上去了北京大学", "他今天早上去了北京的", "他[今天早上去了北京]的"),  # 8
        ("我今天早上去了北京大学", "他今天早上去了北的", "他今天早上去了北的"),  # 7
        ("我今天早上去了北京大学", "今天,早上“去了”北京!", "[今天,早上“去了”北京]!"),
        ("ぼくはきのう駅へ行った", "きのう駅へ行った。", "[きのう駅へ行った]。"),
        ("が\u304d\u3099ぐげござじず", "か\u3099ぎぐげござじず", "[か\u3099ぎぐげござじず]"),
        ("ฉันไปตลาดเมื่อวานนี้", "เขาไปตลาดเมื่อวาน", "เขา[ไปตลาดเมื่อวาน]"),
        ("ຂ້ອຍໄປຕະຫຼາດ", "ຂ້ອຍໄປຕະຫຼາດ", "[ຂ້ອຍໄປຕະຫຼາດ]"),
        ("ខ្ញុំទៅផ្សារម្សិលមិញ", "ខ្ញុំទៅផ្សារម្សិល ok", "[ខ្ញុំទៅផ្សារម្សិល] ok"),
        ("ကျွန်တော်ဈေးသွားတယ်", "ဈေးသွားတယ် ok", "ဈေးသွားတယ် ok"),
        ("ကျွန်တော်ဈေးကိုသွားတယ်", "ကျွန်တော်ဈေးကိုသွားတယ် ok", "[ကျွန်တော်ဈေးကိုသွားတယ်] ok"),
        # A word is worth two characters.
        ("我和Bob Lee一起去公园玩", "你和Bob Lee一起去走", "你[和Bob Lee一起去]走"),
        ("我和Bob Lee一起去公园玩", "你和Bob Lee一起走", "你和Bob Lee一起走"),
        ("2024年5月1日我们", "在2024年5月1日", "在[2024年5月1日]"),
        ("a b c 天 d", "b c 天 d", "b c 天 d"),  # 7 of 8
        ("a b c d 天", "a b c d 天", "[a b c d 天]"),
        ("天 a b c d", "天 a b c d", "[天 a b c d]"),
    ],
)
def test_scripts_without_spaces(context, response, expected):
    assert marked(response, context) == expected


def test_limits():
    assert marked("the damp wall, ok", words=3) == "[the damp wall], ok"
    assert marked("the damp wall in, ok", words=5) == "the damp wall in, ok"
    assert marked("cold, ok", words=1) == "[cold], ok"
    assert marked("北京!", "去北京", characters=2) == "[北京]!"
    for limits in ({"words": 0}, {"characters": 0}, {"words": 2.5}):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            marked("a", **limits)


@pytest.mark.parametrize(
    "names, response, expected",
    [
        ([NAME], f"{NAME}: I'm afraid", f"[{NAME}]: I'm afraid"),
        ([NAME], "FLORENCE, Miss nightingale!", "[FLORENCE], Miss [nightingale]!"),
        ([NAME], "Florence's, Florence’s, Florences", "[Florence]'s, [Florence]’s, Florences"),
        ([NAME], "a nightingale-like song", "a [nightingale]-like song"),
        (["Ann Lee"], "Ann saw Lee and Ann Lee.", "Ann saw Lee and [Ann Lee]."),
        (["Ann"], "Ann, Anna, Joann, ann's", "[Ann], Anna, Joann, [ann]'s"),
        (["Bob", "Mary"], "Bob and Mary", "[Bob] and [Mary]"),
        (["Conor O'Brien"], "O’Brien’s, Brien", "[O’Brien]’s, Brien"),
        (["Jean-Luc Picard"], "Jean, Luc, jean luc picard", "[Jean], Luc, [jean luc picard]"),
        (["弗洛伦斯·南丁格尔"], "我是弗洛伦斯!南丁,格尔", "我是[弗洛伦斯!南丁,格尔]"),
        (["弗洛伦斯·南丁格尔"], "南丁格尔,南丁", "[南丁格尔],南丁"),
        (["李明"], "李明说明", "[李明]说明"),
        (["Zoe\u0308 Ko\u0308nig"], "Zoë König", "[Zoë König]"),
        (["", " ", "-"], "no - name", "no - name"),
        ([], NAME, NAME),
    ],
)
def test_names(names, response, expected):
    assert marked(response, (), names) == expected


def test_tokens_of_any_length():
    said = " So the damp wall in, 天."
    spans = [(0, 7), (7, 8), (8, 17), (17, 21), (21, 22), (22, 23), (23, 24)]
    spans += [(24, 24), (0, 24), (4, 4), (0, 0)]
    flags = copied_tokens(said, CONTEXT, [], spans)
    assert flags.tolist() == [True] * 4 + [False] * 4 + [True, True, False]
    assert flags.dtype == bool and flags.shape == (11,)


def test_parts_of_a_character_are_what_it_is():
    copied = [(0, 0), (0, 0), (0, 1), *((i, i + 1) for i in range(1, 8)), (8, 8), (8, 8)]
    said = "天" * 8
    assert copied_tokens(said, said, [], copied[:-2]).all()
    assert copied_tokens(said, said, [], copied).tolist() == [True] * 10 + [False] * 2
    emoji = "one two 👍 three four 👍"
    spans = [(8, 8), (8, 8), (8, 9), (21, 21), (21, 22), (22, 22)]
    flags = copied_tokens(emoji, "one two three four", [], spans)
    assert flags.tolist() == [True] * 3 + [False] * 3


def test_no_tokens():
    for empty in ([], np.zeros((0, 2), int)):
        assert copied_tokens("", CONTEXT, [NAME], empty).shape == (0,)
    assert copied_tokens("", CONTEXT, [NAME], [(0, 0)]).tolist() == [False]


@pytest.mark.parametrize(
    "offsets, message",
    [
        ([(0, 4)], r"offsets hold \[0, 4\], no span of a response of 3 characters"),
        ([(0, 1), (2, 1)], r"offsets hold \[2, 1\]"),
        ([(-1, 1)], r"offsets hold \[-1, 1\]"),
        ([0, 1], r"offsets must be integers \[T, 2\]"),
        ([(0.0, 1.0)], r"offsets must be integers \[T, 2\], not float64"),
    ],
)
def test_spans_outside_the_response_are_refused(offsets, message):
    with pytest.raises(ValueError, match=message):
        copied_tokens("abc", CONTEXT, [], offsets)


def test_names_as_one_text_are_refused():
    with pytest.raises(ValueError, match="names must be a sequence of texts"):
        copied_tokens("abc", CONTEXT, "Ann", [(0, 3)])


# --- Against every run of the response in every run of the context ---


def units_of(text):
    return [(m[0].lower(), m.start(), m.end()) for m in re.finditer(r"[天地人]|[A-Za-z]+", text)]


def every_run(response, contexts, words, characters):
    """[characters] bool: each stretch of the response that is long enough and stands somewhere."""
    found, units = np.zeros(len(response), bool), units_of(response)
    for i in range(len(units)):
        for j in range(i + 1, len(units) + 1):
            run = [unit[0] for unit in units[i:j]]
            han = sum(key in "天地人" for key in run)
            if han / characters + (len(run) - han) / words < 1 - 1e-9:
                continue
            rows = ([unit[0] for unit in units_of(text)] for text in contexts)
            if any(row[k : k + len(run)] == run for row in rows for k in range(len(row))):
                found[units[i][1] : units[j - 1][2]] = True
    return found


TEXT = st.lists(
    st.sampled_from(["a ", "b ", "B ", "c-", " a, ", "天", "地", "人", "天。", "\n"]), max_size=24
).map("".join)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(TEXT, st.lists(TEXT, max_size=3), st.integers(1, 5), st.integers(1, 9), st.randoms())
def test_as_every_run_with_every_run(response, contexts, words, characters, random):
    expected = every_run(response, contexts, words, characters)
    cuts = sorted(random.choices(range(len(response) + 1), k=5))
    spans = [(0, cuts[0]), *itertools.pairwise(cuts), (cuts[-1], len(response))]
    flags = copied_tokens(response, contexts, [], spans, words=words, characters=characters)
    for (a, b), flag in zip(spans, flags, strict=True):
        assert flag == expected[a : max(b, a + 1)].any()


def test_long_texts_take_no_time_to_speak_of():
    """Comparing each place with each would take hours."""
    rng, vocabulary = np.random.default_rng(0), [f"w{i}" for i in range(300)]
    context = " ".join(rng.choice(vocabulary, 4000))
    for _ in range(100):
        response = " ".join(rng.choice(vocabulary, 200))
        copied_tokens(response, context, [NAME], [(0, len(response))])
    copied_tokens("a " * 100_000, "a " * 100_000, ["a", "a a"], [(0, 200_000)])
    copied_tokens("天" * 100_000, "天" * 100_000, ["天"], [(0, 100_000)])


# --- Samples and real tokens ---


def sample(character, user_name="", persona="A baker."):
    dialogue = (("user", "Hello?"), ("character", "Aye."), ("user", "And now?"))
    extra = {"user_name": user_name}
    return Sample("IDTest_1", persona, character, dialogue, "x", "IDTest", extra)


def test_what_samples_know():
    named = sample({"name": " Ann Lee ", "job": ["cook", "poet"]}, "Bo")
    assert names_of(named) == ("Ann Lee", "Bo")
    assert context_texts(named) == (
        "A baker.", "name:  Ann Lee \njob: cook; poet", "Hello?", "Aye.", "And now?",
    )  # fmt: skip
    assert names_of(sample("Ann Lee, a cook.")) == ()
    assert names_of(sample({"name": "one of those who never say who they are"}, "Bo")) == ("Bo",)


def test_real_tokens(smollm2):
    """An answer made of pieces of its context, cut by a vocabulary of bytes."""
    tokenizer = smollm2.tokenizer
    for s in load_benchmark().subsets["chinese"][:4]:
        said = f"{s.golden}\n{s.dialogue[0][1]} 👏"
        ids = [*tokenizer.encode(said), tokenizer.end_of_turn]
        spans = token_offsets(tokenizer, ids, said)
        flags = copied_tokens(said, context_texts(s), names_of(s), spans)
        assert flags[spans[:, 0] < len(s.golden)].mean() < 0.2
        turn = (spans[:, 0] > len(s.golden)) & (spans[:, 1] < len(said) - 3)
        assert flags[turn].all() and not flags[-3:].any()


def test_golden_is_own_and_an_echo_is_not():
    """Golden answers repeat few words, in every subset; the last turn, repeated, only repeats."""
    for tag, part in load_benchmark().subsets.items():
        golden, echo = [], []
        for s in part:
            for text, into in ((s.golden, golden), (s.dialogue[-1][1], echo)):
                spans = [(i, i + 1) for i, c in enumerate(text) if c.isalnum()]
                into.append(copied_tokens(text, context_texts(s), names_of(s), spans).mean())
        assert np.mean(golden) < 0.06 and np.mean(echo) > 0.98, (tag, np.mean(golden))


def test_the_public_name():
    assert remid_jax.copied_tokens is copied_tokens
