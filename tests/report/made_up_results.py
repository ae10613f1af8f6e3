"""Results with chosen figures, as reports read them."""

import contextlib
import io

from remid_jax.factor_names import FACTORS
from remid_jax.report.terminal import print_report

HOME = "IDTest"
TAGS = (
    "german", "spanish", "chinese", "japanese", "korean", "Literature", "Film & Television",
    "Theater", "Gaming", "TurnLevelComposition", "WordLevelComposition",
)  # fmt: skip


def difference(value, se=2.0, p=None):
    """A difference with its interval, and a p-value after Holm's correction."""
    if value is None:
        keys = ("se", "low", "high", "within_noise", "p_value", "p_holm", "detectable")
        return {"value": None, **dict.fromkeys(keys)}
    low, high = value - 2 * se, value + 2 * se
    noise = low <= 0 <= high
    p = (0.4 if noise else 0.01) if p is None else p
    shown = {"se": se, "low": low, "high": high, "within_noise": noise}
    return {"value": value, **shown, "p_value": p / 2, "p_holm": p, "detectable": 3 * se}


def shift_of(subset):
    """What the bundled subsets shift; other names shift the user."""
    if subset == HOME:
        return None
    place = TAGS.index(subset) if subset in TAGS else 0
    return "user" if place < 5 else "character" if place < 9 else "dialogue"


SIX = tuple(f"llama-3.1-8b-instruct-{i}" for i in range(6))


def row(rpm, subset, n=10, **found):
    parts = difference(found.pop("value", None), **found)
    keys = {"value": "r_emid", "se": "r_emid_se", "low": "r_emid_low", "high": "r_emid_high"}
    return {
        "rpm": rpm, "subset": subset, "shift": shift_of(subset), "n": n,
        "r_emi": -5.0, "r_emi_se": 1.0, "retained": 0.5, "retained_se": 0.1, "baseline": 1.0,
        "baseline_se": 0.1, "n_paired": None if subset == HOME else n, "saturated": False,
        "cross_information_K": 8, "reason": None, "draws": 1.0, "draws_share": None,
        **{keys.get(k, k): v for k, v in parts.items()},
    }  # fmt: skip


def results_of(rows, **more):
    """Results of these rows of RPMs, with reference rows and the worst subsets."""
    tags = list(dict.fromkeys(r["subset"] for r in rows))
    rpms = dict.fromkeys(r["rpm"] for r in rows)
    references = [
        row(name, tag, **({} if tag == HOME else {"value": value * i}))
        for name, value in (
            ("golden", 0.0),
            ("shuffled golden", 1.0),
            ("unshifted", 1.0),
            ("echo", 2),
        )
        for i, tag in enumerate(tags)
    ]
    worst = [{"rpm": rpm, "not_distinguished_from": tags[2:]} for rpm in rpms]
    estimator = {
        "normalisation": "sequence", "confidence": 0.95, "name": "club", "negatives": "all"
    }  # fmt: skip
    config = {"estimator": estimator, "sampling": {"max_tokens": 24}}
    empty = {"cut": {}, "finish_reasons": {}, "unused_draws": 0}
    return {
        "provenance": {"config": config}, "rows": [*rows, *references], "worst": worst,
        "comparisons": [], "warnings": [], "by_shift": [], "profile": [], "flags": [],
        "divergences": [], "excluded": [], "answers": dict.fromkeys(rpms, empty),
        "cut_at_max_tokens": {},
        "contributions": "contributions.jsonl", **more,
    }  # fmt: skip


def one(*values, **found):
    """Results of one RPM under as many subsets as there are values."""
    rows = [
        row("m", HOME),
        *(row("m", t, value=v, **found) for t, v in zip(TAGS, values, strict=False)),
    ]
    return results_of(rows)


def full(rpms, tags):
    """Results in which everything is found that can be said."""
    rows = [
        row(rpm, tag, **({} if tag == HOME else {"value": -105.6 + 30 * i, "se": 10.7}))
        for rpm in rpms
        for i, tag in enumerate((HOME, *tags))
    ]
    for r in rows:
        r["saturated"] = True
    pairs = [(a, b) for i, a in enumerate(rpms) for b in rpms[i + 1 :]]
    compared = [compare(*pair, tag, value=9.0) for pair in pairs for tag in (HOME, *tags)]
    places = [(rpm, tag) for rpm in rpms for tag in (HOME, *tags)]
    kinds = ("r_emi_above_golden", "baseline_above_golden")
    shifts = []
    for name in dict.fromkeys(map(shift_of, tags)):
        found = difference(-33.3, se=10.7)
        found |= {"r_emid": found["value"], "r_emid_se": found["se"], "shift": name}
        codes = ["de", "es", "ja", "ko", "zh"] if name == "user" else []
        shifts.append({**found, "other_languages": codes})
    counts = {"cut": {"speaker_label": 3}, "finish_reasons": {"length": 2}, "unused_draws": 4}
    reason = (
        "the response file does not have the sample; export the prompts with the same benchmark"
    )
    return results_of(
        rows,
        comparisons=compared,
        warnings=[{"rpm": p, "subset": t, "kind": k} for p, t in places for k in kinds],
        by_shift=[{"rpm": rpm, "shifts": shifts} for rpm in rpms],
        divergences=[divergence(tag, i / 100) for i, tag in enumerate(tags)],
        excluded=[{"rpm": p, "sample_ID": f"{t}_1", "reason": reason} for p, t in places],
        answers=dict.fromkeys(rpms, counts),
        cut_at_max_tokens={t: dict.fromkeys(rpms, 7) for t in tags},
    )


def cell(rpm, subset, factor, share=1.0, half=0.1, golden=20.0, n=10, **more):
    """A cell of the profile with a share and half of its interval; None is refused."""
    known = share is not None
    lost, error = (golden * (1 - share), golden * half / 2) if known else (0.0, 1.0)
    silent = f"golden answers show nothing of the {factor} at n = {n}"
    return {
        "rpm": rpm, "subset": subset, "factor": factor, "n": n, "shown": known, "share": share,
        "reason": None if known else silent, "share_low": share - half if known else None,
        "share_high": share + half if known else None, "info": golden - lost, "info_se": error,
        "info_golden": golden if known else 0.6, "info_golden_se": 0.4, "lost": lost,
        "lost_se": error, "p_value": 0.01, "p_holm": 0.01 if abs(lost) > 2 * error else 0.4,
        "n_to_show": None if known else 37,
        "n_to_tell_half": 4 if known else None, "copied": 0.1, "left_out": 0, "draws_share": None,
        "u": 0.1, "u_low": 0.05, "u_high": 0.15, "collapsed": None if subset == HOME else False,
        **dict.fromkeys(("share_drop", "share_drop_low", "share_drop_high")), **more,
    }  # fmt: skip


def profiled(results, cells=None, flags=()):
    """The results with a profile.

    Args:
      results: of `results_of`.
      cells: (RPM, subset, factor) -> arguments of `cell`; others carry what golden does.
      flags: (RPM, subset, flag, factor).
    """
    found = {}
    for r in results["rows"]:
        for factor in ("user", "character", "dialogue", "history", "last_turn"):
            place = (r["rpm"], r["subset"], factor)
            found[place] = made = cell(*place, **(cells or {}).get(place, {}))
            home = found[r["rpm"], HOME, factor]
            if made is not home and made["shown"] and home["shown"]:
                drop = home["share"] - made["share"]
                spread = home["share_high"] - home["share"] + made["share_high"] - made["share"]
                ends = {"share_drop_low": drop - spread, "share_drop_high": drop + spread}
                made.update(share_drop=drop, **ends)
    keys = ("rpm", "subset", "flag", "factor")
    raised = [dict(zip(keys, flag, strict=True)) for flag in flags]
    return {**results, "profile": list(found.values()), "flags": raised}


def all_faults(results):
    """The results with a profile in which every kind of cell and flag is found."""
    places = [(r["rpm"], r["subset"]) for r in results["rows"]]
    kinds = ({"share": -0.2, "half": 0.3}, {"share": None}, {"share": 0.9, "half": 0.9})
    cells = {
        (*place, factor): kinds[(i + k) % 3]
        for i, place in enumerate(places)
        for k, factor in enumerate(FACTORS)
    }
    cells |= {
        (*places[0], f): {"share": None, "info_golden": None, "reason": "no partner"}
        for f in FACTORS[:1]
    }
    faults = ("echo", "copies_last_turn", "copies_persona", "context_free", "colder_than_golden")
    flags = [(*place, flag, None) for place in places[::2] for flag in faults]
    kinds = ("ignores", "contradicts")
    flags += [(*p, kinds[i % 2], f) for i, p in enumerate(places) for f in FACTORS]
    return profiled(results, cells, flags)


def compare(first, second, subset, **found):
    parts = difference(**found)
    parts["difference"] = parts.pop("value")
    return {
        "first": first,
        "second": second,
        "subset": subset,
        "n": 10,
        "p_sign_flip": 0.01,
        **parts,
    }


def divergence(subset, value, name="context"):
    found = {"rjsd_corrected": value, "rjsd_p": 0.04, "n": 10}
    return {"subset": subset, "factor": name, **found}


def shown(results, folder="run"):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_report(results, folder)
    text = out.getvalue()
    assert text.endswith("\n") and "None" not in text and "nan" not in text
    return text[:-1].split("\n")
