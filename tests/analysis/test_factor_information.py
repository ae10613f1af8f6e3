"""Factor-wise information: which contexts are scored, what is estimated, and what is named."""

import dataclasses

import numpy as np
import pytest
from made_up_subsets import estimates_of, settings_of
from short_benchmark import write_benchmark

from remid_jax.analysis.factor_information import factor_records
from remid_jax.data import prompts
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import default_config
from remid_jax.evaluation.selection import Selection
from remid_jax.evaluation.swaps import plan_swaps
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.information.pairs import Block, Subset, negatives_for, with_reference_rows
from remid_jax.models.pretrained import load_language_model
from remid_jax.report.terminal import print_report

FIELDS = {"user": "persona", "character": "character", "dialogue": "dialogue"}
RPMS = ("full_context", "last_turn_only")


@pytest.fixture(scope="module")
def finished(tiny_path, tmp_path_factory):
    """A run with two swaps, and its configuration."""
    folder = tmp_path_factory.mktemp("factors")
    c = default_config()
    c.model.path = tiny_path
    c.benchmark = write_benchmark(folder / "benchmark.json")
    c.shifts = ("german",)
    c.sampling.max_tokens = 6
    c.sampling.batch_rows = 4
    c.reasoning.max_tokens = 5
    c.factors.swaps = 2
    return diagnose(c, folder), folder, c


def of(rows, **values):
    return [r for r in rows if all(r[k] == v for k, v in values.items())]


def terms(own, swapped):
    """log q − log of the mean of q over the own context and the swapped ones."""
    gaps = np.concatenate([[0.0], np.asarray(swapped) - own])
    return -np.log(np.mean(np.exp(gaps)))


def test_rows_are_what_direct_scoring_gives(finished):
    results, _, config = finished
    rows = results["factors"]
    assert [(r["rpm"], r["subset"], r["factor"]) for r in rows] == [
        (p, s, f) for p in RPMS for s in ("IDTest", "german") for f in FIELDS
    ]
    assert {(r["n"], r["K"]) for r in rows} == {(4, 3)}
    model = load_language_model(config.model.path)
    chosen = load_benchmark(config.benchmark).subsets["german"]
    encode = model.tokenizer.encode_chat
    golden = [model.tokenizer.encode(s.golden) for s in chosen]
    for factor, field in FIELDS.items():
        values = []
        for i, sample in enumerate(chosen):
            contexts = [sample] + [
                dataclasses.replace(sample, **{field: getattr(chosen[(i + k) % 4], field)})
                for k in (1, 2)
            ]
            chats = [encode(prompts.scorer_messages(x)) for x in contexts]
            own, *others = pair_log_likelihoods(model, chats, [golden[i]]).sums[:, 0]
            values.append(terms(own, others))
        for row in of(rows, subset="german", factor=factor):
            assert row["golden"] == pytest.approx(np.mean(values), abs=1e-4)
            assert row["difference"] == pytest.approx(row["model"] - row["golden"], abs=1e-5)
            assert row["low"] < row["difference"] < row["high"]
    assert len({r["model"] for r in rows}) == len(rows)


def test_scored_contexts_are_stored_and_resumed(finished):
    results, folder, config = finished
    pieces = {f: f.stat().st_mtime_ns for f in (folder / "cache" / "score").iterdir()}
    # Each of 8 contexts with and without reasoning, and with 2 swaps of 3 factors.
    assert len(pieces) == 8 * (2 + 3 * 2)
    for f in sorted(pieces)[::5]:  # as if the run had been ended before these
        f.unlink()
    again = diagnose(config, folder)
    after = {f: f.stat().st_mtime_ns for f in (folder / "cache" / "score").iterdir()}
    assert again["factors"] == results["factors"] and again["rows"] == results["rows"]
    assert set(after) == set(pieces)
    assert sum(after[f] == pieces[f] for f in pieces) == len(pieces) - len(sorted(pieces)[::5])


def test_the_plan_and_the_report_say_it(finished, tmp_path, capsys):
    results, folder, config = finished
    planned = config.copy_and_resolve_references()
    planned.dry_run = True
    stages = {s["what"]: s for s in diagnose(planned, tmp_path)["plan"]["stages"]}
    swapped = stages["contexts with a swapped factor"]
    assert (swapped["contexts"], swapped["pairs"]) == (48, 144)
    print_report(results, folder)
    assert "ignored or wrong" in capsys.readouterr().out
    counts = {"contexts": 24, "shortened": 0}
    assert results["provenance"]["swapped_contexts"] == {"IDTest": counts, "german": counts}


def test_off_by_default_and_refused_before_work(finished, tmp_path):
    assert default_config().factors.swaps == 0
    config = finished[2].copy_and_resolve_references()
    config.factors.swaps = 0
    results = diagnose(config, finished[1])
    assert results["factors"] == [] and results["provenance"]["swapped_contexts"] == {}
    config.factors.swaps = 4
    with pytest.raises(UserError, match=r"swaps is 4, but subset 'IDTest' has 4 .* at most 3"):
        diagnose(config, tmp_path)
    config.factors.swaps = -1
    with pytest.raises(UserError, match="swaps is -1; it must be whole and at least 0"):
        diagnose(config, tmp_path)
    assert not (tmp_path / "cache").exists()


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


def test_a_factor_that_all_share_has_no_value(finished, tmp_path):
    config = finished[2].copy_and_resolve_references()
    config.benchmark = write_benchmark(tmp_path / "benchmark.json", same=("character",))
    results = diagnose(config, tmp_path / "run")
    for row in results["factors"]:
        empty = row["factor"] == "character"
        assert (row["n"] == 0) == empty and (row["difference"] is None) == empty
    print_report(results, tmp_path)


def subset_of(answers, golden, laws, tag="IDTest"):
    """A subset whose blocks' diagonals are 0, and scores of swapped contexts from `laws`."""
    n = len(golden)
    zero = np.zeros((n, n))
    block = Block(zero, zero, np.ones(n, int), np.ones(n, bool))
    subset = with_reference_rows(
        Subset(
            tag=tag, sample_ids=tuple(map(str, range(n))), pair_ids=(None,) * n,
            languages=(None,) * n, golden=block, rpms={"model": block},
            negatives=negatives_for(n, settings_of()),
        )
    )  # fmt: skip
    return subset, {"golden": laws(golden), "model": laws(answers)}


def lookup_world(n, swaps, rng, broken):
    """Answers name one of 6 values of each factor, rightly with probability .8; q is exact.

    The model draws the factor `broken` at random.
    """
    contexts = rng.integers(0, 6, (n, 3))

    def answer():
        right = rng.random((n, 3)) < 0.8
        return np.where(right, contexts, rng.integers(0, 6, (n, 3)))

    golden, model = answer(), answer()
    if broken is not None:
        model[:, broken] = rng.integers(0, 6, n)
    sources = np.array([[(i + k) % n for k in range(1, swaps + 1)] for i in range(n)])

    def laws(y):
        p = np.log([0.2 / 6, 0.8 + 0.2 / 6])
        own = p[(y == contexts).astype(int)]
        found = {}
        for k, factor in enumerate(FIELDS):
            under = p[(y[:, [k]] == contexts[sources, k]).astype(int)]
            found[factor] = under - own[:, [k]]
        return found

    subset, scores = subset_of(model, golden, laws)
    swaps = {"IDTest": (dict.fromkeys(FIELDS, sources), scores)}
    return factor_records(estimates_of([subset]), swaps)


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_the_ignored_factor_is_named(broken):
    rng = np.random.default_rng(broken)
    draws = [lookup_world(64, 7, rng, broken) for _ in range(20)]
    names = [[r["named"] for r in rows] for rows in draws]
    assert sum(row == [k == broken for k in range(3)] for row in names) >= 19
    golden = np.mean([rows[broken]["golden"] for rows in draws])
    model = np.mean([rows[broken]["model"] for rows in draws])
    assert golden > 0.5 and model <= 0.05


def test_a_faultless_model_is_named_rarely_and_errors_are_calibrated():
    rng = np.random.default_rng(7)
    draws = [lookup_world(32, 7, rng, None) for _ in range(60)]
    assert sum(any(r["named"] for r in rows) for rows in draws) <= 6
    for k in range(3):
        spread = np.std([rows[k]["difference"] for rows in draws], ddof=1)
        error = np.mean([rows[k]["se"] for rows in draws])
        assert error / spread == pytest.approx(1, abs=0.35)


def test_excluded_answers_leave_their_contexts_out():
    rng = np.random.default_rng(1)
    n, sources = 5, np.array([[1, 2], [2, 3], [3, 4], [4, 0], [0, 1]])
    values = rng.normal(size=(2, n, 2))
    values[0, 2] = np.nan
    subset, _ = subset_of(np.zeros(n), np.zeros(n), lambda y: None)
    block = dataclasses.replace(subset.golden, where=np.arange(n) != 2)
    subset = dataclasses.replace(subset, rpms={"model": block})
    scores = {p: dict.fromkeys(FIELDS, v) for p, v in zip(("model", "golden"), values, strict=True)}
    swaps = {"IDTest": (dict.fromkeys(FIELDS, sources), scores)}
    rows = factor_records(estimates_of([subset]), swaps)
    kept = [0, 1, 3, 4]

    def difference(rows_kept, gone=None):
        found = []
        for i in rows_kept:
            use = sources[i] != gone  # a deleted context is no source either
            found.append(terms(0, values[0, i, use]) - terms(0, values[1, i, use]))
        return np.mean(found)

    without = np.array([difference([i for i in kept if i != g], g) for g in kept])
    error = np.sqrt(3 / 4 * np.sum((without - without.mean()) ** 2))
    for row in rows:
        assert row["n"] == 4
        assert row["difference"] == pytest.approx(difference(kept), abs=1e-5)
        assert row["se"] == pytest.approx(error, abs=1e-5)
