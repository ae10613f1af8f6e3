"""Processes on one work folder share its pieces of work: none is lost, none is counted twice."""

import errno
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from children import finished, start

from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation import sharing
from remid_jax.evaluation.sharing import Claims, shared

DEAD = 2**22 + 1  # a process number above the most that Linux gives
WORKER = """
import json, sys
from remid_jax.evaluation import store
from remid_jax.evaluation.config import default_config
from remid_jax.diagnosis import diagnose

made = []
for name in ("put_json", "put_arrays"):
    def put(self, kind, key, value, put=getattr(store.Store, name)):
        put(self, kind, key, value)
        # A row may be made twice, for different responses.
        digests = sorted(map(str, value["digest"])) if "digest" in value else []
        made.append([kind, key, *digests])
        print("made", flush=True)
    setattr(store.Store, name, put)
config = default_config()
config.update(json.loads(sys.argv[1]))
diagnose(config, sys.argv[2])
print(json.dumps(made))
"""


def test_a_claim_keeps_others_out_until_it_is_dropped(tmp_path):
    one, other = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a") and other.take("b")
    assert not other.take("a") and not one.take("b")
    one.drop("a")
    assert other.take("a")


def test_a_silent_claim_is_void_and_a_beating_one_is_not(tmp_path):
    one, other = (Claims(tmp_path, lease=0.6) for _ in range(2))
    assert one.take("a")
    time.sleep(1.5)  # the beats go on
    assert not other.take("a")
    (tmp_path / "b").write_text("1 another machine")
    os.utime(tmp_path / "b", (0, 0))
    (tmp_path / "c").write_text("1 another machine")
    assert other.take("b") and not other.take("c")


def test_the_claim_of_a_dead_process_is_void_at_once(tmp_path):
    program = """
import os, signal, sys
from pathlib import Path
from remid_jax.evaluation.sharing import Claims
assert Claims(Path(sys.argv[1])).take("a")
os.kill(os.getpid(), signal.SIGKILL)
"""
    finished(start(program, str(tmp_path)), -signal.SIGKILL)
    assert (tmp_path / "a").exists()
    assert Claims(tmp_path).take("a")


def test_many_workers_make_each_piece_once(tmp_path):
    made, lock = [], threading.Lock()
    stored = set()

    def make(piece: int) -> None:
        time.sleep(0.001)
        with lock:
            made.append(piece)
            stored.add(piece)

    def work() -> None:
        pieces = list(range(40))
        for piece in shared(pieces, Claims(tmp_path), str, stored.__contains__, make):
            assert piece in stored

    workers = [threading.Thread(target=work) for _ in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(made) == list(range(40))


def test_a_failed_piece_is_given_back(tmp_path):
    def broken(piece: int) -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(shared([1], Claims(tmp_path), str, lambda _: False, broken))
    assert Claims(tmp_path).take("1")


def test_a_piece_that_cannot_be_read_again_is_made_again_and_then_given_up(tmp_path):
    folder, made = tmp_path / "store" / "claims", []

    def readable(_: int) -> bool:
        return len(made) == 2

    assert list(shared([1], Claims(folder), str, readable, made.append)) == [1]
    assert made == [1, 1]
    with pytest.raises(UserError, match=rf"stored in {tmp_path}/store cannot be read again"):
        list(shared([1], Claims(folder), str, lambda _: False, made.append))


@pytest.mark.parametrize(
    ("owner", "call", "found"),
    [(os, "readlink", "pid:[1]"), (Path, "read_text", "boot")],
    ids=["namespace", "boot"],
)
def test_a_claim_of_another_container_or_boot_is_not_judged_by_its_process(
    tmp_path, monkeypatch, owner, call, found
):
    (tmp_path / "a").write_text(f"{DEAD} {sharing._place()}")
    with monkeypatch.context() as elsewhere:  # under the same host name
        elsewhere.setattr(owner, call, lambda *_: found)
        (tmp_path / "b").write_text(f"{DEAD} {sharing._place()}")
    mine = Claims(tmp_path)
    assert mine.take("a") and not mine.take("b")


@pytest.mark.parametrize(("lacking", "left"), [("boot", "namespace"), ("namespace", "boot")])
def test_a_place_is_named_by_what_the_system_tells(monkeypatch, lacking, left):
    def tell(what: str) -> str:
        if what == lacking:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return what

    monkeypatch.setattr(Path, "read_text", lambda _: tell("boot"))
    monkeypatch.setattr(os, "readlink", lambda _: tell("namespace"))
    assert sharing._place() == f"{socket.gethostname()} {left}"


@pytest.mark.parametrize(
    ("owner", "call"), [(Path, "read_text"), (Path, "stat"), (os, "rename"), (Path, "unlink")]
)
def test_a_claim_that_went_stale_on_a_network_file_system_is_free(
    tmp_path, monkeypatch, owner, call
):
    path, plain = tmp_path / "a", getattr(owner, call)
    path.write_text(f"{DEAD} {sharing._place()}")

    def stale(of: Path, *a, **k):
        if of == path and path in set(tmp_path.iterdir()):
            os.remove(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return plain(of, *a, **k)

    mine = Claims(tmp_path)
    with monkeypatch.context() as network:
        network.setattr(owner, call, stale)
        assert mine.take("a")
        mine.drop("a")
    assert not path.exists()


def test_a_claim_is_not_taken_from_who_was_faster(tmp_path, monkeypatch):
    first, faster, late = Claims(tmp_path), Claims(tmp_path), Claims(tmp_path)
    assert first.take("a")
    plain, taken = Path.read_text, []

    def between(path: Path, *a, **k):
        """The claim goes, and another process has it before this one goes on."""
        if path == tmp_path / "a" and not taken:
            first.drop("a")
            try:
                return plain(path, *a, **k)
            finally:
                taken.append(faster.take("a"))
        return plain(path, *a, **k)

    monkeypatch.setattr(Path, "read_text", between)
    assert not late.take("a") and taken == [True]


def test_one_of_several_takes_the_claim_of_a_dead_process(tmp_path, monkeypatch):
    faster, late = Claims(tmp_path), Claims(tmp_path)
    (tmp_path / "a").write_text(f"{DEAD} {sharing._place()}")
    plain, taken = os.rename, []

    def between(*paths):
        """Another process, which found the same claim void, is done with it first."""
        if not taken:
            taken.append(None)
            taken[0] = faster.take("a")
        plain(*paths)

    monkeypatch.setattr(os, "rename", between)
    assert not late.take("a") and taken == [True]
    assert [f.name for f in tmp_path.iterdir()] == ["a"]  # the faster one's
    faster.drop("a")
    assert late.take("a")


def test_other_errors_of_the_file_system_are_said(tmp_path, monkeypatch):
    assert Claims(tmp_path).take("a")

    def broken(path: Path, **_):
        monkeypatch.undo()  # once
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", broken)
    with pytest.raises(UserError, match=r"cannot write .*a: Input/output error"):
        Claims(tmp_path).take("a")


def test_workers_join_die_and_come_back(small_config, tmp_path):
    changes = small_config.to_dict()
    alone, together = tmp_path / "alone", tmp_path / "together"
    expected = diagnose(small_config, alone)
    workers = [start(WORKER, json.dumps(changes), str(together)) for _ in range(2)]
    killed = workers.pop()
    with killed:
        while killed.stdout.readline() != "made\n":
            assert killed.poll() is None
        killed.send_signal(signal.SIGKILL)  # in the midst of its work
    workers.append(start(WORKER, json.dumps(changes), str(together)))
    made = []
    for w in workers:
        out, _ = finished(w)
        made += [tuple(m) for m in json.loads(out.splitlines()[-1])]
    assert len(made) == len(set(made))  # nothing twice
    for file in (alone / "pairs").iterdir():
        with np.load(file) as a, np.load(together / "pairs" / file.name) as b:
            for name in a.files:
                np.testing.assert_array_equal(a[name], b[name])
    found = json.loads((together / "results.json").read_text())
    assert found["rows"] == json.loads(json.dumps(expected["rows"]))
