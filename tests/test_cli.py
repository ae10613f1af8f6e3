"""What all commands do alike: errors, signals, and output that cannot be written."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from remid_jax.cli import run_command
from remid_jax.errors import UserError

ROOT = Path(__file__).parents[1]
BEGIN = """
import gc, hashlib, os, sys, time
from remid_jax import cli
from remid_jax.errors import UserError
cli.GRACE = 0.3

def begin():
    print("begun", file=sys.stderr, flush=True)

def body():
    {body}

sys.exit(cli.run_command(body, "stopped; go on", program=True))
"""


def start(body: str, **more) -> subprocess.Popen:
    """A program whose body is this one line."""
    program = BEGIN.replace("{body}", body.replace("\n", "\n    "))
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, **streams)


def run(body: str, **more) -> tuple[int, str, str]:
    process = start(body, **more)
    out, said = process.communicate(timeout=60)
    return process.returncode, out, said.removeprefix("begun\n")


def test_errors_of_users_are_one_line(capsys):
    def body():
        raise UserError("no such file")

    assert run_command(body) == 2
    assert capsys.readouterr().err == "error: no such file\n"
    assert run_command(lambda: None) == 0 and run_command(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        run_command(lambda: 1 // 0)


def test_handlers_and_streams_are_as_they_were():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    streams, hook = (sys.stdout, sys.stderr), sys.unraisablehook
    count = threading.active_count()

    def body():
        assert signal.getsignal(signal.SIGINT) != before[0]
        signal.raise_signal(signal.SIGINT)

    assert run_command(body) == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert (sys.stdout, sys.stderr) == streams and sys.unraisablehook == hook
    for thread in threading.enumerate():
        if thread.daemon and thread.name.startswith("Thread"):
            thread.join(10)
    assert threading.active_count() <= count


WAITS = {
    "sleeps": "begin()\ntime.sleep(60)",
    "swallows": "try:\n    begin()\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
                "    time.sleep(60)",
    "is in C": "begin()\nhashlib.pbkdf2_hmac('sha256', b'a', b'b', 10**9)",
    "makes an error of it": "try:\n    begin()\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
                                 "    raise ImportError('of an extension') from None",
    "is in a callback": "gc.callbacks.append(lambda *_: time.sleep(0.05))\nbegin()\n"
                        "while True:\n    gc.collect()",
}  # fmt: skip


@pytest.mark.parametrize("what", WAITS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line(what, number):
    process = start(WAITS[what])
    assert process.stderr.readline() == "begun\n"
    process.send_signal(number)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said) == (128 + number, "", "stopped; go on\n")


def test_a_second_signal_ends_it_at_once():
    with start("cli.GRACE = 1000\n" + WAITS["swallows"]) as process:
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and process.stderr.read() == "stopped; go on\n"


def test_a_stopped_program_does_not_wait_for_its_end():
    """Threads that compile can crash the interpreter there."""
    body = "cli.GRACE = 1000\nimport atexit\natexit.register(lambda: print('late'))\n"
    with start(body + WAITS["sleeps"]) as process:
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and process.stdout.read() == ""


def test_an_import_is_not_interrupted_by_an_exception(tmp_path):
    """Extension modules crash at it, or print tracebacks of their own."""
    text = (
        "import sys, time\ntry:\n    print('begun', file=sys.stderr, flush=True)\n"
        "    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('seen', file=sys.stderr)\n"
    )
    (tmp_path / "slow.py").write_text(text)
    with start(f"begin()\nsys.path.insert(0, {str(tmp_path)!r})\nimport slow") as process:
        assert [process.stderr.readline() for _ in range(2)] == ["begun\n"] * 2
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130 and process.stderr.read() == "stopped; go on\n"


def test_an_ignored_signal_stays_ignored():
    program = BEGIN.replace("{body}", "begin()\n    time.sleep(0.5)\n    print('done')")
    command = ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, program]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **streams) as process:
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("done\n", "") and process.returncode == 0


MUCH = "begin()\nfor i in range(100_000):\n    print('line', i)\nprint('done', file=sys.stderr)"


def test_a_reader_that_has_gone_does_not_end_the_work():
    with start(MUCH) as process:
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == "begun\ndone\n" and process.wait(30) == 0


def test_standard_error_that_nobody_reads():
    body = "begin()\nfor i in range(100_000):\n    print('line', i, file=sys.stderr)\nprint('done')"
    with start(body) as process:
        assert process.stderr.readline() == "begun\n"
        process.stderr.close()
        assert process.stdout.read() == "done\n" and process.wait(30) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_said():
    with open("/dev/full", "w") as full:
        code, _, said = run(MUCH, stdout=full)
    assert code == 2 and said.startswith("done\nerror: standard output cannot be written: No space")
    assert said.count("\n") == 2


def test_streams_that_are_closed_from_the_first(tmp_path):
    program = BEGIN.replace(
        "{body}", f"print('lost')\n    open({str(tmp_path / 'a')!r}, 'w').close()"
    )
    command = ["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, program]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == 0
    assert (tmp_path / "a").read_text() == ""


@pytest.mark.parametrize("more", [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": "1"},
])  # fmt: skip
def test_what_an_encoding_lacks_stands_as_an_escape(more):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"} | more
    code, out, said = run(
        r"print('3.2 \u00b1 .1 \udcff')" "\n" r"raise UserError('\u4e2d')", env=environment
    )
    assert (code, out) == (2, "3.2 \\xb1 .1 \\udcff\n")
    assert said == "error: \\u4e2d\n"


@pytest.mark.parametrize("platform", ["nonsense", "cuda"])
def test_a_device_that_is_not_there(platform):
    import jax

    if platform in {d.platform for d in jax.devices()} | {"gpu"} and platform != "nonsense":
        pytest.skip("there is such a device")
    environment = {**os.environ, "JAX_PLATFORMS": platform}
    code, _, said = run("import jax.numpy as jnp\njnp.zeros(3)", env=environment)
    last = said.splitlines()[-1]
    assert code == 2 and "Traceback" not in said
    assert last.startswith(f"error: JAX cannot use its device, JAX_PLATFORMS being '{platform}': ")
