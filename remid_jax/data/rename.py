"""A file of samples with made-up names in the place of the characters': any RPM without its fame.

python -m remid_jax.data.rename FILE --out RENAMED.jsonl
"""

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from remid_jax.arguments import Parser
from remid_jax.cli import run_command
from remid_jax.data.names import Renamed, renamed
from remid_jax.data.options import add_file, load_with_options
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError, visible
from remid_jax.files import path_of
from remid_jax.json_files import LINES, write_json_lines


def rename_all(samples: Iterable[Sample]) -> Iterator[tuple[Sample, Renamed | None]]:
    """Each sample with its variant; no two names of characters become one as far as lists reach."""
    owner: dict[str, str] = {}  # made-up name -> the name that it stands for
    for sample in samples:
        name, _ = sample.speakers
        draws = itertools.takewhile(bool, (renamed(sample, k) for k in itertools.count()))
        first = next(draws, None)
        found = first
        while found and owner.setdefault(found.name, name) != name:
            found = next(draws, None)
        yield sample, found or first


def rename(args: argparse.Namespace) -> Iterator[str]:
    """Writes the file; yields the lines to print."""
    out = path_of(args.out, "--out")
    if out.suffix.lower() not in LINES:
        raise UserError(f"--out {out}: a file of samples written here must be named *.jsonl")
    if out.exists() and Path(args.file).exists() and out.samefile(args.file):
        raise UserError(f"--out {out}: it would overwrite the samples that it is made of")
    benchmark = load_with_options(args.file, args)
    pairs = list(rename_all(benchmark))
    if not any(found for _, found in pairs):
        raise UserError(
            f"{args.file}: no character has a name that can be replaced; give profiles a 'name' "
            "that is no ordinary word"
        )
    write_json_lines(out, ((found.sample if found else s).to_record() for s, found in pairs))
    yield f"{sum(found is not None for _, found in pairs)} of {len(pairs)} samples renamed in {out}"
    if kept := [s.sample_id for s, found in pairs if found is None]:
        yield f"left as they were, without a name to replace: {len(kept)}, first {kept[0]!r}"
    if partly := [(s.sample_id, found.left) for s, found in pairs if found and found.left]:
        sample_id, left = partly[0]
        yield (
            "with a word of the name that is an ordinary word too, and so stays where it is alone: "
            f"{len(partly)}, first {', '.join(left)} in {sample_id!r}"
        )


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m remid_jax.data.rename",
        description="Writes a file of samples whose characters have made-up names.",
    )
    add_file(parser)
    parser.add_argument("--out", required=True, help="file of samples to write, *.jsonl")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""

    def body() -> None:
        print("\n".join(map(visible, rename(_parse(argv)))))

    return run_command(body, program=argv is None)


if __name__ == "__main__":
    sys.exit(main())
