"""Says what one's own samples and answers allow to measure, before anything is computed.

python -m experiments.validate FILE [--responses FILE] [--config NAME] [--config.KEY=VALUE ...]

Exit code 0: usable; 1: a run would be refused, or a rule is broken under --strict; 2: a file cannot
be read.
"""

import sys
from collections.abc import Sequence

from remid_jax.cli import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Reads, checks, counts and prints; returns the exit code.

    Args:
      argv: the words after the command; by default those of this process.
    """
    return run_command(lambda: _run(argv), program=argv is None)


def _run(argv: Sequence[str] | None) -> int:
    from .validation import validate

    return validate(argv)


if __name__ == "__main__":
    sys.exit(main())
