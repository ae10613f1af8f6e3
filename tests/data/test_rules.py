"""Rules for samples: the bundled file keeps them, and each fires where it is broken."""

import pytest
from bundled_edits import BUNDLED, english, find, foreign, said, say, subset

from remid_jax.data import measures, reading, rules


def places(violations):
    return {(sample, field) for sample, field, _ in violations}


# --- the bundled file -----------------------------------------------------------------------------


def test_the_bundled_benchmark_is_clean():
    assert rules.violations(reading.load_benchmark(), strict=True) == []


# --- general rules --------------------------------------------------------------------------------


def test_sample_id_must_begin_with_its_split(broken):
    found = broken(lambda d: find(d, "IDTrain_01").update(sample_ID="Train_01"))
    assert found == [("Train_01", "sample_ID", "must begin with 'IDTrain'")]


def test_pair_id_must_name_an_idtest_sample(broken):
    sample = BUNDLED["OOD1Test"][0]["sample_ID"]
    found = broken(lambda d: find(d, sample).update(pair_id="IDTest_99"))
    assert found == [(sample, "pair_id", "'IDTest_99' is no IDTest sample")]


def test_a_counterpart_stands_once_in_a_subset(broken):
    first, second = (s["sample_ID"] for s in subset(BUNDLED, "TurnLevelComposition")[:2])

    def change(data):
        for key in ("pair_id", "user_persona", "agent_character"):
            find(data, second)[key] = find(data, first)[key]

    found = [v for v in broken(change) if v[1] == "pair_id"]
    problem = "'IDTest_01' is used twice in TurnLevelComposition"
    assert found == [(first, "pair_id", problem), (second, "pair_id", problem)]


@pytest.mark.parametrize(
    ("tag", "field"),
    [
        ("korean", "agent_character"),
        ("Gaming", "user_persona"),
        ("WordLevelComposition", "user_persona"),
        ("TurnLevelComposition", "agent_character"),
    ],
)
def test_what_a_shift_leaves_alone_equals_the_counterparts(broken, tag, field):
    sample = subset(BUNDLED, tag)[0]["sample_ID"]

    def change(data):
        value = find(data, sample)[field]
        if field == "agent_character":
            value["personality"] += " "
        else:
            find(data, sample)[field] = value + " "

    assert broken(change) == [(sample, field, "must equal IDTest_01's")]


@pytest.mark.parametrize(
    ("tag", "field"),
    [
        ("spanish", "user_persona"),
        ("Theater", "agent_character"),
        ("WordLevelComposition", "dialogue_context"),
        ("Literature", "agent_golden_response"),
    ],
)
def test_what_a_shift_changes_differs_from_the_counterparts(broken, tag, field):
    sample = english(BUNDLED, tag)
    counterpart = find(BUNDLED, sample["pair_id"])
    found = broken(lambda d: find(d, sample["sample_ID"]).update({field: counterpart[field]}))
    expected = (sample["sample_ID"], field, f"must differ from {counterpart['sample_ID']}'s")
    assert expected in found
    assert {v[0] for v in found} == {sample["sample_ID"]}


def test_a_new_character_has_a_new_name(broken):
    def change(data):
        sample = subset(data, "Gaming")[0]
        sample["agent_character"]["name"] = find(data, "IDTest_01")["agent_character"]["name"]

    sample = subset(BUNDLED, "Gaming")[0]["sample_ID"]
    assert (sample, "agent_character", "has the name of IDTest_01's") in broken(change)


def test_a_persona_of_the_training_split_elsewhere(broken):
    sample = english(BUNDLED, "german")["sample_ID"]
    leaked = find(BUNDLED, "IDTrain_05")["user_persona"]
    found = broken(lambda d: find(d, sample).update(user_persona=leaked), strict=False)
    assert found == [(sample, "user_persona", "stands verbatim in IDTrain_05")]


def test_a_character_of_the_training_split_elsewhere(broken):
    sample = english(BUNDLED, "chinese")
    text = said(sample, 2) + " Isaac Newton knew."
    found = broken(lambda d: say(find(d, sample["sample_ID"]), 2, text))
    name = next(s for s in BUNDLED["IDTrain"] if s["agent_character"]["name"] == "Isaac Newton")
    problem = f"names Isaac Newton, the character of {name['sample_ID']}"
    assert found == [(sample["sample_ID"], "dialogue_context", problem)]


def test_a_message_of_the_training_split_elsewhere(broken):
    leaked = said(find(BUNDLED, "IDTrain_07"), 3)
    sample = subset(BUNDLED, "TurnLevelComposition")[2]["sample_ID"]
    found = broken(lambda d: say(find(d, sample), 5, leaked.upper()), strict=False)
    assert found == [(sample, "dialogue_context message 5", "stands verbatim in IDTrain_07")]


def test_a_slightly_changed_message_of_the_training_split(broken):
    words = said(find(BUNDLED, "IDTrain_07"), 3).split()
    words[3] = words[-4] = "really"
    sample = subset(BUNDLED, "TurnLevelComposition")[2]["sample_ID"]
    (found,) = broken(lambda d: say(find(d, sample), 5, " ".join(words)), strict=False)
    assert found[:2] == (sample, "dialogue_context message 5")
    assert found[2].endswith("alike to a text in IDTrain_07")


def test_a_response_of_the_training_split_elsewhere(broken):
    golden = find(BUNDLED, "IDTrain_11")["agent_golden_response"]
    sample = subset(BUNDLED, "Theater")[3]["sample_ID"]
    found = broken(lambda d: find(d, sample).update(agent_golden_response=golden), strict=False)
    assert found == [(sample, "agent_golden_response", "stands verbatim in IDTrain_11")]


@pytest.mark.parametrize("tag", ["chinese", "japanese", "korean", "german", "spanish"])
@pytest.mark.parametrize("field", ["user_persona", "agent_golden_response"])
def test_a_text_in_another_language(broken, tag, field):
    sample, other = foreign(BUNDLED, tag), english(BUNDLED, tag)
    found = broken(lambda d: find(d, sample["sample_ID"]).update({field: other[field]}), False)
    assert (sample["sample_ID"], field) in places(found)
    assert any(problem.startswith("language is") for _, _, problem in found)


@pytest.mark.parametrize(
    ("text", "language", "problem"),
    [
        ("我住在武汉。", "zh", None),
        ("私は東京に住んでいます。", "zh", "% of its letters are han"),
        ("我住在武汉。", "ja", "0% of its letters are kana"),
        ("저는 인천에 살아요.", "ja", "0% of its letters are kana"),
        ("저는 인천에 살아요.", "ko", None),
        ("Ich wohne in Leipzig, und das ist gut.", "es", "those of 'de'"),
        ("Vivo en Zamora con mi mujer y los niños.", "de", "those of 'es'"),
        ("Ich wohne in Leipzig, und das ist gut.", "fr", None),
        ("Leipzig?", "es", None),
    ],
)
def test_language_problem(text, language, problem):
    found = rules.language_problem(text, language)
    assert (found is None) if problem is None else problem in found


def test_two_similar_responses_of_a_subset(broken):
    first, second = (s["sample_ID"] for s in subset(BUNDLED, "Gaming")[4:6])

    def change(data):
        words = find(data, first)["agent_golden_response"].split()
        find(data, second)["agent_golden_response"] = " ".join(["Well,", *words[4:], "Now."])

    (found,) = broken(change, strict=False)
    assert found[:2] == (second, "agent_golden_response")
    assert found[2].endswith(f"alike to that of {first}")


def test_two_similar_responses_in_japanese(broken):
    rows = [s["sample_ID"] for s in subset(BUNDLED, "japanese") if s["language"] == "ja"]
    first, second = rows[:2]

    def change(data):
        golden = find(data, first)["agent_golden_response"]
        find(data, second)["agent_golden_response"] = "そうですね。" + golden[8:]

    (found,) = broken(change, strict=False)
    assert found[:2] == (second, "agent_golden_response")


def test_similar_responses_across_both_id_splits(broken):
    golden = find(BUNDLED, "IDTrain_02")["agent_golden_response"]
    found = broken(lambda d: find(d, "IDTest_03").update(agent_golden_response=golden), False)
    problem = "is 1.00 alike to that of IDTrain_02"
    assert ("IDTest_03", "agent_golden_response", problem) in found


# --- the bundled benchmark's own rules ------------------------------------------------------------


def test_subset_sizes(broken):
    found = broken(lambda d: d["IDTrain"].pop())
    assert ("IDTrain", "size", "47 samples, want 48") in found
    assert {v[0] for v in found} == {"IDTrain"}


def test_a_missing_subset_is_a_size(broken):
    def change(data):
        data["OOD2Test"] = [s for s in data["OOD2Test"] if s["subset_tag"] != "Theater"]

    assert broken(change) == [("Theater", "size", "0 samples, want 16")]


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        ("IDTrain", "3 user turns, want 4 (7 messages)"),
        ("TurnLevelComposition", "7 user turns, want 8 (15 messages)"),
    ],
)
def test_turn_counts(broken, tag, problem):
    sample = subset(BUNDLED, tag)[0]["sample_ID"]

    def change(data):
        del find(data, sample)["dialogue_context"][:2]

    assert (sample, "dialogue_context", problem) in broken(change)


def test_profile_keys(broken):
    def change(data):
        del find(data, "IDTrain_03")["agent_character"]["relations"]
        find(data, "IDTrain_04")["agent_character"]["personality"] = " "

    found = broken(change)
    problem = "keys must be name, occupation, background, personality, speech_style, relations"
    assert ("IDTrain_03", "agent_character", problem) in found
    assert ("IDTrain_04", "agent_character.personality", "must be a text") in found
    assert {v[0] for v in found} == {"IDTrain_03", "IDTrain_04"}


def test_word_counts(broken):
    def change(data):
        sample = find(data, "IDTrain_06")
        sample["user_persona"] = " ".join(sample["user_persona"].split()[:39])
        sample["agent_character"]["background"] += " and so on" * 20
        sample["agent_golden_response"] += " And that is all there is to say." * 5
        say(sample, 1, "Only these five short words.")

    found = broken(change)
    assert places(found) == {
        ("IDTrain_06", "user_persona"),
        ("IDTrain_06", "agent_character"),
        ("IDTrain_06", "agent_golden_response"),
        ("IDTrain_06", "dialogue_context message 1"),
    }
    assert ("IDTrain_06", "user_persona", "39 words, want 40-90") in found


def test_chinese_is_counted_by_characters(broken):
    sample = foreign(BUNDLED, "chinese")["sample_ID"]

    def change(data):
        find(data, sample)["agent_golden_response"] = "好" * 17

    assert broken(change) == [(sample, "agent_golden_response", "10 words, want 20-60")]


@pytest.mark.parametrize("dash", ["–", "—"])
def test_no_dashes(broken, dash):
    golden = find(BUNDLED, "IDTrain_09")["agent_golden_response"].replace(", ", dash, 1)
    assert dash in golden
    found = broken(lambda d: find(d, "IDTrain_09").update(agent_golden_response=golden))
    assert found == [("IDTrain_09", "agent_golden_response", "has an em or en dash")]


@pytest.mark.parametrize("filler", ["TODO", "[a](b)", "#tag", "*smiles*"])
def test_no_filler_and_no_markup(broken, filler):
    text = f"{said(find(BUNDLED, 'IDTrain_09'), 4)} {filler}"
    found = broken(lambda d: say(find(d, "IDTrain_09"), 4, text))
    assert found == [("IDTrain_09", "dialogue_context message 4", "has filler or markup")]


def test_language_halves(broken):
    sample = foreign(BUNDLED, "korean")["sample_ID"]

    def change(data):
        del find(data, sample)["language"]

    found = broken(change)
    assert (sample, "language", "None, want en or ko") in found
    assert ("korean", "language", "7 samples in 'ko', want 8") in found


def test_every_shifted_sample_is_paired(broken):
    sample = subset(BUNDLED, "Film & Television")[7]["sample_ID"]

    def change(data):
        del find(data, sample)["pair_id"]

    assert broken(change) == [(sample, "pair_id", "is missing")]


def test_a_response_takes_up_persona_and_profile(broken):
    golden = "Indeed, indeed. " + "Who can say? Perhaps, perhaps not; let us wait and see. " * 3
    found = broken(lambda d: find(d, "IDTrain_20").update(agent_golden_response=golden))
    problem = "takes up no word of {} that the dialogue has not given"
    assert found == [
        ("IDTrain_20", "agent_golden_response", problem.format("user_persona")),
        ("IDTrain_20", "agent_golden_response", problem.format("agent_character")),
    ]


@pytest.mark.parametrize("value", [None, "", "\u200b"])
def test_a_golden_response_lacks_in_the_bundled_benchmark_alone(broken, value):
    sample = subset(BUNDLED, "chinese")[3]["sample_ID"]

    def change(data):  # with its counterpart's, and with another one of its subset
        for i in ("IDTrain_20", sample, find(data, sample)["pair_id"], "IDTest_01", "IDTest_02"):
            find(data, i)["agent_golden_response"] = value

    assert broken(change, strict=False) == []
    found = broken(change)
    assert {x for x in found if x[0] == sample} == {(sample, "agent_golden_response", "is missing")}
    assert {problem for *_, problem in found} == {"is missing"}


def test_strict_rules_need_strict(broken):
    def drop(data):
        data["IDTrain"].pop()

    assert broken(drop, strict=False) == []
    assert ("IDTrain", "size", "47 samples, want 48") in broken(drop)


# --- measures -------------------------------------------------------------------------------------


def test_near_duplicates_agree_with_comparing_every_pair():
    texts = [s["agent_golden_response"] for s in BUNDLED["IDTrain"][:12]]
    texts += [t.replace("the", "a") for t in texts[:4]]
    texts += [" ".join(t.split()[5:30]) for t in texts[4:8]]
    rows = [measures.units(t) for t in texts]
    every = {
        (i, j)
        for i in range(len(rows))
        for j in range(i)
        if measures.similarity(rows[i], rows[j]) > measures.NEAR_DUPLICATE
    }
    found = list(measures.near_duplicates(texts))
    assert {(i, j) for i, j, _ in found} == every
    assert len(every) == 8


def test_word_pairs_of_the_composition_subset_are_counted():
    lines = list(rules.composition(reading.load_benchmark()))
    assert [line.rpartition(":")[0] for line in lines] == [
        "word pairs of known words that are new, WordLevelComposition to IDTrain + IDTest",
        "word pairs of known words that are new, WordLevelComposition to IDTrain",
        "word pairs of known words that are new, IDTest to IDTrain",
    ]
