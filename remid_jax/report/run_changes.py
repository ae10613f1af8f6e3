"""What differs between two runs besides their numbers, and whether these may be compared."""

from collections.abc import Iterator, Mapping
from typing import Any

from remid_jax.errors import UserError, visible
from remid_jax.report.run_folder import Run

ABSENT = object()  # a key that one side lacks
NO_MATTER = ("shard", "processes", "dry_run")  # keys that change no number
OF_Q = {  # part of the configuration -> why both must have the same
    "estimator": "values of different estimators do not compare",
    "reasoning": "q reads the thoughts",
    "scorer": "likelihoods of different scorers do not compare",
    "profile": "δ of different swaps do not compare",
    "in_distribution": "R-EMID is a drop from that subset",
}
OF_MODEL = ("dtype", "cache_dtype", "chat_template", "template_variables")
MOST = 60  # characters of a value
KEPT = ("benchmark", "model", "templates", "versions", "git_revision", "python", "device")


def check_same_q(first: Run, second: Run) -> None:
    """Refuses two runs whose numbers do not compare, and says why.

    Raises:
      UserError: q, its template, its dtype, the estimator, the scored span, the reasoning or what
        is in distribution differ.
    """
    a, b = (run.results["provenance"] for run in (first, second))
    both = f"{first.name} and {second.name} cannot be compared"
    if a["model"]["identity"] != b["model"]["identity"]:
        names = f"{a['model']['name']!r} and {b['model']['name']!r}"
        raise UserError(f"{both}: their q differ, {names}, and each judges in its own nats")
    parts = [(f"config.{key}", a["config"][key], b["config"][key], OF_Q[key]) for key in OF_Q]
    parts += [
        (f"config.model.{key}", *(p["config"]["model"][key] for p in (a, b)), "q reads it")
        for key in OF_MODEL
    ]
    parts.append((
        "the chat template of q", *(p["templates"].get(p["model"]["name"]) for p in (a, b)),
        "q reads it",
    ))  # fmt: skip
    if _draws_by_seed(a["config"]) or _draws_by_seed(b["config"]):
        parts.append(("config.seed", a["config"]["seed"], b["config"]["seed"], "it draws for q"))
    for name, one, other, why in parts:
        if changed := list(_differences(one, other, name)):
            raise UserError(f"{both}: {changed[0]}; {why}")


def _draws_by_seed(config: Mapping[str, Any]) -> bool:
    """Whether thoughts or negatives are drawn."""
    return config["reasoning"]["temperature"] > 0 or config["estimator"]["negatives"] == "random"


def change_lines(first: Run, second: Run) -> list[str]:
    """What differs in configuration, models, data and versions: `key: before → after`."""
    a, b = (run.results["provenance"] for run in (first, second))
    own = [{k: v for k, v in p["config"].items() if k not in NO_MATTER} for p in (a, b)]
    lines = list(_differences(*own, "config"))
    for key in KEPT:
        lines += _differences(a.get(key), b.get(key), key)
    return lines


def _differences(one: Any, other: Any, name: str) -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys((*one, *other)):
            values = one.get(key, ABSENT), other.get(key, ABSENT)
            yield from _differences(*values, f"{name}.{key}")
    elif one != other:
        yield visible(f"{name}: {_said(one)} → {_said(other)}")


def _said(value: Any) -> str:
    text = "none" if value is ABSENT or value is None else str(value)
    return text if len(text) <= MOST else f"{text[:MOST]}…"
