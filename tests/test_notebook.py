"""The notebook, run from top to bottom in its small form."""

import json

import pytest
from pages import NOTEBOOK, ROOT


def test_nothing_of_a_run_is_kept():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    for cell in cells:
        assert not cell.get("outputs") and not cell.get("execution_count")


def test_its_samples_are_those_of_the_tutorial():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (pasted,) = ("".join(c["source"]) for c in cells if c["source"][0].startswith("%%writefile"))
    samples = (ROOT / "docs" / "samples.jsonl").read_text(encoding="utf-8")
    assert pasted.partition("\n")[2] == samples.rstrip("\n")


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    import nbformat  # of the extra `notebook`
    from nbclient import NotebookClient

    for file in ROOT.iterdir():
        if file.name in ("setup.py", "remid_jax", "experiments", "configs"):
            (tmp_path / file.name).symlink_to(file)  # so that the checkout stays as it is
    monkeypatch.setenv("REMID_JAX_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    printed = "".join(
        output["text"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.get("name") == "stdout"
    )
    for said in ("full_context: n = 3", "usable: ", "my_rpm: n = 3", "R-EMI -15.5 nats", "n = 16"):
        assert said in printed
    shown = [
        output["data"].get("text/html", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "data" in output
    ]
    assert sum("<iframe" in text for text in shown) == 2
    assert sum("image/svg+xml" in text for text in shown) == 2
