"""How large the HTML report of a large run is, and how fast it is written and opened.

The run is made up: no model is needed for its size. The page is opened in headless Chromium, which
`--rounds` times starts anew; a page is open when its tables are laid out and its script has run.
"""

import argparse
import functools
import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks import cli, made_up_run
from benchmarks import harness as h
from benchmarks.chromium import opened
from remid_jax.errors import UserError
from remid_jax.progress import progress
from remid_jax.report.html import page

SIZES = {
    "models": (11, 2, "evaluated models"),
    "subsets": (11, 3, "shifted subsets, beside the one in distribution"),
    "samples": (1000, 5, "samples of each model and subset"),
    "examples": (3, 3, "examples with texts for each model and subset"),
}
TARGET = 2.0  # seconds in which the page of the default sizes should be open
OPEN_MS = (
    "const [n] = performance.getEntriesByType('navigation');"
    "document.body.getBoundingClientRect();"
    "return n.loadEventEnd - n.startTime"
)


def run(args: argparse.Namespace) -> h.Report:
    """Writes the page and opens it."""
    if args.subsets > len(made_up_run.SUBSETS):
        raise UserError(f"--subsets is at most {len(made_up_run.SUBSETS)}, the bundled ones")
    rpms = [f"llama-3.1-8b-instruct-{k}" for k in range(args.models)]
    subsets = list(made_up_run.SUBSETS)[: args.subsets]
    results = made_up_run.made_up_results(rpms, subsets, args.samples)
    contributions = list(made_up_run.made_up_contributions(results, args.samples))
    examples = made_up_run.made_up_examples(results, args.examples)
    writing, opening = [], []
    with tempfile.TemporaryDirectory() as folder, progress("pages", args.rounds) as advance:
        path = Path(folder) / "report.html"
        for _ in range(args.rounds):
            start = time.perf_counter()
            content = page(results, contributions, examples).encode()
            writing.append(time.perf_counter() - start)
            path.write_bytes(content)
            with opened(path) as driver:
                opening.append(driver.execute_script(OPEN_MS) / 1000)
            advance(1)
    report = h.Report()
    parts = [(key, results[key]) for key in ("rows", "profile")]
    parts += [("contributions", contributions), ("examples", examples["examples"])]
    report.table("run", "a made-up run", [{"records": key, "count": len(x)} for key, x in parts])
    kilobytes, source = len(content) / 1000, len(json.dumps(results)) / 1000
    report.json |= {"kB": kilobytes, "results_kB": source, "target_s": TARGET}
    report.lines.append(f"kB {kilobytes:.0f}: the page; results.json {source:.0f}")
    report.figure("write_s", writing, "seconds to write it")
    report.figure("open_s", opening, f"seconds until Chromium has opened it; target {TARGET:g}")
    if args.small or statistics.median(opening) <= TARGET:
        return report
    report.lines.append(f"TARGET MISSED: open_s is above {TARGET:g}")
    return report


main = functools.partial(cli.command, "report", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
