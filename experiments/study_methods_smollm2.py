"""Training methods for RPMs on real text: each trains SmolLM2, one diagnosis measures all."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.shifts import ID_TEST
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import default_config, rpm
from remid_jax.files import open_workdir
from remid_jax.json_files import read_json_object
from remid_jax.models.rpm import RPM
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.report.terminal import print_report
from remid_jax.settings import check_keys

from .configurations import packaged_module
from .studies.children import Child, check_starts, header, run_children
from .studies.held_out import FIRST, GAIN, LAST, changes, evaluated, predictions, with_verdict
from .studies.pieces import print_records

DIAGNOSIS = "diagnosis"  # folder of the run that measures all methods


def check(config: ConfigDict) -> None:
    """Raises a UserError for what cannot be compared, before any work."""
    module = packaged_module("study_methods_smollm2")
    check_keys(config, module.KEYS)
    check_starts(config.methods, {m: start for m, (_, start) in module.METHODS.items()})
    if not config.methods or not config.shifts:
        raise UserError("config.methods and config.shifts must each name one or more")


def run(config: ConfigDict, workdir: Path) -> None:
    """Trains what is left to train, diagnoses all, prints, and writes `workdir/results.json`."""
    check(config)
    started, folder = time.monotonic(), open_workdir(workdir)
    origin, module = provenance(config), packaged_module("study_methods_smollm2")
    trained = [m for m in config.methods if m != module.BASE]
    for method in trained:
        check_finished(config, folder / method / "results.json")
    waves = [[_child(config, m, folder)] for m in trained]  # one fills the machine
    run_children(waves, workers=1)
    found = diagnose(diagnosis_of(config, folder), folder / DIAGNOSIS)
    at = evaluations_of(config, folder)
    held_out = {
        m: {e["tag"]: {k: e[k] for k in ("n", "log_q", "log_q_se")} for e in evaluated(*where)}
        for m, where in at.items()
    }
    gains = gains_of(at)
    head = header([config.seed], origin, time.monotonic() - started)
    ours = {name: [r for r in found[name] if r["rpm"] in config.methods]
            for name in ("rows", "profile")}  # fmt: skip
    write_results(folder, {**head, "held_out": held_out, "gains": gains, **ours,
                           "comparisons": found["comparisons"], "provenance": origin})  # fmt: skip
    _print(held_out, gains)
    print_report(found, folder / DIAGNOSIS)
    print(f"results: {folder / 'results.json'}")


def check_finished(config: ConfigDict, file: Path) -> None:
    """Refuses a finished run of other settings, which would not be repeated; `file`: its results.

    Raises:
      UserError: naming the key.
    """
    if not file.exists():
        return
    known = read_json_object(file, "results", finite=False)["provenance"]["config"]
    for name in ("steps", "seed"):
        if known[name] != config[name]:
            raise UserError(
                f"{file} is of a run with config.{name}={known[name]}, not {config[name]}; choose "
                "another --workdir"
            )


def _child(config: ConfigDict, method: str, folder: Path) -> Child:
    name, start = packaged_module("study_methods_smollm2").METHODS[method]
    words = ["--config", name, "--workdir", str(folder / method)]
    words += [f"--config.steps={config.steps}", f"--config.seed={config.seed}"]
    words.append(f"--config.evaluate.tags={(ID_TEST, *config.shifts)!r}")
    if config.contexts:
        words.append(f"--config.evaluate.samples={config.contexts}")
    if start is not None:
        words.append(f"--config.start={folder / start}")
    return Child(method, folder / method / "results.json", tuple(words))


def diagnosis_of(config: ConfigDict, folder: Path) -> ConfigDict:
    """The diagnosis of all methods: the untrained model is reasoner and q, and no RPM's judge."""
    c, base = default_config(), packaged_module("study_methods_smollm2").BASE
    c.rpms = ConfigDict({
        m: rpm("full", "" if m == base else str(folder / m / RPM)) for m in config.methods
    })  # fmt: skip
    c.shifts, c.seed = tuple(config.shifts), config.seed
    c.limits.contexts, c.sampling.max_tokens = config.contexts, config.answer_tokens
    c.limits.too_long = "drop_oldest_turns"
    c.estimator.emi_shifts = -1
    c.profile.name = True  # how much of the character is fame
    return c


def evaluations_of(config: ConfigDict, folder: Path) -> dict[str, tuple[Path, int]]:
    """Method -> the run, and which of its evaluations, that measures it.

    The base is measured before the first step of a run that begins from it.
    """
    module = packaged_module("study_methods_smollm2")
    found = {m: (folder / m, LAST) for m in config.methods if m != module.BASE}
    if module.BASE in config.methods and found:
        begun = next(m for m in found if module.METHODS[m][1] is None)
        if evaluated(folder / begun, FIRST)[0]["step"]:
            raise UserError(
                f"{folder / begun} was not evaluated before its first step, which measures the "
                "base; choose another --workdir"
            )
        found = {module.BASE: (folder / begun, FIRST), **found}
    return found


def gains_of(at: Mapping[str, tuple[Path, int]]) -> list[dict[str, Any]]:
    """What log p of golden responses gains over the base, and over what a method begins from.

    Args:
      at: what `evaluations_of` gives.
    """
    module = packaged_module("study_methods_smollm2")
    known = {method: predictions(*where) for method, where in at.items()}
    return [
        {"method": method, "over": over, **row}
        for method, (_, start) in module.METHODS.items()
        for over in dict.fromkeys((module.BASE, start or module.BASE))
        if {method, over} <= set(known)
        for row in changes(known[over], known[method])
        if row["scored"] == "log_q"
    ]


def _print(held_out: dict[str, dict[str, Any]], gains: list[dict[str, Any]]) -> None:
    records = [
        {"method": m, "tag": tag, **cell} for m, of in held_out.items() for tag, cell in of.items()
    ]
    print_records(
        "log p of held-out golden responses, nats (± standard error)",
        (("method", "{method}"), ("subset", "{tag}"), ("samples", "{n}"),
         ("log p", "{log_q:.2f} ± {log_q_se:.2f}")),
        records, left=("method", "subset"),
    )  # fmt: skip
    print_records(
        "What a method gains over another, nats a response (95 %, paired by sample)",
        (("method", "{method}"), ("over", "{over}"), ("subset", "{tag}"), ("samples", "{n}"),
         ("gain", GAIN), ("", "{verdict}")),
        [with_verdict(row) for row in gains],
        left=("method", "over", "subset", ""),
    )  # fmt: skip
