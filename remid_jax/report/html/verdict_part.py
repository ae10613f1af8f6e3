"""The verdicts: what the page says first."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from remid_jax.report.html.grid import capitalised
from remid_jax.report.notes import subsets_without_golden
from remid_jax.report.profile_cells import Profile, counted
from remid_jax.report.profile_verdicts import (
    COPIED,
    FLAGGED,
    UNSURE,
    UNTESTED,
    profile_clauses,
)
from remid_jax.report.text import Figures, rpms_of, short, span
from remid_jax.report.uncertainty import collapse_verdict
from remid_jax.report.verdict_lines import all_lack_golden, told_by_collapse
from remid_jax.report.verdicts import comparison_lines, verdict

COMPARED = 8  # lines of RPMs against each other
TONES = {COPIED: "bad", FLAGGED: "bad", UNSURE: "quiet", UNTESTED: "quiet"}


class Said(NamedTuple):
    """A clause and its tone: `bad`, `quiet` or none."""

    text: str
    tone: str = ""


class Verdict(NamedTuple):
    """What is said of an RPM; `counted` is its n."""

    rpm: str
    counted: str
    clauses: list[Said]


def verdicts(results: Mapping[str, Any], figures: Figures) -> list[Verdict]:
    """A verdict for each RPM."""
    return [
        Verdict(short(rpm, 60), n, [Said(capitalised(text), tone) for text, tone in clauses])
        for rpm in rpms_of(results["rows"])
        for n, clauses in [_verdict(rpm, results, figures)]
    ]


def compared(results: Mapping[str, Any], figures: Figures) -> list[str]:
    """Sentences about RPMs against each other; none where nothing can be compared."""
    if all_lack_golden(results):
        return []
    return comparison_lines(results, figures, COMPARED)


def _verdict(rpm: str, results: Mapping[str, Any], figures: Figures) -> tuple[str, list[Said]]:
    if not results["profile"]:
        n = span([r["n"] for r in results["rows"] if r["rpm"] == rpm])
        said = verdict(rpm, results, figures).removeprefix(f"{short(rpm)}: ")
        return f"n = {n}", [Said(part) for part in said.split("; ")]
    profile = Profile(results, figures)
    return counted(profile.cells(rpm)), list(_of_profile(rpm, results, profile, figures))


def _of_profile(
    rpm: str, results: Mapping[str, Any], profile: Profile, figures: Figures
) -> Iterator[Said]:
    if not all_lack_golden(results):
        for clause in profile_clauses(rpm, results, profile, figures):
            tone = TONES.get(clause[0].rank, "")
            yield Said("".join(piece.text for piece in clause), tone)
    if lacking := subsets_without_golden(results):
        told = told_by_collapse(profile, lacking)
        said = collapse_verdict(rpm, profile, told).removeprefix(f"{short(rpm)}: ")
        _, _, what = said.partition("; ")
        yield Said(what, "bad" if what.startswith("collapsed") else "")
