"""The command that writes a world for the main job."""

import pytest

import remid_jax
from remid_jax.data.shifts import TEST_TAGS
from remid_jax.worlds.textual.__main__ import main


def test_writes_a_benchmark_and_answers_that_are_read_back(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--contexts", "3", "--train", "4"]
    assert main([*arguments, "--rpms", "truth, wrong character"]) == 0
    benchmark = remid_jax.load_benchmark(tmp_path / "world.json")
    assert set(benchmark.subsets) >= set(TEST_TAGS) and len(benchmark.subsets["IDTrain"]) == 4
    samples = benchmark.subsets["IDTest"] + benchmark.subsets["Gaming"]
    answers = remid_jax.load_responses(tmp_path / "responses.json", samples)
    assert list(answers) == ["truth", "wrong character"]
    assert answers["truth"] != answers["wrong character"]
    assert "world.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--rpms", "truht"), "unknown RPM 'truht' (did you mean 'truth'?)"),
        (("--policies", "truth"), "--policies is now --rpms"),
        (("--strength", "2"), "strength"),
        (("--contexts", "0"), "--contexts is 0"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, change, message):
    assert main(["--out", str(tmp_path), *change]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ") and message in text and text.count("\n") == 1
