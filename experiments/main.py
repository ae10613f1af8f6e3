"""Runs one experiment: python -m experiments.main --config configs/NAME.py[:VARIANT] --workdir DIR."""

import importlib
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from remid_jax.errors import UserError, nearest

EXPERIMENTS = ("diagnose",)

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of finished pieces and results.")


def parse(argv: Sequence[str]) -> list[str]:
    """Parses flags; whatever is wrong with them or the configuration file is a `UserError`."""
    try:
        rest = flags.FLAGS(list(argv))
    except UserError:
        raise
    except FileNotFoundError as e:
        raise UserError(f"config file not found: {e.filename}") from None
    except SystemExit:
        raise
    except Exception as e:  # the configuration file is a program, and can fail in any way
        raise UserError(f"command line or config file: {e}") from None
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; use --config FILE and --workdir DIR")
    for name, flag in (("--config", _CONFIG), ("--workdir", _WORKDIR)):
        if flag.value is None:
            raise UserError(f"{name} is missing")
    return rest


def run(argv: Sequence[str]) -> int:
    """Parses, runs the experiment, and returns the exit code: 0, or 2 with one line of error."""
    try:
        parse(argv)
        config = _CONFIG.value
        name = config.get("experiment", "diagnose")
        if name not in EXPERIMENTS:
            raise UserError(f"unknown experiment {name!r}{nearest(str(name), EXPERIMENTS)}")
        importlib.import_module(f"experiments.{name}").run(config, _WORKDIR.value)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv))
