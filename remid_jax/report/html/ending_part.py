"""What the page ends with: answers and warnings, and where the figures come from."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from remid_jax.report.html.grid import (
    RPM,
    SUBSET,
    Column,
    Section,
    Table,
    capitalised,
    count,
    name,
    p_value,
    text,
)
from remid_jax.report.notes import note_lines, warning_lines
from remid_jax.report.text import Figures, rpms_of

LISTED = 100  # excluded answers and warnings
ORIGINS = (
    "git_revision", "benchmark", "device", "device_count", "python", "platform",
    "matmul_precision",
)  # fmt: skip


def notes_section(results: Mapping[str, Any], figures: Figures) -> Section:
    """Warnings, notes, and what the answers went through."""
    said = [*warning_lines(results), *note_lines(results, figures)]
    lead = [] if said or results["excluded"] else ["Nothing was excluded, and nothing is suspect."]
    tables = [_answers(results), _servers(results), _warnings(results), _excluded(results)]
    return Section(
        "notes",
        "What the answers went through",
        lead,
        tables=[table for table in tables if table.rows],
        points=[("", capitalised(line)) for line in said],
    )


def _answers(results: Mapping[str, Any]) -> Table:
    rows = []
    for rpm in rpms_of(results["rows"]):
        one = results["answers"].get(rpm) or {}
        unfinished = sum(n.get(rpm, 0) for n in results["cut_at_max_tokens"].values())
        cut, ends = (_counted(one.get(key) or {}) for key in ("cut", "finish_reasons"))
        rows.append([name(rpm), count(unfinished), text(cut), text(ends),
                     count(one.get("unused_draws"))])  # fmt: skip
    columns = (
        RPM, Column("unfinished"), Column("cut from answers", is_text=True),
        Column("other finish reasons", is_text=True), Column("draws unused"),
    )  # fmt: skip
    return Table("answers", "Answers, by RPM", columns, rows, is_open=True)


def _servers(results: Mapping[str, Any]) -> Table:
    keys = ("calls", "retries", "failures", "input_tokens", "output_tokens")
    rows = [
        [name(one["rpm"]), text(f"{one['model']} at {one['url']}"), *(count(one[k]) for k in keys),
         text("" if one["cost"] is None else f"{one['cost']:.4g}")]
        for one in results["provenance"].get("servers") or ()
    ]  # fmt: skip
    columns = (
        RPM, Column("model", is_text=True), *(Column(k.replace("_", " ")) for k in keys),
        Column("cost", is_text=True),
    )  # fmt: skip
    return Table("servers", "Servers that answered", columns, rows)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in counts.items())


def _warnings(results: Mapping[str, Any]) -> Table:
    rows = [
        [name(w["rpm"]), name(w["subset"]), p_value(w["p_holm"]), text(w["text"])]
        for w in results["warnings"][:LISTED]
    ]
    columns = (RPM, SUBSET, Column("p (Holm)"), Column("what", is_text=True))
    return Table("warnings", _title("Warnings", results["warnings"]), columns, rows)


def _excluded(results: Mapping[str, Any]) -> Table:
    rows = [
        [name(r["rpm"]), name(r["sample_ID"]), text(r["reason"])]
        for r in results["excluded"][:LISTED]
    ]
    columns = (RPM, Column("sample", is_text=True), Column("reason", is_text=True))
    return Table("excluded", _title("Excluded answers", results["excluded"]), columns, rows)


def _title(what: str, records: list[Any]) -> str:
    more = f" (the first {LISTED}; results.json holds all)" if len(records) > LISTED else ""
    return f"{what}: {len(records)}{more}"


def command_of(provenance: Mapping[str, Any]) -> str:
    """The command that made the results, as a shell takes it."""
    return shlex.join(provenance.get("command") or ["unknown"])


def origins(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the results come from, as terms and descriptions."""
    model = provenance["model"]
    parts = [model["name"], model.get("dtype"), (model.get("identity") or "")[:16]]
    yield "judge q", ", ".join(filter(None, parts))
    for key in ORIGINS:
        if provenance.get(key) is not None:
            yield key.replace("_", " "), str(provenance[key])
    versions = provenance.get("versions") or {}
    yield "versions", ", ".join(f"{package} {v}" for package, v in versions.items())
    counts = provenance.get("counts") or {}
    used = (f"{tag} {n['used']} of {n['available']}" for tag, n in counts.items())
    yield "contexts used", ", ".join(used)


def configuration(provenance: Mapping[str, Any]) -> str:
    """All keys of the configuration, as JSON."""
    return json.dumps(provenance["config"], ensure_ascii=False, indent=1)
