"""What the study of known faults prints and draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from remid_jax.information.pairs import ECHO, GOLDEN, REFERENCE_ROWS, UNSHIFTED

from .pieces import Records, print_records

N_POWER, POWER, FALSE_ALARMS = 10, 0.95, 0.05
N_SEEN = 16
COLUMNS = {  # heading -> where it stands in a record
    "a factor": "profile factor",
    "right factor": "profile right",
    "all right": "profile all_right",
    "another": "profile other",
    "a flag": "profile flag",
    "flag names it": "profile flag_names",
    "R-EMI below": "r_emi below",
    "R-EMI above": "r_emi above",
    "R-EMID rises": "r_emid rises",
    "baseline below": "baseline below",
    "baseline above": "baseline above",
}


def print_detection(records: Records) -> None:
    """One row a fault and subset; the cells are rates at each n."""
    rows = []
    for (fault, subset), group in _grouped(records).items():
        cells = {name: _rates(group, place) for name, place in COLUMNS.items()}
        rows.append({"fault": fault, "subset": subset, **cells})
    ns = "/".join(str(n) for n in dict.fromkeys(r["n"] for r in records))
    print_records(
        f"share of draws in which a column sees the fault at 5 %, n = {ns}\n"
        "(of the profile: significantly below golden after Holm, or flagged)",
        [(name, f"{{{name}}}") for name in ("fault", "subset", *COLUMNS)],
        rows,
        left=("fault", "subset"),
    )
    flags = []
    for (fault, subset), group in _grouped(records).items():
        last = group[-1]["profile"]
        shown = sorted(last["flags"].items(), key=lambda item: -item[1])
        said = ", ".join(f"{name} {_short(rate)}" for name, rate in shown if rate >= 0.05)
        flags.append({"fault": fault, "subset": subset, "flags": said})
    print_records(
        f"flags in at least 5 % of draws, n = {records[-1]['n']}",
        [(name, f"{{{name}}}") for name in ("fault", "subset", "flags")],
        flags,
        left=("fault", "subset", "flags"),
    )


def print_limits(golden: Records, faults: Records) -> None:
    """Own words by the limits of a copied run."""
    names = list(golden[0]["copied_tokens"])
    print_records(
        "copied share of golden's tokens | of δ of user, character and dialogue together",
        [("language", "{language}"), ("n", "{n}"),
         *((k, f"{{copied_tokens[{k}]:.3f}} | {{copied_information[{k}]:.3f}}") for k in names)],
        golden,
    )  # fmt: skip
    print_records(
        "share of golden's own words",
        [("fault", "{fault}"), ("language", "{language}"), ("factor", "{factor}"), ("n", "{n}"),
         *((k, f"{{share[{k}]:.2f}}") for k in names)],
        [r for r in faults if np.ptp([v or 0.0 for v in r["share"].values()]) >= 0.005],
        left=("fault", "language", "factor"),
    )  # fmt: skip
    print("shares that differ by less than .005 between all limits are left out")


def claims(records: Sequence[Mapping[str, Any]], seen: Sequence[Mapping[str, Any]]) -> Records:
    """What must hold, with its numbers, as far as there are draws of such n.

    Args:
      records: of `detection.detect`.
      seen: the reference rows on all contexts, none drawn.
    """
    at = [r for r in records if r["n"] == N_POWER]
    found = []
    for fault, shifts in (
        (UNSHIFTED, ("user", "character")), (ECHO, None), ("generic", None),
    ):  # fmt: skip
        for r in (r for r in at if r["fault"] == fault):
            if shifts and r["shift"] not in shifts:
                continue
            rate = r["profile"]["right"]
            found.append({
                "claim": f"{fault}, {r['subset']}: significantly below golden in "
                f"{' or '.join(r['profile']['lacks'])}, n = {N_POWER}",
                "value": rate, "limit": f">= {POWER}", "passes": rate >= POWER,
            })  # fmt: skip
    for r in (r for r in records if r["fault"] == GOLDEN):
        rate = r["profile"]["factor"]
        found.append({
            "claim": f"golden, {r['subset']}: significantly below golden, n = {r['n']}",
            "value": rate, "limit": f"<= {FALSE_ALARMS}", "passes": rate <= FALSE_ALARMS,
        })  # fmt: skip
    for r in seen:
        if r["fault"] in REFERENCE_ROWS and r["n"] == N_SEEN:
            flags = len(r["flags"])
            said = r["factors"] + ([f"{flags} flags"] if flags else [])
            found.append({
                "claim": f"{r['fault']}, {r['subset']}: a factor or a flag, n = {N_SEEN} as scored",
                "value": ", ".join(said) or "nothing",
                "limit": "something", "passes": bool(said),
            })  # fmt: skip
    return found


def print_claims(found: Records) -> None:
    """Each line with pass or fail."""
    rows = [
        {
            **c,
            "value": c["value"] if isinstance(c["value"], str) else f"{c['value']:.3f}",
            "passes": "pass" if c["passes"] else "FAIL",
        }
        for c in found
    ]
    names = ("passes", "claim", "value", "limit")
    columns = [(name.replace("passes", ""), f"{{{name}}}") for name in names]
    print_records("what must hold", columns, rows, left=("", "claim", "value"))
    failed = sum(not c["passes"] for c in found)
    print(f"{len(found) - failed} of {len(found)} hold")


def figure(records: Records, folder: Path, home: str) -> None:
    """Rates at n = 10 (or the n nearest to it) as a map of colours; needs matplotlib."""
    try:
        import matplotlib
    except ImportError:
        print("no figure: pip install 'remid_jax[report]' and run again; nothing is recomputed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    n = min({r["n"] for r in records}, key=lambda k: abs(k - N_POWER))
    shown = [r for r in records if r["n"] == n and (r["subset"] == home or r["fault"] == UNSHIFTED)]
    values = np.array(
        [[np.nan if (v := _at(r, p)) is None else v for p in COLUMNS.values()] for r in shown]
    )
    fig, axis = plt.subplots(figsize=(9, 1.6 + 0.32 * len(shown)))
    axis.imshow(values, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if value > 0.6 else "black"
            axis.text(j, i, _short(value), ha="center", va="center", color=colour, fontsize=8)
    labels = [f"{r['fault']}, {r['subset']}" for r in shown]
    axis.set_yticks(range(len(shown)), labels, fontsize=8)
    axis.set_xticks(range(len(COLUMNS)), list(COLUMNS), fontsize=8, rotation=40, ha="right")
    axis.set_title(f"share of {shown[0]['draws']} draws of {n} contexts", fontsize=9)
    fig.tight_layout()
    fig.savefig(folder / "faults.png", dpi=120)
    plt.close(fig)
    print(f"figure: {folder / 'faults.png'}")


def _grouped(records: Records) -> dict[tuple[str, str], Records]:
    groups: dict[tuple[str, str], Records] = {}
    for r in records:
        groups.setdefault((r["fault"], r["subset"]), []).append(r)
    return groups


def _at(record: Mapping[str, Any], place: str) -> float | None:
    part, key = place.split()
    return record.get(part, {}).get(key)


def _rates(group: Records, place: str) -> str:
    values = [_at(r, place) for r in group]
    return "" if values[0] is None else " ".join(map(_short, values))


def _short(rate: float) -> str:
    """Two digits, as .95 or 1.0."""
    text = f"{rate:.2f}"
    return text.removeprefix("0") if rate < 0.995 else "1.0"
