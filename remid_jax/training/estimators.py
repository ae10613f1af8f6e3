"""A trained reasoner and policy on disk, and back as language models."""

import dataclasses
from pathlib import Path
from typing import Any

from remid_jax.models.adapters import Adapter, load_adapter, save_adapter, with_adapter
from remid_jax.models.pretrained import LanguageModel
from remid_jax.training.config import ROLES
from remid_jax.training.setting import Setting


def save_estimator(folder: str | Path, setting: Setting, roles: dict[str, Any]) -> Path:
    """Writes the adapters of both roles.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(folder)
    for role in ROLES:
        save_adapter(folder / role, Adapter(setting.lora, roles[role], setting.base))
    return folder


def load_estimator(folder: str | Path, base: LanguageModel) -> dict[str, LanguageModel]:
    """Role -> the base with that role's adapter.

    Raises:
      UserError: no estimator there, or one of another base.
    """
    folder = Path(folder)
    loaded = {}
    for role in ROLES:
        model = with_adapter(base, load_adapter(folder / role, base))
        loaded[role] = dataclasses.replace(model, name=f"{base.name}+{role}")
    return loaded
