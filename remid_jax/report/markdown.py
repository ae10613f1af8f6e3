"""A run as a comment on a pull request, in GitHub's Markdown."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from remid_jax.errors import visible
from remid_jax.factor_names import FACTORS
from remid_jax.report.notes import subsets_without_golden
from remid_jax.report.profile_cells import Profile
from remid_jax.report.run_comparison import COLUMNS, Table
from remid_jax.report.text import NO_BREAK, Figures, Row, rpms_of, span
from remid_jax.report.uncertainty import told_uncertainty
from remid_jax.report.verdict_lines import all_lack_golden, verdict_lines

_PROFILED = ("RPM", "subset", "n", *FACTORS)
_LEVELS = ("RPM", "subset", "n", "R-EMI", "R-EMID", "baseline")

# Not a point between digits, as in our figures; a sign only where a list would begin.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>!|~&:$]|(?<!\d)\.|\.(?!\d)|^[-+=]")
_LINKED = {"@": "@<!-- -->", "#": "#<!-- -->"}  # people and issues would be told of the comment


def escaped(text: str) -> str:
    """A text that GitHub shows as it is: no markup, no link, nobody is mentioned.

    >>> print(escaped("*a* @b #1"))
    \\*a\\* @<!-- -->b #<!-- -->1
    """
    shown = _MARKUP.sub(lambda m: f"\\{m[0]}", visible(text).replace(NO_BREAK, " "))
    return "".join(_LINKED.get(c, c) for c in shown)


def markdown_report(
    results: Mapping[str, Any], name: str, gate: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Answers of a gate, verdicts, the profile, and R-EMI with R-EMID, each with intervals and n.

    Args:
      results: the content of results.json.
      name: of the run.
      gate: `limit`, `answer` and `why` of each limit.
    """
    figures = Figures(results["provenance"]["config"]["estimator"])
    parts = [f"### remid\\_jax: {escaped(name)}", gate_list(gate), _verdicts(results, figures)]
    rpms = rpms_of(results["rows"])
    everything_lacks = all_lack_golden(results)
    if results["profile"] and not everything_lacks:
        parts += [
            "Share of golden's information that the answers' own words carry, % "
            f"\\[{figures.level}\\]; \\* a significant loss (Holm), – no share",
            table(_PROFILED, _of_profile(results, rpms, figures, Profile.cell)),
        ]
    if results["profile"] and subsets_without_golden(results):
        parts += [
            "Share of the uncertainty of own words that a factor takes away, without golden "
            f"answers, % \\[{figures.level}\\]; \\! collapsed against in distribution",
            table(_PROFILED, _of_profile(results, rpms, figures, lambda _, c: told_uncertainty(c))),
        ]
    if not everything_lacks:
        parts += [
            f"R-EMI and R-EMID in {figures.unit}, baseline in nats per token "
            f"\\[{figures.level}\\]; \\* R-EMID significant (Holm). R-EMID is the drop from in "
            "distribution: above 0 is worse",
            table(_LEVELS, _levels(results, rpms, figures)),
        ]
    return "\n\n".join(part for part in parts if part)


def gate_list(gate: Sequence[Mapping[str, Any]]) -> str:
    """The answers of a gate as a list."""
    return "\n".join(
        f"- **{g['answer']}** (fails if {escaped(g['limit'])}): {escaped(g['why'])}" for g in gate
    )


def comparison_parts(lines: Iterable[str], tables: Sequence[Table]) -> str:
    """Two runs beside each other; see `report.run_comparison`."""
    parts = ["\n".join(f"- {escaped(line)}" for line in lines)]
    for found in tables:
        parts += [f"**{escaped(found.title)}**", table(COLUMNS, found.rows), escaped(found.verdict)]
    return "\n\n".join(parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are shown as they are."""
    cells = [[escaped(cell) for cell in row] for row in (columns, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join((lines[0], f"|{' --- |' * len(columns)}", *lines[1:]))


def _verdicts(results: Mapping[str, Any], figures: Figures) -> str:
    """The verdicts, whose further lines are indented, as a list."""
    said: list[str] = []
    for line in verdict_lines(results, figures):
        if line.startswith(" ") and said:
            said[-1] += f" {line.strip()}"
        else:
            said.append(line)
    return "\n".join(f"- {escaped(line)}" for line in said)


def _of_profile(
    results: Mapping[str, Any], rpms: Sequence[str], figures: Figures,
    said: Callable[[Profile, Row | None], str],
) -> Iterator[list[str]]:  # fmt: skip
    profile = Profile(results, figures)
    for rpm in rpms:
        for tag in profile.shifts:
            cells = profile.row(rpm, tag)
            if any(cells):
                counts = span([c["n"] for c in cells if c])
                yield [rpm, tag, counts, *(said(profile, c) for c in cells)]


def _levels(
    results: Mapping[str, Any], rpms: Sequence[str], figures: Figures
) -> Iterator[list[str]]:
    for row in (r for rpm in rpms for r in results["rows"] if r["rpm"] == rpm):
        r_emid = "–"
        if row["r_emid"] is not None:
            r_emid = _interval(row, "r_emid", figures) + "*" * figures.is_significant(row)
        n, paired = row["n"], row["n_paired"]
        counts = str(n) if paired in (None, n) else f"{n}, {paired} paired"
        levels = _interval(row, "r_emi", figures), r_emid, _interval(row, "baseline", figures, 2)
        yield [row["rpm"], row["subset"], counts, *levels]


def _interval(row: Row, key: str, figures: Figures, digits: int | None = None) -> str:
    ends = (row[key], row[f"{key}_low"], row[f"{key}_high"])
    if None in ends:
        return figures.estimate(row, key, digits)
    value, low, high = (figures.value(x, digits) for x in ends)
    return f"{value} [{low}, {high}]"
