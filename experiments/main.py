"""Runs one experiment: --config configs/NAME.py[:VARIANT] --workdir DIR [--config.KEY=VALUE]."""

import importlib
import re
import sys

from absl import flags
from ml_collections import ConfigDict, config_flags

from remid_jax.errors import UserError, nearest

EXPERIMENTS = ("bounds", "calibrate", "corl", "corl_world", "corl_world_thoughts", "diagnose")

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of finished pieces and results.")


def parse() -> ConfigDict:
    """Parses the command line and loads the configuration file.

    Raises:
      UserError: whatever is wrong with them. The file is a program and can fail in any way.
    """
    try:
        rest = flags.FLAGS(sys.argv)
        config = _CONFIG.value
        if config is not None:
            config.lock()  # a file that was not found speaks up only when its content is used
    except UserError:
        raise
    except Exception as e:
        raise UserError(_reason(e)) from None
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; use --config FILE and --workdir DIR")
    for name, value in (("--config", config), ("--workdir", _WORKDIR.value)):
        if value is None:
            raise UserError(f"{name} is missing; use --config FILE and --workdir DIR")
    return config


def _reason(error: Exception) -> str:
    """One line for what absl and ml_collections report in many, tracebacks among them."""
    text = str(error.args[0] if error.args else error)
    if missing := re.search(r"No such file or directory: '(.*?)'", text):
        return f"config file not found: {missing[1]}"
    if unknown := re.search(r'Did you mean "(.*?)" instead of "(.*?)"', text):
        return f"unknown config key {unknown[2]!r} (did you mean {unknown[1]!r}?)"
    if isinstance(error, (KeyError, AttributeError)):
        return f"unknown config key {text.strip(chr(39))!r}"
    return f"command line or config file: {text.strip().splitlines()[-1]}"


def keep_programs() -> None:
    """Programs compiled once are found again by the next run."""
    import jax

    from remid_jax.models.pretrained import cache_folder

    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def run() -> int:
    """Parses, runs the experiment, and returns the exit code: 0, or 2 with one line of error."""
    try:
        config = parse()
        name = config.get("experiment", "diagnose")
        if name not in EXPERIMENTS:
            raise UserError(f"unknown experiment {name!r}{nearest(str(name), EXPERIMENTS)}")
        keep_programs()
        importlib.import_module(f"experiments.{name}").run(config, _WORKDIR.value)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except Exception as e:
        if not isinstance(e, MemoryError) and "RESOURCE_EXHAUSTED" not in str(e):
            raise
        remedy = "lower config.sampling.batch_rows or config.limits.memory_bytes, and run again"
        print(f"error: out of memory; {remedy}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on where this one ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run())
