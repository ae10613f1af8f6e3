"""A run that nobody made: results, contributions and examples of any size, drawn at random.

Nothing is estimated here. Figures have the sizes that real ones have, and every kind of cell is
there: losses, refused shares, flags, warnings, excluded answers.
"""

import random
from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]

HOME = "IDTest"
SUBSETS = {
    "german": "user", "spanish": "user", "chinese": "user", "japanese": "user", "korean": "user",
    "Literature": "character", "Film & Television": "character", "Theater": "character",
    "Gaming": "character", "TurnLevelComposition": "dialogue", "WordLevelComposition": "dialogue",
}  # fmt: skip
FACTORS = ("user", "character", "dialogue")
PARTS = ("history", "last_turn")
DRAWS = ("draws_share", "draws_share_se", "draws_worth_it")
REFERENCES = ("golden", "shuffled golden", "unshifted", "echo")
PROSE = "the keeper of the lamp wrote down every ship that passed before noon and asked his sister"
TEXT = (*PROSE.split(), "whether", "the", "letter", "from", "Leeds", "had", "come", "at", "last")


def made_up_results(rpms: list[str], subsets: list[str], n: int, seed: int = 0) -> Record:
    """The content of results.json but for the version of its keys.

    Args:
      rpms: names of the evaluated models.
      subsets: shifted ones, of `SUBSETS`.
      n: contexts of each subset.
      seed: of all figures.
    """
    draw = random.Random(seed)
    tags = [HOME, *subsets]
    places = [(rpm, tag) for rpm in (*rpms, *REFERENCES) for tag in tags]
    rows = [_row(rpm, tag, n, draw) for rpm, tag in places]
    profile = [_cell(*place, f, n, draw) for place in places for f in (*FACTORS, *PARTS)]
    config = {
        "benchmark": "bundled", "experiment": "diagnose", "shifts": subsets,
        "estimator": {"name": "club", "negatives": "cyclic", "normalisation": "sequence",
                      "confidence": 0.95},
        "sampling": {"max_tokens": 256}, "rpms": {rpm: {"path": ""} for rpm in rpms},
    }  # fmt: skip
    provenance = {
        "config": config, "command": ["python", "-m", "benchmarks.report"],
        "git_revision": None, "versions": {}, "device": "none", "unit": "nats",
        "model": {"name": "made up", "identity": "", "dtype": "float32"},
        "counts": {tag: {"available": n, "used": n} for tag in tags},
    }  # fmt: skip
    own = [r for r in rows if r["rpm"] in rpms]
    return {
        "provenance": provenance,
        "excluded": [{"rpm": rpms[0], "sample_ID": f"{HOME}_0", "reason": "the answer is empty"}],
        "answers": {rpm: {"cut": {"speaker_label": 3}, "finish_reasons": {"length": 2},
                          "unused_draws": 0} for rpm in rpms},
        "cut_at_max_tokens": {tag: dict.fromkeys(rpms, 1) for tag in tags},
        "profile": profile, "flags": list(_flags(profile)), "rows": rows, "by_language": [],
        "by_shift": [_by_shift(rpm, rows) for rpm in rpms],
        "worst": [_worst(rpm, rows) for rpm in rpms if subsets],
        "prediction": [_prediction(r, draw) for r in own if r["shift"]],
        "prediction_rank": [{"n": len(own), "spearman": 0.2, "p_value": 0.4}] * bool(subsets),
        "comparisons": [], "divergences": [], "contributions": "contributions.jsonl",
        "warnings": [{"rpm": rpms[0], "subset": HOME, "kind": "baseline_above_golden",
                      "p_holm": 0.001, "text": "the baseline is above 0"}],
    }  # fmt: skip


def made_up_contributions(results: Record, samples: int, seed: int = 0) -> Iterator[Record]:
    """The records of contributions.jsonl: so many samples for each row of the results."""
    draw = random.Random(seed)
    for row in results["rows"]:
        for k in range(samples):
            nats = draw.gauss(-20.0, 15.0)
            factors = {f: draw.gauss(3.0, 4.0) for f in (*FACTORS, *PARTS)}
            golden = {f"{f}_golden": draw.gauss(20.0, 8.0) for f in (*FACTORS, *PARTS)}
            yield {
                "rpm": row["rpm"], "subset": row["subset"], "sample_ID": f"{row['subset']}_{k:04}",
                "nats": nats, "of_mean": nats / samples, "tokens": draw.randint(10, 200),
                **factors, **golden,
            }  # fmt: skip


def made_up_examples(results: Record, each: int, words: int = 60, seed: int = 0) -> Record:
    """The content of examples.json: so many samples for each RPM and subset."""
    draw = random.Random(seed)
    rows = [r for r in results["rows"] if r["rpm"] not in REFERENCES]
    return {"examples": [_example(r, k, words, draw) for r in rows for k in range(each)]}


def _around(key: str, value: float | None, half: float) -> Record:
    if value is None:
        return dict.fromkeys((key, f"{key}_low", f"{key}_high"))
    return {key: value, f"{key}_low": value - half, f"{key}_high": value + half}


def _row(rpm: str, tag: str, n: int, draw: random.Random) -> Record:
    shifted = tag != HOME
    error = draw.uniform(1.0, 6.0)
    r_emid = draw.gauss(6.0, 8.0) if shifted else None
    noise = abs(r_emid) < 2 * error if r_emid is not None else None
    levels = {
        "r_emi": draw.gauss(-30.0, 10.0), "r_emi_token": draw.gauss(-0.5, 0.2),
        "retained": draw.uniform(0.1, 0.9), "baseline": draw.gauss(1.0, 0.5),
    }  # fmt: skip
    unknown = (
        "emi", "emi_se", "p_independence", "reason", "cross_information", "cross_information_se",
        "cross_information_K", "saturation", "saturation_golden", "saturated", "expected_kl",
        "expected_kl_se", "expected_kl_low", "expected_kl_high", "emi_low", "emi_high", *DRAWS,
    )  # fmt: skip
    found: Record = {}
    for key, value in levels.items():
        found |= {**_around(key, value, abs(value) / 4), f"{key}_se": abs(value) / 8}
    return {
        "rpm": rpm, "subset": tag, "shift": SUBSETS.get(tag), "n": n, "clusters": n, **found,
        **_around("r_emid", r_emid, 2 * error), "r_emid_se": error if shifted else None,
        "within_noise": noise, "p_value": (0.3 if noise else 0.002) if shifted else None,
        "p_holm": (0.5 if noise else 0.01) if shifted else None,
        "detectable": 3 * error if shifted else None, "paired": True if shifted else None,
        "n_paired": n if shifted else None, "draws": 1.0, **dict.fromkeys(unknown),
    }  # fmt: skip


def _cell(rpm: str, tag: str, factor: str, n: int, draw: random.Random) -> Record:
    golden = draw.uniform(5.0, 30.0)
    shown = draw.random() < 0.9
    share = draw.uniform(-0.1, 1.2) if shown else None
    info = golden * (share if share is not None else 0.5)
    is_lost = share is not None and share < 0.7
    drop = draw.gauss(0.1, 0.2) if shown and tag != HOME else None
    return {
        "rpm": rpm, "subset": tag, "factor": factor, "n": n, "left_out": 0,
        "reason": None if shown else f"golden answers show nothing of the {factor} at n = {n}",
        **_around("info", info, 2.0), "info_se": 1.0, "info_golden": golden, "info_golden_se": 1.5,
        **_around("share", share, draw.uniform(0.05, 0.3)), "shown": shown,
        "n_to_show": draw.choice([n // 2, 2 * n, None]), "n_to_tell_half": 3 * n,
        **_around("lost", golden - info, 2.4), "lost_se": 1.2, "p_value": 0.002 if is_lost else 0.4,
        "p_holm": 0.006 if is_lost else 0.6, "info_copied": 0.4,
        **_around("copied", 0.08, 0.02), "copied_se": 0.01, "info_copied_golden": 0.7,
        **dict.fromkeys(DRAWS), **_around("share_drop", drop, 0.3),
        **_around("u", info / 100, 0.03), "collapsed": None if tag == HOME else False,
    }  # fmt: skip


def _flags(profile: list[Record]) -> Iterator[Record]:
    for cell in profile:
        if cell["share_high"] is not None and cell["share_high"] < 0.5:
            place = {key: cell[key] for key in ("rpm", "subset", "factor")}
            yield {**place, "flag": "ignores"}


def _by_shift(rpm: str, rows: list[Record]) -> Record:
    kept = ("r_emid", "r_emid_se", "r_emid_low", "r_emid_high", "within_noise", "p_value",
            "p_holm", "detectable")  # fmt: skip
    own = [r for r in rows if r["rpm"] == rpm and r["shift"]]
    shifts = []
    for shift in dict.fromkeys(r["shift"] for r in own):
        tags = [r["subset"] for r in own if r["shift"] == shift]
        first = next(r for r in own if r["shift"] == shift)
        found = {"shift": shift, "subsets": tags, "other_languages": []}
        shifts.append({**found, **{key: first[key] for key in kept}})
    others = [s["shift"] for s in sorted(shifts, key=lambda s: -s["r_emid"])[1:]]
    method = "one at a time"
    return {"rpm": rpm, "method": method, "named": None, "not_distinguished_from": others,
            "shifts": shifts}  # fmt: skip


def _worst(rpm: str, rows: list[Record]) -> Record:
    keys = ("rpm", "subset", "shift", "r_emid", "r_emid_low", "r_emid_high", "within_noise")
    own = [r for r in rows if r["rpm"] == rpm and r["shift"]]
    top, *rest = sorted(own, key=lambda r: -r["r_emid"])
    near = [r["subset"] for r in rest[:2]]
    return {**{key: top[key] for key in keys}, "not_distinguished_from": near}


def _prediction(row: Record, draw: random.Random) -> Record:
    return {
        **{key: row[key] for key in ("rpm", "subset", "shift", "n")}, "n_id": row["n"],
        **_around("predicted", draw.gauss(10.0, 5.0), 4.0), "predicted_se": 2.0,
        **_around("bound", draw.gauss(20.0, 5.0), 6.0), "bound_se": 3.0,
        **{key.replace("r_emid", "measured"): row[key]
           for key in ("r_emid", "r_emid_low", "r_emid_high")},
    }  # fmt: skip


def _prose(count: int, draw: random.Random) -> str:
    return " ".join(draw.choice(TEXT) for _ in range(count)).capitalize() + "."


def _words(text: str, draw: random.Random) -> list[Record]:
    factors = (*FACTORS, *PARTS)
    return [
        {"text": f" {word}" if k else word, "copied": draw.random() < 0.08,
         "nats": {f: draw.gauss(0.2, 1.0) for f in factors}}
        for k, word in enumerate(text.split(" "))
    ]  # fmt: skip


def _example(row: Record, k: int, words: int, draw: random.Random) -> Record:
    answer, golden = _prose(words, draw), _prose(words, draw)
    factors = {f: {"info": draw.gauss(3, 3), "info_golden": 20.0} for f in (*FACTORS, *PARTS)}
    speakers = ("user", "character", "user")
    return {
        "rpm": row["rpm"], "subset": row["subset"], "sample_ID": f"{row['subset']}_{k:04}",
        "lost": draw.uniform(5.0, 90.0), "factors": factors, "user": _prose(80, draw),
        "character": _prose(100, draw), "character_name": "Florence Nightingale",
        "dialogue": [{"speaker": s, "text": _prose(30, draw)} for s in speakers],
        "golden": golden, "answer": answer, "words": _words(answer, draw),
        "words_golden": _words(golden, draw),
    }  # fmt: skip
