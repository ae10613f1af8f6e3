"""The command line of the experiments: `--config`, its keys, `--workdir`, and help."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_dict import RequiredValueError

import remid_jax
from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of

from .configurations import FOLDER, load_config, packaged

FLAGS = ("config", "workdir", "help")
_HELP = ("-h", "--help", "-help")
_USE = "use --config NAME or FILE and --workdir DIR; --help says more"


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command line asks what the program does."""
    return any(word in _HELP for word in words)


def help_text() -> str:
    """What the program does, its flags, and the configurations that come with it."""
    names = packaged()
    width = max(map(len, names))
    keys = [Path(remid_jax.__file__).parent / p / "config.py" for p in ("evaluation", "training")]
    configs = "\n".join(f"  {name:<{width}}  {text}" for name, text in names.items())
    return f"""\
Measures how far role-playing language models degrade under distribution shift (R-EMID), trains the
models that the measure rests on (CoRL), and runs the studies that test it.

usage: {_program()} --config NAME[:VARIANT] --workdir DIR [--config.KEY=VALUE ...]

  --config   a configuration by its name below, or the path of a file whose get_config(VARIANT)
             returns one
  --workdir  folder of finished pieces and of results.json; the same command goes on where an
             earlier one ended
  --help     prints this

configurations (`:runlocal` of those that have it is a small run):
{configs}

A key is set as --config.limits.contexts=5, a tuple as --config.shifts="('german', 'user')".
--config.dry_run=True says what a diagnosis would cost, and does none of it.
All keys, with units and ranges:
  of a diagnosis  {keys[0]}
  of CoRL         {keys[1]}
  of a study      the file of its configuration in {FOLDER}
"""


def _program() -> str:
    name = Path(sys.argv[0]).stem
    return name if name == "remid-jax" else f"python -m {__package__}.main"


def parse(words: Sequence[str]) -> tuple[ConfigDict, Path]:
    """Parses the command line and loads the configuration.

    Args:
      words: those after the program.

    Returns:
      The configuration, locked, and the work folder.

    Raises:
      UserError: whatever is wrong with them.
    """
    for word in words:
        _check_word(word)
    if not words:
        raise UserError(f"nothing to do; {_USE}")
    given = flags.FlagValues()
    config, workdir = (
        flags.DEFINE_string(name, None, "", flag_values=given) for name in ("config", "workdir")
    )
    try:
        overrides = given(["", *words], known_only=True)[1:]
    except flags.Error as e:
        raise UserError(f"{e}; {_USE}") from None
    for word in overrides:
        if unknown := re.match(r"--?(?!(no)?config\.)([A-Za-z]\w*)(\.[\w.]*)?", word):
            raise UserError(f"unknown flag {unknown[0]}{_like(*unknown.groups('')[1:])}; {_USE}")
    for name, value in (("--config", config.value), ("--workdir", workdir.value)):
        if value is None:
            raise UserError(f"{name} is missing; {_USE}")
    folder = path_of(workdir.value, "--workdir")
    return _with_overrides(load_config(config.value), overrides), folder


def _check_word(word: str) -> None:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UserError(f"the command line holds {word!r}, which is no UTF-8") from None


def _with_overrides(config: ConfigDict, words: Sequence[str]) -> ConfigDict:
    """Sets `--config.KEY=VALUE` and locks the configuration."""
    values, words = flags.FlagValues(), ["", *words]
    try:
        flag = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        rest = values(words)[1:]
        config = flag.value.copy_and_resolve_references()
    except RequiredValueError:
        raise UserError(
            "a required placeholder has no value; give it as --config.KEY=VALUE"
        ) from None
    except (flags.Error, *_LOOKUP) as e:
        raise UserError(_reason(e, words)) from None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; {_USE}")
    return config.lock()


_QUOTES = "'\""
_LOOKUP = (KeyError, AttributeError, TypeError, ValueError, IndexError)  # of keys and values


def _like(name: str, key: str) -> str:
    return nearest(f"--{name}", [f"--{f}" for f in FLAGS]).replace("'?", f"{key}'?")


def _reason(error: Exception, words: Sequence[str]) -> str:
    """One line for what absl and ml_collections say in many."""
    text = str(error.args[0] if error.args else error)
    if unknown := re.search(r'Did you mean "(.*?)" instead of "(.*?)"', text):
        return f"unknown config key {unknown[2]!r} (did you mean {unknown[1]!r}?)"
    if isinstance(error, (KeyError, AttributeError)):
        return f"unknown config key {text.strip(_QUOTES)!r}"
    last = text.strip().splitlines()[-1]
    return f"command line: {last}" + ("" if "--config." in last else f" in {' '.join(words[1:])}")
