"""Which column of a diagnosis sees which known fault, on real prose and with few contexts?"""

import functools
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.information.pairs import GOLDEN
from remid_jax.progress import progress
from remid_jax.provenance import provenance
from remid_jax.report.results_file import write_results
from remid_jax.settings import check_keys

from .configurations import packaged_module
from .studies import fault_tables as tables
from .studies.answer_scores import LIMITS, Scorer, name_of
from .studies.detection import Draws, Subset, as_scored, detect
from .studies.known_faults import NOISE
from .studies.own_word_limits import fault_shares, golden_copies
from .studies.pieces import Records, run_pieces


def check(config: ConfigDict) -> None:
    """Raises a UserError for what cannot be measured, before any work."""
    check_keys(config, packaged_module("study_faults").KEYS)
    if not config.shifts or len(set(config.shifts)) < len(config.shifts):
        raise UserError("config.shifts must name one or more tags, each once")
    if config.in_distribution in config.shifts:
        raise UserError(f"config.shifts holds {config.in_distribution!r}, which is not shifted")
    if unknown := set(config.pairs) - set(config.shifts):
        raise UserError(f"config.pairs holds {sorted(unknown)[0]!r}, which config.shifts does not")


def run(config: ConfigDict, workdir: Path) -> None:
    """Scores subset by subset, draws contexts, prints; results are in `workdir/results.json`."""
    check(config)
    origin, scorer, home = provenance(config), Scorer(config, workdir), config.in_distribution
    order = dict.fromkeys((home, *config.pairs, *config.shifts))  # those with pairs first
    pieces = {tag: functools.partial(scorer.score, tag) for tag in order}
    scored = run_pieces("subsets", pieces, config, workdir)
    subsets = {
        tag: Subset.of_record(scored[tag], name_of(LIMITS)) for tag in (home, *config.shifts)
    }
    detection = _detection(config, subsets)
    seen = [
        {"fault": fault, "subset": tag, "shift": subset.shift, **as_scored(subset, fault)}
        for tag, subset in subsets.items()
        for fault in subset.faults
        if fault not in (GOLDEN, NOISE)
    ]
    golden, faults = golden_copies(scored.values()), fault_shares(scored.values())
    held = tables.claims(detection, seen)
    cost = {tag: {key: scored[tag][key] for key in ("flops", "seconds")} for tag in order}
    results = {
        "provenance": origin,
        "cost": cost,
        "must_hold": held,
        "detection": detection,
        "as_scored": seen,
        "golden_copies": golden,
        "fault_shares": faults,
    }
    write_results(workdir, results)
    tables.print_limits(golden, faults)
    tables.print_detection(detection)
    tables.print_claims(held)
    tables.figure(detection, workdir, home)
    flops, seconds = (sum(c[key] for c in cost.values()) for key in ("flops", "seconds"))
    print(f"likelihoods: {flops / 1e12:.0f} TFLOP; what the cache lacked took {seconds:.0f} s")
    print(f"results: {workdir / 'results.json'}")


def _detection(config: ConfigDict, subsets: Mapping[str, Subset]) -> Records:
    """One record a subset, fault and n."""
    home, records = subsets[config.in_distribution], []
    cells = [(t, f, n) for t, s in subsets.items() for f in s.faults for n in config.contexts]
    with progress("draws", len(cells)) as advance:
        for tag, fault, n in cells:
            subset = subsets[tag]
            draws = Draws.of(config.seed, len(subset.ids), n, config.draws, config.noise)
            counterparts = home if subset.counterparts == home.ids else None
            head = {"fault": fault, "subset": tag, "shift": subset.shift, "n": n}
            found = detect(subset, counterparts, fault, draws)
            records.append({**head, "draws": config.draws, **found})
            advance(1)
    return records
