"""The information profile of a run: which contexts are scored, and what its records say."""

import dataclasses
import json

import numpy as np
import pytest
from short_benchmark import write_benchmark

from remid_jax.data import prompts
from remid_jax.data.factors import DIALOGUE_PARTS, FACTORS, Factor, swapped
from remid_jax.data.names import renamed
from remid_jax.data.own_words import context_texts, copied_tokens, names_of
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, default_config
from remid_jax.evaluation.selection import Selection
from remid_jax.evaluation.swaps import groups_by_language, partners, plan_swaps
from remid_jax.inference.engine import JaxEngine
from remid_jax.models.pretrained import load_language_model
from remid_jax.models.tokenizer_offsets import token_offsets
from remid_jax.report.html import page
from remid_jax.report.terminal import print_report

ALL = (*FACTORS, *DIALOGUE_PARTS, Factor.NAME)
ROWS = ("full_context", "last_turn_only", "golden", "shuffled golden", "unshifted", "echo")


@pytest.fixture(scope="module")
def finished(tiny_path, tmp_path_factory):
    """A run with two swaps, names among them, and its configuration."""
    folder = tmp_path_factory.mktemp("profile")
    c = default_config()
    c.model.path = tiny_path
    c.benchmark = write_benchmark(folder / "benchmark.json")
    content = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    for record in content["OOD1Test"]:
        record["agent_golden_response"] += " In Bonn?"
    content["OOD1Test"][1]["agent_character"]["name"] = "Will"  # an ordinary word
    (folder / "benchmark.json").write_text(json.dumps(content), encoding="utf-8")
    c.shifts = ("german",)
    c.sampling.max_tokens = 6
    c.sampling.batch_rows = 4
    c.reasoning.max_tokens = 5
    c.profile.swaps, c.profile.name = 2, True
    return diagnose(c, folder), folder, c


def of(rows, **values):
    return [r for r in rows if all(r[k] == v for k, v in values.items())]


def gap_of(engine, sample, others):
    """What own words of the golden response lose under other contexts, scored one by one."""
    tokenizer = engine.tokenizer
    ids = tokenizer.encode(sample.golden)
    offsets, text = token_offsets(tokenizer, ids), tokenizer.decode(ids)
    copied = copied_tokens(text, context_texts(sample), names_of(sample), offsets)
    chats = [tokenizer.encode_chat(prompts.scorer_messages(x)) for x in (sample, *others)]
    own, *under = (engine.score(c, [ids], ())[0][~copied].sum() for c in chats)
    return own - np.mean(under)


def test_records_are_what_direct_scoring_gives(finished):
    results, _, config = finished
    records = results["profile"]
    assert [(r["rpm"], r["subset"], r["factor"]) for r in records] == [
        (p, s, f) for p in ROWS for s in ("IDTest", "german") for f in ALL
    ]
    engine = JaxEngine(load_language_model(config.model.path))
    chosen = load_benchmark(config.benchmark).subsets["german"]
    n = len(chosen)
    for factor in (Factor.CHARACTER, Factor.LAST_TURN):
        gaps = []
        for i, sample in enumerate(chosen):
            others = [chosen[(i + k) % n] for k in (1, 2)]
            gaps.append(gap_of(engine, sample, [swapped(sample, x, factor) for x in others]))
        (row,) = of(records, rpm="full_context", subset="german", factor=factor)
        assert (row["n"], row["left_out"]) == (n, 0)
        assert row["info_golden"] == pytest.approx(np.mean(gaps), abs=1e-4)
        assert row["lost"] == pytest.approx(row["info_golden"] - row["info"], abs=1e-4)
    assert {r["n"] for r in of(records, factor="history")} == {0}  # all dialogues are one turn


def test_the_name_is_replaced_and_its_error_is_that_of_a_mean(finished):
    results, _, config = finished
    engine = JaxEngine(load_language_model(config.model.path))
    chosen = load_benchmark(config.benchmark).subsets["german"]
    named = [s for s in chosen if renamed(s)]
    gaps = [gap_of(engine, s, [renamed(s, k).sample for k in (0, 1)]) for s in named]
    row, *_ = of(results["profile"], subset="german", factor="name")
    assert (len(gaps), row["n"], row["left_out"]) == (3, 3, 1)
    assert row["info_golden"] == pytest.approx(np.mean(gaps), abs=1e-4)
    # No other context gives the name, so that none is deleted as a source.
    assert row["info_golden_se"] == pytest.approx(np.std(gaps, ddof=1) / 3**0.5, abs=1e-4)
    assert row["info_low"] < row["info"] < row["info_high"]
    assert row["p_holm"] == row["p_value"] is not None  # a test by itself
    assert not [f for f in results["flags"] if f["factor"] == "name"]


def test_reports_say_what_the_name_alone_carries(finished, tmp_path, capsys):
    results = finished[0]
    print_report(results, tmp_path)
    out = capsys.readouterr().out
    assert "the name alone, of all that is carried of the character, nats per response ±" in out
    assert "golden IDTest" in out and "(n = 4)" in " ".join(out.split())
    assert "contexts whose character has no name that can be replaced: german 1 of 4" in out
    assert "name alone" in page(results, [], None)


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
    # one turn the last turn is all, so that these two share their requests. 7 names are made up.
    assert len({f.name.partition(".")[0] for f in pieces}) == 8 * (2 + 2 * 3) + 7 * 2
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
    home, german = 32 + 8, 32 + 6
    assert changed["contexts"] == home + german and changed["pairs"] == german * 6 + home * 5
    assert results["provenance"]["swapped_contexts"] == {
        tag: {"contexts": n, "shortened": 0} for tag, n in (("IDTest", home), ("german", german))
    }


def test_on_by_default_and_refused_before_work(finished, tmp_path):
    assert default_config().profile.swaps == 1
    config = finished[2].copy_and_resolve_references()
    config.profile.swaps = 0
    with pytest.raises(UserError, match=r"config\.profile\.name needs config\.profile\.swaps"):
        check_config(config)
    config.profile.name = False
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
