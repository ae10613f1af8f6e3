"""The project as others get it: a wheel, whose command runs from any folder."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of what git would commit: a checkout may hold an old build."""
    source = tmp_path_factory.mktemp("source")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in (n.decode() for n in names if n and (ROOT / n.decode()).exists()):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out)]
    subprocess.run([*build, str(source)], check=True)
    (found,) = out.glob("remid_jax-*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"remid_jax"}
    for name in ("data/bundled/role_play_mini.json", "configs/quickstart.py",
                 "experiments/main.py", "experiments/studies/pieces.py"):  # fmt: skip
        assert f"remid_jax/{name}" in names
    assert not [name for name in names if "test" in name.split("/")[1] or "benchmarks" in name]


@pytest.mark.slow
def test_its_command_runs_from_any_folder(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    binaries = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(tmp_path / "venv")}))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install"]
    subprocess.run([*install, "--quiet", "--no-deps", "--force-reinstall", str(wheel)], check=True)

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [str(binaries / "remid-jax"), *words]
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )

    helped = run("--help")
    assert helped.returncode == 0 and "usage: remid-jax --config" in helped.stdout
    assert "sampling.top_p" in run("--help", "diagnose").stdout
    assert "did you mean 'quickstart'" in run("--config=quikstart", "--workdir=x").stderr
    dry = run("--config=quickstart:runlocal", "--workdir=x", "--config.dry_run=True")
    assert dry.returncode == 0 and "what this run would do, at most" in dry.stdout, dry.stderr
    small = ("--config.worlds=9", "--config.sampled.draws=2", "--config.prediction.worlds=2")
    study = run("--config=bounds:runlocal", "--workdir=study", *small)
    assert study.returncode == 0 and (tmp_path / "study" / "results.json").exists(), study.stderr
