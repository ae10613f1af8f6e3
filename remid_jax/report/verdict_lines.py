"""The verdicts of a run, whatever it has measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.report.notes import subsets_without_golden
from remid_jax.report.profile_cells import Profile
from remid_jax.report.profile_verdicts import profile_verdict
from remid_jax.report.text import Figures, rpms_of, wrapped
from remid_jax.report.uncertainty import collapse_verdict
from remid_jax.report.verdicts import verdict


def all_lack_golden(results: Mapping[str, Any]) -> bool:
    """Whether no subset has golden responses to compare with."""
    return {r["subset"] for r in results["rows"]} <= {*subsets_without_golden(results)}


def told_by_collapse(profile: Profile, lacking: Sequence[str]) -> Sequence[str]:
    """Shifts that only a collapse can tell of: where home lacks golden responses, all of them."""
    return profile.shifts if profile.home in lacking else lacking


def verdict_lines(results: Mapping[str, Any], figures: Figures) -> list[str]:
    """For each RPM what its profile shows, or what R-EMID does; a second line is indented.

    Subsets without golden responses have a line of their own: what has collapsed there.
    """
    rpms = rpms_of(results["rows"])
    if not results["profile"]:
        return [line for rpm in rpms for line in wrapped(verdict(rpm, results, figures))]
    profile, lines = Profile(results, figures), []
    lacking = subsets_without_golden(results)
    everywhere = all_lack_golden(results)
    if not everywhere:
        lines += [x for rpm in rpms for x in profile_verdict(rpm, results, profile, figures)]
    if lacking:
        tags = told_by_collapse(profile, lacking)
        lines += [collapse_verdict(rpm, profile, tags) for rpm in rpms]
    return lines
