"""Judges behind servers, a real one and scripted ones: what is asked, believed and counted."""

import json
import logging
import re
import shutil

import pytest
from chat_server import NAME, Proxy, _send

from remid_jax.analysis import schema
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config, judge
from remid_jax.report.terminal import print_report

CONTEXTS, RULERS = 6, 2  # golden beside shuffled golden and echo; unshifted has golden's text here
CALIBRATION = CONTEXTS * RULERS * 2
PAIRS = CONTEXTS * 2 * 2  # of two RPMs with golden, in both orders


class Scripted(Proxy):
    """Answers as a judge that knows golden: the reply that names the number of birds.

    Attributes:
      said: replies in place of the next ones, None for what the judge says.
    """

    def __init__(self, upstream):
        self.said, self.right = [], True
        super().__init__(upstream)

    def _pass_on(self, handler, body):
        if not body:
            return super()._pass_on(handler, body)
        with self._lock:
            said = self.said.pop(0) if self.said else None
        text = self.verdict(json.loads(body)) if said is None else said
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 100, "completion_tokens": 5}
        choices = [{"message": message, "finish_reason": "stop"}]
        _send(handler, 200, json.dumps({"choices": choices, "usage": usage}).encode())

    def verdict(self, asked):
        context, *replies = re.split(r"<reply(?:_[AB])?>", asked["messages"][1]["content"])
        birds = re.search(r"I saw (\d+) birds", context)[1]
        good = [f"which {birds} birds?" in r for r in replies]
        if len(good) == 1:
            return json.dumps({"score": 9 if good[0] else 2})
        winner = "tie" if good[0] == good[1] else "AB"[good[1] == self.right]
        return json.dumps({"winner": winner})

    def unforced(self, handler, body):
        """Takes no schema."""
        if "response_format" in json.loads(body):
            return _send(handler, 400, b'{"error": {"message": "no response_format here"}}')
        return self._pass_on(handler, body)


@pytest.fixture
def proxy(chat_url):
    with Scripted(chat_url) as made:
        yield made


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder for what needs no judge, which is computed once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def config(small_config, proxy, work, tmp_path):
    """One judge behind the proxy; whatever else a run in `tmp_path` needs is in its cache."""
    small_config.shifts = ("german",)
    small_config.estimator.emi_shifts = -1
    small_config.server.concurrency = 1
    if not (work / "cache").exists():
        diagnose(small_config, work)
    shutil.copytree(work / "cache", tmp_path / "cache")
    small_config.judges.one = judge(proxy.url, NAME)
    return small_config


def judged(config, folder):
    results = diagnose(config, folder)
    schema.check_results(results)
    return results, results["judges"][0]


def test_both_orders_are_asked_calibration_first_and_nothing_twice(config, proxy, tmp_path):
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({NAME: {"input": 10.0, "output": 100.0}}), encoding="utf-8")
    config.server.prices, config.dry_run = str(prices), True
    (asked,) = diagnose(config, tmp_path)["plan"]["servers"]
    assert asked["calls"] == CALIBRATION + PAIRS and not proxy.calls
    assert asked["output_tokens"] == 256 * asked["calls"] and asked["cost"] > 0
    config.dry_run = False
    results, one = judged(config, tmp_path)
    assert len(proxy.calls) == CALIBRATION + PAIRS == one["calls"]
    assert (one["accuracy"], one["calibrated"], one["stopped"]) == (1.0, True, False)
    assert (one["unscored"], one["flips"]) == (0, 0) and one["source"].startswith(f"{NAME} at http")
    scores = [r for r in results["judge_scores"] if r["rpm"] == "full_context"]
    assert [(r["against"], r["value"], r["n"]) for r in scores] == [("golden", 0.0, 3)] * 2
    shown = [re.findall(r"<reply_.>\n(.*?)\n</reply", c["messages"][1]["content"], re.S)
             for c in proxy.calls[:CALIBRATION]]  # fmt: skip
    assert all("which" in a + b and [b, a] in shown for a, b in shown)
    assert all(c["temperature"] == 0 and c["response_format"] for c in proxy.calls)
    (record,) = results["provenance"]["judges"]
    assert record["judge"] == "one" and record["calls"] == CALIBRATION + PAIRS
    tokens = 100 * record["calls"], 5 * record["calls"]
    assert (record["input_tokens"], record["output_tokens"]) == tokens
    assert record["cost"] == pytest.approx((tokens[0] * 10 + tokens[1] * 100) / 1e6)


def test_a_judge_that_fails_its_calibration_is_asked_nothing_else(config, proxy, tmp_path, caplog):
    proxy.right = False
    with caplog.at_level(logging.WARNING, "remid_jax"):
        results, one = judged(config, tmp_path)
    assert len(proxy.calls) == CALIBRATION == one["calls"]
    assert (one["accuracy"], one["calibrated"], one["stopped"]) == (0.0, False, True)
    assert "judge one is not calibrated, and is not asked about RPMs" in caplog.text
    assert not results["judge_correlations"] and not results["judge_agreement"]
    assert "not asked further" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_what_is_no_verdict_is_asked_again_once_and_counted(config, proxy, tmp_path):
    # A second try mends the first reply. Two others stay without: of two pairs an order is missing.
    wrong = ["", "Both are fine, but A shines.", "INCORRECT"]
    proxy.said = wrong + [None] * (CALIBRATION - 3) + ['{"winner": "A"}', '{"winner": 1}', ""]
    _, one = judged(config, tmp_path)
    assert len(proxy.calls) == CALIBRATION + PAIRS + 3
    assert (one["calls"], one["unscored"]) == (CALIBRATION + PAIRS, 2)
    again = proxy.calls[CALIBRATION : CALIBRATION + 3]
    assert [c["messages"] for c in again] == [c["messages"] for c in proxy.calls[:3]]
    assert all(c["temperature"] == 1 for c in again)
    assert one["accuracy_n"] == CALIBRATION / 2 - 2 and one["calibrated"]


def test_a_server_without_schemas_is_asked_without(config, proxy, tmp_path, caplog):
    proxy.faults = ["unforced"] * 1000
    with caplog.at_level(logging.WARNING, "remid_jax"):
        _, one = judged(config, tmp_path)
    forced = [c for c in proxy.calls if "response_format" in c]
    assert len(forced) == 1 and len(proxy.calls) == CALIBRATION + PAIRS + 1
    assert one["unscored"] == 0 and one["calibrated"]
    assert "judge one refuses a schema for its replies, which go without: HTTP 400" in caplog.text


def test_what_is_refused_with_and_without_a_schema_is_not_refused_for_it(
    config, proxy, tmp_path, caplog
):
    """As what is too long is; the others are asked with a schema as before."""
    proxy.faults = ["refused", "refused"]
    with caplog.at_level(logging.WARNING, "remid_jax"):
        _, one = judged(config, tmp_path)
    plain = [c for c in proxy.calls if "response_format" not in c]
    assert plain == [proxy.calls[1]] and len(proxy.calls) == CALIBRATION + PAIRS + 1
    assert one["unscored"] == 1 and one["calibrated"] and "schema" not in caplog.text


def test_each_part_of_a_job_array_learns_what_the_server_takes(config, proxy, tmp_path):
    proxy.faults = ["unforced"] * 1000
    for shard in ("0/2", "1/2"):
        config.shard = shard
        assert diagnose(config, tmp_path)["unfinished"]
    config.shard = ""
    _, one = judged(config, tmp_path)
    forced = [c for c in proxy.calls if "response_format" in c]
    assert len(forced) == 3 and one["unscored"] == 0 and one["calibrated"]
    plain = [json.dumps(c) for c in proxy.calls if "response_format" not in c]
    assert len(plain) == len(set(plain)) == one["calls"] == CALIBRATION + PAIRS


def test_the_key_of_a_judge_is_in_no_file(config, keyed_url, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JUDGE_KEY", "sk-right")
    config.judges.one = judge(keyed_url, NAME, key_env="JUDGE_KEY", max_tokens=8)
    judged(config, tmp_path)
    print_report(json.loads((tmp_path / "results.json").read_text(encoding="utf-8")), tmp_path)
    assert "sk-right" not in "".join(capsys.readouterr())
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(list((tmp_path / "cache" / "ask").iterdir())) >= CALIBRATION
    assert not any(b"sk-right" in p.read_bytes() for p in written)


def test_repeats_and_scores(config, proxy, tmp_path):
    config.judges.one = judge(proxy.url, NAME, mode="pointwise", repeats=2)
    results, one = judged(config, tmp_path)
    assert len(proxy.calls) == CONTEXTS * (1 + RULERS) + CONTEXTS * 2 * 2
    drawn = [c for c in proxy.calls if c["temperature"] == 1]
    assert len(drawn) == CONTEXTS * 2 and all(c["temperature"] in (0, 1) for c in proxy.calls)
    assert one["calibrated"] and one["accuracy_n"] == CONTEXTS * RULERS
    assert (one["retest_variance"], one["retest_variance_n"]) == (0, CONTEXTS * 2)
    values = {r["rpm"]: r["value"] for r in results["judge_scores"]}
    assert values["golden"] == 9 and values["echo"] == values["full_context"] == 2


def test_faults_of_the_server_lose_and_double_nothing(config, proxy, tmp_path):
    faults = ["busy", "broken", "garbage", "cut"]
    proxy.faults = [None, *faults, *[None] * 30, "busy", "page"]
    _, one = judged(config, tmp_path)
    assert len(proxy.calls) == CALIBRATION + PAIRS + 6
    asked = [json.dumps(body) for body in proxy.calls]
    assert len(set(asked)) == one["calls"] == CALIBRATION + PAIRS
    assert (one["accuracy"], one["accuracy_n"], one["unscored"]) == (1.0, CALIBRATION / 2, 0)


def test_a_server_that_goes_away_and_comes_back(config, proxy, tmp_path):
    config.server.retries = 0
    proxy.faults = [*[None] * (CALIBRATION + 5), "dead"]
    with pytest.raises(UserError, match=r"answers no longer: .*; 5 of 24 replies are kept"):
        diagnose(config, tmp_path)
    proxy.start()
    _, one = judged(config, tmp_path)
    assert one["calls"] == CALIBRATION + PAIRS and one["unscored"] == 0
    assert len(proxy.calls) == CALIBRATION + PAIRS + 1  # the one that was cut


def test_a_real_model_is_asked_and_nothing_is_claimed_with_it(config, chat_url, tmp_path):
    config.judges.one = judge(chat_url, NAME, max_tokens=64)
    config.server.concurrency = 2
    _, one = judged(config, tmp_path)
    assert one["calls"] in (CALIBRATION, CALIBRATION + PAIRS)
    assert one["calibrated"] is not one["stopped"]
    assert one["unscored"] < one["calls"] / 2  # the schema holds, but for replies that were cut


def test_wrong_names_end_the_run_before_any_work(config, proxy, tmp_path):
    config.judges.one = judge(proxy.url, "smolm2")
    with pytest.raises(UserError, match=r"no model 'smolm2' .*did you mean 'smollm2'"):
        diagnose(config, tmp_path)
    assert not (tmp_path / "cache" / "ask").exists() and not proxy.calls
    for wrong, said in (
        (judge(), "config.judges.one needs either precomputed"),
        (judge(proxy.url, NAME, precomputed="a.json"), "config.judges.one needs either"),
        (judge(proxy.url), "config.judges.one.url needs config.judges.one.model"),
        (judge(proxy.url, NAME, mode="pairs"), "config.judges.one.mode is 'pairs'"),
        (judge(proxy.url, NAME, repeats=0), "config.judges.one.repeats"),
    ):
        config.judges.one = wrong
        with pytest.raises(UserError, match=said):
            check_config(config)
    with config.unlocked():
        config.judges.one, config.judges.two = judge(proxy.url, NAME), judge(f"{proxy.url}/", NAME)
        with pytest.raises(UserError, match=r"config.judges.two is config.judges.one again"):
            check_config(config)
        config.judges.two = judge(proxy.url, NAME, mode="pointwise")
        check_config(config)
        del config.judges.two
    config.judges.one = judge("http://me:secret@host/v1", NAME)
    with pytest.raises(UserError, match=r"config.judges.one.url must hold no user") as e:
        diagnose(config, tmp_path)
    assert "secret" not in str(e.value)
