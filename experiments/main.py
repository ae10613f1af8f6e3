"""Runs one experiment: --config NAME[:VARIANT] --workdir DIR [--config.KEY=VALUE]; see --help."""

import importlib
import sys
from collections.abc import Sequence

from remid_jax.cli import run_command
from remid_jax.messages import quiet

QUIET = "--quiet"
STOPPED = "stopped; the same command goes on where this one ended"
COMMANDS = ("report", "validate")  # modules beside this one, each with its own arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Parses, runs the experiment, and returns the exit code: 0, or 2 with one line of error.

    A first word of `COMMANDS` hands the others to that command, whose exit code is returned.

    Args:
      argv: the words after the program; by default those of this process.
    """
    words = sys.argv[1:] if argv is None else argv
    wanted = QUIET in words
    words = [word for word in words if word != QUIET]

    def body() -> None:
        with quiet(wanted):
            _run(words)

    if words and words[0] in COMMANDS:
        module = importlib.import_module(f"{__package__}.{words[0]}")
        with quiet(wanted):
            return module.main(words[1:])
    return run_command(body, STOPPED, program=argv is None)


def _run(words: Sequence[str]) -> None:
    from remid_jax.settings import check_choice

    from .command_line import EXPERIMENTS, help_printed, parse

    if help_printed(words):
        return
    config, workdir = parse(words)
    name = config.get("experiment", "diagnose")
    check_choice("config.experiment", name, EXPERIMENTS)
    experiment = importlib.import_module(f"{__package__}.{name}")
    _prepare()
    try:
        experiment.run(config, workdir)
    except Exception as e:
        _refuse_lack_of_memory(e)
        raise


def _prepare() -> None:
    """Programs compiled once are found again by the next run; absl's log is as after its main."""
    import jax
    from absl import flags

    from remid_jax.models.pretrained import cache_folder

    flags.FLAGS.mark_as_parsed()
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _refuse_lack_of_memory(error: Exception) -> None:
    from remid_jax.errors import UserError

    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        raise UserError(
            "out of memory; lower config.sampling.batch_rows or config.limits.memory_bytes, and "
            "run again"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
