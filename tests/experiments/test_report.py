"""Finished runs of a tiny model: their files, `report`, comparisons, and the gate of the docs."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from short_benchmark import write_benchmark

from experiments import report
from experiments.main import main
from remid_jax.data.reading import load_benchmark
from remid_jax.diagnosis import diagnose
from remid_jax.evaluation.config import default_config
from remid_jax.report.terminal import print_report

ROOT = Path(__file__).parents[2]
FACTORS = ("user", "character", "dialogue")
TAGS = ("IDTest", "german")
RPMS = ("full_context", "last_turn_only")


def config_of(tiny_path, benchmark):
    c = default_config()
    c.model.path, c.benchmark = tiny_path, benchmark
    c.shifts = ("german",)
    c.limits.contexts = 5
    c.sampling.max_tokens = 6
    c.reasoning.max_tokens = 5
    c.sampling.batch_rows = 5
    return c


@pytest.fixture(scope="module")
def runs(tiny_path, tmp_path_factory):
    """A run, and one of shorter answers on one context fewer; two contexts have one character."""
    folder = tmp_path_factory.mktemp("runs")
    benchmark = write_benchmark(folder / "benchmark.json", count=5)
    content = json.loads(Path(benchmark).read_text(encoding="utf-8"))
    for split in content.values():
        split[1]["agent_character"] = split[0]["agent_character"]
        for k, record in enumerate(split):
            turns = [{"user_query": f"I lost {k} keys."}, {"agent_response": f"All {k + 3}?"}]
            record["dialogue_context"] = turns + record["dialogue_context"]
    Path(benchmark).write_text(json.dumps(content), encoding="utf-8")
    config = config_of(tiny_path, benchmark)
    results = diagnose(config, folder / "main")
    shutil.copytree(folder / "main" / "cache", folder / "candidate" / "cache")
    config.sampling.max_tokens, config.limits.contexts = 4, 4
    diagnose(config, folder / "candidate")
    return folder, results, benchmark


@pytest.fixture
def copied(runs, tmp_path):
    """A folder with copies of both runs, without their caches."""
    for name in ("main", "candidate"):
        shutil.copytree(runs[0] / name, tmp_path / name, ignore=shutil.ignore_patterns("cache"))
    return tmp_path


@pytest.fixture
def call(capsys, copied, monkeypatch):
    """call(*words) -> exit code, lines of output, lines of errors; runs are `main`, `candidate`."""
    monkeypatch.chdir(copied)

    def run(*words):
        capsys.readouterr()
        code = report.main(list(words))
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err.splitlines()

    return run


@pytest.fixture
def fails(call):
    """fails(*words) -> the one line of error."""

    def run(*words):
        code, out, err = call(*words)
        assert code == 2 and out == []
        (line,) = err
        return line.removeprefix("error: ")

    return run


def contributions(folder):
    text = (folder / "contributions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def examples(folder):
    return json.loads((folder / "examples.json").read_text(encoding="utf-8"))["examples"]


def weight(samples, i, factor):
    """The share of the others whose value of a factor differs: all are of one language here."""
    fields = {"user": "persona", "character": "character", "dialogue": "dialogue"}
    values = [getattr(s, fields[factor]) for s in samples]
    others = [v for k, v in enumerate(values) if k != i]
    return np.mean([v != values[i] for v in others])


def test_contributions_hold_the_parts_of_every_mean(runs):
    folder, results, _ = runs
    rows = contributions(folder / "main")
    for rpm in RPMS:
        for tag in TAGS:
            own = [r for r in rows if (r["rpm"], r["subset"]) == (rpm, tag)]
            assert len(own) == 5 and [r["nats"] for r in own] == sorted(r["nats"] for r in own)
            (row,) = [r for r in results["rows"] if (r["rpm"], r["subset"]) == (rpm, tag)]
            assert np.mean([r["nats"] for r in own]) == pytest.approx(row["r_emi"], abs=1e-4)
            for cell in results["profile"]:
                if (cell["rpm"], cell["subset"]) != (rpm, tag):
                    continue
                for key in ("", "_golden"):
                    found = [r[f"{cell['factor']}{key}"] for r in own]
                    assert np.mean(found) == pytest.approx(cell[f"info{key}"], abs=1e-4)


def test_intervals_are_students(runs):
    _, results, _ = runs
    t = 2.7764451  # 4 degrees of freedom
    for row in (r for r in results["rows"] if r["rpm"] in RPMS):
        for key in ("r_emi", "r_emi_token", "retained", "baseline"):
            value, error = row[key], row[f"{key}_se"]
            ends = row[f"{key}_low"], row[f"{key}_high"]
            assert ends == pytest.approx((value - t * error, value + t * error), rel=1e-4)
    for cell in (r for r in results["profile"] if r["rpm"] in RPMS):
        for key in ("info", "lost"):
            value, error = cell[key], cell[f"{key}_se"]
            ends = cell[f"{key}_low"], cell[f"{key}_high"]
            assert ends == pytest.approx((value - t * error, value + t * error), rel=1e-4)


def test_examples_lose_most(runs):
    folder, _, _ = runs
    rows, chosen = contributions(folder / "main"), examples(folder / "main")
    lost = lambda r: sum(r[f"{f}_golden"] - r[f] for f in FACTORS)  # noqa: E731
    for rpm in RPMS:
        for tag in TAGS:
            own = [r for r in rows if (r["rpm"], r["subset"]) == (rpm, tag)]
            worst = sorted(own, key=lost, reverse=True)[:3]
            got = [e for e in chosen if (e["rpm"], e["subset"]) == (rpm, tag)]
            assert [e["sample_ID"] for e in got] == [r["sample_ID"] for r in worst]
            assert [e["lost"] for e in got] == pytest.approx([lost(r) for r in worst])
            for e, r in zip(got, worst, strict=True):
                found = {f: (x["info"], x["info_golden"]) for f, x in e["factors"].items()}
                assert found == {f: (r[f], r[f"{f}_golden"]) for f in found} and len(found) == 5


def test_words_sum_up_to_what_an_answer_carries(runs):
    folder, _, benchmark = runs
    subsets = load_benchmark(benchmark).subsets
    seen = set()
    for e in examples(folder / "main"):
        samples = subsets[e["subset"]]
        i = [s.sample_id for s in samples].index(e["sample_ID"])
        for words, key in ((e["words"], "info"), (e["words_golden"], "info_golden")):
            for f in FACTORS:
                own = sum(w["nats"][f] for w in words if not w["copied"])
                w = weight(samples, i, f)
                seen.add(round(w, 2))
                assert w * own == pytest.approx(e["factors"][f][key], abs=2e-3)
    assert seen == {0.75, 1.0}  # two contexts share a character


def test_examples_hold_the_texts_word_by_word(runs):
    folder, _, benchmark = runs
    subsets = load_benchmark(benchmark).subsets
    lines = (folder / "main" / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    said = {r["sample_ID"]: r["model_response"] for r in map(json.loads, lines)}
    for e in examples(folder / "main"):
        (sample,) = [s for s in subsets[e["subset"]] if s.sample_id == e["sample_ID"]]
        name = sample.character["name"]
        assert (e["user"], e["golden"]) == (sample.persona, sample.golden)
        assert (e["character"], e["character_name"]) == (f"name: {name}", name)
        assert [tuple(t.values()) for t in e["dialogue"]] == list(sample.dialogue)
        assert e["answer"] == said[e["sample_ID"]][e["rpm"]]
        assert "".join(w["text"] for w in e["words"]).strip() == e["answer"]
        words = [w["text"] for w in e["words_golden"]]
        assert "".join(words) == sample.golden
        # The name of the character is copied, and its comma is not.
        plain = re.findall(r" ?[^ ]+", sample.golden)
        if sample.golden.startswith(name):
            plain = [name, plain[0].removeprefix(name), *plain[1:]]
        assert words == plain
        copied = [w["text"] for w in e["words_golden"] if w["copied"]]
        assert copied == ([name] if sample.golden.startswith(name) else [])


def test_a_run_leaves_its_report_and_names_it(runs, capsys):
    folder, results, _ = runs
    names = {f.name for f in (folder / "main").iterdir()}
    made = {"report.html", "profile.svg", "r_emid.svg", "results.csv", "examples.json"}
    assert made <= names and results["examples"] == "examples.json"
    print_report(results, folder / "main")
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0] == f"report: {folder / 'main' / 'report.html'}"
    assert all(name in last[1] for name in ("results.json", "results.csv", "examples.json"))


def test_a_report_is_written_and_printed_again(call, copied, runs, capsys):
    made = [copied / "main" / name for name in ("report.html", "results.csv", "profile.svg")]
    before = [file.read_bytes() for file in made]
    for file in made:
        file.unlink()
    print_report(runs[1], "main")
    printed = capsys.readouterr().out.splitlines()
    assert call("main") == (0, printed, [])
    assert [file.read_bytes() for file in made] == before
    code, lines, _ = call("main", "candidate", "--format", "markdown")
    assert code == 0 and [x for x in lines if x.startswith("#")] == [
        r"### remid\_jax: main", r"### remid\_jax: candidate",
    ]  # fmt: skip
    code, lines, _ = call("candidate", "main")
    assert code == 0 and lines[-len(printed) :] == printed


def test_the_first_word_of_the_program_names_the_command(copied, capsys):
    assert main(["report", str(copied / "main"), "--fail-if", "r_emi > 1e6"]) == 0
    assert "passes (fails if r_emi > 1e6)" in capsys.readouterr().out
    assert main(["report", str(copied / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: run folder not found")
    assert main(["--help"]) == 0
    assert re.search(r"main report RUN .*\n.*main validate FILE", capsys.readouterr().out)


def test_limits_decide_the_exit_code_and_stand_in_the_page(call, copied):
    with open(copied / "main" / "results.csv", encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["rpm"] in RPMS]
    ends = [(float(r["low"]), float(r["high"])) for r in rows if r["measure"] == "r_emi"]
    lows, highs = zip(*ends, strict=True)
    good, bad = f"r_emi > {max(highs)}", f"r_emi > {min(lows) - 1}"
    within = f"r_emi > {sum(max(ends, key=lambda e: e[1])) / 2}"  # in the middle of the highest
    code, lines, _ = call("main", "--fail-if", good)
    assert code == 0 and lines[-5].startswith(f"passes (fails if {good})")
    assert all(re.match(r"  \w+ in \w+: \S+ \(\S+ to \S+\), n = 5$", x) for x in lines[-4:])
    assert call("main", "--fail-if", good, "--fail-if", bad)[0] == 1
    page = (copied / "main" / "report.html").read_text(encoding="utf-8")
    assert "passes" in page and "fails" in page
    assert call("main", "--fail-if", within, "--fail-if", bad)[0] == 1
    fails_there = any(low > float(within.split()[-1]) for low in lows)
    assert call("main", "--fail-if", within)[0] == (1 if fails_there else 3)
    if not fails_there:
        assert call("main", "--fail-if", within, "--undecided", "pass")[0] == 0
        assert call("main", "--fail-if", within, "--undecided", "fail")[0] == 1


def test_two_runs_are_compared(call):
    code, lines, err = call("main", "candidate", "--compare")
    assert (code, err) == (0, [])
    text = "\n".join(lines)
    changed = " ".join(x.strip() for x in lines)
    assert "config.sampling.max_tokens: 6 → 4" in changed
    assert "config.limits.contexts: 5 → 4" in changed and "versions" not in changed
    assert "contexts in both: IDTest 4, german 4" in text
    assert "left out, as the other run lacks them: IDTest 1 only in the first" in text
    assert sum(x.startswith("R-EMID ") for x in lines) == 2  # of two RPMs
    assert sum(x.startswith("R-EMI  ") for x in lines) == 4
    assert "proves no sameness" in text
    # One context has another partner where there are fewer.
    (row,) = [x for x in lines if x.startswith("info user") and "IDTest" in x][:1]
    assert row.split()[3] == "3"
    _, marked, _ = call("main", "candidate", "--compare", "--format", "markdown")
    assert sum(x.startswith("| R-EMID ") for x in marked) == 2


def test_a_run_does_not_differ_from_itself(call):
    code, lines, _ = call("main", "main", "--compare")
    assert code == 0 and "changed: nothing that the runs record" in lines
    rows = [x for x in lines if re.match(r"(share|info|R-EMI)", x)]
    assert rows and all("0.0" in x for x in rows if "[" in x)


def test_rpms_of_two_names_are_compared_as_their_run_does(call, runs):
    words = ("--rpm-a", "last_turn_only", "--rpm-b", "full_context")
    _, lines, _ = call("main", "main", "--compare", *words)
    for own in runs[1]["comparisons"]:
        (row,) = [x for x in lines if x.startswith("R-EMI  ") and own["subset"] in x]
        *_, value, low, high, _ = re.findall(r"-?\d+\.?\d*", row)
        expected = [own[key] for key in ("difference", "low", "high")]
        assert [float(value), float(low), float(high)] == pytest.approx(expected, abs=0.051)


def test_a_reference_bounds_changes(call):
    words = ("candidate", "--reference", "main")
    code, lines, _ = call(*words, "--fail-if", "change.r_emi of full_context < -1e4")
    assert code == 0 and lines[-3].startswith("passes (fails if change.r_emi of full_context")
    assert all(x.endswith("n = 4") for x in lines[-2:])
    assert call(*words, "--fail-if", "change.r_emi > -1e4")[0] == 1


@pytest.mark.parametrize(
    "words, said",
    [
        ((), "the following arguments are required: RUN"),
        (("none",), "run folder not found: none"),
        (("main", "--fail-if", "r_emid in germn > 1"), "did you mean 'german'"),
        (("main", "--fail-if", "predicted > 1"), "config.prediction.enabled is False"),
        (("main", "--fail-if", "change.r_emi < 1"), "name --reference RUN"),
        (("main", "--reference", "candidate"), "there is none"),
        (("main", "--compare"), "--compare takes two runs and no limits"),
        (("main", "candidate", "--compare", "--rpm-a", "full_context"), "belong together"),
        (("main", "--rpm-a", "full_context"), "belong to --compare or --reference"),
        (("main", "candidate", "--compare", "--rpm-a", "full_contxt", "--rpm-b", "full_context"),
         "main has no RPM 'full_contxt' (did you mean 'full_context'?)"),
        (("main", "--format", "xml"), "invalid choice: 'xml'"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(fails, words, said):
    assert said in fails(*words)


def edit(file, change):
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [change(r) for r in rows]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def test_runs_of_different_benchmarks_are_refused(fails, copied):
    file = copied / "candidate" / "responses.jsonl"
    edit(file, lambda r: {**r, "user_persona": r["user_persona"] + " And older."})
    line = fails("main", "candidate", "--compare")
    assert line == (
        "main and candidate are runs of different benchmarks: user_persona of sample 'IDTest_0' "
        "differs; evaluate the same file"
    )
    edit(file, lambda r: {**r, "sample_ID": f"{r['sample_ID']}_new"})
    assert "no sample_ID stands in both" in fails("main", "candidate", "--compare")


def test_damaged_matrices_are_refused(fails, copied):
    file = copied / "candidate" / "pairs" / "german.npz"
    file.write_bytes(file.read_bytes()[:200])
    assert f"{Path('candidate/pairs/german.npz')} is damaged" in fails(
        "main", "candidate", "--compare"
    )
    file.unlink()
    assert "pair matrices file not found" in fails("main", "candidate", "--compare")


def test_the_workflow_of_the_docs_runs(copied):
    """Each command of its steps that reads finished runs, in a shell as GitHub runs it."""
    text = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    workflow = yaml.safe_load(block)
    steps = workflow["jobs"]["gate"]["steps"]
    commands = [s["run"] for s in steps if "remid-jax report" in s.get("run", "")]
    assert len(commands) == 1 and "permissions" in workflow
    program = copied / "bin" / "remid-jax"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m experiments.main "$@"\n')
    program.chmod(0o755)
    shutil.copytree(copied, copied / "runs", ignore=shutil.ignore_patterns("runs", "bin"))
    environment = {
        **os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    shell = ["bash", "-e", "-c", commands[0]]
    done = subprocess.run(
        shell, cwd=copied, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1) and done.stderr == "", done.stderr
    comment = (copied / "comment.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^- \*\*(?:passes|fails|cannot be told)\*\* ", comment, re.M)) == 2
    assert r"| full\_context | german |" in comment


def test_the_commands_of_the_docs_are_read(call):
    text = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [line.split("#")[0].strip() for line in block.splitlines()]
    assert len(commands) == 5
    for command in commands:
        command = command.replace("RUN [RUN ...]", "RUN").removeprefix("python -m ")
        _, *words = (w.strip('"') for w in re.findall(r'"[^"]*"|\S+', command))
        names = {"RUN": "candidate", "BEFORE": "main", "AFTER": "candidate"}
        code, _, err = call(*(names.get(w, w) for w in words))
        assert code in (0, 1, 3) and err == []
    limits = re.findall(r"^    (\w\S* .*[<>].*)$", text.split("## Limits")[1], re.MULTILINE)[1:]
    assert len(limits) == 4
    for limit in limits:
        code, _, err = call("main", "--fail-if", limit)
        assert code in (0, 1, 3) or "has no subset" in err[0] or "no RPM" in err[0]
