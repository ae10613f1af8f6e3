"""Arguments of commands."""

import argparse
from typing import Any, NoReturn

from remid_jax.errors import UserError


class Parser(argparse.ArgumentParser):
    """Arguments of a command, as it is typed; what is wrong with them is one line."""

    def __init__(self, prog: str, description: str, **more: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` in place of a usage text."""
        raise UserError(message)

    def add_quiet(self) -> None:
        """Adds `--quiet`, to be handed to `messages.quiet`."""
        self.add_argument(
            "--quiet", action="store_true",
            help="print the report and warnings alone: no progress, no other messages",
        )  # fmt: skip

    def replaced(self, option: str, by: str) -> None:
        """Makes a former option an error that names what has taken its place."""

        def refuse(_: str) -> NoReturn:
            raise UserError(f"{option} is gone; use {by}")

        self.add_argument(option, nargs="?", const="", type=refuse, help=argparse.SUPPRESS)
