"""Every measure of a run as a record of one shape: what results.csv holds and limits are put on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from remid_jax.report.text import Row

COLUMNS = (
    "rpm", "subset", "shift", "measure", "factor", "value", "se", "low", "high", "n", "p_holm",
    "shown", "unit", "reason",
)  # fmt: skip
NONE, BY_TOKEN = "", "nats per token"
OF_ROWS = {  # column of `rows` -> unit; nothing is that of the run
    "r_emi": None, "r_emi_token": BY_TOKEN, "emi": None, "r_emid": None, "retained": NONE,
    "baseline": BY_TOKEN, "cross_information": None, "expected_kl": "nats per response",
}  # fmt: skip
OF_CELLS = {  # column of `profile` -> unit
    "share": NONE, "info": "nats per response", "lost": "nats per response", "share_drop": NONE,
    "u": NONE,
}  # fmt: skip
OF_PREDICTION = ("predicted", "bound")
ENDS = {  # names of a column's error and limits
    "share": (None, "share_low", "share_high"),
    "share_drop": (None, "share_drop_low", "share_drop_high"),
    "u": (None, "u_low", "u_high"),
}
TESTED = {"r_emid": "p_holm", "lost": "p_holm"}  # measure -> column of its p-value after Holm
OPTIONAL = ("emi", "cross_information", "expected_kl")  # which a run may not have asked for


def measured(results: Mapping[str, Any]) -> list[Row]:
    """One record of `COLUMNS` for each row, subset, measure and factor; `value` None where unknown.

    Of `OPTIONAL` measures those are left out that have no value anywhere in the run.
    """
    shifts = {r["subset"]: r["shift"] for r in results["rows"]}
    home = next(iter(shifts), None)
    by_token = results["provenance"]["config"]["estimator"]["normalisation"] == "token"
    unit = BY_TOKEN if by_token else "nats per response"
    found = [
        *_of_rows(results["rows"], home, unit),
        *_of_cells(results["profile"], home, shifts),
        *_of_prediction(results["prediction"], unit),
    ]
    known = {r["measure"] for r in found if r["value"] is not None}
    return [r for r in found if r["measure"] in known or r["measure"] not in OPTIONAL]


def name_of(record: Row) -> str:
    """How a limit names a measure: `r_emi`, `share.user`."""
    return f"{record['measure']}.{record['factor']}" if record["factor"] else record["measure"]


def _of_rows(rows: Sequence[Row], home: str | None, unit: str) -> Iterator[Row]:
    at_home = {r["rpm"]: r for r in rows if r["subset"] == home}
    for row in rows:
        for name, own in OF_ROWS.items():
            if name == "r_emid" and row["subset"] == home:
                continue
            n = (row["n_paired"] or row["n"]) if name == "r_emid" else row["n"]
            why = row["reason"] or f"no estimate from n = {n}"
            known = at_home.get(row["rpm"], row)
            if name == "r_emid" and known["r_emi"] is None:
                why = f"in distribution {known['reason'] or 'R-EMI is not known'}"
            yield _record(row, name, None, row["shift"], n, unit if own is None else own, why)


def _of_cells(
    cells: Iterable[Row], home: str | None, shifts: Mapping[str, str | None]
) -> Iterator[Row]:
    told = set()  # rows whose copied words are said
    for cell in cells:
        place, shift = (cell["rpm"], cell["subset"]), shifts[cell["subset"]]
        for name, unit in OF_CELLS.items():
            if name == "share_drop" and cell["subset"] == home:
                continue
            why = cell["reason"] or f"no estimate from n = {cell['n']}"
            if name == "share_drop":
                why = cell["reason"] or "no share in distribution to compare with"
            yield _record(cell, name, cell["factor"], shift, cell["n"], unit, why)
        if place not in told:
            told.add(place)
            why = cell["reason"] or "no answer"
            yield _record(cell, "copied", None, shift, cell["n"] + cell["left_out"], NONE, why)


def _of_prediction(rows: Iterable[Row], unit: str) -> Iterator[Row]:
    for row in rows:
        for name in OF_PREDICTION:
            yield _record(row, name, None, row["shift"], row["n"], unit, "too few contexts")


def _record(
    row: Row, name: str, factor: str | None, shift: str | None, n: int, unit: str, why: str
) -> dict[str, Any]:
    error, low, high = ENDS.get(name, (f"{name}_se", f"{name}_low", f"{name}_high"))
    value = row[name]
    return {
        "rpm": row["rpm"], "subset": row["subset"], "shift": shift, "measure": name,
        "factor": factor, "value": value, "se": row[error] if error else None,
        "low": row.get(low), "high": row.get(high), "n": n,
        "p_holm": row[TESTED[name]] if name in TESTED else None, "shown": value is not None,
        "unit": unit, "reason": None if value is not None else why,
    }  # fmt: skip
