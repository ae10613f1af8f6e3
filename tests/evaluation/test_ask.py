"""Requests to servers: their keys, their files, their parts, and replies as answers."""

import dataclasses

import pytest
from small_requests import MODEL
from tiny_checkpoint import write_reader

from remid_jax.data.reading import load_benchmark
from remid_jax.evaluation.asking import share_failures
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.cost import left_of, stages_of
from remid_jax.evaluation.requests import About, Ask
from remid_jax.evaluation.runner import Part
from remid_jax.evaluation.servers import answer_of, asked_record, asks_of
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.pretrained import load_language_model
from remid_jax.servers.chat import ChatRequest, Reply, Server

SERVER = Server("http://127.0.0.1:9/v1", "m")
HELLO = ({"role": "user", "content": "Hello."},)
ASKED = ChatRequest(HELLO, 8, 0.5, 0.9, ("x",), 7)
REPLY = Reply("Aye \ud83d", "stop", 12, 3, 1, "", {"role": "assistant", "content": "Aye \ud83d"})


def ask(server=SERVER, draw=0, **changes):
    return Ask(server, dataclasses.replace(ASKED, **changes), About("a", "t", "s"), draw)


def server(**changes):
    return dataclasses.replace(SERVER, **changes)


def test_a_key_holds_all_that_decides_a_reply(monkeypatch):
    others = [
        ask(server(url="http://127.0.0.1:8/v1")), ask(server(model="n")), ask(draw=1),
        ask(messages=({"role": "user", "content": "Hullo."},)), ask(max_tokens=9),
        ask(temperature=0.6), ask(top_p=0.8), ask(stop=("y",)), ask(seed=8), ask(schema={}),
    ]  # fmt: skip
    assert len({ask().key, *(r.key for r in others)}) == 1 + len(others)
    alike = server(url=f"{SERVER.url}/", concurrency=1, key_env="OTHER", retries=0, input_price=1.0)
    monkeypatch.setattr("remid_jax.evaluation.requests.NUMERICS", 2)  # what was paid for stays
    assert ask(alike).key == ask().key


def test_a_reply_is_kept_and_a_failure_is_not(tmp_path):
    cache, asked, failed = Cache(tmp_path), ask(), ask(draw=1)
    assert left_of([asked, failed], cache) == [asked, failed]
    cache.put_reply(asked, REPLY)
    cache.put_reply(failed, Reply(error="HTTP 500", retries=2))
    cache.refresh()
    share_failures(cache)
    assert left_of([asked, failed], cache) == []
    assert cache.replied(asked) == REPLY and cache.replied(failed).error == "HTTP 500"
    later = Cache(tmp_path)
    assert later.replied(asked) == REPLY and failed not in later
    cache.put_reply(failed, REPLY)
    assert cache.replied(failed) == REPLY and failed in Cache(tmp_path)


@pytest.mark.parametrize("count", [2, 3])
def test_parts_share_the_calls_evenly(count):
    pieces = [[ask(draw=k)] for k in range(12)]
    parts = [Part(i, count).chosen(pieces, Cache()) for i in range(count)]
    assert [len(part) for part in parts] == [12 // count] * count
    assert sorted(r.draw for part in parts for (r,) in part) == list(range(12))


def test_what_is_asked_costs_tokens_and_no_operations():
    asks = [ask(draw=k) for k in range(3)] + [ask(server(model="n", input_price=2.0), max_tokens=1)]
    assert stages_of(asks, 4) == []
    assert asked_record(asks) == [
        {"model": "m", "url": SERVER.url, "calls": 3, "input_tokens": 15, "output_tokens": 24,
         "cost": None},
        {"model": "n", "url": SERVER.url, "calls": 1, "input_tokens": 5, "output_tokens": 1,
         "cost": 1e-5},
    ]  # fmt: skip


def test_each_draw_of_each_prompt_has_its_own_seed():
    def seeds(seed):
        sampling = SamplingConfig(max_tokens=4, temperature=1.0, seed=seed)
        prompts = [[{"role": "user", "content": text}] for text in ("a", "b")]
        found = [asks_of(SERVER, p, sampling, 3, About("a", "t", "s")) for p in prompts]
        return [r.asked.seed for some in found for r in some]

    assert len({*seeds(0), *seeds(1)}) == 12 and seeds(0) == seeds(0)
    assert all(0 <= s < 2**31 for s in seeds(0))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    path = write_reader(tmp_path_factory.mktemp("scorer") / "m", seed=1)
    tokenizer = load_language_model(str(path)).tokenizer
    return dataclasses.replace(MODEL, tokenizer=tokenizer)


def replied(content, finish="stop", **message):
    return Reply(content or "", finish, message={"content": content, **message})


def test_replies_are_read_as_collected_answers_are(scorer, short_benchmark):
    sample = load_benchmark(short_benchmark).subsets["IDTest"][0]
    name = sample.character["name"]

    def read(reply, room=50):
        answer = answer_of(reply, sample, scorer, room)
        return answer.text, answer.failure, answer.stopped

    spoken = answer_of(replied(f"<think>hm</think>{name}: Aye.\nUser: x"), sample, scorer, 50)
    assert spoken.text == "Aye." and set(spoken.cuts) == {"thought", "speaker_label", "user_turn"}
    assert read(replied("Aye", "length")) == ("Aye", "", False)
    assert read(replied("Aye", reasoning_content="hm")) == ("Aye", "", True)
    ended = "; config.sampling.max_tokens ended it"
    thinking = "the model reasoned and gave no answer"
    assert read(replied("", "length", reasoning_content="hm")) == ("", thinking + ended, False)
    assert read(replied(None, refusal="No."))[1] == "the model refused: No."
    assert read(replied(""))[1] == "the answer is empty"
    assert read(Reply(error="HTTP 500"))[1] == "the server gave no answer: HTTP 500"
    text, failure, _ = read(replied("Aye. " * 40), room=20)
    assert text == "" and "tokens of m, which leaves 20 to answers" in failure
