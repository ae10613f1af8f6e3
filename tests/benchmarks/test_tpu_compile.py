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
    (["--mesh", "1,2"], "has 2 places, v5e:2x4 has 8 chips"),
    (["--mesh", "1,2,4"], "has 8 places, v5p:2x2x1 has 4 chips"),
    (["--mesh", "a,b,c"], "give three numbers, as 1,2,4"),
    (["--mesh", "1,1,1,1"], "give three numbers, as 1,2,4"),
])  # fmt: skip
def test_a_command_line_that_cannot_be(capsys, argv, said):
    assert tpu_compile.main(argv) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(NO_COMPILER, reason="needs the aot extra")
def test_scoring_fits_eight_chips_and_a_second_run_compiles_nothing(tmp_path, capsys):
    argv = ["--topologies", "v5e:2x4", "--models", "qwen3-8b", "--programs", "score"]
    argv += ["--json", str(tmp_path / "tpu.json")]
    assert tpu_compile.main(argv) == 0
    found = json.loads((tmp_path / "tpu.json").read_text())["programs"]
    ((key, program),) = found.items()
    assert key == "v5e:2x4 1x1x8 qwen3-8b score"
    assert 2**31 < program["arguments"] + program["temporary"] < 4 * 2**30
    times, size = program["collectives"]["all-reduce"]
    assert times == 2 * 36 + 3  # two a layer, the embedding's, and the log-sum-exp's two
    assert size == pytest.approx(73 * 8192 * 4096 * 2, rel=0.01)
    first = capsys.readouterr().out
    assert tpu_compile.main(argv) == 0
    assert capsys.readouterr().out == first


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
