"""Made-up results with every key of the schema, and folders that hold them."""

import json

from report.made_up_results import HOME, full, profiled, results_of, row

from remid_jax.analysis.schema import TABLES, TOP, VERSION, check_results

RPM = "my model"
TAGS = ("german", "Film & Television")
PROVENANCE = {
    "command": ["python", "-m", "experiments.main"], "git_revision": "0" * 40, "unit": "nats",
    "versions": {"remid_jax": "0.1.0", "jax": "0.10.2"}, "python": "3.11.7", "platform": "Linux",
    "device": "cpu", "device_count": 1, "matmul_precision": "highest", "benchmark": "bundled",
    "model": {"name": "q", "identity": "0" * 64, "dtype": "float32"},
    "templates": {"q": {"variables": {}, "notes": []}}, "counts": {}, "shifts": list(TAGS),
    "absent_subsets": [], "shortened": [], "swapped_contexts": {}, "planned_flops": 0.0,
    "sizes": {}, "programs": {}, "work": None, "seconds": {"start_up": 1.0, "work": 2.0},
}  # fmt: skip


def complete(results):
    """The results with all keys; what they lack is None, or an empty table."""
    found = {**dict.fromkeys(TOP), **results, "schema": VERSION}
    for name in (table for table in TABLES if table in TOP):
        keys = TABLES[name]
        rows = found[name] or []
        found[name] = [{**dict.fromkeys(keys), **{k: r[k] for k in r if k in keys}} for r in rows]
    for record in found["by_shift"]:
        keys = TABLES["by_shift.shifts"]
        record.update(method="one at a time", not_distinguished_from=[])
        record["shifts"] = [
            {**dict.fromkeys(keys), "subsets": [], **{k: v for k, v in s.items() if k in keys}}
            for s in record["shifts"]
        ]
    for r in found["rows"]:
        _with_ends(r, "r_emi", "retained", "baseline")
    for r in found["profile"]:
        r.update(left_out=0, copied_se=0.02)
        _with_ends(r, "info", "lost", "copied")
    config = found["provenance"]["config"]
    more = {"span": "response", "num_negatives": 2, "emi_shifts": -1, "clusters": "none"}
    config["estimator"] = {**config["estimator"], **more}
    counts = {r["subset"]: {"available": 16, "used": r["n"]} for r in found["rows"]}
    found["provenance"] = {**PROVENANCE, "config": config, "counts": counts}
    check_results(found)
    return found


def _with_ends(record, *keys):
    for key in keys:
        value, error = record[key], record[f"{key}_se"]
        record |= {f"{key}_low": value - 2 * error, f"{key}_high": value + 2 * error}


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
