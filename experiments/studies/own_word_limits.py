"""How much own words depend on the limits of a copied run: of golden answers, and of faults."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from remid_jax.data.factors import FACTORS
from remid_jax.information.pairs import GOLDEN, UNSHIFTED

Record = dict[str, Any]


def golden_copies(scored: Iterable[Mapping[str, Any]]) -> list[Record]:
    """For each language of golden answers: the copied share of tokens and of δ, by limits."""
    found: dict[str, dict[str, list[Any]]] = {}
    for record in scored:
        row = record["rows"][GOLDEN]
        for i, language in enumerate(record["languages"]):
            cell = found.setdefault(
                str(language), {"tokens": [], "copied": [], "whole": [], "own": []}
            )
            cell["tokens"].append(row["tokens"][i])
            cell["copied"].append([c[i] for c in row["copied"].values()])
            cell["whole"].append([_number(row["all"][f][i]) for f in FACTORS])
            cell["own"].append([[_number(o[f][i]) for f in FACTORS] for o in row["own"].values()])
            limits = list(row["own"])
    records = []
    for language, cell in found.items():
        whole, own = np.nansum(cell["whole"], axis=0), np.nansum(cell["own"], axis=0)
        tokens = np.sum(cell["copied"], axis=0) / np.sum(cell["tokens"])
        with np.errstate(divide="ignore", invalid="ignore"):  # golden answers may say nothing
            copied = 1 - own / whole  # [limits, factors]
            both = 1 - own.sum(axis=1) / whole.sum()
        records.append({
            "language": language,
            "n": len(cell["tokens"]),
            "copied_tokens": _by(limits, tokens),
            "copied_information": _by(limits, both),
            "by_factor": {str(f): _by(limits, copied[:, k]) for k, f in enumerate(FACTORS)},
        })  # fmt: skip
    return records


def fault_shares(scored: Iterable[Mapping[str, Any]]) -> list[Record]:
    """For each fault, shift and language: its share of golden's own words, by limits."""
    sums: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in scored:
        golden = record["rows"][GOLDEN]
        for name, row in record["rows"].items():
            label = f"{UNSHIFTED} {record['shift']}" if name == UNSHIFTED else name
            for i, language in enumerate(record["languages"] if name != GOLDEN else ()):
                for f in FACTORS:
                    key = label, str(language), str(f)
                    cell = sums.setdefault(key, {"n": 0, "model": {}, "golden": {}})
                    cell["n"] += 1
                    for side, source in (("model", row), ("golden", golden)):
                        for limits, own in source["own"].items():
                            known = cell[side].get(limits, 0.0)
                            cell[side][limits] = known + _number(own[f][i], 0.0)
    return [
        {
            "fault": fault, "language": language, "factor": factor, "n": cell["n"],
            "share": _by(cell["model"], [_ratio(cell, k) for k in cell["model"]]),
        }
        for (fault, language, factor), cell in sums.items()
    ]  # fmt: skip


def _ratio(cell: Mapping[str, Any], limits: str) -> float:
    golden = cell["golden"][limits]
    return cell["model"][limits] / golden if golden else np.nan


def _by(names: Iterable[str], values: Iterable[float]) -> dict[str, float | None]:
    return {k: float(v) if np.isfinite(v) else None for k, v in zip(names, values, strict=True)}


def _number(value: float | None, missing: float = np.nan) -> float:
    return missing if value is None else value
