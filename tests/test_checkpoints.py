"""Trees on disk: whatever was altered since they were written is refused, and named."""

import hashlib
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from remid_jax.checkpoints import (
    DIGESTS,
    RECORD,
    latest_checkpoint,
    load_tree,
    read_record,
    save_tree,
)
from remid_jax.errors import UserError
from remid_jax.models.adapters import load_adapter, new_adapter, save_adapter
from remid_jax.models.lora import LoraConfig

# Where orbax fails, its event loop leaves coroutines that nobody awaits.
leaves_coroutines = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TREE = {"a": jnp.arange(600, dtype=jnp.float32).reshape(20, 30), "b": [jnp.ones(3, jnp.int32)]}


@pytest.fixture
def folder(tmp_path):
    return save_tree(tmp_path / "tree", TREE, {"kind": "test", "step": 3})


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def refused(folder) -> str:
    with pytest.raises(UserError) as caught:
        load_tree(folder, TREE)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_tree_comes_back(folder):
    assert read_record(folder) == {"kind": "test", "step": 3}
    jax.tree.map(np.testing.assert_array_equal, load_tree(folder, TREE), TREE)
    stored = json.loads((folder / DIGESTS).read_text())
    assert {folder / name for name in stored} == {*files(folder)} - {folder / DIGESTS}
    for name, digest in stored.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_every_flipped_bit_is_refused(folder):
    found = files(folder)
    assert len(found) > 5 and {folder / RECORD, folder / DIGESTS} < {*found}
    for file in found:
        whole = file.read_bytes()
        for at in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1} if whole else ():
            for bit in (1, 16, 128):
                broken = bytearray(whole)
                broken[at] ^= bit
                file.write_bytes(broken)
                said = refused(folder)
                assert "copy the whole folder again, or delete it and train again" in said
                name = file.relative_to(folder).as_posix()
                assert DIGESTS in name or f"{name} was altered" in said
        file.write_bytes(whole)
    load_tree(folder, TREE)


def test_records_are_checked_by_themselves(folder):
    record = (folder / RECORD).read_text()
    (folder / RECORD).write_text(record.replace("3", "4"))
    with pytest.raises(UserError, match=f"{RECORD} was altered since the folder was written"):
        read_record(folder)


def test_missing_and_added_files(folder):
    for file in files(folder):
        content, name = file.read_bytes(), file.relative_to(folder).as_posix()
        file.unlink()
        said = refused(folder)
        assert f"{name} is missing" in said or f"({name} is missing)" in said or DIGESTS in said
        file.write_bytes(content)
    for name in ("more.txt", "arrays/more", "arrays/state/d/more"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
        assert f"{name} was added" in refused(folder)
        (folder / name).unlink()
    load_tree(folder, TREE)


def sign(folder):
    """Writes the digests of what stands in a folder now, as one does who means to deceive."""
    (folder / DIGESTS).unlink(missing_ok=True)
    every = {p.relative_to(folder).as_posix(): p.read_bytes() for p in files(folder)}
    content = {name: hashlib.sha256(data).hexdigest() for name, data in every.items()}
    (folder / DIGESTS).write_text(json.dumps(content))


@leaves_coroutines
def test_arrays_that_orbax_cannot_read(folder):
    for file in files(folder / "arrays"):
        for content in (b"", b"[]", b"\xff" * 40):
            whole = file.read_bytes()
            file.write_bytes(content)
            sign(folder)
            try:
                load_tree(folder, TREE)  # some files decide nothing
            except UserError as e:
                assert "does not fit what it is loaded into" in str(e)
            file.write_bytes(whole)
    shutil.rmtree(folder / "arrays")
    sign(folder)
    assert "does not fit what it is loaded into" in refused(folder)


@pytest.mark.parametrize("text", ["[]", "null", "3", "{", "[" * 3000, '{"a": 1, "a": 2}'])
def test_files_that_are_no_objects(folder, text):
    (folder / RECORD).write_text(text)
    assert "record.json was altered" in refused(folder)
    sign(folder)
    assert RECORD in refused(folder)
    (folder / DIGESTS).write_text(text)
    assert DIGESTS in refused(folder) and "train again" in refused(folder)


@leaves_coroutines
def test_another_structure(folder):
    wider = {"a": jax.ShapeDtypeStruct((20, 31), jnp.float32), "b": TREE["b"]}
    for other in ({"a": TREE["a"]}, {**TREE, "c": TREE["a"]}, wider):
        with pytest.raises(UserError, match=r"does not fit what it is loaded into|has shape"):
            load_tree(folder, other)


def test_paths(tmp_path, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_record("~/tree")["step"] == 3
    load_tree("~/tree", TREE)
    assert save_tree("~/two/one", TREE, {}) == tmp_path / "two" / "one"
    assert latest_checkpoint("~/two") == tmp_path / "two" / "one"
    for path, said in (("a\0b", "NUL"), ("x" * 300, "too long"), ("", "is empty")):
        for use in (
            read_record,
            latest_checkpoint,
            lambda p: load_tree(p, TREE),
            lambda p: save_tree(p, 1, {}),
        ):
            with pytest.raises(UserError, match=said):
                use(path)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"kind": None}, "no adapter, but null"), ({"kind": ["adapter"]}, "no adapter, but"),
        ({"base": None}, "base is null"), ({"base": 3}, "base is 3; it must be a text"),
        ({"lora": None}, "lora is null"), ({"lora": []}, r"lora is \[\]; it must be an object"),
        ({"lora": {"width": 3}}, "lora is no shape of an adapter"),
        *(({"lora": {"rank": rank}}, "lora is no shape of an adapter .lora.rank is")
          for rank in (None, 3.5, "3", True, [3], 0, -1)),
        *(({"lora": {"alpha": alpha}}, "lora is no shape") for alpha in (None, "1", 10**300)),
        ({"lora": {"dropout": None}}, "lora is no shape"),
        ({"lora": {"targets": 3}}, "lora is no shape"),
    ],
)  # fmt: skip
def test_records_of_adapters(tmp_path, make_model, changes, said):
    model = make_model()
    adapter = new_adapter(model, LoraConfig(rank=3, targets="query"), jax.random.key(0))
    folder = save_adapter(tmp_path / "adapter", adapter)
    record = read_record(folder)
    changes = {k: {**record[k], **v} if v and k == "lora" else v for k, v in changes.items()}
    save_tree(folder, adapter.params, {**record, **changes})
    with pytest.raises(UserError, match=said) as caught:
        load_adapter(folder, model)
    assert re.search(re.escape(str(folder)), str(caught.value))


def test_an_altered_estimator(tmp_path, make_model, monkeypatch):
    model = make_model()
    new = new_adapter(model, LoraConfig(rank=3, targets="query"), jax.random.key(0))
    folder = save_adapter(tmp_path / "estimator" / "policy", new)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_adapter("~/estimator/policy", model).lora == new.lora
    file = max(files(folder), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(UserError, match=f"policy: .*{file.name} was altered"):
        load_adapter(folder, model)
