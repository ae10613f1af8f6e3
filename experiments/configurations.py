"""Configuration files: those that come with the project, found by name, and anybody's, by path."""

import ast
import inspect
import os
import re
import sys
import traceback
import types
from pathlib import Path

from ml_collections import ConfigDict, FrozenConfigDict

from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of

# Modules that configurations imported before -> where they are.
MOVED = {
    "remid_jax.diagnosis.config": "remid_jax.evaluation.config",
    "remid_jax.benchmark": "remid_jax.data",
}
FOLDER = Path(__file__).parents[1] / "configs"


def packaged() -> dict[str, str]:
    """Name of each configuration that comes with the project -> what it is, in one line."""
    files = sorted(f for f in FOLDER.glob("*.py") if not f.stem.startswith("_"))
    documented = {f.stem: ast.get_docstring(ast.parse(f.read_bytes())) or "" for f in files}
    return {name: text.partition("\n")[0] for name, text in documented.items()}


def packaged_module(name: str) -> types.ModuleType:
    """The module of a configuration that comes with the project."""
    return _module_of(FOLDER / f"{name}.py")


def load_config(text: str) -> ConfigDict:
    """The configuration of NAME or PATH, with `:VARIANT` where its `get_config` takes one.

    Raises:
      UserError: there is none, or whatever goes wrong in the file, which is a program.
    """
    name, *variant = text.split(":", 1)
    file = _file_of(name)
    try:
        get_config = getattr(_module_of(file), "get_config", None)
        if not callable(get_config):
            raise UserError(f"config file {file} has no function get_config()")
        if variant and not inspect.signature(get_config).parameters:
            raise UserError(f"config file {file} has no variants, and none named {variant[0]!r}")
        config = get_config(*variant)
        config = ConfigDict(config) if isinstance(config, FrozenConfigDict) else config
        if not isinstance(config, ConfigDict):
            kind = "nothing" if config is None else f"a {type(config).__name__}"
            raise UserError(f"get_config() of {file} returns {kind}; it must return a ConfigDict")
        return config
    except UserError:
        raise
    except (Exception, SystemExit) as e:
        raise UserError(f"config file {file}{_line_of(e, file)}: {_reason(e)}") from None


def _file_of(name: str) -> Path:
    file = path_of(name, "--config")
    if os.path.isfile(file):
        return file
    if os.path.isdir(file) and not re.fullmatch(r"\w+", name):
        raise UserError(f"--config {file} is a folder; name a file")
    if file.suffix or len(file.parts) > 1:
        raise UserError(f"config file not found: {file}")
    known = packaged()
    if name not in known:
        raise UserError(
            f"no config is called {name!r}{nearest(name, known)}; choose among "
            f"{', '.join(known)}, or give the path of a file"
        )
    return FOLDER / f"{name}.py"


def _module_of(file: Path) -> types.ModuleType:
    """Runs a file. Nothing is cached: one edited twice within a second is read anew."""
    try:
        source = file.read_bytes()
    except OSError as e:
        raise UserError(f"config file {file} cannot be read: {e.strerror or e}") from None
    module = types.ModuleType(f"config_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look for it there
    exec(compile(source, str(file), "exec"), module.__dict__)
    return module


def _line_of(error: BaseException, file: Path) -> str:
    """Where in the file an error arose, as far as that is known."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file) and error.lineno:
        lines.append(error.lineno)
    return f", line {lines[-1]}" if lines else ""


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, ImportError) and (name := error.name or "").startswith(tuple(MOVED)):
        new = next(b for a, b in MOVED.items() if name.startswith(a))
        return f"module {name} has moved: see {new}"
    plain = type(error) is ValueError and text
    return text if plain else f"{type(error).__name__}: {text}".rstrip(": ")
