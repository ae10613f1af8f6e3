"""Trees of arrays on disk by orbax, with a JSON record of what they belong to, and digests of all.

orbax reads most arrays whose bytes were altered as other numbers: each file's SHA-256 is compared
before.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from remid_jax.errors import UserError
from remid_jax.files import file_sha256, path_of, write_atomically
from remid_jax.json_files import read_json_object
from remid_jax.processes import barrier, is_primary

RECORD, DIGESTS = "record.json", "digests.json"
_ARRAYS = "arrays"
_REMEDY = "copy the whole folder again, or delete it and train again"


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
    folder = path_of(folder, "checkpoint folder").absolute()
    save, _ = _orbax()
    try:
        if is_primary():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        barrier("the folder of a tree is made")
        save(folder / _ARRAYS, _named(jax.tree.leaves(tree)))
        barrier("the arrays of a tree are written")
        if is_primary():
            content = json.dumps(dict(record), indent=1).encode()
            digests = {**_digests(folder), RECORD: hashlib.sha256(content).hexdigest()}
            write_atomically(folder / DIGESTS, [json.dumps(digests, indent=1).encode()])
            write_atomically(folder / RECORD, [content])
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror or e}") from None
    barrier("the record of a tree is written")
    return folder


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{i:05}": leaf for i, leaf in enumerate(leaves)}


def read_record(folder: str | Path) -> dict[str, Any]:
    """What a saved tree belongs to.

    Raises:
      UserError: no such folder, it is not whole, or the record was altered.
    """
    folder = path_of(folder, "checkpoint folder")
    file = folder / RECORD
    if not file.is_file():
        raise UserError(f"{folder}: no checkpoint ({RECORD} is missing)")
    _compare(folder, {RECORD: file_sha256(file)}, {RECORD: _stored_digests(folder).get(RECORD)})
    return read_json_object(file, "record")


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder but that of the digests, by its path from there."""
    files = (Path(at) / name for at, _, names in os.walk(folder) for name in names)
    every = {file.relative_to(folder).as_posix(): file for file in files}
    return {name: file_sha256(file) for name, file in every.items() if name != DIGESTS}


def _stored_digests(folder: Path) -> dict[str, Any]:
    try:
        return read_json_object(folder / DIGESTS, "digest")
    except UserError as e:
        raise UserError(f"{e}; {_REMEDY}") from None


def _compare(folder: Path, found: Mapping[str, str], stored: Mapping[str, Any]) -> None:
    """Refuses files that are not as they were written.

    Raises:
      UserError: naming the first that was altered, is missing, or was added.
    """
    for name in sorted(found.keys() | stored.keys()):
        if found.get(name) != stored.get(name):
            what = "was altered" if name in found and name in stored else "was added"
            what = what if name in found else "is missing"
            raise UserError(f"{folder}: {name} {what} since the folder was written; {_REMEDY}")


def newest(folder: str | Path) -> Path | None:
    """The whole checkpoint of the last name in a folder; None where there is none."""
    whole = sorted(file.parent for file in path_of(folder, "checkpoint folder").glob(f"*/{RECORD}"))
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
    path = save_tree(path_of(folder, "checkpoint folder") / name, tree, record)
    for old in path.parent.iterdir() if is_primary() else ():
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
      UserError: no checkpoint, one whose files were altered, or one of another structure.
    """
    folder = path_of(folder, "checkpoint folder").absolute()
    read_record(folder)
    _compare(folder, _digests(folder), _stored_digests(folder))
    leaves, structure = jax.tree.flatten(like)
    wanted = _named([_abstract(leaf) for leaf in leaves])
    _, load = _orbax()
    try:
        found = load(folder / _ARRAYS, wanted)
    except Exception as e:  # orbax fails in many ways, some of them plain `Exception`
        reason = (str(e).strip() or type(e).__name__).splitlines()[0]
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
