"""What a diagnosis leaves behind: the table, results.json, and the pair matrices."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from remid_jax.analysis.measures import GOLDEN, REFERENCE_ROWS, Subset
from remid_jax.data.responses import count_lines
from remid_jax.data.shifts import ALL_TAGS
from remid_jax.errors import visible
from remid_jax.evaluation.store import npz_bytes
from remid_jax.files import write_atomically
from remid_jax.report.factors import factor_lines, factor_tables
from remid_jax.report.tables import new_table

TABLE_WIDTH = 120
CONSOLE = "remid-jax"  # the installed command
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "tokenizers", "ml-collections", "gguf")


def provenance(config: ConfigDict) -> dict[str, Any]:
    """Where numbers come from: configuration, command, revision, versions and devices."""
    return {
        "config": config.to_dict(),
        "command": _command(),
        "git_revision": git_revision(),
        "versions": {p: _version(p) for p in ("remid_jax", *PACKAGES)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": jax.devices()[0].device_kind,
        "device_count": jax.device_count(),
        "matmul_precision": "highest",
    }


def _command() -> list[str]:
    """What started this process; an escape stands for what JSON and terminals cannot hold."""
    words = [visible(word) for word in sys.orig_argv[1:]]
    if words and Path(words[0]).stem == CONSOLE:
        return [CONSOLE, *words[1:]]
    return ["python", *words]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """Commit of the source, marked where it was changed; None outside a checkout."""
    here = Path(__file__)
    run = {"cwd": here.parent, "capture_output": True, "text": True, "check": True}
    try:  # an environment may lie in the checkout of something else
        subprocess.run(["git", "ls-files", "--error-unmatch", here.name], **run)
        revision = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], **run).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision + ("-dirty" if changed else "")


def write_results(workdir: Path, results: Mapping[str, Any]) -> Path:
    """Writes results.json (NaN and infinity never occur in it), the newest results of a folder.

    Those of another configuration that stand there are kept as results-DIGEST.json, the digest
    being that of their configuration, and that is said.
    """
    path = workdir / "results.json"
    text = json.dumps(results, ensure_ascii=False, indent=1, allow_nan=False, default=_plain)
    older = path.read_bytes() if path.exists() else b""
    if older and (name := _digest(older)) != _digest(text.encode()):
        kept = workdir / f"results-{name}.json"
        write_atomically(kept, [older])
        print(f"note: results of another configuration are kept as {kept}", file=sys.stderr)
    write_atomically(path, [text.encode()])
    return path


def _digest(content: bytes) -> str:
    """Of the configuration that results come from, or of them all where they name none."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        content = json.dumps(json.loads(content)["provenance"]["config"], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:8]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else list(value)


def write_matrices(workdir: Path, subset: Subset) -> Path:
    """Writes a subset's pair matrices and what is needed to estimate from them again."""
    arrays: dict[str, np.ndarray] = {"sample_ids": np.array(subset.sample_ids)}
    own = {p: b for p, b in subset.rpms.items() if p not in REFERENCE_ROWS}
    for policy, block in {GOLDEN: subset.golden, **own}.items():
        arrays[f"{policy}/scores"] = block.scores
        arrays[f"{policy}/scores_without_reasoning"] = block.plain
        arrays[f"{policy}/num_tokens"] = block.lengths
        arrays[f"{policy}/where"] = block.where
    path = workdir / "pairs" / f"{_file_name(subset.tag)}.npz"
    write_atomically(path, [npz_bytes(arrays)])
    return path


def _file_name(tag: str) -> str:
    """A tag as the name of a file, whatever it holds; tags that would be alike stay apart."""
    plain = tag.lower().replace(" & ", "_and_").replace(" ", "_")
    name = re.sub(r"[^\w-]", "_", plain)[:80]
    if name == plain and tag in (*ALL_TAGS, plain):
        return name
    return f"{name}-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _pm(value: float | None, error: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f} ± {_number(error, digits)}"


def _table(title: str, rows: Sequence[Mapping[str, Any]], digits: int) -> Table:
    columns = ("policy", "subset", "n", "R-EMI", "R-EMID", "", "retained", "EMI", "baseline*")
    table = new_table(title, columns, left=("policy", "subset", ""))
    previous = None
    for row in rows:
        if previous not in (None, row["rpm"]):
            table.add_section()
        table.add_row(
            escape(row["rpm"]) if row["rpm"] != previous else "",
            row["subset"],
            str(row["n"]),
            _pm(row["r_emi"], row["r_emi_se"], digits),
            _pm(row["r_emid"], row["r_emid_se"], digits),
            "~" if row["within_noise"] and row["rpm"] != GOLDEN else "",
            _number(row["retained"], 2),
            _number(row["emi"], digits),
            _pm(row["baseline"], row["baseline_se"], 2),
        )
        previous = row["rpm"]
    return table


def print_table(results: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints the rows, each model's worst shift, the comparisons, and what was left out."""
    console = console or Console(width=TABLE_WIDTH, soft_wrap=True)
    e = results["provenance"]["config"]["estimator"]
    sequence = e["normalisation"] == "sequence"
    unit, digits = ("nats per response", 1) if sequence else ("nats per token", 3)
    title = f"R-EMI and R-EMID ± s.e. in {unit} ({e['name']}, {e['negatives']} negatives)"
    console.print(_table(title, results["rows"], digits))
    console.print("~ within noise: the interval of R-EMID holds 0")
    console.print("* mean log q per token, model minus golden: no mutual information in it")
    for line in _power_lines(results["rows"], unit, digits):
        console.print(line, markup=False, highlight=False)
    if results["by_language"]:
        rows = [{**r, "subset": f"{r['subset']}, {r['language']}"} for r in results["by_language"]]
        console.print(_table("The same by language of the sample", rows, digits))
    for table in factor_tables(results["factors"]):
        console.print(table)
    for line in factor_lines(results["factors"]):
        console.print(line, markup=False, highlight=False)
    for line in _remarks(results, e["confidence"], digits):
        console.print(visible(line), markup=False, highlight=False)


def _power_lines(rows: Sequence[Mapping[str, Any]], unit: str, digits: int) -> Iterator[str]:
    """What each evaluated model's subsets are large enough to show."""
    for policy in dict.fromkeys(r["rpm"] for r in rows if r["rpm"] not in REFERENCE_ROWS):
        sizes = [r["detectable"] for r in rows if r["rpm"] == policy]
        if sizes := [x for x in sizes if x is not None]:
            low, high = f"{min(sizes):.{digits}f}", f"{max(sizes):.{digits}f}"
            yield (
                f"{policy}: smallest R-EMID seen with power .8 at this n: "
                f"{low if low == high else f'{low}-{high}'} {unit}; "
                "for half of that about 4x the contexts"
            )


def _warning_lines(warnings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """One line a model and kind: the same holds in many subsets."""
    named = {
        "r_emi_above_golden": "R-EMI is significantly above 0",
        "baseline_above_golden": "the baseline is significantly above 0",
    }
    for policy, kind in dict.fromkeys((w["rpm"], w["kind"]) for w in warnings):
        where = [w["subset"] for w in warnings if (w["rpm"], w["kind"]) == (policy, kind)]
        yield (
            f"warning: {policy}: {named[kind]} in {', '.join(where)}: its answers are more "
            "predictable than the golden ones (cold or greedy sampling, or echoing), which is no "
            "merit"
        )


def _remarks(results: Mapping[str, Any], level: float, digits: int) -> Iterator[str]:
    """Warnings, worst shifts, comparisons, cut answers and exclusions, a line each."""

    def interval(row: Mapping[str, Any], low: str, high: str) -> str:
        noise = ", within noise" if row["within_noise"] else ""
        return f"({100 * level:g}% interval {row[low]:.{digits}f} to {row[high]:.{digits}f}{noise})"

    yield from _warning_lines(results["warnings"])
    for w in results["worst"]:
        others = ", ".join(w["not_distinguished_from"]) or "no other"
        yield (
            f"worst shift of {w['rpm']}: {w['subset']}, R-EMID {w['r_emid']:.{digits}f} "
            f"{interval(w, 'r_emid_low', 'r_emid_high')}; not distinguished from: {others}"
        )
    for c in results["comparisons"]:
        if c["difference"] is not None:
            yield (
                f"{c['subset']}: R-EMI of {c['first']} minus {c['second']}, paired: "
                f"{c['difference']:.{digits}f} {interval(c, 'low', 'high')}, n = {c['n']}"
            )
    tokens = results["provenance"]["config"]["sampling"]["max_tokens"]
    counts = results["cut_at_max_tokens"]
    for policy in next(iter(counts.values()), {}):
        if total := sum(c[policy] for c in counts.values()):
            yield f"answers of {policy} that did not end within {tokens} tokens: {total}"
    if results["contributions"]:
        yield f"what each sample adds to R-EMI, the largest loss first: {results['contributions']}"
    for policy, counted in results["answers"].items():
        yield from count_lines(policy, counted)
    for item in results["excluded"]:
        yield f"excluded: {item['rpm']}, {item['sample_ID']}: {item['reason']}"
