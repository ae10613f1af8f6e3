"""Two finished runs, read from their folders and held against each other context by context."""

from collections.abc import Mapping, Sequence
from typing import Any

from remid_jax.analysis.run_differences import Finished, compare_runs, count_contexts
from remid_jax.data.samples import FIELDS, Sample
from remid_jax.errors import UserError, nearest
from remid_jax.evaluation.stored import read_samples, read_subsets
from remid_jax.report.run_changes import check_same_q
from remid_jax.report.run_folder import Run
from remid_jax.report.text import rpms_of

Records = list[dict[str, Any]]
OF_CONTEXT = {key: name for key, name in FIELDS.items() if name not in ("sample_id", "tag")}


def differences(
    first: Run, second: Run, rpm_a: str | None = None, rpm_b: str | None = None
) -> tuple[Records, Records]:
    """Differences of the second run from the first, and how many contexts both have.

    Args:
      first: the run that is compared with; second: the one that is asked about.
      rpm_a: an RPM of the first; rpm_b: one of the second; by default every name that both have.

    Returns:
      Records of `compare_runs` and of `count_contexts`.

    Raises:
      UserError: numbers or contexts that do not compare, an unknown RPM, or damaged files.
    """
    check_same_q(first, second)
    names = _names(first, second, rpm_a, rpm_b)
    samples = [read_samples(run.folder) for run in (first, second)]
    _check_contexts(first, second, *samples)
    a, b = (_finished(r, s) for r, s in zip((first, second), samples, strict=True))
    return compare_runs(a, b, names), count_contexts(a, b)


def _names(
    first: Run, second: Run, rpm_a: str | None, rpm_b: str | None
) -> Sequence[tuple[str, str]]:
    sides = [rpms_of(run.results["rows"]) for run in (first, second)]
    if rpm_a is None and rpm_b is None:
        if both := [name for name in sides[0] if name in sides[1]]:
            return [(name, name) for name in both]
        raise UserError(
            f"{first.name} and {second.name} have no RPM of the same name: {', '.join(sides[0])}; "
            f"{', '.join(sides[1])}; name one of each with --rpm-a and --rpm-b"
        )
    if rpm_a is None or rpm_b is None:
        raise UserError("--rpm-a and --rpm-b belong together: name an RPM of each run")
    for run, name, known in zip((first, second), (rpm_a, rpm_b), sides, strict=True):
        if name not in known:
            hint = nearest(name, known) or f"; there are {', '.join(known)}"
            raise UserError(f"{run.name} has no RPM {name!r}{hint}")
    return [(rpm_a, rpm_b)]


def _check_contexts(
    first: Run, second: Run, a: Mapping[str, Sample], b: Mapping[str, Sample]
) -> None:
    """Refuses runs without a common context, and contexts that have changed under one name."""
    both = f"{first.name} and {second.name} are runs of different benchmarks"
    common = [name for name in a if name in b]
    if not common:
        raise UserError(f"{both}: no sample_ID stands in both")
    for name in common:
        for key, attribute in OF_CONTEXT.items():
            if getattr(a[name], attribute) != getattr(b[name], attribute):
                raise UserError(f"{both}: {key} of sample {name!r} differs; evaluate the same file")


def _finished(run: Run, samples: Mapping[str, Sample]) -> Finished:
    shifts = {r["subset"]: r["shift"] for r in run.results["rows"]}
    subsets, settings = read_subsets(run.folder, run.results["provenance"], samples, shifts)
    gaps = {(r["rpm"], r["subset"], r["sample_ID"]): r for r in run.contributions}
    return Finished({s.tag: s for s in subsets}, settings, gaps)
