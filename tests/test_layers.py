"""CONTRIBUTING.md's table of what imports what, held against the code."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from docs.layers import OTHERS, picture, stated

ROOT = Path(__file__).parent.parent
FOLDERS = ("remid_jax", "experiments", "configs", "benchmarks")


def files() -> list[Path]:
    return sorted(f for folder in FOLDERS for f in (ROOT / folder).rglob("*.py"))


def row_of(path: Path, rows: set[str]) -> str:
    """The row of a file or folder: the module's own, its package's, or that of the others."""
    parts = path.relative_to(ROOT).parts
    package = "/".join(parts[: 2 if parts[0] == "remid_jax" else 1])
    row = package if package in rows else package.removesuffix(".py") + "/"
    if row in rows:
        return row
    assert parts[0] == "remid_jax" and len(parts) < 3, f"CONTRIBUTING.md has no row for {path}"
    return OTHERS


def modules_of(file: Path) -> set[str]:
    """Our modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = file.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join((*start, *filter(None, [node.module])))
            found |= {f"{module}.{a.name}" for a in node.names}
    return {name for name in found if name.split(".")[0] in FOLDERS}


def imported(file: Path, rows: set[str]) -> set[str]:
    """Rows that a file imports, without its own."""
    found = set()
    for name in modules_of(file):
        parts = name.split(".")
        path = ROOT.joinpath(*parts[: 2 if parts[0] == "remid_jax" else 1])
        if not path.is_dir():
            path = path.with_suffix(".py")
        found.add(row_of(path, rows) if path.exists() else OTHERS)  # remid_jax.NAME
    return found - {row_of(file, rows)}


def test_every_row_imports_exactly_what_contributing_says():
    table = stated()
    users = defaultdict(lambda: defaultdict(list))
    for file in files():
        for row in imported(file, set(table)):
            users[row_of(file, set(table))][row].append(str(file.relative_to(ROOT)))
    for row, allowed in table.items():
        for other, at in users[row].items():
            assert other in allowed, (
                f"{at} import {other}; CONTRIBUTING.md says that {row} does not"
            )
        idle = allowed - set(users[row])
        assert not idle, f"CONTRIBUTING.md: nothing in {row} imports {sorted(idle)}"


def test_rows_import_only_rows_above_them():
    above = set()
    for row, allowed in stated().items():
        assert allowed <= above, f"CONTRIBUTING.md: {row} imports {allowed - above}, further down"
        above.add(row)


def test_every_package_has_a_row():
    rows = set(stated())
    for file in files():
        row_of(file, rows)
    for row in rows - {OTHERS}:
        assert (ROOT / row).exists(), f"CONTRIBUTING.md: there is no {row}"


def test_the_picture_is_that_of_the_table():
    """`python -m docs.layers > docs/layers.svg` draws it again."""
    written = (ROOT / "docs" / "layers.svg").read_text(encoding="utf-8")
    assert written == picture() + "\n"


@pytest.mark.parametrize("package", ["analysis", "report"])
def test_analysis_and_report_know_no_configuration(package):
    for file in (ROOT / "remid_jax" / package).rglob("*.py"):
        for word in ("ConfigDict", "ml_collections"):
            assert word not in file.read_text(encoding="utf-8"), f"{file} names {word}"


def test_every_step_of_the_walk_exists():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    steps = re.findall(r"`(\w+\.\w+)\.(\w+)`", text[text.index("## The walk") :])
    found = [f"{m}.{n}" for m, n in steps if hasattr(importlib.import_module(f"remid_jax.{m}"), n)]
    assert len(steps) > 6 and found == [f"{module}.{name}" for module, name in steps]


def is_command(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def test_analysis_prints_nothing():
    for file in (ROOT / "remid_jax" / "analysis").rglob("*.py"):
        module = ast.parse(file.read_text(encoding="utf-8"))
        module.body = [node for node in module.body if not is_command(node)]
        for node in ast.walk(module):
            name = getattr(node, "id", getattr(node, "attr", ""))
            assert name not in ("print", "stdout", "stderr"), f"{file}:{node.lineno} prints"


def other_packages() -> list[str]:
    """Top-level packages of the requirements in setup.py that are neither jax's nor numpy's."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    names = re.findall(r'^    "([\w-]+)>=', text[: text.index("setup(")], re.MULTILINE)
    others = {name.replace("_", "-") for name in names} - {"jax", "numpy", "scipy"}
    return [
        package
        for package, owners in importlib.metadata.packages_distributions().items()
        if others & {owner.replace("_", "-") for owner in owners}
    ]


CHILD = """
import sys

sys.modules.update(dict.fromkeys(sys.argv[1:]))
import remid_jax

for name, module in remid_jax._LOCATIONS.items():
    if module.startswith("remid_jax.information."):
        getattr(remid_jax, name)
print(remid_jax.club([[0.0, -1.0, -2.0], [-3.0, 0.0, -1.0], [-1.0, -2.0, 0.0]]))
try:
    remid_jax.load_language_model
except ImportError as e:
    print(e)
"""


def test_estimators_need_jax_and_numpy_alone():
    others = other_packages()
    assert "flax" in others and "rich" in others
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *others],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value, refused = done.stdout.splitlines()
    assert float(value) == pytest.approx(5 / 3)
    assert "halted; None in sys.modules" in refused  # the rest needs more, and none was there
