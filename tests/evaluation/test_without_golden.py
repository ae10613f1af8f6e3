"""Samples without golden responses: what is measured all the same, and what is refused, and why."""

import dataclasses
import json

import numpy as np
import pytest
from short_benchmark import write_benchmark

from remid_jax.data import prompts
from remid_jax.data.own_words import context_texts, copied_tokens, names_of
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import default_config
from remid_jax.evaluation.swaps import groups_by_language, whole_contexts
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.pretrained import load_language_model
from remid_jax.models.tokenizer_offsets import token_offsets
from remid_jax.report.terminal import print_report

FACTORS = ("user", "character", "dialogue")
AGAINST_GOLDEN = ("share", "share_low", "share_high", "share_drop", "lost", "lost_se", "p_value",
                  "p_holm", "info_golden", "info_golden_se", "info_copied_golden")  # fmt: skip
COMPARED = ("r_emi", "r_emi_token", "emi", "retained", "baseline", "r_emid", "p_holm")


def without(tmp_path, config, *splits, count=6, kept=0):
    """The configuration of a file in which these splits lack golden responses but for `kept`."""
    path = write_benchmark(tmp_path / "benchmark.json", count=count)
    content = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))
    for split in splits:
        for i, record in enumerate(content[split][kept:]):
            if i % 3:
                record["agent_golden_response"] = (None, " ")[i % 3 - 1]
            else:
                del record["agent_golden_response"]
    (tmp_path / "benchmark.json").write_text(json.dumps(content), encoding="utf-8")
    config.benchmark, config.limits.contexts, config.profile.swaps = path, 0, 1
    config.sampling.temperature = config.sampling.repetition_penalty = 1.0
    return config


def rows(results, table="profile", **values):
    return [r for r in results[table] if all(r[k] == v for k, v in values.items())]


def test_no_golden_response_at_all(small_config, tmp_path, capsys):
    config = without(tmp_path, small_config, "IDTest", "OOD1Test", "OOD2Test")
    results = diagnose(config, tmp_path / "run")
    names = {"full_context", "last_turn_only", "echo"}
    for table in ("profile", "rows"):
        assert {r["rpm"] for r in results[table]} == names
    why = "0 of 6 contexts have a golden response"
    for row in results["rows"]:
        assert row["reason"] == why and {row[key] for key in COMPARED} == {None} and row["n"] == 0
    assert all(r["expected_kl"] is not None for r in rows(results, "rows", rpm="full_context"))
    for row in (r for r in results["profile"] if r["factor"] in FACTORS):
        assert (row["n"], row["reason"], row["shown"]) == (6, why, False)
        assert {row[key] for key in AGAINST_GOLDEN} == {None}
        for key in ("info", "info_se", "copied", "info_copied", "u", "u_low", "u_high"):
            assert row[key] is not None, (row, key)
        assert (row["collapsed"] is None) == (row["subset"] == "IDTest")
    for table in ("flags", "excluded", "worst", "warnings"):
        assert results[table] == []
    text = (tmp_path / "run" / "contributions.jsonl").read_text(encoding="utf-8")
    per_sample = [json.loads(line) for line in text.splitlines()]
    assert len(per_sample) == 2 * 3 * 6 and {r["nats"] for r in per_sample} == {None}
    for row in rows(results, rpm="full_context", factor="user"):
        gaps = [
            r["user"] for r in per_sample if (r["rpm"], r["subset"]) == (row["rpm"], row["subset"])
        ]
        assert np.mean(gaps) == pytest.approx(row["info"], abs=1e-5)
    assert {r["user_golden"] for r in per_sample} == {None}
    print_report(results, tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("full_context: n = 6; no collapse shown; ")
    assert [x for x in lines if x.startswith("no R-EMI, share or flag without golden responses:")]
    assert max(map(len, lines)) <= 120


def test_what_would_measure_nothing_is_refused(small_config, tmp_path):
    """Two golden responses are too few for any value of R-EMI."""
    config = without(tmp_path, small_config, "IDTest", "OOD1Test", "OOD2Test", kept=2)
    config.profile.swaps = 0
    with pytest.raises(UserError, match=r"profile\.swaps is 0, and no subset has golden responses"):
        diagnose(config, tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()


def test_half_of_the_subsets(small_config, tmp_path, capsys):
    """What is compared with golden responses is there where they are; the rest is there as well."""
    config = without(tmp_path, small_config, "OOD1Test")
    results = diagnose(config, tmp_path / "run")
    bare = "0 of 6 contexts have a golden response"
    reasons = {(r["subset"], r["reason"]) for r in results["rows"]}
    assert reasons == {("IDTest", None), ("german", bare), ("Literature", None)}
    # The counterparts have golden responses, and so there is `unshifted`.
    held = {r["rpm"] for r in rows(results, subset="german")}
    assert held == {"full_context", "last_turn_only", "unshifted", "echo"}
    assert held | {"golden", "shuffled golden"} == {
        r["rpm"] for r in rows(results, subset="Literature")
    }
    for row in rows(results, "rows", rpm="full_context"):
        known = row["subset"] != "german"
        assert (row["r_emi"] is not None) == known and (row["baseline"] is not None) == known
        assert (row["r_emid"] is not None) == (row["subset"] == "Literature")
    for row in (r for r in results["profile"] if r["factor"] in FACTORS):
        assert row["info"] is not None and row["u"] is not None
        assert (row["lost"] is None) == (row["subset"] == "german")
        if row["subset"] != "IDTest":
            assert row["collapsed"] in (True, False)
    assert {s["shift"] for s in results["by_shift"][0]["shifts"]} == {"character"}
    assert results["excluded"] == []
    print_report(results, tmp_path / "run")
    out = capsys.readouterr().out
    assert f"no R-EMI, share or flag without golden responses: german ({bare})" in out
    assert "% of golden's information" in out and "information in own words ±" in out
    shown = [line for line in out.splitlines() if not line.startswith("results:")]
    assert max(map(len, shown)) <= 120
    config.profile.swaps = 0
    print_report(diagnose(config, tmp_path / "run"), tmp_path / "run")
    assert "not\n  estimated under german" in capsys.readouterr().out


def test_home_without_golden_responses(small_config, tmp_path, capsys):
    config = without(tmp_path, small_config, "IDTest")
    results = diagnose(config, tmp_path / "run")
    assert {r["rpm"] for r in results["rows"] if r["subset"] == "german"} == {
        "full_context", "last_turn_only", "golden", "shuffled golden", "echo"
    }  # fmt: skip
    (row,) = rows(results, "rows", rpm="full_context", subset="german")
    assert row["r_emi"] is not None and row["r_emid"] is None
    for swaps in (1, 0):
        config.profile.swaps = swaps
        print_report(diagnose(config, tmp_path / "run"), tmp_path / "run")
        assert "IDTest (0 of 6 contexts have a golden response)" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [2, 3])
def test_some_of_a_subset(small_config, tmp_path, kept):
    """Fewer than three golden responses are none; else their contexts are what counts."""
    results = diagnose(without(tmp_path, small_config, "OOD1Test", kept=kept), tmp_path / "run")
    (row,) = rows(results, "rows", rpm="full_context", subset="german")
    (cell,) = rows(results, rpm="full_context", subset="german", factor="user")
    said = {x["sample_ID"]: x["reason"] for x in results["excluded"] if x["rpm"] == "golden"}
    if kept == 2:
        assert row["reason"] == cell["reason"] == "2 of 6 contexts have a golden response"
        assert row["r_emi"] is None and cell["n"] == 6 and not said
    else:
        assert row["reason"] is None and row["r_emi"] is not None
        assert row["n"] == cell["n"] == 3
        assert said == {f"OOD1Test_{i}": "the sample has no golden response" for i in (3, 4, 5)}


def test_u_is_what_direct_scoring_gives(tiny_path, tmp_path):
    """Of golden responses, which need no model to answer, and of shuffled ones."""
    config = default_config()
    config.model.path, config.shifts = tiny_path, ("german",)
    config.sampling.max_tokens, config.reasoning.max_tokens = 6, 5
    config.estimator.negatives, config.estimator.emi_shifts = "cyclic", -1
    config.estimator.num_negatives = 2
    config = without(tmp_path, config)
    results = diagnose(config, tmp_path / "run")
    engine = JaxEngine(load_language_model(tiny_path))
    tokenizer, chosen = engine.tokenizer, load_benchmark(config.benchmark).subsets["german"]
    assert whole_contexts(groups_by_language(chosen)).tolist() == [1, 2, 3, 4, 5, 0]
    for name, ahead in (("golden", 0), ("shuffled golden", 1)):
        total = 0.0
        for i, sample in enumerate(chosen):
            whose = (i + ahead) % 6
            ids, other = tokenizer.encode(chosen[whose].golden), chosen[(whose + 1) % 6]
            text, offsets = tokenizer.decode(ids), token_offsets(tokenizer, ids)
            copied = copied_tokens(text, context_texts(sample), names_of(sample), offsets)
            chat = tokenizer.encode_chat(prompts.scorer_messages(other))
            total -= engine.score(chat, [ids], ())[0][~copied].sum()
        for factor in FACTORS:
            (row,) = rows(results, rpm=name, subset="german", factor=factor)
            assert row["u"] == pytest.approx(6 * row["info"] / total, rel=1e-4, abs=1e-7)
            assert row["u_low"] < row["u"] < row["u_high"]


def test_whole_contexts_are_of_one_language(short_benchmark):
    samples = load_benchmark(short_benchmark).subsets["IDTest"][:5]
    spoken = [
        dataclasses.replace(s, extra={"language": code})
        for s, code in zip(samples, ("de", "en", "de", "fr", "en"), strict=True)
    ]
    assert whole_contexts(groups_by_language(spoken)).tolist() == [2, 4, 0, -1, 1]


def test_pairs_that_u_needs_are_counted_before(small_config, tmp_path):
    """With cyclic negatives and without EMI they are beside the own contexts."""
    small_config.estimator.update(negatives="cyclic", num_negatives=1, emi_shifts=-1)
    config = without(tmp_path, small_config, "IDTest", "OOD1Test", "OOD2Test")
    config.dry_run = True
    stages = {s["what"]: s for s in diagnose(config, tmp_path / "run")["plan"]["stages"]}
    # Two RPMs and echo, each response under its own context and another whole one.
    assert stages["likelihoods without"]["pairs"] == 3 * 6 * 3 * 2
    config.dry_run = False
    results = diagnose(config, tmp_path / "run")
    assert np.isfinite([r["u"] for r in results["profile"] if r["factor"] in FACTORS]).all()
