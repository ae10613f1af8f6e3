"""The main job with an RPM behind a server: whole, interrupted, beside one that runs here."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from chat_server import NAME
from children import start
from ml_collections import ConfigDict

from experiments.main import main
from remid_jax import default_config
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, server
from remid_jax.report.cost import print_cost
from remid_jax.report.terminal import print_report

KEY = "sk-0123456789abcdef"
ANSWERS = 9  # of three contexts of three subsets
ASKING = """
import json, pathlib, sys
from remid_jax.evaluation.asking import ask_servers
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.servers import asks_of
from remid_jax.evaluation.requests import About
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.servers.chat import Server

messages = [[{"role": "user", "content": f"Tell me of {k}."}] for k in range(12)]
server = Server(sys.argv[1], "smollm2", concurrency=2)
asks = [r for k, m in enumerate(messages)
        for r in asks_of(server, m, SamplingConfig(max_tokens=6), 1, About("a", "t", str(k)))]
ask_servers(asks, Cache(pathlib.Path(sys.argv[2])))
print(json.dumps(sorted(r.key for r in asks)))
"""


@pytest.fixture
def config(small_config, proxy):
    """One RPM, behind a proxy that shows what reaches the server."""
    c = small_config
    c.rpms = ConfigDict()
    c.server.url, c.server.model, c.server.retries = proxy.url, NAME, 2
    c.sampling.temperature, c.sampling.repetition_penalty = 1.0, 1.0
    return c


def table(results):
    numbers = ("rpm", "subset", "n", "r_emi", "r_emid", "baseline")
    return [[row[name] for name in numbers] for row in results["rows"]]


def texts_of(folder, rpm=NAME):
    lines = (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return {r["sample_ID"]: r["model_response"].get(rpm) for r in rows}


def test_a_run_is_whole_whatever_the_server_does(config, proxy, tmp_path, monkeypatch, capsys):
    """Faults, a server that dies half way, and the same command again: the run without any."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    clean = diagnose(config, tmp_path / "clean")
    assert len(proxy.calls) == len(proxy.answered) == ANSWERS
    assert len(set(texts_of(tmp_path / "clean").values())) == ANSWERS
    assert clean["cut_at_max_tokens"]["IDTest"] == {NAME: 3}
    assert clean["answers"][NAME]["finish_reasons"] == {}

    config.server.concurrency, folder = 1, tmp_path / "faults"
    proxy.faults = [None, "busy", "garbage", None, None, "dead"]
    with pytest.raises(UserError, match="answers no longer: ") as e:
        diagnose(config, folder)
    assert str(e.value).endswith("; 3 of 9 replies are kept, and the same command goes on")
    assert len(list((folder / "cache" / "ask").iterdir())) == 3
    proxy.start()
    again = diagnose(config, folder)
    assert table(again) == table(clean)
    assert texts_of(folder) == texts_of(tmp_path / "clean")
    assert len(proxy.answered) == 2 * ANSWERS  # nothing was asked twice
    (asked,) = again["provenance"]["servers"]
    expected = {
        "rpm": NAME, "model": NAME, "url": proxy.url, "calls": ANSWERS, "retries": 2,
        "failures": 0, "cost": None,
    }  # fmt: skip
    assert {k: asked[k] for k in expected} == expected
    assert asked["output_tokens"] == 6 * ANSWERS and asked["input_tokens"] > 100 * ANSWERS
    assert KEY not in capsys.readouterr().err
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 40 and not any(KEY.encode() in p.read_bytes() for p in written)


def test_a_failed_answer_is_counted_and_asked_for_again(config, proxy, tmp_path, capsys):
    config.server.concurrency, config.sampling.max_tokens = 1, 5
    proxy.faults = [None, "refused"]
    results = diagnose(config, tmp_path)
    (excluded,) = results["excluded"]
    assert excluded["rpm"] == NAME
    assert excluded["reason"] == "the server gave no answer: HTTP 400: a filter took offence"
    assert results["provenance"]["servers"][0]["failures"] == 1
    assert next(iter(r["n"] for r in results["rows"] if r["rpm"] == NAME)) == 2
    print_report(results, tmp_path)
    said = capsys.readouterr().out
    assert "servers: smollm2 calls 9, retries 0, failures 1, tokens read " in said
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Servers" in page and proxy.url in page
    before = len(proxy.calls)
    assert diagnose(config, tmp_path)["excluded"] == []
    assert len(proxy.calls) == before + 1
    proxy.faults, config.limits.excluded_share = [None, "refused"], 0.0
    with pytest.raises(UserError, match=r"1 of 3 answers of 'smollm2' .*a filter took offence"):
        diagnose(config, tmp_path / "strict")


def test_servers_beside_models_of_this_machine(config, proxy, tmp_path, capsys):
    """Two draws each, the work cut in two parts, and prices."""
    config.rpms = default_config().rpms
    del config.rpms["full_context"]
    config.server.url = config.server.model = ""
    config.rpms["behind"] = server(proxy.url, NAME, view="last_turn")
    config.sampling.draws, config.sampling.repetition_penalty = 2, 1.05
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({NAME: {"input": 1000, "output": 2000}}))
    config.server.prices = str(prices)
    config.dry_run = True
    plan = diagnose(config, tmp_path / "run")["plan"]
    (asked,) = plan["servers"]
    assert (asked["calls"], asked["output_tokens"]) == (2 * ANSWERS, 12 * ANSWERS)
    assert asked["cost"] == pytest.approx((asked["input_tokens"] + 24 * ANSWERS) / 1000)
    print_cost(plan)
    assert "smollm2 at http://127.0.0.1:" in capsys.readouterr().out
    assert not proxy.calls and not (tmp_path / "run").exists()
    config.dry_run, config.shard = False, "0/2"
    assert diagnose(config, tmp_path / "run")["unfinished"]
    assert len(proxy.calls) == ANSWERS
    config.shard = ""
    results = diagnose(config, tmp_path / "run")
    assert len(proxy.answered) == 2 * ANSWERS
    assert {r["rpm"] for r in results["rows"]} >= {"last_turn_only", "behind"}
    (row, *_) = (r for r in results["rows"] if r["rpm"] == "behind")
    assert row["draws"] == 2 and row["r_emi"] is not None
    assert results["provenance"]["servers"][0]["cost"] > 0
    draws = texts_of(tmp_path / "run", "behind")
    assert all(len(set(texts)) == 2 for texts in draws.values())
    bodies = [{k: v for k, v in body.items() if k != "seed"} for body in proxy.calls]
    assert "repetition_penalty" not in bodies[0] and bodies[0]["temperature"] == 1.0
    assert len({body["seed"] for body in proxy.calls}) == 2 * ANSWERS
    assert "repetition_penalty = 1.05 is not sent to servers" in capsys.readouterr().err


def test_a_killed_process_loses_nothing_that_arrived(proxy, tmp_path):
    cache = tmp_path / "ask"
    proxy.faults = [None] * 5 + ["stall"] * 4
    killed = start(ASKING, proxy.url, str(tmp_path))
    deadline = time.monotonic() + 60
    while len(proxy.calls) < 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kept = list(cache.glob("*.result"))  # one may have been killed while it was written
    assert 4 <= len(kept) <= 5
    proxy.faults, before = [], len(proxy.answered)
    out, said = start(ASKING, proxy.url, str(tmp_path)).communicate(timeout=60)
    assert len(json.loads(out.splitlines()[-1])) == 12, said
    assert len(proxy.answered) - before == 12 - len(kept)
    assert len(list(cache.glob("*.result"))) == 12


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"url": "http://u:secret@127.0.0.1/v1"}, "config.server.url must hold no user, password"),
        ({"url": "http://h/v1?api_key=secret"}, "config.server.url must hold no user, password"),
        ({"url": "ftp://h/v1"}, "config.server.url is 'ftp://h/v1'; it must be the http"),
        ({"url": "127.0.0.1:8000"}, "config.server.url is '127.0.0.1:8000'; it must be the http"),
        ({"url": "http://h:port/v1"}, "config.server.url is no URL"),
        ({"model": ""}, "config.server.url needs config.server.model, which is empty"),
        ({"url": ""}, "config.server.model needs config.server.url, which is empty"),
        ({"key_env": "sk-secret"}, "must be the name of an environment variable"),
        ({"key_env": "NOBODY_SET_THIS"}, "names an environment variable that is not set"),
        ({"concurrency": 0}, "config.server.concurrency is 0; it must lie in [1, 1024]"),
        ({"prices": "no/such.json"}, "price table file not found: no/such.json"),
        ({"model": "echo"}, "an RPM cannot be called 'echo'"),
    ],
)
def test_one_line_for_what_cannot_be(small_config, tmp_path, keys, problem):
    c = small_config
    c.server.url, c.server.model = "http://127.0.0.1:9/v1", NAME
    c.server.update(keys)
    with pytest.raises(UserError) as e:
        diagnose(c, tmp_path / "run")
    assert problem in str(e.value) and "secret" not in str(e.value)


@pytest.mark.parametrize(
    "table",
    [{NAME: 3}, {NAME: {"input": -1}}, {NAME: {"input": 1e10}}, {NAME: {"in": 1}}],
)
def test_a_price_table_of_another_form(small_config, tmp_path, table):
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(table))
    small_config.server.url, small_config.server.model = "http://127.0.0.1:9/v1", NAME
    small_config.server.prices = str(file)
    with pytest.raises(UserError, match=f"'{NAME}' must be an object of numbers from 0 to 1,000"):
        diagnose(small_config, tmp_path / "run")


def test_answers_come_from_one_side(small_config):
    small_config.responses = "r.jsonl"
    check_config(small_config)
    small_config.rpms.behind = server("http://127.0.0.1:9/v1", NAME)
    with pytest.raises(UserError, match=r"leave out config\.responses, or the server"):
        check_config(small_config)


def test_a_command_says_in_one_line_that_nobody_answers(
    tiny_path, short_benchmark, tmp_path, capsys
):
    keys = {"server.url": "http://127.0.0.1:9/v1", "server.model": "mine", "model.path": tiny_path,
            "benchmark": short_benchmark, "limits.contexts": 3}  # fmt: skip
    words = [f"--config.{key}={value}" for key, value in keys.items()]
    assert main(["--config", "server", "--workdir", str(tmp_path / "run"), *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("error: no server answers at http://127.0.0.1:9/v1: the connection")
    assert not any("Traceback" in line for line in said)
    assert Path(tmp_path / "run").exists()
