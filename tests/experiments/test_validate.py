"""What is said of a file of samples before anything is computed."""

import json
import math
import re

import pytest
from bundled_edits import BUNDLED
from sample_files import record, write

from experiments.validate import main
from remid_jax.information.power import detectable

WORDS = ["amber", "birch", "cedar", "delta", "ember", "frost", "grape", "honey"]
WITHOUT = ("--no-cost", "--prompts", "0")
ALIKE = [{"user_query": "Who is there?"}]


def samples(tag="IDTest", n=5, **changes):
    """Samples that differ in every factor; a change may be a function of the number."""
    made = []
    for i in range(n):
        base = record(
            f"{tag}_{i}", tag, user_persona=f"Likes the {WORDS[i]}.",
            agent_character={"name": f"Mira {WORDS[i]}"},
            dialogue_context=[{"user_query": f"Have you seen the {WORDS[i]} of my house?"}],
            agent_golden_response=f"{tag} {WORDS[-i - 1].title()}, {i + 3} of them.",
        )  # fmt: skip
        made.append({**base, **{k: v(i) if callable(v) else v for k, v in changes.items()}})
    return made


@pytest.fixture
def validate(tmp_path, capsys):
    """validate(samples, *options): both streams, of which wrapped lines are made whole."""

    def call(data, *options, name="mine.json", code=0):
        path = str(write(tmp_path / name, data))
        assert main([path, *options]) == code
        out, err = capsys.readouterr()
        assert max(map(len, re.split("\n\nprompt|\n\nwhat this", out)[0].split("\n"))) <= 120
        return out.replace("\n  ", " "), err

    return call


def row_of(out, tag):
    """The cells of a subset's row, those with spaces in several."""
    (line,) = (x for x in out.splitlines() if x.startswith(f" {tag} "))
    return line.split()


def seen(n):
    """The smallest effect in s.d. that a mean of so many contexts shows."""
    return f"{detectable(n**-0.5, n - 1):.2f}"


# --- what can be measured -------------------------------------------------------------------------


def test_the_bundled_benchmark(capsys):
    assert main(["--no-cost", "--prompts", "1", "--strict"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usable: R-EMI, R-EMID and profile of 12 subsets, 11 of them shifted\n\n")
    assert " ".join(row_of(out, "german")) == (
        "german user 12 of 16 de 6, en 6 12 paired 12 12 12 0.89 0.89"
    )
    assert "several languages under german, spanish and 3 more" in out and "mistake" not in out
    assert "word pairs of known words that are new" in out and "prompt of IDTest, IDTest_01:" in out


def test_one_dialogue_for_all_cannot_be_tested(validate):
    shifted = samples("german", dialogue_context=ALIKE, pair_id=lambda i: f"IDTest_{i}")
    out, _ = validate([*samples(), *shifted], *WITHOUT)
    assert out.split("\n\n")[0] == (
        "usable: R-EMI, R-EMID and profile of 2 subsets, 1 of them shifted; dialogue cannot be "
        "tested under german: 0 of 5 contexts have a partner of their language with another "
        "dialogue"
    )
    assert row_of(out, "german")[-6:] == ["paired", "5", "5", "0", seen(5), seen(5)]
    assert out.count("dialogue cannot be tested under german") == 1  # said in the verdict


def test_each_lack_is_said_once_in_the_verdict_or_below(validate):
    tags = ("german", "Literature", "Gaming", "korean", "Theater")
    alike = [x for n, tag in enumerate(tags, 4) for x in samples(tag, n, dialogue_context=ALIKE)]
    out, _ = validate([*samples(), *alike], *WITHOUT)
    verdict, rest = out.split("\n\n", 1)
    assert verdict.count("dialogue cannot be tested") == 4 and "1 more line below" in verdict
    assert rest.count("dialogue cannot be tested") == 1 and "under Gaming: 0 of 6 contexts" in rest


def test_golden_answers_at_home_alone(validate):
    out, _ = validate([*samples(), *samples("Gaming", agent_golden_response=None)], *WITHOUT)
    assert out.startswith("usable: R-EMI of 1 of 2, R-EMID of 0 of 1 and profile of 2 of 2 subsets")
    said = "no R-EMI, R-EMID, baseline and shares under Gaming: 0 of 5 contexts have a golden resp"
    assert said in out and row_of(out, "Gaming")[-2:] == ["–", "–"]


def test_no_golden_answers_at_home(validate):
    out, _ = validate([*samples(agent_golden_response=""), *samples("Gaming")], *WITHOUT)
    assert "R-EMI of 1 of 2, R-EMID of 0 of 1" in out
    assert "no R-EMID under Gaming: at home, IDTest: 0 of 5 contexts have a golden response" in out


def test_golden_answers_that_are_thoughts_alone_do_not_count(validate):
    thought = "<think>She means the house.</think>"
    out, _ = validate([*samples(agent_golden_response=thought), *samples("Gaming")], *WITHOUT)
    assert "0 of 5 contexts have a golden response" in out


def test_contexts_without_a_golden_answer_are_no_partners_that_count(validate):
    few = samples("Gaming", agent_golden_response=lambda i: "Aye." if i < 4 else None)
    out, _ = validate([*samples(), *few], *WITHOUT)
    assert row_of(out, "Gaming")[5:9] == ["4", "–", "4", "4"]


def test_a_language_without_a_partner(validate):
    codes = ["en", "en", "ja", "en", "en"]
    out, _ = validate([*samples(), *samples("german", language=lambda i: codes[i])], *WITHOUT)
    assert "under german 1 of 5 contexts have no other of their language, and no swap" in out
    assert "several languages under german: nats of different ones do not compare" in out
    assert row_of(out, "german")[-5:-2] == ["4", "4", "4"]


def test_pairs_that_are_none(validate):
    out, _ = validate(
        [*samples(), *samples("Gaming", pair_id=lambda i: f"IDTest_{min(i, 2)}")], *WITHOUT
    )
    assert "3 of 5 contexts name a counterpart by pair_id, but pairs need one for each" in out
    welch = f"{detectable(math.sqrt(2 / 5), 8):.2f}"  # of two means of five contexts each
    assert row_of(out, "Gaming")[-6:] == ["3", "5", "5", "5", welch, seen(5)]


def test_nothing_can_be_measured(validate):
    alike = {"user_persona": "A cook.", "agent_character": "Mira", "dialogue_context": ALIKE}
    alike["agent_golden_response"] = None
    out, _ = validate([*samples(**alike), *samples("Gaming", **alike)], *WITHOUT, code=1)
    assert out.startswith("not usable as it stands: nothing can be measured: 0 of 5 contexts")


@pytest.mark.parametrize(("data", "options", "says"), [
    (samples("Gaming"), (), "has no subset IDTest to compare with; name the in-distribution tag"),
    (samples(), (), "it has no shifted subset"),
    ([*samples(), *samples("Gaming", 2)], (), "'Gaming' gives 2 contexts; a standard error needs"),
    ([*samples(), *samples("Gaming")], ("--config.estimator.num_negatives=9",
     "--config.estimator.negatives=cyclic"), "config.estimator: "),
])  # fmt: skip
def test_samples_that_a_run_would_refuse(validate, data, options, says):
    out, err = validate(data, *WITHOUT, *options, code=1)
    assert out.startswith("not usable as it stands: ") and says in out.split("\n\n")[0]
    assert err == "" and "contexts that a run takes" in out  # the evidence is there all the same


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json"])
def test_tags_of_ones_own_in_every_layout(validate, name):
    data = [*samples("ours"), *samples("noir", shift="genre")]
    text = "\n".join(map(json.dumps, data)) if name.endswith("l") else json.dumps(data)
    out, _ = validate(text, "--in-distribution", "ours", *WITHOUT, name=name)
    assert out.startswith("usable: R-EMI, R-EMID and profile of 2 subsets")
    assert row_of(out, "noir")[1] == "genre"
    plain = [{k: v for k, v in s.items() if k != "shift"} for s in data]
    keys = ("--config.in_distribution=ours", "--subset-shifts=noir=genre")
    assert validate(plain, *keys, *WITHOUT)[0] == out


def test_the_configuration_says_what_a_run_takes(validate):
    data = [*samples(n=6), *samples("Gaming", 6)]
    out, _ = validate(data, "--config.limits.contexts=5", *WITHOUT)
    assert row_of(out, "Gaming")[2:5] == ["5", "of", "6"] and "contexts=0 takes all" in out
    out, _ = validate(data, "--config", "quickstart", *WITHOUT, code=1)
    assert "has none of german, Literature; it has Gaming" in out


# --- answers --------------------------------------------------------------------------------------


@pytest.fixture
def answers(tmp_path):
    """answers(samples, text): an option that names a file of one model's answers to them."""

    def written(data, text="Aye, I have.", further=()):
        ids = [*(s["sample_ID"] for s in data), *further]
        rows = [{"sample_ID": i, "model_response": {"bot": text}} for i in ids]
        return f"--responses={write(tmp_path / 'a.jsonl', chr(10).join(map(json.dumps, rows)))}"

    return written


def test_answers_that_are_there_cut_and_missing(validate, answers):
    data = [*samples(), *samples("Gaming")]
    given = answers(data[:-1], "Assistant: Aye, I have.", ["nobody_7"])
    out, _ = validate(data, given, "--config.limits.excluded_share=0.5", *WITHOUT)
    assert out.startswith("usable: R-EMI")
    assert "answers of bot: 9 of 10 can be scored\n– 1 excluded: the response file does not" in out
    assert re.search(r"– cut from answers of bot: .*label.* \(9\)", out)
    assert "answers to 1 ids that are no sample's of this run, as 'nobody_7', are not read" in out


def test_too_many_answers_are_missing(validate, answers):
    data = [*samples(), *samples("Gaming")]
    out, _ = validate(data, answers(data[:7]), *WITHOUT, code=1)
    assert out.startswith("not usable as it stands: 3 of 5 answers of 'bot' in 'Gaming' cannot be")
    assert "answers of bot: 7 of 10 can be scored" in out


def test_answers_of_another_benchmark(validate, answers):
    data = [*samples(), *samples("Gaming")]
    out, _ = validate(data, answers([], further=["other"]), *WITHOUT, code=1)
    assert "lacks 10 of 10 samples" in out and "as 'other', are not read" in out


def test_answers_in_the_file_of_samples(validate):
    silent = samples("Gaming", model_response={"bot": ""})
    data = [*samples(model_response={"bot": "Aye."}), *silent]
    out, _ = validate(data, "--config.limits.excluded_share=1.0", *WITHOUT)
    assert "answers of bot: 5 of 10 can be scored\n– 5 excluded: the answer is empty (5)" in out


def test_a_log_of_dialogues(validate):
    keys = ("sample_ID", "subset_tag", "agent_golden_response")
    data = [{k: v for k, v in s.items() if k not in keys} for s in samples(n=6)]
    for s in data[:5]:
        s |= {"agent_character": "Mira", "model_response": {"bot": "Aye, I have."}}
    out, _ = validate(data, "--prompts", "1")
    assert out.startswith("usable as one side of --config monitor: collapse of user and dialogue")
    assert "character cannot be tested" in out and "answers of bot: 5 of 5 can be scored" in out
    assert "1 records hold no answer" in out and "--config.dry_run=True" in out
    out, _ = validate(data[:2], "--prompts", "0", code=1)
    assert out.startswith("not usable as it stands: 2 dialogues; a standard error needs at least 3")


def test_a_log_without_any_answer_is_told_what_it_lacks(validate):
    keys = ("sample_ID", "subset_tag", "agent_golden_response")
    data = [{k: v for k, v in s.items() if k not in keys} for s in samples(n=6)]
    _, err = validate(data, *WITHOUT, code=2)
    assert "field 'sample_ID' is missing; a log of dialogues would have answers" in err
    assert "'model_response': {\"my_rpm\"" in err and "no record here has any" in err
    data[-1]["model_response"] = {"bot": "Aye."}  # the first record need not have one
    out, _ = validate(data, *WITHOUT, code=1)
    assert "1 dialogue; a standard error needs" in out and "5 records hold no answer" in out
    _, err = validate([{k: v for k, v in s.items() if k != "sample_ID"} for s in samples()], code=2)
    assert "field 'sample_ID' is missing" in err and "dialogues" not in err


def test_quiet_is_a_word_of_validate(validate):
    out, err = validate([*samples(), *samples("Gaming")], *WITHOUT, "--quiet")
    assert out.startswith("usable: ") and err == ""


# --- cost, prompts, mistakes ----------------------------------------------------------------------


def test_cost_and_prompts_as_the_model_sees_them(validate, tiny_path):
    data = [*samples(), *samples("german")]
    out, _ = validate(data, f"--config.model.path={tiny_path}", "--prompts", "2")
    out, first, second = out.split("\n\nprompt of ")
    assert out.startswith("usable: ") and "what this run would do, at most" in out
    (total,) = (x for x in out.splitlines() if x.startswith(" in all "))
    assert int(total.split()[4].replace(",", "")) > 10_000  # tokens
    assert first.startswith("IDTest, IDTest_0, ") and second.startswith("german, german_0, ")
    assert re.search(r", \d+ tokens: \| ", first) and data[0]["user_persona"] in first
    assert "system: You give" not in first  # but as the template has it


def test_a_sample_too_long_for_the_model_is_refused(validate, tiny_path):
    data = [*samples(user_persona="A cook of many words. " * 3000), *samples("german")]
    out, _ = validate(data, f"--config.model.path={tiny_path}", "--prompts", "0", code=1)
    assert out.startswith("not usable as it stands: sample ") and "tokens too long" in out
    validate(data, *WITHOUT)  # usable as far as can be told without a model


def test_prompts_cannot_steer_the_terminal(validate):
    cook = {"user_persona": lambda i: f"A \x1b[2J cook of {WORDS[i]}."}
    out, _ = validate([*samples(**cook), *samples("Gaming", **cook)], "--no-cost", "--prompts=1")
    assert "\x1b" not in out and "| A \\x1b[2J cook of amber." in out
    assert "10 likely mistakes in the samples, which stop no run:\n– IDTest_0: user_persona" in out


def test_mistakes_are_listed_and_stop_nothing_but_strict(validate):
    data = {
        split: [{**s, "pair_id": "IDTest_99"} if split[:3] == "OOD" else s for s in part]
        for split, part in BUNDLED.items()
    }
    out, _ = validate(data, *WITHOUT)
    assert "176 likely mistakes" in out and "and 175 more of this field" in out
    assert out.count("is no IDTest sample") == 1 and "--strict lists all" in out
    out, _ = validate(data, "--strict", *WITHOUT, code=1)
    assert "more of this field" not in out and out.count("is no IDTest sample") == 176


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options", "says"), [
    ('{"IDTest": [', (), "no valid JSON"),
    ([record(user_persona="")], (), "field 'user_persona' is empty"),
    ([record(tag="germn")], (), "unknown subset_tag 'germn' (did you mean 'german'?)"),
    (samples(), ("--responses", "none.jsonl"), "response file not found: none.jsonl"),
    ([{"sample_ID": "a", "model_response": {"m": "Hm."}}], (), "this one as --responses"),
    (samples(), ("--config", "corl_paper"), "--config corl_paper is no diagnosis"),
    (samples(), ("--promts=2",), "unexpected argument '--promts=2' (did you mean '--prompts'?)"),
    (samples(), ("--prompts=-1",), "--prompts is -1; it must be at least 0"),
    (samples(), ("--config.modle.path=x",), "did you mean 'model'"),
    (samples(), ("--model", "x.gguf"), "--model is gone; use --config.model.path=PATH"),
])  # fmt: skip
def test_one_line_where_something_cannot_be_read(validate, data, options, says):
    out, err = validate(data, *WITHOUT, *options, code=2)
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and says in err


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert main([str(tmp_path / "none.json"), *WITHOUT]) == 2
    assert "benchmark file not found" in capsys.readouterr().err
