"""The command line of the experiments: `--config`, its keys, `--workdir`, and help."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_dict import RequiredValueError

from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of
from remid_jax.settings import check_choice, new_names

from .configurations import load_config, packaged

EXPERIMENTS = (
    "bounds", "calibrate", "corl", "corl_world", "corl_world_thoughts", "diagnose", "monitor",
    "rpm", "study_faults", "study_methods_smollm2", "study_methods_world",
)  # fmt: skip
FLAGS = ("--config", "--workdir", "--quiet", "--help")
_HELP = ("-h", "--help", "-help")
_USE = "use --config NAME or FILE and --workdir DIR; --help says more"
_TEXT = """\
Measures how far role-playing language models degrade under distribution shift (R-EMID), trains the
models that the measure rests on (CoRL), and runs the studies that test it.

usage: {program} --config NAME[:VARIANT] --workdir DIR [--config.KEY=VALUE ...]
       {program} report RUN ...       pages, limits and comparisons of finished runs
       {program} validate FILE ...    what is wrong with a file (report --help, validate --help)

  --config   a configuration by its name below, or the path of a file whose get_config(VARIANT)
             returns one
  --workdir  folder of finished pieces and of results.json; the same command goes on where an
             earlier one ended
  --quiet    prints the report and warnings alone: no progress, no other messages
  --help     prints this; --help EXPERIMENT all keys of an experiment, with defaults, units and
             ranges: {experiments}

configurations (`:runlocal` of those that have it is a small run):
{configurations}

A key is set as --config.limits.contexts=5, a tuple as --config.shifts="('german', 'user')".
--config.dry_run=True says what a diagnosis would cost, and does none of it.
"""


def help_printed(words: Sequence[str]) -> bool:
    """Whether the words ask for help, which is then printed: of the program or an experiment."""
    asked = next((k for k, word in enumerate(words) if word in _HELP), None)
    if asked is None:
        return False
    subject = "".join(words[asked + 1 : asked + 2])
    if not subject or subject.startswith("-"):
        print(help_text(), end="")
        return True
    check_choice("--help", subject, EXPERIMENTS)
    from .reference import print_keys

    print_keys(subject)
    return True


def help_text() -> str:
    """What the program does, its flags, and the configurations that come with it."""
    names, program = packaged(), Path(sys.argv[0]).stem
    width = max(map(len, names))
    return _TEXT.format(
        program=program if program == "remid-jax" else f"python -m {__package__}.main",
        experiments=", ".join(EXPERIMENTS),
        configurations="\n".join(f"  {name:<{width}}  {text}" for name, text in names.items()),
    )


def parse(words: Sequence[str]) -> tuple[ConfigDict, Path]:
    """The locked configuration and the work folder; a UserError for whatever is wrong."""
    for word in words:
        if any("\ud800" <= c <= "\udfff" for c in word):
            raise UserError(f"the command line holds {word!r}, which is no UTF-8")
    if not words:
        raise UserError(f"nothing to do; {_USE}")
    given = flags.FlagValues()
    for name in ("config", "workdir"):
        flags.DEFINE_string(name, None, "", flag_values=given)
    try:
        overrides = given(["", *words], known_only=True)[1:]
    except flags.Error as e:
        raise UserError(f"{e}; {_USE}") from None
    for word in overrides:
        if unknown := re.match(r"--?(?!(?:no)?config\.)([A-Za-z]\w*)(\.[\w.]*)?", word):
            name, key = unknown.groups("")
            hint = nearest(f"--{name}", FLAGS).replace("'?", f"{key}'?")
            raise UserError(f"unknown flag {unknown[0]}{hint}; {_USE}")
    for name in ("config", "workdir"):
        if given[name].value is None:
            raise UserError(f"--{name} is missing; {_USE}")
    folder = path_of(given.workdir, "--workdir")
    return _with_overrides(load_config(given.config), overrides), folder


def _with_overrides(config: ConfigDict, words: Sequence[str]) -> ConfigDict:
    """Sets `--config.KEY=VALUE` and locks the configuration."""
    _refuse_old_names(config.get("experiment", "diagnose"), words)
    values, words = flags.FlagValues(), ["", *words]
    try:
        flag = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
        rest = values(words)[1:]
        config = flag.value.copy_and_resolve_references()
    except RequiredValueError:
        raise UserError(
            "a required placeholder has no value; give it as --config.KEY=VALUE"
        ) from None
    except (flags.Error, KeyError, AttributeError, TypeError, ValueError, IndexError) as e:
        raise UserError(_reason(e, words)) from None
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; {_USE}")
    return config.lock()


def _refuse_old_names(experiment: object, words: Sequence[str]) -> None:
    from .reference import keys_for

    renamed = new_names(keys_for(experiment)) if experiment in EXPERIMENTS else {}
    for word in words:
        found = re.match(r"--?(?:no)?config\.([\w.]+)", word)
        if found and found[1] in renamed:
            raise UserError(f"config.{found[1]} is called config.{renamed[found[1]]} now")


def _reason(error: Exception, words: Sequence[str]) -> str:
    """One line for what absl and ml_collections say in many."""
    text = str(error.args[0] if error.args else error)
    if unknown := re.search(r'Did you mean "(.*?)" instead of "(.*?)"', text):
        return f"unknown config key {unknown[2]!r} (did you mean {unknown[1]!r}?)"
    if isinstance(error, (KeyError, AttributeError)):
        name = text.strip("'\"")
        return f"unknown config key {name!r}"
    last = text.strip().splitlines()[-1]
    return f"command line: {last}" + ("" if "--config." in last else f" in {' '.join(words[1:])}")
