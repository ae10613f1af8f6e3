"""The whole line on a tiny model."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_checkpoint import write_reader

from remid_jax.data import prompts
from remid_jax.data.reading import load_benchmark, load_responses
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.selection import fit_sample
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.sampling import Sampled
from remid_jax.models.pretrained import load_language_model
from remid_jax.report.terminal import print_report

COLUMNS = {
    "rpm", "subset", "shift", "n", "r_emi", "r_emi_se", "r_emid", "r_emid_se", "retained",
    "r_emi_token", "emi", "baseline", "baseline_se", "clusters", "p_value", "p_holm", "detectable",
    "p_independence",
}  # fmt: skip


@pytest.fixture
def finished(small_config, tmp_path):
    return diagnose(small_config, tmp_path), tmp_path


def row_of(results, policy, subset):
    return next(r for r in results["rows"] if (r["rpm"], r["subset"]) == (policy, subset))


def club_of(scores):
    off = scores[~np.eye(len(scores), dtype=bool)]
    return np.diagonal(scores).mean() - off.mean()


def test_results_hold_what_the_matrices_say(finished, capsys):
    results, folder = finished
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    policies = ["full_context", "last_turn_only", "golden", "shuffled golden", "unshifted", "echo"]
    subsets = ["IDTest", "german", "Literature"]
    assert [(r["rpm"], r["subset"]) for r in results["rows"]] == [
        (p, s) for p in policies for s in subsets
    ]
    assert all(set(r) >= COLUMNS for r in results["rows"])
    assert {r["shift"] for r in results["rows"]} == {None, "user", "character"}
    for subset in subsets:
        with np.load(folder / "pairs" / f"{subset.lower()}.npz") as saved:
            blocks = {k: saved[k] for k in saved.files}
        golden = club_of(blocks["golden/scores"])
        for policy in policies[:2]:
            row = row_of(results, policy, subset)
            model, lengths = blocks[f"{policy}/scores"], blocks[f"{policy}/num_tokens"]
            assert row["r_emi"] == pytest.approx(club_of(model) - golden, abs=1e-3)
            assert row["retained"] == pytest.approx(club_of(model) / golden, abs=1e-3)
            per_token = club_of(model / lengths)
            per_token -= club_of(blocks["golden/scores"] / blocks["golden/num_tokens"])
            assert row["r_emi_token"] == pytest.approx(per_token, abs=1e-4)
            plain = club_of(blocks[f"{policy}/scores_without_reasoning"])
            plain -= club_of(blocks["golden/scores_without_reasoning"])
            assert row["emi"] == pytest.approx(plain, abs=1e-3)
            home = row_of(results, policy, "IDTest")["r_emi"]
            if subset == "IDTest":
                assert row["r_emid"] is None
            else:
                assert row["r_emid"] == pytest.approx(home - row["r_emi"], abs=1e-3)
                assert row["paired"] is True and row["r_emid_se"] > 0
        shuffled = np.roll(blocks["golden/scores"], -1, axis=1)
        assert row_of(results, "shuffled golden", subset)["r_emi"] == pytest.approx(
            club_of(shuffled) - golden, abs=1e-3
        )
        assert row_of(results, "golden", subset)["r_emi"] == 0
    assert results["excluded"] == []
    p = results["provenance"]
    assert p["config"]["limits"]["contexts"] == 3 and p["versions"]["jax"]
    assert p["counts"]["german"] == {"available": 8, "used": 3}
    print_report(results, folder)
    shown = capsys.readouterr().out
    assert "shuffled golden" in shown and "R-EMID" in shown and "full_context: " in shown
    assert shown.count("answers too predictable") == len({w["kind"] for w in results["warnings"]})


def test_reasoning_is_read_by_the_policy(finished):
    _, folder = finished
    with np.load(folder / "pairs" / "german.npz") as saved:
        with_r, without = saved["golden/scores"], saved["golden/scores_without_reasoning"]
    assert np.abs(with_r - without).min() > 1e-3


def test_clusters_of_a_benchmark_from_a_file(small_config, tmp_path):
    """Four contexts in three characters' hands: their pair is never scored."""
    short = load_benchmark(small_config.benchmark).subsets
    records = {}
    for split, tag in (("IDTest", "IDTest"), ("OOD1Test", "german")):
        chosen = [s.to_record() for s in short[tag][:4]]
        chosen[2]["agent_character"] = chosen[0]["agent_character"]
        records[split] = chosen
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    small_config.benchmark = str(path)
    small_config.shifts = ("german",)
    small_config.limits.contexts = 0
    small_config.estimator.clusters = "character"
    results = diagnose(small_config, tmp_path / "run")
    with np.load(tmp_path / "run" / "pairs" / "german.npz") as saved:
        golden, model = saved["golden/scores"], saved["full_context/scores"]
    between = ~np.eye(4, dtype=bool)
    between[0, 2] = between[2, 0] = False
    assert np.isnan(model[0, 2]) and np.isnan(model[2, 0])
    row = row_of(results, "full_context", "german")
    club = [np.diagonal(s).mean() - s[between].mean() for s in (model, golden)]
    assert row["r_emi"] == pytest.approx(club[0] - club[1], abs=1e-3)
    assert (row["n"], row["clusters"], row["p_independence"]) == (4, 3, None)
    chosen[1]["agent_character"] = chosen[0]["agent_character"]
    path.write_text(json.dumps(records), encoding="utf-8")
    with pytest.raises(UserError, match=r"4 contexts of subset 'german' form 2 clusters"):
        diagnose(small_config, tmp_path / "run")


def results_in(folder):
    return {f: f.stat().st_mtime_ns for f in (folder / "cache").rglob("*.result")}


def test_a_second_run_reuses_everything(finished, small_config):
    results, folder = finished
    before = results_in(folder)
    assert {f.parent.name for f in before} == {"generate", "score"}
    again = diagnose(small_config, folder)
    assert again["rows"] == results["rows"] and results_in(folder) == before
    assert again["provenance"]["work"] is None  # not even weights were read


def test_another_setting_is_not_taken_for_the_same(finished, small_config):
    results, folder = finished
    before = results_in(folder)
    small_config.reasoning.max_tokens = 4
    changed = diagnose(small_config, folder)
    assert row_of(changed, "full_context", "german") != row_of(results, "full_context", "german")
    more = set(results_in(folder)) - set(before)
    # Answers, and scores without reasoning, are those of before.
    assert sum(f.parent.name == "generate" for f in more) == 9
    assert sum(f.parent.name == "score" for f in more) == 9


@pytest.mark.parametrize("kind", ["generate", "score"])
def test_damaged_results_are_said_and_made_again(finished, small_config, capsys, kind):
    results, folder = finished
    altered, cut = sorted((folder / "cache" / kind).iterdir())[:2]
    content = altered.read_bytes()
    altered.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    cut.write_bytes(cut.read_bytes()[:20])
    assert diagnose(small_config, folder)["rows"] == results["rows"]
    said = capsys.readouterr().err
    for file in (altered, cut):
        assert f"note: {file} was cut or altered and is not used" in said
    assert altered.read_bytes() == content


def test_responses_from_a_file_run_no_model(small_config, tmp_path):
    samples = load_benchmark(small_config.benchmark).subsets
    chosen = [*samples["IDTest"], *samples["german"], *samples["Literature"]]
    lines = [
        {"sample_ID": s.sample_id, "model_response": {"copycat": s.golden, "parrot": "Polly!"}}
        for s in chosen
    ]
    path = tmp_path / "responses.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    small_config.responses = str(path)
    results = diagnose(small_config, tmp_path / "run")
    for subset in ("IDTest", "german", "Literature"):
        copy = row_of(results, "copycat", subset)
        assert copy["r_emi"] == 0 and copy["retained"] == 1  # it answers as the golden one
        # One text for every context carries no information about the context.
        assert row_of(results, "parrot", subset)["retained"] == pytest.approx(0, abs=1e-2)
    generated = len(list((tmp_path / "run" / "cache" / "generate").iterdir()))
    assert generated == 9  # thoughts alone
    table = load_responses(tmp_path / "run" / "responses.jsonl", chosen[:1])
    assert set(table) == {"copycat", "parrot"}


def test_empty_answers_are_excluded_and_said(small_config, tmp_path, monkeypatch):
    generate = JaxEngine.generate

    def some_silent(engine, prompts, config, *rest):
        drawn = generate(engine, prompts, config, *rest)
        silent = Sampled((), np.empty(0), True)
        asked = [engine.tokenizer.decode(p) for p in prompts]
        return [
            silent if "I saw 3 birds." in text and config.max_tokens == 6 else d
            for d, text in zip(drawn, asked, strict=True)
        ]

    monkeypatch.setattr(JaxEngine, "generate", some_silent)
    small_config.limits.contexts = 0
    small_config.limits.excluded_share = 0.125
    results = diagnose(small_config, tmp_path)
    assert {(e["rpm"], e["sample_ID"]) for e in results["excluded"]} == {
        ("full_context", "IDTest_1"), ("last_turn_only", "IDTest_1"),
    }  # fmt: skip
    assert row_of(results, "full_context", "IDTest")["n"] == 7
    german = row_of(results, "full_context", "german")
    assert (german["n"], german["n_paired"]) == (8, 7)  # its partner is left out of R-EMID
    assert row_of(results, "golden", "IDTest")["n"] == 8
    assert all(np.isfinite(r["r_emi"]) for r in results["rows"])
    small_config.limits.excluded_share = 0.1  # of 8, but one answer is always borne
    assert diagnose(small_config, tmp_path)["excluded"] == results["excluded"]
    small_config.limits.excluded_share = 0.0
    with pytest.raises(UserError, match=r"1 of 8 answers of 'full_context' in 'IDTest' cannot be"):
        diagnose(small_config, tmp_path)


@pytest.mark.parametrize("negatives", ["cyclic", "random"])
def test_fewer_negatives_score_fewer_pairs(small_config, tmp_path, negatives):
    small_config.shifts = ("german",)
    small_config.limits.contexts = 6
    small_config.estimator.negatives = negatives
    small_config.estimator.num_negatives = 2
    results = diagnose(small_config, tmp_path)
    with np.load(tmp_path / "pairs" / "german.npz") as saved:
        model = saved["full_context/scores"]
    scored = 12 if negatives == "cyclic" else 2
    assert np.isfinite(model).sum() <= 6 + scored
    assert np.isfinite(np.diagonal(model)).all()
    assert all(r["r_emi"] is not None for r in results["rows"])


@pytest.mark.parametrize("name", ["infonce", "leave_one_out"])
def test_other_estimators(small_config, tmp_path, name):
    small_config.shifts = ("german",)
    small_config.estimator.name = name
    small_config.estimator.normalisation = "token"
    results = diagnose(small_config, tmp_path)
    row = row_of(results, "full_context", "german")
    assert row["r_emi"] == row["r_emi_token"]
    if name == "infonce":
        assert abs(row["r_emi"]) <= np.log(3)


def test_too_long_is_an_error_or_counted(small_config, tmp_path):
    small_config.model.path = str(write_reader(tmp_path / "short", window=1000))
    small_config.benchmark = "bundled"
    small_config.shifts = ("TurnLevelComposition",)
    with pytest.raises(UserError, match=r"OOD3Test_turns_\d+.*tokens too long.*drop_oldest_turns"):
        diagnose(small_config, tmp_path / "run")
    small_config.limits.too_long = "drop_oldest_turns"
    results = diagnose(small_config, tmp_path / "run")
    shortened = dict(results["provenance"]["shortened"])
    assert set(shortened) >= {f"OOD3Test_turns_0{i}" for i in (1, 2, 3)}
    assert min(shortened.values()) >= 1


@pytest.mark.parametrize(
    "tokens, longest, remedy",
    [
        (40, 9, r"lower config\.sampling\.max_tokens or"),
        (20, 9, "shorten its persona, character or last turn or"),  # no answer is short enough
        (40, 60, "shorten its persona"),  # what is given stays as long as it is
    ],
)
def test_the_remedy_for_a_context_of_one_turn_is_one(small_config, tokens, longest, remedy):
    model = load_language_model(small_config.model.path)
    sample = load_benchmark(small_config.benchmark).subsets["IDTest"][0]
    prompt = len(model.tokenizer.encode_chat(prompts.scorer_messages(sample, thought="")))
    small_config.sampling.max_tokens = tokens
    room = max(tokens, longest) + small_config.reasoning.max_tokens
    window = dataclasses.replace(model.config, max_positions=prompt + room + 16 - 30)
    with pytest.raises(UserError, match=f"is 30 tokens too long .*; {remedy}"):
        fit_sample(sample, dataclasses.replace(model, config=window), small_config, room)
