"""A trained scorer, reasoner and policy, on disk."""

from collections.abc import Mapping
from pathlib import Path

from remid_jax.files import path_of
from remid_jax.models.adapters import Adapter, Base, load_adapter, save_adapter
from remid_jax.training.config import ROLES


def save_adapters(folder: str | Path, adapters: Mapping[str, Adapter]) -> Path:
    """Writes the adapters of both roles; returns the folder.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = path_of(folder, "checkpoint folder")
    for role in ROLES:
        save_adapter(folder / role, adapters[role])
    return folder


def load_adapters(folder: str | Path, base: Base) -> dict[str, Adapter]:
    """Role -> its adapter, as `save_adapters` wrote it.

    Raises:
      UserError: no adapters there, or those of another base.
    """
    folder = path_of(folder, "checkpoint folder")
    return {role: load_adapter(folder / role, base) for role in ROLES}
