"""The information profile: which contexts are scored, what is estimated, and which faults show."""

import dataclasses
import json

import numpy as np
import pytest
from made_up_subsets import estimates_of, settings_of
from short_benchmark import write_benchmark

from remid_jax.analysis.profile import _needed, profile_records
from remid_jax.data import prompts
from remid_jax.data.factors import DIALOGUE_PARTS, FACTORS, Factor, swapped
from remid_jax.data.own_words import context_texts, copied_tokens, names_of
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import default_config
from remid_jax.evaluation.selection import Selection
from remid_jax.evaluation.swaps import groups_by_language, partners, plan_swaps
from remid_jax.inference.engine import JaxEngine
from remid_jax.information.pairs import Block, Subset, Swapped, negatives_for, with_reference_rows
from remid_jax.information.power import samples_needed
from remid_jax.models.pretrained import load_language_model
from remid_jax.models.tokenizer_offsets import token_offsets
from remid_jax.report.terminal import print_report

ALL = (*FACTORS, *DIALOGUE_PARTS)
ROWS = ("full_context", "last_turn_only", "golden", "shuffled golden", "unshifted", "echo")


@pytest.fixture(scope="module")
def finished(tiny_path, tmp_path_factory):
    """A run with two swaps, and its configuration."""
    folder = tmp_path_factory.mktemp("profile")
    c = default_config()
    c.model.path = tiny_path
    c.benchmark = write_benchmark(folder / "benchmark.json")
    content = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    for record in content["OOD1Test"]:
        record["agent_golden_response"] += " In Bonn?"
    (folder / "benchmark.json").write_text(json.dumps(content), encoding="utf-8")
    c.shifts = ("german",)
    c.sampling.max_tokens = 6
    c.sampling.batch_rows = 4
    c.reasoning.max_tokens = 5
    c.profile.swaps = 2
    return diagnose(c, folder), folder, c


def of(rows, **values):
    return [r for r in rows if all(r[k] == v for k, v in values.items())]


def test_records_are_what_direct_scoring_gives(finished):
    results, _, config = finished
    records = results["profile"]
    assert [(r["rpm"], r["subset"], r["factor"]) for r in records] == [
        (p, s, f) for p in ROWS for s in ("IDTest", "german") for f in ALL
    ]
    engine = JaxEngine(load_language_model(config.model.path))
    tokenizer, chosen = engine.tokenizer, load_benchmark(config.benchmark).subsets["german"]
    n = len(chosen)
    for factor in (Factor.CHARACTER, Factor.LAST_TURN):
        gaps = []
        for i, sample in enumerate(chosen):
            others = [chosen[(i + k) % n] for k in (1, 2)]
            contexts = [sample, *(swapped(sample, other, factor) for other in others)]
            ids = tokenizer.encode(sample.golden)
            offsets, text = token_offsets(tokenizer, ids), tokenizer.decode(ids)
            copied = copied_tokens(text, context_texts(sample), names_of(sample), offsets)
            chats = [tokenizer.encode_chat(prompts.scorer_messages(x)) for x in contexts]
            own, *under = (engine.score(c, [ids], ())[0][~copied].sum() for c in chats)
            gaps.append(own - np.mean(under))
        (row,) = of(records, rpm="full_context", subset="german", factor=factor)
        assert (row["n"], row["left_out"]) == (n, 0)
        assert row["info_golden"] == pytest.approx(np.mean(gaps), abs=1e-4)
        assert row["lost"] == pytest.approx(row["info_golden"] - row["info"], abs=1e-4)
    assert {r["n"] for r in of(records, factor="history")} == {0}  # all dialogues are one turn


def test_reference_rows_need_no_model(finished):
    records = finished[0]["profile"]
    for row in of(records, rpm="golden"):
        if row["n"]:
            assert row["lost"] == 0 and row["info"] == row["info_golden"]
    at_home = of(records, rpm="unshifted", subset="IDTest")
    assert [r["info"] for r in at_home] == [r["info_golden"] for r in at_home]
    (moved,) = of(records, rpm="unshifted", subset="german", factor="user")
    assert moved["info"] != moved["info_golden"]
    (echo,) = of(records, rpm="echo", subset="german", factor="last_turn")
    assert echo["copied"] > 0.9 and abs(echo["info"]) < abs(echo["info_copied"])
    (shuffled,) = of(records, rpm="shuffled golden", subset="german", factor="user")
    assert shuffled["n"] == 4 and shuffled["info"] != shuffled["info_golden"]


def test_scored_contexts_are_stored_and_resumed(finished):
    results, folder, config = finished
    pieces = {f: f.stat().st_mtime_ns for f in (folder / "cache" / "score").iterdir()}
    # Each of 8 contexts with and without reasoning, and with 2 swaps of 3 factors; of a dialogue of
    # one turn the last turn is all, so that these two share their requests.
    assert len({f.name.partition(".")[0] for f in pieces}) == 8 * (2 + 2 * 3)
    for f in sorted(pieces)[::5]:  # as if the run had been ended before these
        f.unlink()
    again = diagnose(config, folder)
    after = {f: f.stat().st_mtime_ns for f in (folder / "cache" / "score").iterdir()}
    assert again["profile"] == results["profile"] and again["rows"] == results["rows"]
    assert set(after) == set(pieces)
    assert sum(after[f] == pieces[f] for f in pieces) == len(pieces) - len(sorted(pieces)[::5])


def test_the_plan_says_it(finished, tmp_path):
    results, _, config = finished
    planned = config.copy_and_resolve_references()
    planned.dry_run = True
    stages = {s["what"]: s for s in diagnose(planned, tmp_path)["plan"]["stages"]}
    changed = stages["contexts with a swapped factor"]
    # Golden, shuffled golden, unshifted, echo and two RPMs; at home unshifted is golden.
    assert changed["contexts"] == 64 and changed["pairs"] == 32 * 6 + 32 * 5
    counts = {"contexts": 32, "shortened": 0}
    assert results["provenance"]["swapped_contexts"] == {"IDTest": counts, "german": counts}


def test_on_by_default_and_refused_before_work(finished, tmp_path):
    assert default_config().profile.swaps == 1
    config = finished[2].copy_and_resolve_references()
    config.profile.swaps = 0
    results = diagnose(config, finished[1])
    assert results["profile"] == [] and results["provenance"]["swapped_contexts"] == {}
    config.profile.swaps = 4
    with pytest.raises(UserError, match=r"swaps is 4, but subset 'IDTest' has 4 .* at most 3"):
        diagnose(config, tmp_path)
    config.profile.swaps = -1
    with pytest.raises(UserError, match="swaps is -1; it must be whole and at least 0"):
        diagnose(config, tmp_path)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "name",
    ["unshifted", "echo", "golden", "shuffled golden", "Golden", "SHUFFLED_golden", " e-cho"],
)
def test_names_of_reference_rows_are_reserved(finished, tmp_path, name):
    config = finished[2].copy_and_resolve_references()
    config.responses = str(tmp_path / "responses.jsonl")
    line = {"sample_ID": "IDTest_0", "model_response": {name: "Good day."}}
    (tmp_path / "responses.jsonl").write_text(json.dumps(line), encoding="utf-8")
    with pytest.raises(UserError, match=f"an RPM cannot be called '{name}'"):
        diagnose(config, tmp_path / "run")


def test_a_swapped_context_that_does_not_fit(finished):
    """The window holds every context, but not each with another's dialogue."""
    config = finished[2].copy_and_resolve_references()
    model = load_language_model(config.model.path)
    subset = load_benchmark(config.benchmark).subsets["IDTest"]
    talk = (("user", "Hello."), ("character", "Good day to you."))
    long = dataclasses.replace(subset[0], dialogue=(*talk * 9, ("user", "And now?")), persona="A")
    short = [dataclasses.replace(s, persona=s.persona * 9) for s in subset[1:]]
    samples = (long, *short)
    room = max(config.sampling.max_tokens, 7)
    length = [
        len(model.tokenizer.encode_chat(prompts.scorer_messages(s, thought=""))) for s in samples
    ]
    window = dataclasses.replace(model.config, max_positions=max(length) + room + 16)
    small = dataclasses.replace(model, config=window)
    selection = Selection("short", {"IDTest": samples}, (), {"IDTest": 4}, {})
    with pytest.raises(UserError, match=r"swaps: with the \w+ of another sample, sample '.*too l"):
        plan_swaps(selection, small, config, {"IDTest": 7})
    config.limits.too_long = "drop_oldest_turns"
    (plan,) = plan_swaps(selection, small, config, {"IDTest": 7}).values()
    turns = [len(s.dialogue) for contexts in plan.contexts for s in contexts]
    assert plan.shortened == sum(1 < n < 19 for n in turns) > 0
    config.limits.too_long = "error"
    (whole,) = plan_swaps(selection, model, config, {"IDTest": 7}).values()
    assert whole.shortened == 0 and {len(s.dialogue) for c in whole.contexts for s in c} == {1, 19}


def partners_of(samples, swaps):
    return partners(samples, Factor.USER, swaps, groups_by_language(samples))


def test_partners_speak_one_language_and_weights_count_them(finished):
    samples = list(load_benchmark(finished[2].benchmark).subsets["IDTest"])

    def spoken(i, persona, **extra):
        return dataclasses.replace(samples[i], persona=persona, extra=extra)

    mixed = [
        spoken(0, "A", language="de"), spoken(1, "B", language="en"), spoken(2, "A", language="de"),
        spoken(3, "C", language="de"),
    ]  # fmt: skip
    sources, weights = partners_of(mixed, 1)
    assert sources[:, 0].tolist() == [3, -1, 3, 0]
    assert weights.tolist() == [0.5, 0.0, 0.5, 1.0]
    apart = [spoken(i, "ABCD"[i], source="x" if i < 2 else "y") for i in range(4)]
    assert partners_of(apart, 2)[0].tolist() == [[1, -1], [0, -1], [3, -1], [2, -1]]
    german = dataclasses.replace(
        samples[1], dialogue=(("user", "Ich habe das nicht gesehen, und du?"),),
        golden="Das ist nicht von mir.", extra={},
    )  # fmt: skip
    english = dataclasses.replace(samples[0], dialogue=(("user", "What is it that you have?"),))
    # The last text is too short to tell, and is taken for the commonest language.
    found, _ = partners_of([english, german, english, samples[2]], 1)
    assert found[:, 0].tolist() == [3, -1, 3, 0]


def test_a_factor_that_all_share_is_refused_with_its_reason(finished, tmp_path, capsys):
    config = finished[2].copy_and_resolve_references()
    config.benchmark = write_benchmark(tmp_path / "benchmark.json", same=("character",))
    results = diagnose(config, tmp_path / "run")
    for row in of(results["profile"], factor="character"):
        assert (row["n"], row["left_out"], row["share"], row["lost"]) == (0, 4, None, None)
        assert (
            row["reason"]
            == "0 of 4 contexts have a partner of their language with another character"
        )
    assert all(r["n"] == 4 for r in of(results["profile"], factor="user"))
    print_report(results, tmp_path)
    assert "full_context" in capsys.readouterr().out


def made_up(answers, golden, contexts, log_q, labels=None, answered=None):
    """A subset whose responses are values of three factors, and its scores under one swap."""
    n = len(golden)
    sources = np.roll(np.arange(n), -1)[:, None]
    block = Block(np.zeros((n, n)), np.zeros((n, n)), np.ones(n, int), np.ones(n, bool))
    where = np.ones(n, bool) if answered is None else answered
    subset = with_reference_rows(
        Subset(
            tag="IDTest", sample_ids=tuple(map(str, range(n))), pair_ids=(None,) * n,
            languages=(None,) * n, golden=block,
            rpms={"model": dataclasses.replace(block, where=where)},
            negatives=negatives_for(n, settings_of(), labels), labels=labels,
        )
    )  # fmt: skip
    said = {"model": answers, "golden": golden, "shuffled golden": np.roll(golden, -1, axis=0)}

    def parts(name, under):
        found = np.stack([log_q(said[name], under), np.zeros(n)], axis=-1)
        return np.where(where[:, None] | (name != "model"), found, np.nan)

    own, scores = {}, {}
    for name in said:
        own[name], scores[name] = parts(name, contexts), {}
        for k, factor in enumerate(FACTORS):
            other = contexts.copy()
            other[:, k] = contexts[sources[:, 0], k]
            scores[name][factor] = parts(name, other)[:, None]
    weights = {
        f: np.array([np.mean(np.delete(contexts[:, k], i) != contexts[i, k]) for i in range(n)])
        for k, f in enumerate(FACTORS)
    }
    tokens = dict.fromkeys(said, np.tile([3, 1], (n, 1)))
    swaps = Swapped(dict.fromkeys(FACTORS, sources), weights, own, scores, tokens)
    return profile_records(estimates_of([subset]), {"IDTest": swaps})


def lookup_world(n, rng, broken, **changes):
    """Answers name one of 50 values of each factor, rightly with probability .9; q is exact.

    The model draws the factor `broken` at random.
    """
    contexts = rng.integers(0, 50, (n, 3))

    def answer():
        right = rng.random((n, 3)) < 0.9
        return np.where(right, contexts, rng.integers(0, 50, (n, 3)))

    def log_q(y, x):
        return np.log([0.1 / 50, 0.9 + 0.1 / 50])[(y == x).astype(int)].sum(axis=1)

    golden, model = answer(), answer()
    if broken is not None:
        model[:, broken] = rng.integers(0, 50, n)
    return made_up(model, golden, contexts, log_q, **changes)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_the_ignored_factor_is_flagged(broken):
    rng, seen = np.random.default_rng(broken), 0
    for _ in range(20):
        records, flags = lookup_world(16, rng, broken)
        own = of(records, rpm="model")
        assert {r["copied"] for r in own} == {0.25}
        below = [r["factor"] for r in own if r["lost"] > 0 and r["p_holm"] < 0.05]
        ignored = [f["factor"] for f in of(flags, rpm="model", flag="ignores")]
        seen += below == ignored == [FACTORS[broken]]
    assert seen >= 17
    assert own[broken]["shown"] and own[broken]["share_low"] < 0.2 < own[(broken + 1) % 3]["share"]


def test_a_faultless_model_is_flagged_rarely():
    rng = np.random.default_rng(7)
    found = [lookup_world(16, rng, None) for _ in range(40)]
    assert sum(bool(of(flags, rpm="model")) for _, flags in found) <= 2
    wrong = [[r for r in of(rs, rpm="model") if r["p_holm"] < 0.05] for rs, _ in found]
    assert sum(map(bool, wrong)) <= 5


def test_clusters_are_the_units():
    """Each context twice, as a cluster: the numbers are those of one copy, and as uncertain."""
    rng = np.random.default_rng(3)
    contexts, noise = np.arange(24).reshape(8, 3), rng.normal(5, 1, (8, 3))
    model = np.where(rng.random((8, 3)) < 0.5, contexts, 99)

    def log_q(y, x):
        return (np.tile(noise, (len(x) // 8, 1)) * (y == x)).sum(axis=1)

    one, _ = made_up(model, contexts, contexts, log_q)
    twice = (np.tile(x, (2, 1)) for x in (model, contexts, contexts))
    both, _ = made_up(*twice, log_q, labels=tuple(str(i % 8) for i in range(16)))
    for a, b in zip(of(one, rpm="model"), of(both, rpm="model"), strict=True):
        assert (a["n"], b["n"]) == (8, 16)
        weight = 14 / 15  # one of 15 others is the context's twin
        assert b["lost"] == pytest.approx(a["lost"] * weight, rel=1e-5)
        assert b["lost_se"] == pytest.approx(a["lost_se"] * weight, rel=1e-5)
        assert b["share_high"] == pytest.approx(a["share_high"], rel=1e-5)


def test_excluded_answers_leave_their_contexts_out():
    answered = np.arange(6) != 2
    records, _ = lookup_world(6, np.random.default_rng(1), None, answered=answered)
    for row in of(records, rpm="model"):
        assert row["n"] == 5 and np.isfinite(row["info_se"])
    few, none = lookup_world(6, np.random.default_rng(1), None, answered=np.arange(6) < 2)
    assert {r["reason"] for r in of(few, rpm="model")} == {
        "2 contexts have an answer and a golden response"
    }
    assert not of(none, rpm="model")


def test_contexts_that_would_show_it_are_those_of_the_power_function():
    (row, *_), _ = lookup_world(12, np.random.default_rng(5), None)
    assert row["rpm"] == "model" and row["info_golden"] > 0
    exact = samples_needed(
        row["info_golden"], row["info_golden_se"] * np.sqrt(12), 0.0, correlation=0.0
    )
    assert row["n_to_show"] == exact
    half = row["info_golden"] / 2, row["lost_se"] * np.sqrt(12), 0.0
    assert row["n_to_tell_half"] == samples_needed(*half, level=0.05 / 3, correlation=0.0)
    assert _needed(-1.0, 1.0, 9, 0.05) is _needed(np.nan, 1.0, 9, 0.05) is None
    assert _needed(1e-6, 1.0, 9, 0.05) is None
