"""Trees of arrays on disk by orbax, with a JSON record of what they belong to and digests of all.

orbax reads most arrays whose bytes were altered as other numbers, so the SHA-256 of each file is
compared first. Its own `Checkpointer` is not used: it commits a checkpoint and may delete the older
one before digests could be written, so a kill in between would leave nothing that can be verified.
"""

import hashlib
import json
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


def _orbax(name: str) -> Any:
    """orbax's `save` or `load`; older versions call them `save_pytree` and `load_pytree`."""
    from orbax.checkpoint import v1 as ocp

    return getattr(ocp, name, None) or getattr(ocp, f"{name}_pytree")


def save_tree(folder: str | Path, tree: Any, record: Mapping[str, Any]) -> Path:
    """Writes a tree; the record is written last, so a folder that has one is complete.

    Processes that train together call it together, with one folder that all of them see.

    Args:
      folder: what it holds is replaced.
      tree: pytree of arrays; leaves are stored by position, whatever its nodes are.
      record: what the tree belongs to, as JSON.

    Raises:
      UserError: the folder cannot be written.
    """
    folder = path_of(folder, "checkpoint folder").absolute()
    try:
        if is_primary():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        barrier()
        _orbax("save")(folder / _ARRAYS, _named(jax.tree.leaves(tree)))
        barrier()
        if is_primary():
            content = json.dumps(dict(record), indent=1).encode()
            digests = {**_digests(folder), RECORD: hashlib.sha256(content).hexdigest()}
            write_atomically(folder / DIGESTS, [json.dumps(digests, indent=1).encode()])
            write_atomically(folder / RECORD, [content])
    except OSError as e:
        raise UserError(f"cannot write {folder}: {e.strerror or e}") from None
    barrier()
    return folder


def _named(leaves: list[Any]) -> dict[str, Any]:
    return {f"{i:05}": leaf for i, leaf in enumerate(leaves)}


def read_record(folder: str | Path) -> dict[str, Any]:
    """What a saved tree belongs to.

    Raises:
      UserError: there is no complete checkpoint, or its record was altered.
    """
    folder = path_of(folder, "checkpoint folder")
    file = folder / RECORD
    if not file.is_file():
        raise UserError(f"{folder}: no checkpoint ({RECORD} is missing)")
    _compare(folder, {RECORD: file_sha256(file)}, only=RECORD)
    return read_json_object(file, "record")


def _digests(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 of every file in a folder but the digests themselves."""
    files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
    return {name: file_sha256(file) for name, file in files.items() if name != DIGESTS}


def _compare(folder: Path, found: Mapping[str, str], only: str | None = None) -> None:
    """Refuses files that were altered, are missing or were added, naming the first."""
    try:
        stored = read_json_object(folder / DIGESTS, "digest")
    except UserError as e:
        raise UserError(f"{e}; {_REMEDY}") from None
    for name in [only] if only else sorted(found.keys() | stored.keys()):
        if found.get(name) != stored.get(name):
            what = "was altered" if name in found and name in stored else "was added"
            what = what if name in found else "is missing"
            raise UserError(f"{folder}: {name} {what} since the folder was written; {_REMEDY}")


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The complete checkpoint whose name sorts last in a folder; None where there is none."""
    records = path_of(folder, "checkpoint folder").glob(f"*/{RECORD}")
    return max((file.parent for file in records), default=None)


def save_latest(folder: str | Path, name: str, tree: Any, record: Mapping[str, Any]) -> None:
    """`save_tree` as `folder/name`; checkpoints whose names sort before it are deleted then."""
    path = save_tree(path_of(folder, "checkpoint folder") / name, tree, record)
    for old in path.parent.iterdir() if is_primary() else ():
        if old.name < name:
            shutil.rmtree(old, ignore_errors=True)


def load_tree(folder: str | Path, like: Any) -> Any:
    """Reads a tree.

    Args:
      folder: as written by `save_tree`.
      like: pytree of arrays or `jax.ShapeDtypeStruct`s that gives structure, shapes, types and,
        where a leaf has one, its sharding.

    Raises:
      UserError: no checkpoint, altered files, or another structure.
    """
    folder = path_of(folder, "checkpoint folder").absolute()
    read_record(folder)
    _compare(folder, _digests(folder))
    leaves, structure = jax.tree.flatten(like)
    wanted = _named([_abstract(leaf) for leaf in leaves])
    try:
        found = _orbax("load")(folder / _ARRAYS, wanted)
    except Exception as e:  # orbax fails in many ways, some of them plain `Exception`
        reason = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise UserError(f"{folder}: does not fit what it is loaded into ({reason})") from None
    for name, leaf in wanted.items():
        shape = found[name].shape
        if shape != leaf.shape:
            raise UserError(f"{folder}: array {name} has shape {shape}, not {leaf.shape}")
    return jax.tree.unflatten(structure, [found[name] for name in wanted])


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
