"""Trees of arrays on disk by orbax, with a JSON record of what they belong to."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.processes import is_first, meet

RECORD = "record.json"
_ARRAYS = "arrays"


def _orbax() -> tuple[Any, Any]:
    """orbax's save and load, under the names that its version has."""
    from orbax.checkpoint import v1 as ocp

    older = not hasattr(ocp, "save")
    return (ocp.save_pytree, ocp.load_pytree) if older else (ocp.save, ocp.load)


def save_tree(folder: str | Path, tree: Any, record: Mapping[str, Any]) -> Path:
    """Writes a tree; the record is written last, so a folder that has one is whole.

    Processes that train together call it together, with one folder that all of them see.

    Args:
      folder: what stands there is replaced.
      tree: pytree of arrays. Leaves are stored by their place in it, whatever its nodes are.
      record: what the tree belongs to, as JSON.

    Returns:
      The folder.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = Path(folder).absolute()
    save, _ = _orbax()
    try:
        if is_first():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        meet("the folder of a tree is made")
        save(folder / _ARRAYS, _named(jax.tree.leaves(tree)))
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror or e}") from None
    if is_first():
        write_atomically(folder / RECORD, [json.dumps(dict(record), indent=1).encode()])
    meet("the record of a tree is written")
    return folder


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{i:05}": leaf for i, leaf in enumerate(leaves)}


def read_record(folder: str | Path) -> dict[str, Any]:
    """What a saved tree belongs to.

    Raises:
      UserError: no such folder, or it is not whole.
    """
    file = Path(folder) / RECORD
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{folder}: no checkpoint ({RECORD} is missing)") from None
    except ValueError as e:
        raise UserError(f"{file}: not JSON ({e})") from None


def newest(folder: str | Path) -> Path | None:
    """The whole checkpoint of the last name in a folder; None where there is none."""
    whole = sorted(file.parent for file in Path(folder).glob(f"*/{RECORD}"))
    return whole[-1] if whole else None


def save_newest(folder: str | Path, name: str, tree: Any, record: Mapping[str, Any]) -> Path:
    """`save_tree` beside earlier checkpoints, which are let go once this one is whole.

    Args:
      folder: of checkpoints.
      name: sorts after those of earlier ones.
      tree: pytree of arrays.
      record: what the tree belongs to.

    Raises:
      UserError: the folder cannot be written.
    """
    path = save_tree(Path(folder) / name, tree, record)
    for old in path.parent.iterdir() if is_first() else ():
        if old.name < name:
            shutil.rmtree(old, ignore_errors=True)
    return path


def load_tree(folder: str | Path, like: Any) -> Any:
    """Reads a tree.

    Args:
      folder: as written by `save_tree`.
      like: pytree of arrays or `jax.ShapeDtypeStruct`s of the same structure; each leaf is read
        with its shape, type and, where it has one, its sharding.

    Raises:
      UserError: no checkpoint, or one of another structure.
    """
    read_record(folder)
    leaves, structure = jax.tree.flatten(like)
    wanted = _named([_abstract(leaf) for leaf in leaves])
    _, load = _orbax()
    try:
        found = load(Path(folder).absolute() / _ARRAYS, wanted)
    except (ValueError, KeyError, OSError) as e:
        reason = str(e).strip().splitlines()[0]
        raise UserError(f"{folder}: does not fit what it is loaded into ({reason})") from None
    for name, leaf in wanted.items():
        if found[name].shape != leaf.shape:
            raise UserError(
                f"{folder}: array {name} has shape {found[name].shape}, not {leaf.shape}"
            )
    return jax.tree.unflatten(structure, [found[name] for name in wanted])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
