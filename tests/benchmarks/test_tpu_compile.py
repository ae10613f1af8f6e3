"""Compiling for TPU without one: command lines here, the compiler itself with `-m slow`."""

import importlib.util
import json

import pytest

from benchmarks import tpu_compile
from benchmarks.tpu_programs import PROGRAMS

NO_COMPILER = importlib.util.find_spec("libtpu") is None


@pytest.mark.parametrize(("argv", "said"), [
    (["--topologies", "v5e:9x9"], "--topologies: unknown 'v5e:9x9'"),
    (["--models", "qwen3-8"], "--models: unknown 'qwen3-8' (did you mean 'qwen3-8b'?)"),
    (["--programs", "grp"], "--programs: unknown 'grp' (did you mean 'grpo'?)"),
    (["--context", "0"], "--context must be at least 1"),
    (["--call", "-1"], "--call at least 0"),
])  # fmt: skip
def test_a_command_line_that_cannot_be(capsys, argv, said):
    assert tpu_compile.main(argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="needs the aot extra")
def test_scoring_fits_eight_chips(tmp_path):
    argv = ["--topologies", "v5e:2x4", "--models", "qwen3-8b", "--programs", "score"]
    argv += ["--json", str(tmp_path / "tpu.json")]
    assert tpu_compile.main(argv) == 0
    found = json.loads((tmp_path / "tpu.json").read_text())["programs"]
    ((key, program),) = found.items()
    assert key == "v5e:2x4 1x1x8 qwen3-8b score"
    assert 2**31 < program["arguments"] + program["temporary"] < 4 * 2**30


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="needs the aot extra")
def test_one_chip_holds_the_model_and_a_small_call_alone(tmp_path, capsys):
    argv = ["--topologies", "v5e:1x1", "--models", "qwen3-8b", "--programs", "score"]
    argv += ["--context", "1024", "--json", str(tmp_path / "tpu.json")]
    assert tpu_compile.main([*argv, "--call", "512"]) == 0
    assert " yes " in capsys.readouterr().out
    assert tpu_compile.main([*argv, "--call", "8192"]) == tpu_compile.DOES_NOT_FIT
    assert " NO " in capsys.readouterr().out


def test_programs_are_named_once():
    assert len(set(PROGRAMS)) == len(PROGRAMS)
