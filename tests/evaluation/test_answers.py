"""Answers as they are scored, by the whole line on a tiny model."""

import dataclasses
import json

import numpy as np
import pytest
from short_benchmark import records
from tiny_checkpoint import write_reader

from remid_jax.data.reading import load_benchmark
from remid_jax.data.responses import Answer
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import golden_answers, spoken_answer, with_own_tokens
from remid_jax.inference.sampling import Sampled
from remid_jax.models.pretrained import load_language_model
from remid_jax.report.terminal import print_report


@pytest.fixture(scope="module")
def tokenizer(tiny_path):
    return load_language_model(tiny_path).tokenizer


@pytest.fixture
def chosen(small_config):
    subsets = load_benchmark(small_config.benchmark).subsets
    return [s for tag in ("IDTest", "german", "Literature") for s in subsets[tag]]


def write(path, samples, responses, details=None):
    lines = [
        json.dumps(
            {
                "sample_ID": s.sample_id,
                "model_response": responses(s),
                "response_details": details(s) if details else {},
            }
        )
        for s in samples
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def row_of(results, policy, subset):
    return next(r for r in results["rows"] if (r["rpm"], r["subset"]) == (policy, subset))


def test_golden_words_in_any_dress_are_golden(small_config, chosen, tmp_path, capsys):
    def dressed(s):
        y, name = s.golden, s.character["name"]
        return {
            "thinker": f"<think>\n{s.persona} {s.dialogue[-1][1]}\n</think>\n\n{y}",
            "tokens": f"{y}<|eot_id|>",
            "edges": f"\r\n {y} \n",
            "label": f"**{name}:** {y}",
            "turns": f"{y}\nUser: and {s.persona}",
        }

    small_config.responses = write(tmp_path / "r.jsonl", chosen, dressed)
    results = diagnose(small_config, tmp_path / "run")
    for name in dressed(chosen[0]):
        for subset in ("IDTest", "german", "Literature"):
            row = row_of(results, name, subset)
            assert (row["r_emi"], row["retained"], row["baseline"]) == (0, 1, 0)
    assert results["answers"]["thinker"]["cut"] == {"thought": 9, "white_space": 9}
    assert results["answers"]["label"]["cut"] == {"speaker_label": 9}
    print_report(results, tmp_path)
    assert "9 with a thought cut" in capsys.readouterr().out


def test_a_long_answer_is_left_out_and_named(small_config, chosen, tmp_path):
    def answers(s):
        return {
            "steady": s.golden,
            "looping": "Aye. " * 5000 if s.sample_id.endswith("_2") else "Aye.",
        }

    small_config.limits.contexts = 0
    small_config.responses = write(tmp_path / "r.jsonl", chosen, answers)
    small_config.limits.excluded_share = 0.0
    with pytest.raises(
        UserError, match=r"1 of 8 answers of 'looping' in 'IDTest'.*'IDTest_2'.* tokens"
    ):
        diagnose(small_config, tmp_path / "run")
    small_config.limits.excluded_share = 0.2
    results = diagnose(small_config, tmp_path / "run")
    assert {(x["rpm"], x["sample_ID"]) for x in results["excluded"]} == {
        ("looping", f"{split}_2") for split in ("IDTest", "OOD1Test", "OOD2Test")
    }
    assert row_of(results, "looping", "german")["n"] == 7
    assert row_of(results, "steady", "german")["n"] == 8
    assert row_of(results, "steady", "german")["r_emi"] == 0


def test_failures_of_a_server_are_left_out(small_config, chosen, tmp_path, capsys):
    small_config.limits.contexts = 0
    small_config.limits.excluded_share = 0.125
    bad = {"IDTest_1", "OOD2Test_3"}
    small_config.responses = write(
        tmp_path / "r.jsonl",
        chosen,
        lambda s: {} if s.sample_id in bad else {"m": ["Aye.", " "]},
        lambda s: {
            "m": {"failed": "no\x1b[2J"} if s.sample_id in bad else {"finish_reason": "length"}
        },
    )
    results = diagnose(small_config, tmp_path / "run")
    assert {x["sample_ID"]: x["reason"] for x in results["excluded"]} == dict.fromkeys(
        bad, "no\x1b[2J"
    )
    assert results["answers"]["m"]["finish_reasons"] == {"length": 22}
    assert results["answers"]["m"]["unused_draws"] == 22
    rows = [row_of(results, "m", tag) for tag in ("IDTest", "german", "Literature")]
    assert [r["n"] for r in rows] == [7, 8, 7]
    assert [r["n_paired"] for r in rows] == [None, 7, 6]
    print_report(results, tmp_path)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "excluded: 2, first m IDTest_1: no\\x1b[2J" in shown
    assert "22 with a finish_reason other than stop, 22 draws unused" in shown
    again = [json.loads(t) for t in (tmp_path / "run" / "responses.jsonl").read_text().splitlines()]
    assert {r["sample_ID"] for r in again if "m" not in r["model_response"]} == bad


def test_ids_from_a_file_are_scored_as_they_are(small_config, chosen, tmp_path, tokenizer):
    """A text cut within a character encodes to other ids than those that were drawn."""
    drawn = {s.sample_id: tokenizer.encode("Aye é")[:-1] for s in chosen}

    def details(s):
        ids = {"tokens": drawn[s.sample_id], "tokenizer": tokenizer.fingerprint}
        return {"ids": ids, "other": {**ids, "tokenizer": "x"}, "edited": ids}

    text = tokenizer.decode(drawn["IDTest_1"]).strip()
    assert len(tokenizer.encode(text)) != len(drawn["IDTest_1"])
    small_config.responses = write(
        tmp_path / "r.jsonl", chosen,
        lambda s: {"ids": text, "other": text, "edited": "No."}, details,
    )  # fmt: skip
    diagnose(small_config, tmp_path / "run")
    with np.load(tmp_path / "run" / "pairs" / "german.npz") as saved:
        lengths = {p: saved[f"{p}/num_tokens"][0] for p in ("ids", "other", "edited")}
    assert lengths["ids"] == len(drawn["IDTest_1"])
    assert lengths["other"] == len(tokenizer.encode(text))
    assert lengths["edited"] == len(tokenizer.encode("No."))


def test_ids_that_do_not_fit_are_not_used(tokenizer):
    ids = tuple(tokenizer.encode("Aye."))
    structure = tokenizer.stop_ids[:1]
    for other in ((10**30,), (*ids, 2**31), (*ids, 10**6), (*ids, *structure), (*structure, *ids)):
        given = Answer("Aye.", tokens=other, tokenizer=tokenizer.fingerprint)
        assert with_own_tokens(given, tokenizer).tokens == ()
    given = Answer("Aye.", tokens=ids, tokenizer=tokenizer.fingerprint)
    assert with_own_tokens(given, tokenizer).tokens == ids


def test_answers_that_were_written_score_the_same_when_read(small_config, tmp_path):
    first = diagnose(small_config, tmp_path / "run")
    small_config.responses = str(tmp_path / "run" / "responses.jsonl")
    again = diagnose(small_config, tmp_path / "again")
    names = ("rpm", "subset", "r_emi", "r_emid", "baseline")
    assert [[r[k] for k in names] for r in again["rows"]] == [
        [r[k] for k in names] for r in first["rows"]
    ]


def test_drawn_answers_are_cut_between_tokens(tokenizer, chosen):
    sample = chosen[0]
    name = sample.character["name"]
    label, speech, turn = (tuple(tokenizer.encode(t)) for t in (f"{name}:", " Aye.", "\nUser: x"))

    def spoken(ids, log_prob=-1.0, stopped=False, own_law=True):
        drawn = Sampled(ids, np.full(len(ids), log_prob), stopped)
        return spoken_answer(drawn, sample, tokenizer, own_law)

    answer = spoken(label + speech + turn)
    assert (answer.text, answer.tokens, answer.stopped) == ("Aye.", speech, True)
    assert answer.cuts == ("speaker_label", "user_turn") and answer.log_prob is None
    assert spoken(speech + turn).log_prob == -len(speech)
    assert spoken(speech, own_law=False).log_prob is None
    whole = spoken(speech, -0.5)
    assert (whole.tokens, whole.cuts, whole.stopped) == (speech, (), False)
    nothing = spoken(label, stopped=True)
    assert (nothing.text, nothing.tokens) == ("", ())
    assert nothing.failure == "nothing of the answer was spoken (speaker label alone)"
    thought = spoken(tuple(tokenizer.encode("<think>x")))
    assert "config.sampling.max_tokens ended it" in thought.failure


def test_golden_responses_pass_the_same_rule(chosen):
    name = chosen[0].character["name"]
    labelled = dataclasses.replace(chosen[0], golden=f"{name}: {chosen[0].golden}\n")
    (answer,) = golden_answers([labelled]).values()
    assert answer.text == chosen[0].golden


def test_subsets_of_ones_own(small_config, tmp_path, capsys):
    small = [r for split, tag in (("a", "IDTest"), ("b", "german")) for r in records(tag, split)]
    for r in small:
        r["subset_tag"] = {"IDTest": "our/users", "german": "night & shift"}[r["subset_tag"]]
        r["sample_ID"] = r["sample_ID"].replace("_", "")
        if "pair_id" in r:
            r["pair_id"] = r["pair_id"].replace("IDTest_", "a")
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, small)), encoding="utf-8")
    small_config.benchmark = str(file)
    small_config.in_distribution = "our/users"
    small_config.subset_shifts = ("night & shift=hour",)
    small_config.shifts = ("hour",)
    small_config.divergences.features = "hidden"
    small_config.divergences.permutations = 4
    small_config.profile.swaps = 1
    results = diagnose(small_config, tmp_path / "run")
    row = row_of(results, "full_context", "night & shift")
    assert row["shift"] == "hour" and row["paired"] is True and row["r_emid"] is not None
    assert row_of(results, "full_context", "our/users")["shift"] is None
    assert results["by_shift"][0]["shifts"][0]["shift"] == "hour"
    assert {d["shift"] for d in results["divergences"]} == {"hour"}
    files = sorted(f.name for f in (tmp_path / "run" / "pairs").iterdir())
    assert len(files) == 2 and files[1].startswith("our_users-")
    assert files[0] == "night_and_shift.npz" or files[0].startswith("night_and_shift-")
    print_report(results, tmp_path)
    assert "night & shift" in capsys.readouterr().out


def test_what_was_chosen_otherwise_is_said(small_config, tmp_path, capsys):
    """Subsets that are absent in one line, pair ids that name nobody, too many cyclic shifts."""
    made = [r for split, tag in (("a", "IDTest"), ("b", "german")) for r in records(tag, split)]
    for r in made:
        r["pair_id"] = {"b_0": "a_0", "b_1": "x", "b_2": "y"}.get(r["sample_ID"])
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
    small_config.benchmark, small_config.limits.contexts = str(file), 0
    small_config.shifts = ("user", "character", "dialogue")
    small_config.estimator.emi_shifts = 4
    results = diagnose(small_config, tmp_path / "run")
    known = [row_of(results, "full_context", tag)["emi"] for tag in ("IDTest", "german")]
    assert None not in known
    notes = [x for x in capsys.readouterr().err.splitlines() if x.startswith("note: ")]
    assert max(map(len, notes)) <= 120
    (absent,) = (x for x in notes if "lacks these subsets" in x)
    assert "'spanish', 'chinese'" in absent and absent.endswith(" more")
    said = "note: 2 contexts have a pair_id that names no sample of 'IDTest', first 'x' of 'b_1';"
    assert any(x.startswith(said) for x in notes)
    shifts = "note: EMI takes fewer cyclic shifts than config.estimator.emi_shifts = 4: "
    assert f"{shifts}all 3 of 'IDTest', all 3 of 'german'" in notes
    small_config.estimator.emi_shifts = 3
    diagnose(small_config, tmp_path / "run")
    assert "fewer cyclic shifts" not in capsys.readouterr().err


def test_a_window_that_golden_responses_exceed_names_the_room(small_config, tmp_path):
    small_config.model.path = str(write_reader(tmp_path / "short", window=100))
    with pytest.raises(UserError, match=r"with \d+ tokens kept for thought and response"):
        diagnose(small_config, tmp_path / "run")
