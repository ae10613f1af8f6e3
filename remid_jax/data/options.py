"""Options of the commands that read a file of samples."""

import argparse

from remid_jax.data import shifts
from remid_jax.data.reading import Benchmark, load_benchmark


def add_subset_options(parser: argparse.ArgumentParser) -> None:
    """Adds what a file with tags of one's own needs, as the configuration has it."""
    parser.add_argument(
        "--in-distribution", default=shifts.ID_TEST, metavar="TAG",
        help="tag that all others are compared with, as config.in_distribution",
    )  # fmt: skip
    parser.add_argument(
        "--subset-shifts", default="", metavar="TAG=SHIFT,...",
        help="shifts of your own tags, as config.subset_shifts",
    )  # fmt: skip


def load_with_options(path: str, args: argparse.Namespace) -> Benchmark:
    """Reads the samples; see `load_benchmark`."""
    pairs = [pair for pair in args.subset_shifts.split(",") if pair.strip()]
    return load_benchmark(path, args.in_distribution, pairs)
