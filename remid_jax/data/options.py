"""Options of the commands that read a file of samples."""

import argparse

from remid_jax.data.reading import BUNDLED, Benchmark, load_benchmark
from remid_jax.data.shifts import ID_TEST


def add_file(parser: argparse.ArgumentParser) -> None:
    """Adds the file as the one argument, and the options of `add_subset_options`."""
    parser.add_argument(
        "file", nargs="?", default=BUNDLED,
        help="file of samples (RPGBench JSON, a JSON list, JSONL), or `bundled` (default)",
    )  # fmt: skip
    add_subset_options(parser)


def add_subset_options(parser: argparse.ArgumentParser) -> None:
    """Adds what a file with tags of its own needs, as the configuration has it."""
    parser.add_argument(
        "--in-distribution", default=ID_TEST, metavar="TAG",
        help="tag that all others are compared with, as config.in_distribution",
    )  # fmt: skip
    parser.add_argument(
        "--subset-shifts", default="", metavar="TAG=SHIFT,...",
        help="shifts of your own tags, as config.subset_shifts",
    )  # fmt: skip


def load_with_options(path: str, args: argparse.Namespace) -> Benchmark:
    """`load_benchmark` with the options of `add_subset_options`."""
    pairs = [pair for pair in args.subset_shifts.split(",") if pair.strip()]
    return load_benchmark(path, args.in_distribution, pairs)
