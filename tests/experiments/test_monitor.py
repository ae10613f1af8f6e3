"""Watching logs: what collapsed between two files, with made-up scores, and what is refused."""

import json
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.monitor import get_config
from experiments import diagnose, monitor
from experiments.main import main
from remid_jax.diagnosis import diagnose as run_diagnosis
from remid_jax.errors import UserError
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.pretrained import load_language_model

FRUIT = ["apple", "brick", "cedar", "delta", "ember", "frost", "grape", "honey"]
TREES = ["ivory", "jelly", "karma", "lemon", "maple", "noble", "ocean", "piano"]
STONES = ["quilt", "river", "sugar", "tulip", "umber", "velvet", "wheat", "yacht"]
IGNORES = "Nobody told me anything of that kind."


class WordEngine(JaxEngine):
    """Likes responses the better, the more of their words stand in the prompt."""

    def score(self, prompt, responses, prefix_lengths=()):
        context = set(re.findall(r"\w+", self.tokenizer.decode(prompt)))
        found = []
        for tokens in responses:
            words = re.findall(r"\w+", self.tokenizer.decode(tokens))
            hits = sum(w in context for w in words)
            found.append(np.full(len(tokens), -3 + 2 * hits / max(1, len(words))))
        return found


@pytest.fixture
def with_words(monkeypatch, tiny_path):
    """Scores are made up; all else is as a user has it."""

    def scored(config, workdir):
        return run_diagnosis(config, workdir, engine=WordEngine(load_language_model(tiny_path)))

    monkeypatch.setattr(diagnose, "diagnose", scored)


def dialogue(i, answers, **more):
    """A dialogue as people log it: no id, no tag, no golden response, no language."""
    return {
        "user_persona": f"Likes {FRUIT[i]}.",
        "agent_character": {"name": "Mira", "trade": f"sells {TREES[i]}"},
        "dialogue_context": [{"user_query": f"Have you seen my {STONES[i]}?"}],
        "model_response": answers,
        **more,
    }


def reads(i):
    return f"Zig {FRUIT[i]} zag {TREES[i]} zog {STONES[i]}."


def write(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def log(path, *answers, names=("bot",), n=8):
    """A log in which each model answers in its way."""
    said = (dict(zip(names, (a(i) if callable(a) else a for a in answers))) for i in range(n))  # noqa: B905
    return write(path, [dialogue(i, row) for i, row in enumerate(said)])


def watched(tmp_path, before, after, tiny_path="", **changes):
    config = get_config()
    config.before, config.after, config.model.path = before, after, tiny_path or config.model.path
    with config.unlocked():
        config.update(ConfigDict(changes))
    monitor.run(config, tmp_path / "run")
    file = tmp_path / "run" / "results.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def test_a_collapse_is_said_and_none_where_there_is_none(with_words, tmp_path, capsys):
    names = ("bot", "old")
    before = log(tmp_path / "b.jsonl", reads, reads, names=names)
    after = log(tmp_path / "a.jsonl", IGNORES, reads, names=names)
    results = watched(tmp_path, before, after)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" after")[0] for line in lines[:6]] == [
        *(f"bot, {f}: COLLAPSED:" for f in ("user", "character", "dialogue")),
        *(f"old, {f}: no collapse shown:" for f in ("user", "character", "dialogue")),
    ]
    assert all(x.count(", n = 8") == 2 for x in lines[:6])
    assert lines[6] == "" and lines[7].startswith("information in own words")
    assert sum("!" in line for line in lines[8:]) == 2  # one row, and what the mark means
    assert max(map(len, lines)) <= 120
    cells = {(r["rpm"], r["subset"], r["factor"]): r for r in results["profile"]}
    gone, kept = (cells[rpm, "after", "user"] for rpm in ("bot", "old"))
    assert gone["collapsed"] and gone["u"] == 0 and kept["collapsed"] is False
    # One of six words is the user's: 2/6 of the 3 nats that a token costs in another context.
    assert kept["u"] == pytest.approx((2 / 6) / 3, rel=1e-5)
    assert kept["info"] > 0 and kept["share"] is None and kept["lost"] is None
    assert kept["reason"] == "0 of 8 contexts have a golden response"
    assert cells["bot", "before", "user"]["collapsed"] is None
    assert {r["reason"] for r in results["rows"]} == {kept["reason"]}
    assert {r["r_emi"] for r in results["rows"]} == {None} and not results["flags"]
    assert {r["rpm"] for r in results["rows"]} == {"bot", "old", "echo"}


def test_what_was_never_there_cannot_collapse(with_words, tmp_path, capsys):
    same = log(tmp_path / "b.jsonl", IGNORES)
    watched(tmp_path, same, same)
    lines = capsys.readouterr().out.splitlines()[:3]
    assert all("cannot be told: before" in x and "not shown to be above 0" in x for x in lines)


def test_one_character_for_all_cannot_be_told(with_words, tmp_path, capsys):
    rows = [dialogue(i, {"bot": reads(i)}, agent_character={"name": "Mira"}) for i in range(4)]
    file = write(tmp_path / "b.jsonl", rows)
    watched(tmp_path, file, file)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        "bot, character: cannot be told; before: 0 of 4 contexts have a partner of their language "
        "with another character"
    )


def test_the_command_with_a_real_model(tmp_path, tiny_path, capsys):
    """Benchmark files hold ids, tags, golden responses and pairs, and may be one and the same."""
    rows = [
        dialogue(
            i, {"bot": reads(i), "b2": "Aye."} if i % 3 else {"bot": reads(i)},
            sample_ID=f"IDTest_{i}", subset_tag="IDTest", pair_id="x", shift="genre",
            agent_golden_response=reads(i) if i < 4 else None,
        )
        for i in range(6)
    ]  # fmt: skip
    rows[1]["model_response"]["bot"] = ["I have half a \ud83d.", "No."]
    file = tmp_path / "b.json"
    file.write_text(json.dumps({"IDTest": rows}), encoding="utf-8")
    flags = [
        "--config", "monitor", "--workdir", str(tmp_path / "run"), f"--config.before={file}",
        f"--config.after={file}", f"--config.model.path={tiny_path}",
        "--config.limits.excluded_share=0.5",
    ]  # fmt: skip
    assert main([*flags, "--config.dry_run=True"]) == 0
    assert "likelihoods without" in capsys.readouterr().out and not (tmp_path / "run").exists()
    assert main(flags) == 0
    shown = capsys.readouterr()
    assert "bot, user: " in shown.out and "no R-EMI" not in shown.out
    (dialogues,) = (tmp_path / "run").glob("dialogues-*.jsonl")
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert results["provenance"]["config"]["benchmark"] == str(dialogues)
    assert results["provenance"]["counts"] == {
        tag: {"available": 6, "used": 6} for tag in ("before", "after")
    }
    reasons = {(x["rpm"], x["sample_ID"]): x["reason"] for x in results["excluded"]}
    assert "other half" in reasons["bot", "before/IDTest_1"]
    assert reasons["golden", "after/IDTest_5"] == "the sample has no golden response"
    assert next(r for r in results["rows"] if r["rpm"] == "bot")["n"] == 3


def test_models_that_one_file_lacks_are_said(with_words, tmp_path, capsys):
    before = log(tmp_path / "b.jsonl", reads, reads, names=("bot", "v1"))
    after = log(tmp_path / "a.jsonl", reads, reads, names=("v2", "bot"))
    with open(after, "a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(dialogue(0, {})))
    results = watched(tmp_path, before, after)
    said = capsys.readouterr().err
    assert "note: 1 of 9 records of after hold no answer and are left out" in said
    assert "note: only before has answers of v1; they are not compared" in said
    assert "note: only after has answers of v2; they are not compared" in said
    assert {r["rpm"] for r in results["profile"]} == {"bot", "echo"}


def test_quiet_prints_the_report_and_warnings_alone(with_words, tmp_path, capsys):
    before = log(tmp_path / "b.jsonl", reads, reads, names=("bot", "v1"))
    after = log(tmp_path / "a.jsonl", reads)
    words = ["--config", "monitor", "--workdir", str(tmp_path / "run")]
    words += [f"--config.before={before}", f"--config.after={after}"]
    assert main([*words, "--quiet"]) == 0
    few = capsys.readouterr()
    assert few.err == "note: only before has answers of v1; they are not compared\n"
    assert main(words) == 0  # all results are there, and the report is the same
    more = capsys.readouterr()
    assert more.err.startswith(few.err) and "\nmemory: " in more.err and more.out == few.out
    assert "bot, user: " in few.out


@pytest.mark.parametrize(("after", "says"), [
    ([dialogue(0, {"other": "Aye."})], "no model has answers in both files: before has bot, after"),
    ([dialogue(0, None), dialogue(1, {})], "no record holds an answer; give each a key 'model_res"),
    ([], "no record holds an answer"),
    (["Aye."], "line 1 must be an object"),
    ([dialogue(0, "Aye.")], "line 1: 'model_response' must be an object by model, not str"),
    ([dialogue(0, {"": "Aye."})], "line 1: the name of a model"),
    ([dialogue(0, {"bot": "Aye."}, user_persona="")], "line 1 (sample_ID '1'): field 'user_pers"),
    ([dialogue(0, {"bot": "Aye."}, sample_ID="x")] * 2, "line 2: sample_ID 'x' stands twice"),
    ([dialogue(i, {"bot": "Aye."}) for i in range(2)], "subset 'after' gives 2 contexts"),
    ([dialogue(i, {"bot": "" if i else "Aye."}) for i in range(4)], "3 of 4 answers of 'bot' in"),
    ([dialogue(i, {"bot": "a", "echo": "b"}) for i in range(4)], "cannot be called 'echo'"),
])  # fmt: skip
def test_logs_that_cannot_be_watched(tmp_path, tiny_path, after, says):
    names = ("bot", "echo") if "echo" in says else ("bot",)
    before = log(tmp_path / "b.jsonl", reads, reads, names=names)
    with pytest.raises(UserError) as found:
        watched(tmp_path, before, write(tmp_path / "a.jsonl", after), tiny_path)
    assert says in str(found.value) and "\n" not in str(found.value)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"config\.before is empty"):
        watched(tmp_path, "", "x.jsonl")
    with pytest.raises(UserError, match=r"config\.after is empty"):
        watched(tmp_path, log(tmp_path / "b.jsonl", reads), "")
    with pytest.raises(UserError, match=r"none\.jsonl"):
        watched(tmp_path, log(tmp_path / "b.jsonl", reads), str(tmp_path / "none.jsonl"))
    with pytest.raises(UserError, match=r"profile\.swaps is 0"):
        watched(tmp_path, "b", "a", profile={"swaps": 0})
    assert not (tmp_path / "run").exists()
