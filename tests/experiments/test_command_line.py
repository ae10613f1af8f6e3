"""The command line without any work: help, configurations by name or path, keys and values."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments.command_line import help_text, parse
from experiments.configurations import load_config, packaged
from experiments.main import main
from remid_jax.errors import UserError

ROOT = Path(__file__).parents[2]
DIAGNOSIS = "from remid_jax.evaluation.config import default_config\n"


@pytest.mark.parametrize("word", ["--help", "-h", "-help"])
def test_help_is_quick_and_no_error(word):
    program = (
        f"import sys\nsys.argv = ['main', '--config', 'no', {word!r}]\n"
        "from experiments.main import main\ncode = main()\n"
        "assert not {'jax', 'numpy', 'ml_collections.jax'} & set(sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("usage: python -m experiments.main --config NAME", "--workdir", "--config.limits.",
                 "--help EXPERIMENT", "corl_world"):  # fmt: skip
        assert text in done.stdout


def test_help_names_every_configuration_with_a_line():
    names = {f.stem for f in (ROOT / "configs").glob("[!_]*.py")}
    assert names == set(packaged())
    for name, line in packaged().items():
        assert line and f"  {name} " in help_text() and line in help_text()


def test_help_lists_the_keys_of_an_experiment(capsys):
    assert main(["--help", "corl_world"]) == 0
    out = capsys.readouterr().out
    for text in ("sft.batch", "[1, inf) samples", "study.begins", "own, none, shuffled, filler"):
        assert text in out
    assert main(["--help", "corll"]) == 2
    assert "--help is 'corll' (did you mean 'corl'?); choose among" in capsys.readouterr().err


def fault(*words: str) -> str:
    with pytest.raises(UserError) as found:
        parse(words)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_the_packaged_configurations_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # a work folder, not a configuration
    config, folder = parse(["--config=quickstart:runlocal", "--workdir", "quickstart"])
    assert config.limits.contexts == 3 and folder == Path("quickstart")
    by_path = load_config(str(ROOT / "configs" / "quickstart.py:runlocal"))
    assert config.to_dict() == by_path.to_dict()
    line = fault("--config", "quikstart", "--workdir", "x")
    assert "no config is called 'quikstart' (did you mean 'quickstart'?); choose among be" in line
    (tmp_path / "bounds").write_text("from ml_collections import ConfigDict as get_config\n")
    assert dict(load_config("bounds")) == {}  # a file of one's own comes first


def test_keys_are_set_in_any_order_and_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(f"{DIAGNOSIS}get_config = default_config\n")
    words = ["--config.seed", "7", "--config.shifts=('german',)", "--config=~/mine.py"]
    config, folder = parse([*words, "--workdir", "~/run", "--noconfig.dry_run"])
    assert (config.seed, config.shifts, folder) == (7, ("german",), tmp_path / "run")
    assert config.is_locked


@pytest.mark.parametrize(("words", "said"), [
    ("", "nothing to do; use --config NAME or FILE and --workdir DIR; --help says more"),
    ("--workdir x", "--config is missing; use"),
    ("--config quickstart", "--workdir is missing; use"),
    ("--confg=quickstart --workdir x", "unknown flag --confg (did you mean '--config'?); use"),
    ("--config quickstart --wrkdir=x", "unknown flag --wrkdir (did you mean '--workdir'?)"),
    ("--config quickstart --workdir x --cnfig.seed=1", "(did you mean '--config.seed'?)"),
    ("--config quickstart --workdir", "Missing value for flag --workdir"),
    ("--config quickstart --workdir x more", "unexpected argument 'more'"),
    ("--config= --workdir x", "--config is empty"),
    ("--config quickstart --workdir=", "--workdir is empty"),
    ("--config quickstart --workdir ~nobody_here/x", "there is no such home folder"),
    ("--config quickstart --workdir a\udcff", "holds 'a\\udcff', which is no UTF-8"),
    ("--config quickstart --workdir x --config.benchmark=\udce4", "which is no UTF-8"),
    ("--config configs --workdir x", "no config is called 'configs'; choose"),
    ("--config / --workdir x", "--config / is a folder"),
    ("--config no/such.py --workdir x", "config file not found: no/such.py"),
    ("--config corl_world:x --workdir x", "corl_world.py, line 82: unknown variant 'x'; give NAME"),
    ("--config benchmark:x --workdir x", "benchmark.py has no variants, and none named 'x'"),
    ("--config quickstart --workdir x --config.modle.path=x", "'modle' (did you mean 'model'?)"),
    ("--config corl_smollm2 --workdir x --config.start=a",
     "config.start is called config.init_from now"),
    ("--config quickstart --workdir x --config.estimator.checkpoint a",
     "config.estimator.checkpoint is called config.scorer.checkpoint now"),
    ("--config corl_smollm2 --workdir x --noconfig.leaky", "is called config.train_on_test now"),
    ("--config quickstart --workdir x --config.seed=None", "flag --config.seed=None: "),
    ("--config quickstart --workdir x --config.dry_run=maybe", "flag --config.dry_run=maybe"),
    ("--config quickstart --workdir x --config.rpms=3", "config.rpms"),
    ("--config quickstart --workdir x --config.model.path.x=3", "in --config.model.path.x=3"),
])  # fmt: skip
def test_what_is_wrong_is_one_line(words, said, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert said in fault(*words.split())


@pytest.mark.parametrize(("text", "said"), [
    ("", "has no function get_config()"),
    ("get_config = 3", "has no function get_config()"),
    (f"{DIAGNOSIS}def get_config():\n    c = default_config()", "returns nothing; it must return"),
    ("def get_config():\n    return {}", "returns a dict; it must return a ConfigDict"),
    ("def get_config(:\n", "mine.py, line 1: SyntaxError: invalid syntax"),
    ("\nimport nosuch", "mine.py, line 2: ModuleNotFoundError: No module named 'nosuch'"),
    ("def get_config():\n    return {}['a\\nb']", "line 2: KeyError: 'a\\nb'"),
    ("def get_config():\n    raise ValueError('odd')", "line 2: odd"),
    ("def get_config():\n    raise SystemExit", "line 2: SystemExit"),
    ("def get_config():\n    return get_config()", "line 2: RecursionError: maximum recursion"),
    ("def get_config(a, b):\n    pass", "missing 2 required positional arguments: 'a' and 'b'"),
    ("from remid_jax.errors import UserError\ndef get_config():\n    raise UserError('mine')",
     "mine"),
    (f"{DIAGNOSIS}def get_config():\n    c = default_config()\n    c.seed = 'x'\n", "4: TypeError"),
    ("from ml_collections import ConfigDict, config_dict\ndef get_config():\n"
     "    return ConfigDict({'a': config_dict.required_placeholder(int)})", "placeholder has no"),
    ("\0", "mine.py"),
    (b"\xff", "mine.py, line 1: SyntaxError: (unicode error)"),
])  # fmt: skip
def test_a_config_file_may_fail_in_any_way(tmp_path, text, said):
    path = tmp_path / "mine.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    line = fault("--config", str(path), "--workdir", "x")
    assert said in line and (said == "mine" or str(path) in line or "placeholder" in line)


def test_a_file_may_define_what_a_module_may(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom ml_collections import "
        "ConfigDict\n@dataclasses.dataclass\nclass Sizes:\n    a: int = 3\ndef get_config():\n"
        "    return ConfigDict(dataclasses.asdict(Sizes()))\n"
    )
    assert load_config(str(tmp_path / "mine.py")).a == 3


def test_a_file_is_read_anew_each_time(tmp_path):
    path = tmp_path / "mine.py"
    for seed in range(3):  # within one second, and of one size
        path.write_text(f"{DIAGNOSIS}def get_config():\n    c = default_config()\n"
                        f"    c.seed = {seed}\n    return c\n")  # fmt: skip
        assert load_config(str(path)).seed == seed
    assert [f.name for f in tmp_path.iterdir()] == ["mine.py"]
