"""The study of known faults: its answers, its scores beside a diagnosis's, and what it detects."""

import dataclasses
import json

import numpy as np
import pytest
from short_benchmark import write_benchmark

from configs import study_faults as study_config
from experiments import study_faults
from experiments.studies import detection, known_faults
from experiments.studies.answer_scores import LIMITS, Scorer, _diagnosis, name_of
from experiments.studies.detection import ALL, Draws, Row, Subset, as_scored, detect
from experiments.studies.fault_tables import claims
from experiments.studies.own_word_limits import fault_shares, golden_copies
from remid_jax.data.factors import FACTORS
from remid_jax.data.reading import load_benchmark
from remid_jax.data.responses import read_answer
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.information.mutual_information import club
from remid_jax.information.pairs import GOLDEN, SHUFFLED
from remid_jax.information.precision import double_precision
from remid_jax.information.uncertainty import jackknife

N = 16
LEVELS = dict(zip(ALL, (30.0, 20.0, 10.0, 6.0, 5.0), strict=True))  # golden's δ in nats


@pytest.fixture
def config(tiny_path, tmp_path):
    c = study_config.get_config("small")
    c.model.path = tiny_path
    c.benchmark = write_benchmark(tmp_path / "benchmark.json")
    c.draws, c.contexts = 10, (4,)
    c.words, c.characters = (3, 4), (8,)
    return c


def made_up(seed=0, pairs=True, **levels):
    """A row whose δ have these means, and pairs that favour the diagonal by what users add."""
    rng = np.random.default_rng(seed)
    means = np.array([{**LEVELS, **levels}[f] for f in ALL])
    own = means[:, None] + 3 * rng.standard_normal((5, N))
    scores = rng.standard_normal((N, N)) - 100 + means[0] * np.eye(N)
    baseline = -2 + 0.1 * rng.standard_normal(N)
    return Row(own, own.copy(), baseline, scores if pairs else None)


def subset_of(tag="german", shift="user", **rows):
    golden = made_up(1)
    shuffled = dataclasses.replace(made_up(2, **dict.fromkeys(ALL, 0.0)), baseline=golden.baseline)
    rows = {GOLDEN: golden, SHUFFLED: shuffled, **rows}
    return Subset(
        tag, rows, ALL, shift, [f"{tag}_{i}" for i in range(N)], [f"home_{i}" for i in range(N)]
    )


def test_a_lost_factor_is_named_and_golden_is_not_flagged():
    subset = subset_of(unshifted=made_up(3, user=0.0))
    home = subset_of("home", None)
    draws = Draws.of(0, N, 10, 400, 0.3)
    found = detect(subset, home, "unshifted", draws)
    profile = found["profile"]
    assert profile["lacks"] == ["user"]
    assert profile["right"] == profile["all_right"] == profile["by_factor"]["user"] == 1
    assert profile["flags"]["ignores user"] == 1 and profile["flag_names"] == 1
    # Without a user the pairs have nothing to tell apart either, and the shift alone did it.
    assert found["r_emi"]["below"] == found["r_emid"]["rises"] == 1
    golden = detect(subset, home, GOLDEN, draws)
    assert golden["profile"]["factor"] <= 0.06 and golden["profile"]["lacks"] == []
    assert golden["profile"]["right"] is None
    assert max(golden["r_emi"].values()) <= 0.06 and max(golden["baseline"].values()) <= 0.06
    shuffled = detect(subset, home, SHUFFLED, draws)
    assert shuffled["profile"]["all_right"] == 1
    assert shuffled["profile"]["flags"]["context_free"] == 1
    noise = detect(subset, home, known_faults.NOISE, draws)
    assert 0 < noise["profile"]["all_right"] < noise["profile"]["right"] < 1


def test_another_factor_is_not_the_right_one():
    subset = subset_of(unshifted=made_up(3, character=0.0, pairs=False))
    found = detect(subset, None, "unshifted", Draws.of(0, N, 10, 100, 0.3))
    assert found["profile"]["right"] <= 0.1 and found["profile"]["other"] == 1
    assert "r_emi" not in found and "r_emid" not in found
    once = as_scored(subset, "unshifted")
    assert once["n"] == N and once["factors"] == ["character"]
    assert "ignores character" in once["flags"]


def test_two_copies_of_a_context_are_no_negatives():
    """R-EMI of drawn contexts, beside the estimator on the contexts themselves."""
    model, golden = made_up(5), made_up(6)
    drawn = np.array([[3, 3, 8, 1, 12, 8]])
    negatives = drawn[:, :, None] != drawn[:, None, :]
    sides = [row.taken(drawn).pairs for row in (model, golden)]
    replicates = detection._r_emi(*sides, negatives, negatives)
    value, error, dof = detection._jackknife(replicates)

    def statistic(mask):
        return club(sides[0][0], negatives=negatives[0] * 1.0, where=mask) - club(
            sides[1][0], negatives=negatives[0] * 1.0, where=mask
        )

    with double_precision():
        expected = jackknife(statistic, np.arange(6))
    np.testing.assert_allclose((value[0], error[0], dof), expected, rtol=1e-12)
    without = np.array([S[~np.eye(6, dtype=bool)].mean() for S in (sides[0][0], sides[1][0])])
    naive = np.diagonal(sides[0][0] - sides[1][0]).mean() - (without[0] - without[1])
    assert abs(value[0] - naive) > 1e-3  # copies as negatives would say another thing


def test_golden_is_compared_with_contexts_that_are_drawn_apart():
    draws = Draws.of(0, N, 8, 500, 0.3)
    model, golden = draws.sides(subset_of().rows, GOLDEN)
    assert not np.array_equal(model.own, golden.own)
    assert (draws.golden == draws.others).mean() == pytest.approx(1 / N, abs=0.02)
    assert draws.replaced.mean() == pytest.approx(0.3, abs=0.03)
    for fault, index in ((GOLDEN, draws.others), (SHUFFLED, draws.golden)):
        of_model, of_golden = draws.negatives(fault)
        for pairs, drawn in ((of_model, index), (of_golden, draws.golden)):
            assert not pairs[:, np.arange(8), np.arange(8)].any()
            copies = [[a == b for b in drawn[7]] for a in drawn[7]]
            assert np.array_equal(pairs[7], ~np.array(copies))
            assert pairs.mean() == pytest.approx(7 / 8 * 15 / 16, abs=0.02)  # copies are none
    again = Draws.of(0, N, 8, 500, 0.3)
    assert np.array_equal(draws.golden, again.golden)


def test_answers_are_what_their_names_say():
    samples = load_benchmark().subsets["IDTest"]
    made = known_faults.answers(samples, "IDTest")
    for s in samples:
        said = {k: read_answer(text, s) for k, text in made[s.sample_id]["model_response"].items()}
        assert said["labelled loop"].cuts == ("speaker_label",)
        assert said["labelled loop"].text == (known_faults.LOOP * known_faults.LOOPS).strip()
        assert said["persona copied"].text == s.persona
        assert said["earlier turn"].text == s.dialogue[0][1] != s.dialogue[-1][1]
        assert s.character["name"] in said["name in generic"].text
    assert len({made[s.sample_id]["model_response"]["generic"] for s in samples}) == 1
    shifted = load_benchmark().subsets["german"][0]
    assert set(known_faults.answers([shifted], "IDTest")[shifted.sample_id]["model_response"]) == {
        "generic"
    }


def test_scores_are_those_of_a_diagnosis(config, tmp_path):
    scorer = Scorer(config, tmp_path)
    record = scorer.score("german")
    results = diagnose(_diagnosis(config, tmp_path / "answers.json"), tmp_path / "diagnosis")
    own, n = record["rows"], name_of(LIMITS)
    compared = 0
    for r in results["profile"]:
        if r["subset"] != "german" or r["rpm"] == GOLDEN or r["rpm"] not in own:
            continue
        row, f = own[r["rpm"]], r["factor"]
        if f == "history":  # there is none, and so no partner with another one
            assert r["info"] is None and set(row["all"][f]) == {None}
            continue
        assert r["info"] == pytest.approx(np.mean(row["own"][n][f]), abs=2e-4)
        both = np.mean(row["all"][f]) - np.mean(row["own"][n][f])
        assert r["info_copied"] == pytest.approx(both, abs=2e-4)
        assert r["info_golden"] == pytest.approx(np.mean(own[GOLDEN]["own"][n][f]), abs=2e-4)
        compared += 1
    assert compared == 4 * 4  # generic, shuffled golden, unshifted and echo
    at = next(r for r in results["rows"] if r["rpm"] == "generic" and r["subset"] == "german")
    pairs = [np.array(own[name]["pairs"]) for name in ("generic", GOLDEN)]
    assert at["r_emi"] == pytest.approx(float(club(pairs[0]) - club(pairs[1])), abs=2e-3)
    assert record["counterparts"] == ["IDTest_0", "IDTest_1", "IDTest_2", "IDTest_3"]


def test_a_small_study_runs_and_goes_on(config, tmp_path, capsys):
    study_faults.run(config, tmp_path)
    first = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    records = results["detection"]
    assert {(r["fault"], r["subset"]) for r in records if r["subset"] == "german"} == {
        (f, "german")
        for f in (GOLDEN, "unshifted", SHUFFLED, "echo", "generic", known_faults.NOISE)
    }
    assert {r["fault"] for r in records if r["subset"] == "IDTest"} == {
        GOLDEN, *known_faults.FAULTS
    } - {"unshifted"}  # fmt: skip
    assert {r["n"] for r in records} == {4}
    assert all("r_emi" in r for r in records)
    assert all(("r_emid" in r) == (r["subset"] == "german") for r in records)
    assert "what must hold" in first and "labelled loop" in first
    cached = sorted((tmp_path / "cache").rglob("*.result"))
    config.draws = 11  # other pieces, made of what is in the cache
    study_faults.run(config, tmp_path)
    assert sorted((tmp_path / "cache").rglob("*.result")) == cached
    again = json.loads((tmp_path / "results.json").read_text())
    assert again["as_scored"] == results["as_scored"]


def test_limits_of_copied_runs_are_compared():
    cell = {"user": [4.0, None], "character": [2.0, 2.0], "dialogue": [2.0, 1.0]}
    half = {f: [None if v is None else v / 2 for v in values] for f, values in cell.items()}
    golden = {
        "tokens": [10, 5], "copied": {"a": [2, 1], "b": [0, 0]}, "all": cell,
        "own": {"a": half, "b": cell},
    }  # fmt: skip
    row = {**golden, "own": {"a": half, "b": half}}
    record = {"languages": ["en", "de"], "shift": "user", "rows": {GOLDEN: golden, "echo": row}}
    english, german = golden_copies([record])
    assert english["language"] == "en" and german["n"] == 1
    assert english["copied_tokens"] == {"a": 0.2, "b": 0} == german["copied_tokens"]
    assert english["copied_information"] == {"a": 0.5, "b": 0}
    assert german["by_factor"]["character"] == {"a": 0.5, "b": 0}
    shares = {(r["language"], r["factor"]): r["share"] for r in fault_shares([record])}
    assert shares["en", "user"] == {"a": 1, "b": 0.5}
    assert shares["de", "user"] == {"a": None, "b": None}


def test_claims_pass_and_fail():
    def profile(**values):
        return {"profile": {"lacks": ["user"], "right": 0.99, "factor": 0.02, **values}}

    at = {"n": 10, "draws": 100}
    records = [
        {"fault": "unshifted", "subset": "german", "shift": "user", **at, **profile()},
        {"fault": "unshifted", "subset": "turns", "shift": "dialogue", **at, **profile(right=0)},
        {"fault": "echo", "subset": "IDTest", "shift": None, **at, **profile(right=0.9)},
        {"fault": GOLDEN, "subset": "IDTest", "shift": None, **at, **profile(factor=0.06)},
    ]
    seen = [
        {"fault": "echo", "subset": "s", "n": 16, "factors": ["user"], "flags": []},
        {"fault": "unshifted", "subset": "s", "n": 16, "factors": [], "flags": []},
        {"fault": "generic", "subset": "s", "n": 16, "factors": [], "flags": []},
    ]
    found = claims(records, seen)
    assert [c["passes"] for c in found] == [True, False, False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shifts": ()}, "config.shifts must name"),
        ({"shifts": ("german", "german")}, "config.shifts must name"),
        ({"shifts": ("german", "IDTest")}, "which is not shifted"),
        ({"pairs": ("spanish",)}, "config.pairs holds 'spanish'"),
        ({"contexts": (2,)}, "config.contexts"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message, tmp_path):
    c = study_config.get_config("small")
    c.update(change)
    with pytest.raises(UserError, match=message):
        study_faults.run(c, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_subset_that_the_benchmark_lacks_is_refused(config, tmp_path):
    config.shifts = config.pairs = ("german", "Gaming")
    with pytest.raises(UserError, match="'Gaming', no subset"):
        study_faults.run(config, tmp_path)


def test_factors_stand_first():
    assert ALL[: len(FACTORS)] == tuple(str(f) for f in FACTORS)
