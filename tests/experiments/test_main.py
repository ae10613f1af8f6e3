"""The program as a user meets it: one clear line for what is wrong, and resumption after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_checkpoint import tiny_tensors, write_gguf, write_hugging_face, write_reader

from experiments.main import main
from remid_jax.data.reading import bundled_path

ROOT = Path(__file__).parents[2]
SMALL = (
    "--config.shifts=('german','Literature')", "--config.limits.contexts=3",
    "--config.sampling.max_tokens=6", "--config.reasoning.max_tokens=5",
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    return write_reader(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def fails(capsys, monkeypatch):
    """fails(*arguments): runs main here, checks exit code 2 and one line, and returns it."""

    def call(*arguments: str) -> str:
        monkeypatch.chdir(ROOT)
        code = main(arguments)
        captured = capsys.readouterr()
        assert code == 2, captured.err
        assert "Traceback" not in captured.err
        (line,) = [x for x in captured.err.splitlines() if x.startswith("error: ")]
        assert captured.err.strip().splitlines()[-1] == line
        return line

    return call


def quickstart(tmp_path, *more: str) -> list[str]:
    config = ["--config", "configs/quickstart.py"]
    return [*config, "--workdir", str(tmp_path / "run"), *more]


def edited(tmp_path, edit) -> str:
    data = json.loads(bundled_path().read_text(encoding="utf-8"))
    edit(data)
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return f"--config.benchmark={path}"


def test_command_line(fails, tmp_path):
    assert "--config is missing" in fails("--workdir", str(tmp_path))
    assert "--workdir is missing" in fails("--config", "configs/quickstart.py")
    line = fails("--config", "configs/no.py", "--workdir", str(tmp_path))
    assert "config file not found: configs/no.py" in line
    assert "only 'runlocal'" in fails("--config", "configs/quickstart.py:x", "--workdir", "y")
    assert "did you mean 'model'" in fails(*quickstart(tmp_path, "--config.modle.path=x"))
    assert "unexpected argument 'more'" in fails(*quickstart(tmp_path, "more"))


def test_unknown_key_set_by_a_config_file(fails, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from remid_jax.evaluation.config import default_config\n"
        "def get_config():\n"
        "    c = default_config()\n"
        "    c.estimator.negatifs = 'all'\n"
        "    return c\n"
    )
    line = fails("--config", str(path), "--workdir", str(tmp_path / "run"))
    assert "config.estimator.negatifs" in line and "did you mean 'negatives'" in line


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--config.shifts=('germn',)", "did you mean 'german'"),
        ("--config.estimator.span=refrence", "did you mean 'reference'"),
        ("--config.limits.contexts=2", "must be at least 3"),
        ("--config.model.dtype=float8", "float32"),
        ("--config.rpms.full_context.view=none", "full, last_turn"),
        ("--config.sampling.max_tokens=0", "at least 1"),
        ("--config.benchmark=no.json", "benchmark file not found: no.json"),
        ("--config.model.path=no.gguf", "model not found: no.gguf"),
        ("--config.responses=no.jsonl", "response file not found: no.jsonl"),
        ("--config.experiment=diagnos", "did you mean 'diagnose'"),
    ],
)
def test_values(fails, tmp_path, override, said):
    assert said in fails(*quickstart(tmp_path, override))


def test_broken_and_wrong_benchmarks(fails, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{"IDTest": [}')
    line = fails(*quickstart(tmp_path, f"--config.benchmark={broken}"))
    assert "no valid JSON" in line and "line 1" in line

    def no_persona(data):
        del data["IDTest"][3]["user_persona"]

    line = fails(*quickstart(tmp_path, edited(tmp_path, no_persona)))
    assert "IDTest[3]" in line and "user_persona" in line

    def misspelt(data):
        data["OOD1Test"][0]["subset_tag"] = "germn"

    assert "did you mean 'german'" in fails(*quickstart(tmp_path, edited(tmp_path, misspelt)))


def test_responses_that_cannot_be_used(fails, tmp_path, tiny_path):
    data = json.loads(bundled_path().read_text(encoding="utf-8"))
    samples = [s for split in data.values() for s in split]

    def written(change) -> str:
        table = {s["sample_ID"]: {"model_response": {"mine": "Good evening."}} for s in samples}
        change(table)
        path = tmp_path / "responses.json"
        path.write_text(json.dumps(table))
        return f"--config.responses={path}"

    def without(table):
        del table["IDTest_01"], table["IDTest_03"]

    def silent(table):
        for i in ("IDTest_05", "IDTest_06"):
            table[i]["model_response"]["mine"] = " "

    tiny = f"--config.model.path={tiny_path}"
    line = fails(*quickstart(tmp_path, written(without), tiny))
    assert "2 of 6 answers of 'mine' in 'IDTest' cannot be scored" in line
    assert "'IDTest_01': the response file does not have the sample" in line
    assert "'IDTest_05': the answer is empty" in fails(*quickstart(tmp_path, written(silent), tiny))
    line = fails(*quickstart(tmp_path, written(dict.clear), tiny))
    assert "lacks 18 of 18 samples, first 'IDTest_01'" in line


def test_a_prompt_longer_than_the_window(fails, tmp_path):
    path = write_hugging_face(tmp_path / "model", tiny_tensors())  # a window of 128 tokens
    line = fails(*quickstart(tmp_path, f"--config.model.path={path}"))
    assert "IDTest_01" in line and "too long" in line and "128" in line


def test_weights_that_cannot_be_used(fails, tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "tiny.gguf", tiny_tensors())
    path.write_bytes(path.read_bytes()[:-3000])
    assert "truncated" in fails(*quickstart(tmp_path, f"--config.model.path={path}"))
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"not the weights")
    monkeypatch.setenv("REMID_JAX_CACHE", str(tmp_path))
    assert "SHA-256" in fails(*quickstart(tmp_path))


def test_no_network_at_the_first_fetch(fails, tmp_path, monkeypatch):
    monkeypatch.setenv("REMID_JAX_CACHE", str(tmp_path / "empty"))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONFIG_FILE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    assert "cannot fetch the default model" in fails(*quickstart(tmp_path))


def test_a_workdir_that_cannot_be_written(fails, tmp_path):
    (tmp_path / "file").write_text("")
    line = fails("--config", "configs/quickstart.py", "--workdir", str(tmp_path / "file" / "run"))
    assert "not writable" in line


def command(tiny_path, workdir) -> list[str]:
    main = [sys.executable, "-m", "experiments.main", "--config", "configs/quickstart.py"]
    return [*main, "--workdir", str(workdir), f"--config.model.path={tiny_path}", *SMALL]


def finish(tiny_path, workdir):
    done = subprocess.run(
        command(tiny_path, workdir), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((workdir / "results.json").read_text())


def kill_when(tiny_path, workdir, reached) -> None:
    """Starts the program and sends SIGKILL as soon as the store has come so far."""
    process = subprocess.Popen(
        command(tiny_path, workdir), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the program ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workdir / "results.json").exists()


def small_study(workdir, *options: str, flags: tuple[str, ...] = (), **more) -> subprocess.Popen:
    """A study of seconds on no model, as its own process; options of Python, flags of ours."""
    words = ["--config", "bounds:runlocal", "--workdir", str(workdir), "--config.worlds=9",
             "--config.sampled.draws=2", "--config.prediction.worlds=2"]  # fmt: skip
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    command = [sys.executable, *options, "-m", "experiments.main", *words, *flags]
    return subprocess.Popen(command, cwd=ROOT, **streams)


@pytest.mark.slow
def test_results_are_there_although_nobody_reads(tmp_path):
    """Their reader goes at once, and what they hold cannot be encoded."""
    with small_study(tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"}) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0 and "Traceback" not in said
    assert json.loads((tmp_path / "results.json").read_text())["prediction"]


@pytest.mark.parametrize("module", [
    "remid_jax.errors", "ml_collections", "numpy.linalg", "jax._src.xla_bridge", "jax", "flax.nnx",
    "remid_jax.report.results_file",
])  # fmt: skip
def test_stopped_while_modules_are_imported(tmp_path, module):
    with small_study(tmp_path, "-X", "importtime") as process:
        for line in process.stderr:
            if line.split("|")[-1].strip() == module:
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in said
    assert said.endswith("stopped; the same command goes on where this one ended\n")


def test_stopped_while_it_works(tmp_path):
    with small_study(tmp_path, flags=("--quiet",)) as process:  # no progress, however slow it is
        while not (tmp_path / "pieces").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert said == "stopped; the same command goes on where this one ended\n"


HOMELESS = """
import os, sys
import experiments.bounds, experiments.command_line, remid_jax.models.pretrained
from experiments.main import main

os.setuid(54_321)  # who has no entry among the users
sys.exit(main(["--config=bounds:runlocal", "--workdir", sys.argv[1]]))
"""


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can do it")
def test_a_user_without_a_home(tmp_path):
    names = ("HOME", "XDG_CACHE_HOME", "REMID_JAX_CACHE")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    command = [sys.executable, "-c", HOMELESS, str(tmp_path / "run")]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: there is no home folder") and not list(tmp_path.iterdir())
    assert "name a folder in REMID_JAX_CACHE" in done.stderr


@pytest.mark.slow
def test_killed_at_every_stage_it_ends_with_the_same_numbers(tiny_path, tmp_path):
    printed, whole = finish(tiny_path, tmp_path / "whole")
    assert "R-EMID" in printed and "report.html" in printed
    assert whole["provenance"]["command"][:3] == ["python", "-m", "experiments.main"]
    workdir = tmp_path / "killed"

    def files(kind: str) -> int:
        return len(list((workdir / "cache" / kind).glob("[!.]*")))

    # In one work folder: while answering, while reasoning, and twice while scoring.
    for kind, count in (("generate", 1), ("generate", 7), ("score", 2), ("score", 9)):
        kill_when(tiny_path, workdir, lambda kind=kind, count=count: files(kind) >= count)
    _, resumed = finish(tiny_path, workdir)
    for part in ("rows", "worst", "comparisons", "excluded"):
        assert resumed[part] == whole[part]
