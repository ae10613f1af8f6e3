"""Progress as it is shown on a terminal and elsewhere."""

import os
import pty
import subprocess
import sys

from remid_jax import progress as module
from remid_jax.progress import progress

NESTED = """
from remid_jax.progress import progress
with progress("outer work", 4, ("TFLOP", 2)) as outer:
    outer(2, "well begun")
    with progress("inner work", 2) as inner:
        inner(2)
    outer(2)
with progress("work after it", 1) as again:
    again(1)
"""


def test_bars_within_bars_on_a_terminal():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", NESTED], stderr=theirs, env=environment)
    assert process.wait(timeout=60) == 0
    os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
    os.close(ours)
    for text in (b"outer work", b"inner work", b"work after it", b"2.00 of 2.00 TFLOP", b"begun"):
        assert text in shown


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # all was read
        return b""


def test_names_are_no_markup(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress("answers of [/b]", 2) as advance:
        advance(2, "by [red]it[/]")
    assert "answers of [/b]" in capsys.readouterr().err


def test_lines_elsewhere(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    with progress("some work", 4, ("TFLOP", 2)) as advance:
        advance(1, "well begun")
    err = capsys.readouterr().err
    assert err.startswith("some work: 25% of 2.00 TFLOP, ") and err.endswith(" left, well begun\n")
