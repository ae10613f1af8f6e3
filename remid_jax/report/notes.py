"""What a reader of the table must know beside it, a line each."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remid_jax.errors import visible
from remid_jax.factor_names import FACTORS, NAME
from remid_jax.report.judge_lines import judge_lines
from remid_jax.report.profile_cells import Profile, counted
from remid_jax.report.text import (
    GOLDEN,
    NO_BREAK,
    REFERENCES,
    WIDTH,
    Figures,
    Row,
    fit,
    rpms_of,
    short,
    span,
    wrapped,
)

ON_WORLDS = ".16 to .46"  # rank correlation of predicted and exact EMID
KNOWN = 0.25  # largest standard error of a share of the variance by which advice is given
ABOVE_GOLDEN = {"r_emi_above_golden": "R-EMI", "baseline_above_golden": "baseline"}


def subsets_without_golden(results: Mapping[str, Any]) -> dict[str, str]:
    """Subset -> why nothing in it is compared with golden responses."""
    return {r["subset"]: r["reason"] for r in results["rows"] if r["reason"]}


def warning_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """What makes figures of the table suspect, a line a kind."""
    if lacking := subsets_without_golden(results):
        places = [f"{short(tag, 22)} ({reason})" for tag, reason in lacking.items()]
        yield fit("no R-EMI, share or flag without golden responses: ", places)
    agreed = results["provenance"].get("thought_agreement", {})
    if doubted := {tag: r for tag, r in agreed.items() if r.get("doubts")}:
        home = next(iter(agreed.values()))["agreement"]
        places = [f"{short(tag, 22)} ({r['agreement']:.2f})" for tag, r in doubted.items()]
        start = "warning: the reasoner doubts: R-EMID rests on thoughts that agree less than in "
        yield fit(f"{start}distribution ({home:.2f}): ", places)
    own = [r for r in results["rows"] if r["rpm"] not in REFERENCES]
    for kind, what in ABOVE_GOLDEN.items():
        if found := [w for w in results["warnings"] if w["kind"] == kind]:
            start = f"warning: answers too predictable, {what} above golden's: "
            yield fit(start, _places(found, own))
    saturated = [r for r in own if r["saturated"]]
    if saturated and not results["profile"]:  # a profile does not saturate
        most = saturated[0]["cross_information_K"]
        start = f"warning: cross-information (K = {most}) saturated, no verdict: "
        yield fit(start, _places(saturated, own))
    shifts = [s for r in results["by_shift"] for s in r["shifts"] if s["other_languages"]]
    if foreign := {s["shift"]: ", ".join(map(short, s["other_languages"])) for s in shifts}:
        names = [f"{short(shift)} ({codes})" for shift, codes in foreign.items()]
        start = "warning: nats of different languages do not compare: "
        yield fit(start, names, "; see retained, by_language")
    if excluded := results["excluded"]:
        first = excluded[0]
        who = f"{short(first['rpm'], 22)} {short(first['sample_ID'], 22)}"
        said = f"warning: answers excluded: {len(excluded)}, first {who}: "
        yield fit(said + visible(first["reason"]), [])


def _places(rows: Sequence[Row], own: Sequence[Row]) -> list[str]:
    rpms, count = {r["rpm"] for r in own}, len({r["subset"] for r in own})
    groups: dict[str, list[str]] = {}
    for rpm in dict.fromkeys(r["rpm"] for r in rows):
        tags = [r["subset"] for r in rows if r["rpm"] == rpm]
        some = short(tags[0], 22) if len(tags) == 1 else f"{len(tags)} of {count} subsets"
        where = "all subsets" if len(tags) == count else some
        groups.setdefault(where, []).append(short(rpm, 22))
    if len(rpms) > 2 and [len(x) for x in groups.values()] == [len(rpms)]:
        return [f"all {len(rpms)} RPMs in {next(iter(groups))}"]
    parts = ([*names[:-1], f"{names[-1]} in {where}"] for where, names in groups.items())
    return [name for part in parts for name in part]


def seen_with_power(rows: Sequence[Row], figures: Figures) -> str:
    """The R-EMID that these contexts are likely to show, or nothing."""
    sizes = [r["detectable"] for r in rows if r["rpm"] not in REFERENCES and r["detectable"]]
    if not sizes:
        return ""
    low, high = figures.value(min(sizes)), figures.value(max(sizes))
    least = low if low == high else f"{low} to {high}"
    return f"R-EMID seen with power 0.8 at these n: {least}"


def note_lines(results: Mapping[str, Any], figures: Figures) -> Iterator[str]:
    """What else was measured, and what the answers went through."""
    if not results["profile"] and (seen := seen_with_power(results["rows"], figures)):
        yield f"{seen}; half of it takes 4x the contexts"
    if precision := results["provenance"].get("precision"):
        yield from precision_lines(precision)
    yield from _left_out_line(results["profile"])
    yield from name_lines(results, figures)
    yield from prediction_lines(results, figures)
    yield from judge_lines(results)
    yield from _draws_line(results)
    yield from _divergence_line(results["divergences"])
    yield from _answer_line(results)
    yield from _server_line(results)


def precision_lines(precision: Mapping[str, Any]) -> list[str]:
    """The type of likelihoods that a run has chosen, and why."""
    return wrapped(f"likelihoods in {precision['dtype']}: {precision['why']}")


def _left_out_line(cells: Sequence[Row]) -> Iterator[str]:
    """Contexts that a cell of the profile goes without, the same for all RPMs but for failures."""
    most: dict[tuple[str, str], Row] = {}
    for c in cells:
        if c["rpm"] not in REFERENCES and c["factor"] in FACTORS and c["n"] and c["left_out"]:
            place = c["factor"], c["subset"]
            most[place] = max(most.get(place, c), c, key=lambda c: c["left_out"])
    parts = [
        f"{factor} in {short(tag, 18)} {c['left_out']} of {c['n'] + c['left_out']}"
        for (factor, tag), c in most.items()
    ]
    if parts:
        yield fit("contexts left out, as no other of their language differs: ", parts)


def name_lines(results: Mapping[str, Any], figures: Figures) -> Iterator[str]:
    """How much of the character's information is the name alone, where that was measured."""
    profile = Profile(results, figures)
    told, left = [], {}
    for rpm in (GOLDEN, *rpms_of(results["rows"])):
        whole = {c["subset"]: c for c in profile.cells(rpm, ["character"]) if profile.tells(c)}
        for c in profile.cells(rpm, [NAME]):
            if c["left_out"]:
                left.setdefault(c["subset"], f"{c['left_out']} of {c['n'] + c['left_out']}")
            beside = whole.get(c["subset"])
            if beside and c["info"] is not None and beside["info"] is not None:
                both = " of ".join(figures.estimate(x, "info") for x in (c, beside))
                place = f"{short(rpm, 22)} {short(c['subset'], 22)}"
                told.append(f"{place} {both} ({counted([c, beside])})")
    if told:
        about = f"the name alone, of all that is carried of the character, {figures.unit} ± s.e.: "
        yield fit(about, told, width=2 * WIDTH - 20)
    if left:
        parts = [f"{short(tag, 22)} {count}" for tag, count in left.items()]
        yield fit("contexts whose character has no name that can be replaced: ", parts)


def prediction_lines(results: Mapping[str, Any], figures: Figures) -> Iterator[str]:
    """What was predicted beside what was measured, and how far to trust that."""
    known = [r for r in results.get("prediction", ()) if r["predicted"] is not None]
    if not known:
        return
    told = []
    for r in sorted(known, key=lambda r: -r["predicted"]):
        said = f"{short(r['rpm'], 22)} {short(r['subset'], 22)} {figures.estimate(r, 'predicted')}"
        if r["measured"] is not None:
            said += f" ({figures.value(r['measured'])})"
        told.append(said)
    about = f"prediction of R-EMID ± s.e. (measured), n = {span([r['n'] for r in known])}: "
    yield fit(about, told, width=2 * WIDTH - 20)
    if any(r["predicted_se"] is None for r in known):
        yield "no interval of the prediction: contexts are clustered, and it takes each by itself"
    (rank,) = results["prediction_rank"]
    found = f"unknown (n = {rank['n']}, below 4)"
    if rank["spearman"] is not None:
        found = f"{rank['spearman']:.2f} (n = {rank['n']}, p = {rank['p_value']:.2g})"
    worth = (
        f"rank correlation with the measured R-EMID {found}; with exact EMID on worlds {ON_WORLDS}"
    )
    yield f"it neither bounds nor ranks quality: {worth}"


def _draws_line(results: Mapping[str, Any]) -> Iterator[str]:
    """What the sampling of several answers a context adds, and how many are worth it."""
    cells = [c for c in results["profile"] if c["factor"] in FACTORS]
    tables = {"R-EMI": results["rows"], "the profile": cells}
    known = {what: [r for r in x if r.get("draws_share") is not None] for what, x in tables.items()}
    known = {what: rows for what, rows in known.items() if rows}
    drawn = [r for r in results["rows"] if (r["draws"] or 1) > 1]
    if not known or not drawn:
        return
    counts = [r["n"] for rows in known.values() for r in rows]
    ends = (end(r["draws"] for r in drawn) for end in (min, max))
    each = "-".join(dict.fromkeys(f"{x:.2g}" for x in ends))
    names = ", ".join(short(rpm, 22) for rpm in rpms_of(drawn))
    parts = [f"{_shares(rows)} of the variance of {what}" for what, rows in known.items()]
    said = f"{names}: {each} answers a context, n = {span(counts)}: their sampling is "
    said += " and ".join(parts)
    worth = {
        what: [r["draws_worth_it"] for r in rows if r["draws_worth_it"] is not None and _told(r)]
        for what, rows in known.items()
    }
    if not any(_told(r) for rows in known.values() for r in rows):
        said += "; how many are worth it cannot be told from so few contexts"
    elif best := [
        f"{statistics.median(some):.0f} for {what}" for what, some in worth.items() if some
    ]:
        said += f"; worth their cost (median): {' and '.join(best)}"
    yield said


def _told(row: Row) -> bool:
    """Whether a share of draws is known well enough to advise by."""
    return row["draws_share_se"] is not None and row["draws_share_se"] <= KNOWN


def _shares(rows: Sequence[Row]) -> str:
    """`8 ± 5 to 31 ± 9 %` from the least to the largest."""
    ends = sorted(rows, key=lambda r: r["draws_share"])[:: max(1, len(rows) - 1)]
    said = []
    for r in ends:
        error = r["draws_share_se"]
        of = "" if error is None else f" ± {100 * error:.0f}"
        said.append(f"{100 * r['draws_share']:.0f}{of}".replace(" ", NO_BREAK))
    return f"{' to '.join(dict.fromkeys(said))} %"


def _divergence_line(rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        whole = [r for r in rows if r["factor"] == "context"] or rows
        r = max(whole, key=lambda r: r["rjsd_corrected"])
        p = "" if r["rjsd_p"] is None else f", p = {r['rjsd_p']:.2g}"
        found = f"corrected RJSD {r['rjsd_corrected']:.3f} nats, n = {r['n']}{p}"
        yield f"contexts furthest from those in distribution: {short(r['subset'], 22)} ({found})"


def _answer_line(results: Mapping[str, Any]) -> Iterator[str]:
    counted = results["answers"].values()
    tokens = results["provenance"]["config"]["sampling"]["max_tokens"]
    unfinished = sum(sum(n.values()) for n in results["cut_at_max_tokens"].values())
    cut = sum((Counter(c["cut"]) for c in counted), Counter())
    finish = sum(sum(c["finish_reasons"].values()) for c in counted)
    counts = {
        f"unfinished at {tokens} tokens": unfinished,
        **{f"with a {kind.replace('_', ' ')} cut": n for kind, n in cut.items()},
        "with a finish_reason other than stop": finish,
        "draws unused": sum(c["unused_draws"] for c in counted),
    }
    if parts := [f"{n} {what}" for what, n in counts.items() if n]:
        yield fit("answers: ", parts)


def _server_line(results: Mapping[str, Any]) -> Iterator[str]:
    """What servers were asked, and what that took."""
    parts = []
    for one in results["provenance"].get("servers") or ():
        cost = "" if one["cost"] is None else f", cost {one['cost']:.4g}"
        parts.append(
            f"{short(one['rpm'], 22)} calls {one['calls']:,}, retries {one['retries']:,}, failures "
            f"{one['failures']:,}, tokens read {one['input_tokens']:,}, written "
            f"{one['output_tokens']:,}{cost}"
        )
    if parts:
        yield fit("servers: ", parts, width=2 * WIDTH - 20)
