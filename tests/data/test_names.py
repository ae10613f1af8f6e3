"""Samples whose character has a made-up name: wherever the old one stands, and nowhere else."""

import dataclasses
import json

import pytest

from remid_jax.data.names import UNKNOWN, renamed
from remid_jax.data.reading import load_benchmark
from remid_jax.data.rename import main, rename_all
from remid_jax.data.samples import Sample


def sample(name="Florence Nightingale", said="Aye.", character=None, **more):
    return Sample(
        sample_id="a",
        persona=more.pop("persona", "A nurse."),
        character=character or {"name": name, "work": "nurse"},
        dialogue=(("user", said),),
        golden=more.pop("golden", ""),
        tag="IDTest",
        extra=more,
    )


def said_by(found, new):
    """The user's turn with {0}, {1}, ... where the words of the made-up name stand."""
    text = found.sample.dialogue[0][1]
    for i, word in enumerate(new):
        text = text.replace(word, f"{{{i}}}")
        text = text.replace(word.upper(), f"{{{i}}}!").replace(word.lower(), f"{{{i}}}?")
    return text


@pytest.mark.parametrize(
    ("name", "said", "expected"),
    [
        ("Florence Nightingale", "Florence Nightingale, Florence!", "{0} {1}, {0}!"),
        ("Florence Nightingale", "Florence's and Nightingale’s lamp", "{0}'s and {1}’s lamp"),
        ("Florence Nightingale", "Florences Lampe, Nightingales", "{0}s Lampe, {1}s"),
        ("Florence Nightingale", "FLORENCE! Florence-Nightingale", "{0}!! {0}-{1}"),
        (
            "Florence Nightingale",
            "Florencetown and a Nightingaley",
            "Florencetown and a Nightingaley",
        ),
        ("Florence Nightingale", "南丁格尔 met Florence。", "南丁格尔 met {0}。"),
        ("Florence Nightingale", "hi florence nightingale", "hi {0}? {1}?"),
        ("Charlotte Brontë", "Bronte\u0308, Brontë und Brontës", "{1}, {1} und {1}s"),
        ("Captain Nemo", "Captain Nemo and another captain", "Captain {0} and another captain"),
        ("Joan of Arc", "Joan of Arc of Joan", "{0} of {1} of {0}"),
        ("Maeve O'Brien", "O’Brien and O'Brien's", "{1} and {1}'s"),
        ("J. S. Bach", "J. S. Bach, Bachs Musik", "J. S. {0}, {0}s Musik"),
        (
            "Long John Silver",
            "a long silver, Long John Silver, John",
            "a long silver, {0} {1} {2}, {1}",
        ),
        ("诸葛亮", "我是诸葛亮的朋友", "我是{0}的朋友"),
        ("弗洛伦斯·南丁格尔", "南丁格尔和弗洛伦斯", "{1}和{0}"),
        ("田中 太郎", "田中太郎さん、太郎", "{0}{1}さん、{1}"),
        ("レオ", "レオとレオン", "{0}とレオン"),
        ("김철수", "김철수는 왔다", "{0}는 왔다"),
        ("Иван Грозный", "Иван и ИВАН, Ивановна", "{0} и {0}!, Ивановна"),
    ],
)
def test_where_a_name_stands(name, said, expected):
    found = renamed(sample(name, said))
    made = found.name.replace("·", " ").split()
    new = [w for w in made if any(w in pool for pool in UNKNOWN.values())]
    assert said_by(found, new) == expected


def test_a_sample_is_renamed_as_a_whole():
    before = sample(
        said="Nightingale?", persona="He knows Florence.", golden="I am Florence Nightingale.",
        character={"name": "Florence Nightingale", "of": [{"x": "Florence's lamp"}, 3]},
        note="Florence",
    )  # fmt: skip
    found = renamed(before)
    first, last = found.name.split()
    after = found.sample
    assert after.character == {"name": found.name, "of": [{"x": f"{first}'s lamp"}, 3]}
    assert (after.persona, after.dialogue[0][1]) == (f"He knows {first}.", f"{last}?")
    assert after.golden == f"I am {found.name}." and found.left == ()
    assert (after.sample_id, after.extra) == (before.sample_id, before.extra)
    text = renamed(sample(character="You are Ann Lee, a nurse. Ann sings."))
    assert text.sample.character == f"You are {text.name}, a nurse. {text.name.split()[0]} sings."


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Will", "Will you?"),  # too common a word
        ("Hope", "I hope so, Hope."),
        ("雪", "雪"),
        ("The Doctor", "Doctor!"),
        ("", "Aye."),
        ("Ἀχιλλεύς", "Aye."),  # no list of made-up names in this script
        ("a very old man who lives alone on some hill", "Aye."),
    ],
)
def test_names_that_stay(name, said):
    assert renamed(sample(name, said, character={"name": name, "work": "sailor"})) is None


def test_ordinary_words_are_left_and_told():
    found = renamed(sample("Zheng He", "He said that Zheng came."))
    first, _ = found.name.split()
    assert found.sample.dialogue[0][1] == f"He said that {first} came." and found.left == ("He",)
    shared = renamed(sample("Ann Lee", "Lee calls Ann.", user_name="Bob Lee"))
    assert shared.left == ("Lee",)


def test_made_up_names_are_unknown_and_the_same_for_one_character():
    one, other = (
        renamed(sample()),
        renamed(dataclasses.replace(sample("Florence Nightingale"), tag="x")),
    )
    assert one.name == other.name != renamed(sample(), draw=1).name
    held = " ".join(w for w in UNKNOWN["LATIN"] if w not in one.name)
    assert renamed(sample(said=held)).name == one.name
    assert renamed(sample(said=f"{held.lower()} {one.name.split()[0]}")) is None
    every = json.dumps([s.to_record() for s in load_benchmark()], ensure_ascii=False).casefold()
    assert not [w for pool in UNKNOWN.values() for w in pool if w.casefold() in every]


def test_the_bundled_file_with_made_up_names(tmp_path, capsys):
    path = tmp_path / "renamed.jsonl"
    assert main(["--out", str(path)]) == 0
    out = capsys.readouterr().out
    assert "240 of 240 samples renamed" in out and "first He in 'IDTrain_31'" in out
    before, after = load_benchmark(), load_benchmark(path)
    assert {t: len(x) for t, x in before.subsets.items()} == {
        t: len(x) for t, x in after.subsets.items()
    }
    names = {}
    for old, new in zip(before, after, strict=True):
        assert (old.sample_id, old.pair_id, old.shift) == (new.sample_id, new.pair_id, new.shift)
        first = old.character["name"]
        assert first not in json.dumps(new.to_record())
        assert names.setdefault(first, new.character["name"]) == new.character["name"]
    assert len(set(names.values())) == len(names) > 100


def test_two_characters_never_get_one_name():
    many = [sample(f"Xoru{a}{b}") for a in "abcdef" for b in "abcde"]
    assert len({found.name for _, found in rename_all(many)}) == len(many)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "a.json"], "must be named *.jsonl"),
        (["no_such_file.json", "--out", "a.jsonl"], "no_such_file.json"),
    ],
)
def test_what_cannot_be_written(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_file_without_names(tmp_path, capsys):
    records = [dataclasses.replace(sample(""), character={"work": "nurse"}).to_record()]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(records[0]), encoding="utf-8")
    assert main([str(path), "--out", str(tmp_path / "b.jsonl")]) == 2
    assert "no character has a name that can be replaced" in capsys.readouterr().err
    assert not (tmp_path / "b.jsonl").exists()


def test_it_overwrites_no_samples_that_it_reads(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(sample("Xorua").to_record()), encoding="utf-8")
    before = path.read_bytes()
    assert main([str(path), "--out", str(tmp_path / "." / "a.jsonl")]) == 2
    assert "it would overwrite the samples that it is made of" in capsys.readouterr().err
    assert path.read_bytes() == before
