"""R-EMI, R-EMID and the baseline; risk by shift; predictions; what more contexts would tell."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remid_jax.factor_names import FACTORS
from remid_jax.report.html.grid import (
    NONE,
    RPM,
    SHIFT,
    SUBSET,
    Cell,
    Column,
    Section,
    Table,
    count,
    estimate,
    interval,
    name,
    p_value,
    text,
    without_empty,
)
from remid_jax.report.html.pictures import inline
from remid_jax.report.notes import prediction_lines, seen_with_power
from remid_jax.report.profile_cells import Profile
from remid_jax.report.svg import R_EMI_KEY, r_emi_panels
from remid_jax.report.text import (
    GOLDEN,
    NO_BREAK,
    Figures,
    Row,
    rpms_of,
    short,
    without_r_emid,
)

SEEN = "seen with power 0.8"
LEVELS = ("n", "R-EMI", "R-EMID", "p (Holm)", SEEN)


def measures_section(results: Mapping[str, Any], figures: Figures) -> Section:
    """R-EMI, R-EMID and the baseline of each RPM and subset."""
    panels = r_emi_panels(results)
    lead = [
        "R-EMI compares the information in all words with golden’s; R-EMID is what a shift takes "
        "from it. The baseline holds no information: a conclusion that it supports needs no "
        "information theory."
    ]
    if not panels:
        lead = ["Nothing here can be compared with golden answers, so R-EMI has no value."]
    return Section(
        "r-emi",
        "R-EMI, and its drop under shift",
        lead,
        ("R-EMI", "R-EMID", "baseline", "retained", "EMI", "E KL", "p (Holm)", SEEN,
         "reference rows", "interval", "n"),
        [inline(panel) for panel in panels],
        R_EMI_KEY,
        [_levels(results["rows"], figures)],
    )  # fmt: skip


def _levels(rows: Sequence[Row], figures: Figures) -> Table:
    names = (*LEVELS, "retained", "baseline", "R-EMI per token", "EMI", "E KL")
    columns = [RPM, SUBSET, SHIFT, *map(Column, names), Column("why none", is_text=True)]
    cells = [_level_row(r, figures) for r in rows if r["rpm"] != GOLDEN]
    kept, cells = without_empty(columns, cells, ("RPM", "subset", "shift", *LEVELS[:3]))
    title = f"R-EMI ± s.e. and R-EMID [{figures.level}] in {figures.unit}"
    note = f"* p < {figures.alpha:.2g} (Holm over the subsets of the RPM). "
    note += f"R-EMI and R-EMID are in {figures.how}."
    return Table("levels", title, kept, cells, note, is_open=True)


def _level_row(row: Row, figures: Figures) -> list[Cell]:
    shown = row["r_emid"] is not None and figures.is_significant(row)
    n = count(row["n"])
    if row["n_paired"] not in (None, row["n"]):
        n = n._replace(aside=f"{row['n_paired']}{NO_BREAK}paired")
    seen = row["detectable"]
    return [
        name(row["rpm"]), name(row["subset"]), name(row["shift"]), n,
        estimate(row, "r_emi", figures),
        interval(row, "r_emid", figures, shown, "bad" * (shown and row["r_emid"] > 0)),
        p_value(row["p_holm"]), Cell(NONE if seen is None else figures.value(seen)),
        estimate(row, "retained", figures, 2), estimate(row, "baseline", figures, 2),
        estimate(row, "r_emi_token", figures, 3), estimate(row, "emi", figures),
        estimate(row, "expected_kl", figures), text(row["reason"], "quiet"),
    ]  # fmt: skip


def risk_section(results: Mapping[str, Any], figures: Figures) -> Section:
    """Which shift is the worst for each RPM, as far as that can be told."""
    title = "Which shift hurts most"
    shifts = [(r["rpm"], s) for r in results["by_shift"] for s in r["shifts"]]
    if not shifts:
        return Section("risk", title, ["No shifted subset of this run has an R-EMID."])
    columns = [RPM, SHIFT, Column("subsets", is_text=True)]
    columns += map(Column, ("mean R-EMID", "p (Holm)", SEEN))
    rows = [_shift_row(rpm, s, figures) for rpm, s in shifts]
    note = "Each shift is measured by itself: values do not add up to a joint one."
    foreign = {x for _, s in shifts for x in s["other_languages"]}
    if foreign:
        codes = ", ".join(short(x, 8) for x in sorted(foreign))
        note += f" Nats of other languages ({codes}) do not compare with those in distribution."
    heading = f"Mean R-EMID by shift, {figures.unit} [{figures.level}]"
    table = Table("by-shift", heading, columns, rows, note, is_open=True)
    return Section(
        "risk",
        title,
        ["A shift is named only where its R-EMID is above 0 and larger than that of every other; "
         "else all that may be the worst are listed."],
        ("R-EMID", "not distinguished", "p (Holm)", SEEN, "interval"),
        tables=[table],
        points=[(rpm, said) for rpm in rpms_of(results["rows"])
                for said in _risk(rpm, results, figures)],
    )  # fmt: skip


def _shift_row(rpm: str, shift: Row, figures: Figures) -> list[Cell]:
    shown = shift["r_emid"] is not None and figures.is_significant(shift)
    bad = shown and shift["r_emid"] > 0
    seen, tags = shift["detectable"], ", ".join(short(tag) for tag in shift["subsets"])
    return [
        name(rpm), name(shift["shift"]), text(tags),
        interval(shift, "r_emid", figures, shown, "bad" * bad), p_value(shift["p_holm"]),
        Cell(NONE if seen is None else figures.value(seen)),
    ]  # fmt: skip


def _risk(rpm: str, results: Mapping[str, Any], figures: Figures) -> Iterator[str]:
    """By shift, then by subset."""
    for record in results["by_shift"]:
        known = [s for s in record["shifts"] if s["r_emid_high"] is not None]
        if record["rpm"] == rpm and known:
            yield _worst_of(known, "shift", record["not_distinguished_from"], figures, "shifts")
    for worst in results["worst"]:
        rows = [r for r in results["rows"] if r["rpm"] == rpm and r["r_emid_high"] is not None]
        if worst["rpm"] == rpm and rows:
            near = worst["not_distinguished_from"]
            yield _worst_of(rows, "subset", near, figures, "subsets")
    if rows_without := without_r_emid(rpm, results["rows"]):
        yield f"Not estimated, and so not judged: {', '.join(short(t, 24) for t in rows_without)}."


def _worst_of(
    rows: Sequence[Row], key: str, near: Sequence[str], figures: Figures, what: str
) -> str:
    top = max(rows, key=lambda r: r["r_emid"])
    ends = figures.interval(top["r_emid"], top["r_emid_low"], top["r_emid_high"])
    others = ", ".join(short(name, 24) for name in near)
    apart = f"not distinguished from {others}" if near else f"larger than under the other {what}"
    if len(rows) == 1:
        apart = f"the only one of the {what} that is estimated"
    found = f"largest under {short(top[key], 24)}: {ends}, {apart}"
    if any(r["r_emid"] > 0 and figures.is_significant(r) for r in rows):
        return f"By {key}, {found}."
    far = max(rows, key=lambda r: r["r_emid_high"])
    most = f"at most {figures.value(far['r_emid_high'])} ({short(far[key], 24)})"
    return f"By {key}, no degradation shown, {most}; {found}."


def needs_section(results: Mapping[str, Any], figures: Figures) -> Section:
    """How many contexts would tell what this run cannot."""
    rows = [r for r in results["rows"] if r["rpm"] in rpms_of(results["rows"])]
    lead = []
    if seen := seen_with_power(rows, figures):
        lead.append(f"{seen}; half of it takes four times the contexts.")
    if not results["profile"]:
        lead.append("Without a profile there is nothing to say of single factors.")
        return Section("needs", "What it would take", lead, (SEEN, "n"))
    lead.append("Contexts that would do for each factor, at power 0.8:")
    profile = Profile(results, figures)
    names = [f"{factor} {what}" for factor in FACTORS for what in ("to show", "to tell half")]
    columns = [RPM, SUBSET, Column("n"), *map(Column, names), Column(f"R-EMID {SEEN}")]
    cells = [_needs_row(r, profile, figures) for r in rows]
    note = "Bold: more than this run has. “Many”: too many for a number."
    table = Table("needs", "Contexts needed", columns, cells, note, is_open=True)
    return Section(
        "needs", "What it would take", lead, ("to show", "to tell half", SEEN, "n"), tables=[table]
    )


def _needs_row(row: Row, profile: Profile, figures: Figures) -> list[Cell]:
    cells = [name(row["rpm"]), name(row["subset"]), count(row["n"])]
    for cell in profile.row(row["rpm"], row["subset"]):
        for key in ("n_to_show", "n_to_tell_half"):
            if cell is None or cell["info_golden"] is None:
                cells.append(Cell(NONE))
            elif cell[key] is None:
                cells.append(Cell("many", tone="more"))
            else:
                cells.append(Cell(str(cell[key]), tone="more" * (cell[key] > cell["n"])))
    seen = row["detectable"]
    return [*cells, Cell(NONE if seen is None else figures.value(seen))]


def prediction_section(results: Mapping[str, Any], figures: Figures) -> Section | None:
    """What was predicted beside what was measured, where a prediction was run."""
    if not results["prediction"]:
        return None
    columns = [RPM, SUBSET, SHIFT, *map(Column, ("n", "n at home"))]
    columns += map(Column, ("predicted", "measured R-EMID", "bound"))
    rows = [
        [name(r["rpm"]), name(r["subset"]), name(r["shift"]), count(r["n"]), count(r["n_id"]),
         *(interval(r, key, figures) for key in ("predicted", "measured", "bound"))]
        for r in results["prediction"]
    ]  # fmt: skip
    lead = list(prediction_lines(results, figures))[1:]
    title = f"Predicted and measured, nats [{figures.level}]"
    return Section(
        "prediction",
        "Predicted beside measured",
        [f"The prediction of R-EMID: {line}." for line in lead],
        ("predicted", "bound", "R-EMID", "interval"),
        tables=[Table("predicted", title, columns, rows, is_open=True)],
    )
