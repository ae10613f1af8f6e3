"""Made-up results with every key of the schema, and folders that hold them."""

import json

from report.made_up_results import HOME, full, profiled, results_of, row

from remid_jax.analysis.schema import TABLES, TOP, VERSION, check_results

RPM = "my model"
TAGS = ("german", "Film & Television")


def complete(results):
    """The results with all keys; what they lack is None, or an empty table."""
    found = {**dict.fromkeys(TOP), **results, "schema": VERSION}
    for name in (table for table in TABLES if table in TOP):
        keys = TABLES[name]
        rows = found[name] or []
        found[name] = [{**dict.fromkeys(keys), **{k: r[k] for k in r if k in keys}} for r in rows]
    for record in found["by_shift"]:
        keys = TABLES["by_shift.shifts"]
        record["shifts"] = [
            {**dict.fromkeys(keys), **{k: s[k] for k in s if k in keys}} for s in record["shifts"]
        ]
    for r in found["rows"]:
        for key in ("r_emi", "retained", "baseline"):
            value, error = r[key], r[f"{key}_se"]
            r |= {f"{key}_low": value - 2 * error, f"{key}_high": value + 2 * error}
    for r in found["profile"]:
        r["left_out"] = 0
        for key in ("info", "lost"):
            value, error = r[key], r[f"{key}_se"]
            r |= {f"{key}_low": value - 2 * error, f"{key}_high": value + 2 * error}
        r |= {
            "copied_se": 0.02,
            "copied_low": r["copied"] - 0.05,
            "copied_high": r["copied"] + 0.05,
        }
    estimator = found["provenance"]["config"]["estimator"]
    estimator.update(span="response", num_negatives=2, emi_shifts=-1, clusters="none")
    check_results(found)
    return found


def one_rpm(rpm=RPM, cells=None, **r_emid):
    """Results of one RPM in distribution and in `TAGS`; see `profiled` and `row`."""
    rows = [row(rpm, HOME), *(row(rpm, tag, **{"value": 1.0, **r_emid}) for tag in TAGS)]
    placed = {(rpm, *place): found for place, found in (cells or {}).items()}
    return complete(profiled(results_of(rows), placed))


def everything(rpms=(RPM, "other")):
    """Results in which all tables are filled."""
    return complete(profiled(full(rpms, TAGS)))


def write_run(folder, results):
    """A folder of a finished run, as far as a report reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    results = {**results, "contributions": "contributions.jsonl"}
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    (folder / "contributions.jsonl").write_text("", encoding="utf-8")
    return folder
