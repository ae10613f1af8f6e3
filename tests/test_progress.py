"""Progress and messages as they are shown on a terminal and elsewhere."""

import logging
import os
import pty
import re
import subprocess
import sys

import pytest

from remid_jax import progress as module
from remid_jax.messages import log, quiet
from remid_jax.progress import amount, progress

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

# A path that is wider than the terminal, and what others say: it must all stay as it is.
SAID = "note: /runs/[b]mine[/b]/cache/:smile:/" + "0123456789" * 14 + " was cut"
WARNED = f"""
import sys, time, warnings
from remid_jax.messages import log
from remid_jax.progress import progress
with progress("answers", 3) as advance:
    advance(1)
    log.warning("%s", {SAID!r})
    time.sleep(0.3)  # the bar is drawn anew
    log.info("an hour is left")
    print("of another library", file=sys.stderr)
    advance(2)
log.warning("and after it")
"""


def on_a_terminal(program: str) -> str:
    """What a program shows on a terminal of 100 cells."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", program], stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while part := _read(ours):
        shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return shown.decode()


def _read(file: int) -> bytes:
    try:
        return os.read(file, 65536)
    except OSError:  # all was read
        return b""


def left_on_screen(shown: str) -> list[str]:
    """The lines that stand there in the end, of unbounded width, by the codes that rich writes."""
    lines, row, column = [""], 0, 0
    for code, letter, text in re.findall(r"\x1b\[([\d;?]*)([A-Za-z])|([^\x1b])", shown):
        if text == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif text == "\r":
            column = 0
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + 1 :]
            column += 1
        elif letter == "A":
            row -= int(code or 1)
        elif letter == "K":
            lines[row] = "" if code == "2" else lines[row][:column]
    return [line.rstrip() for line in lines]


def test_bars_within_bars_on_a_terminal():
    shown = on_a_terminal(NESTED)
    for text in ("outer work", "inner work", "work after it", "2.00 of 2.00 TFLOP", "begun"):
        assert text in shown
    assert re.search(r"1\.00 of 2\.00 TFLOP, [\d.]+ TFLOP/s, \d+ s left", shown)
    lines = [line for line in left_on_screen(shown) if line]
    assert [line[:10] for line in lines] == ["outer work", "work after"]


def test_a_warning_within_a_bar_stays_readable():
    lines = left_on_screen(on_a_terminal(WARNED))
    assert lines[:3] == [SAID, "an hour is left", "of another library"]
    assert lines[3].startswith("answers ━") and "3 of 3" in lines[3] and "0:00:00" in lines[3]
    assert lines[4:] == ["and after it", ""]


def test_quiet_on_a_terminal_leaves_warnings_alone():
    program = "from remid_jax.messages import quiet\nwith quiet():" + WARNED.replace("\n", "\n    ")
    lines = left_on_screen(on_a_terminal(program))
    assert lines == [SAID, "of another library", "and after it", ""]


def test_names_are_no_markup(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress("answers of [/b]", 2) as advance:
        advance(2, "by [red]it[/]")
    assert "answers of [/b]" in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(module, "time", clock := Clock())
    monkeypatch.setattr(module, "_last_line", 0.0)
    return clock


def test_lines_elsewhere_at_most_every_ten_seconds(capsys, clock):
    with progress("some work", 40, ("TFLOP", 2)) as advance:
        for second in range(1, 41):
            clock.now += 1
            with progress("within", 1) as inner:
                inner(1)
            advance(1, "well begun" if second == 10 else "")
    assert capsys.readouterr().err.splitlines() == [
        "some work: 25%, 5.00 of 20.00 TFLOP, 0.50 TFLOP/s, 30 s left, well begun",
        "some work: 50%, 10.00 of 20.00 TFLOP, 0.50 TFLOP/s, 20 s left",
        "some work: 75%, 15.00 of 20.00 TFLOP, 0.50 TFLOP/s, 10 s left",
        "some work: 100%, 20.00 of 20.00 TFLOP",
        "some work: done in 40 s",
    ]


def test_work_of_seconds_says_nothing_elsewhere(capsys, clock):
    for _ in range(3):
        with progress("some work", 2) as advance:
            clock.now += 9
            advance(2)
    assert capsys.readouterr().err == ""


def test_quiet_says_warnings_alone(capsys, clock):
    with quiet():
        with progress("some work", 2) as advance:
            clock.now += 60
            advance(1)
        log.info("of no use")
        log.warning("note: %s is damaged", "a file")
    log.info("loud again")
    assert capsys.readouterr().err == "note: a file is damaged\nloud again\n"
    with quiet(False):
        assert log.isEnabledFor(logging.INFO)


def test_rates_that_are_slow_and_work_that_is_nothing():
    assert amount(1, 4, 100) == "1 of 4, 0.6/min, 5 min left"
    assert amount(30, 40, 10) == "30 of 40, 3.0/s, 3 s left"
    assert amount(0, 4, 100) == "0 of 4" and amount(0, 0, 0) == "0 of 0"
