"""A real server, and one that fails as servers do: no answer is lost, doubled or altered."""

import http.server
import json
import socket
import sys
import threading

import pytest
from chat_server import NAME, Proxy, _send

from remid_jax.errors import UserError
from remid_jax.servers.chat import ChatRequest, Server
from remid_jax.servers.client import LOST, replies

WORDS = ("birds", "rain", "ships", "bread", "music", "trees", "wool", "ink", "salt")


def about(word, **settings):
    settings = {"max_tokens": 6, "seed": 3, **settings}
    return ChatRequest(({"role": "user", "content": f"Tell me of {word}."},), **settings)


REQUESTS = [about(word, temperature=1.0, seed=k) for k, word in enumerate(WORDS)]


@pytest.fixture
def server(proxy):
    """server(**changes): the one behind the proxy."""
    return lambda **changes: Server(proxy.url, NAME, **{"retries": 3, "concurrency": 4, **changes})


@pytest.fixture(scope="module")
def clean(chat_url):
    """What the server says where nothing fails."""
    return dict(replies(Server(chat_url, NAME), REQUESTS))


def refusal(server, requests=REQUESTS):
    with pytest.raises(UserError) as e:
        list(replies(server, requests))
    assert "\n" not in str(e.value)
    return str(e.value)


def test_each_reply_is_that_of_its_request(clean, chat_url):
    assert sorted(clean) == list(range(len(WORDS)))
    assert len({r.text for r in clean.values()}) == len(WORDS)  # which have not changed places
    for reply in clean.values():
        assert reply.output_tokens == 6 and reply.finish_reason == "length" and not reply.error
        assert reply.input_tokens > 15 and reply.message["content"] == reply.text
    greedy = [about("birds"), about("birds", stop=("ba",)), about("birds", max_tokens=3)]
    whole, stopped, short = (r for _, r in sorted(replies(Server(chat_url, NAME), greedy)))
    assert stopped.text == whole.text.partition("ba")[0] and stopped.finish_reason == "stop"
    assert short.output_tokens == 3 and whole.text.startswith(short.text)
    assert not list(replies(Server(chat_url, NAME), []))


def test_faults_change_no_answer(proxy, server, clean):
    faults = ["busy", "broken", "garbage", "page", "cut", "stall", "busy"]
    proxy.faults = [None, *faults]
    found = list(replies(server(timeout_s=2.0), REQUESTS))
    assert sorted(i for i, _ in found) == list(range(len(WORDS)))
    assert {i: r.text for i, r in found} == {i: r.text for i, r in clean.items()}
    assert sum(r.retries for _, r in found) == len(faults)
    assert len(proxy.calls) == len(WORDS) + len(faults)
    assert len(proxy.answered) == len(WORDS)


def test_a_server_that_comes_back_is_waited_for(proxy, server, clean):
    proxy.faults = [None, None, "dead"]
    back = threading.Timer(0.4, proxy.start)
    back.start()
    found = dict(replies(server(concurrency=2), REQUESTS))
    back.join()
    assert {i: r.text for i, r in found.items()} == {i: r.text for i, r in clean.items()}
    assert not any(r.error for r in found.values())


def test_a_server_that_stays_away_ends_the_work(proxy, server):
    proxy.faults, found = [None, None, None, "dead"], []
    with pytest.raises(UserError, match="answers no longer: the connection failed") as e:
        for one in replies(server(retries=1, concurrency=1), REQUESTS):
            found.append(one)
    assert [i for i, _ in found] == [0, 1, 2] and "\n" not in str(e.value)
    assert len(proxy.calls) == 4


def test_a_request_that_fails_alone_is_a_reply(proxy, server):
    proxy.faults = [None, "refused", "broken", "broken", None, "garbage", "garbage"]
    found = dict(replies(server(retries=1, concurrency=1), REQUESTS))
    errors = {i: (r.error, r.retries) for i, r in found.items() if r.error}
    assert errors == {
        1: ("HTTP 400: a filter took offence", 0),
        2: ("HTTP 500: it broke", 1),
        4: ("the body is no chat completion", 1),
    }
    assert all(r.text for i, r in found.items() if i not in errors)


def test_a_server_that_refuses_everything_is_given_up(proxy, server):
    proxy.faults = ["refused"] * 100
    said = refusal(server(), REQUESTS * 5)
    asked = f"answers no request: {LOST} requests in a row failed, the last: HTTP 400: a filter"
    assert asked in said
    assert LOST <= len(proxy.calls) <= LOST + 4
    proxy.faults = [None, *["broken"] * 100]
    said = refusal(server(retries=0), REQUESTS * 5)
    assert f"answers no longer: {LOST} requests in a row failed, the last: HTTP 500" in said


def test_failures_between_answers_are_borne(proxy, server):
    proxy.faults = [None, *["broken", None] * (LOST + 2)]
    found = dict(replies(server(retries=0, concurrency=1), REQUESTS * 3))
    assert len(found) == 3 * len(WORDS) and sum(bool(r.error) for r in found.values()) == LOST + 2


def test_a_schema_forces_the_form(chat_url):
    form = {"type": "object", "properties": {"better": {"enum": ["A", "B"]}},
            "required": ["better"]}  # fmt: skip
    ((_, reply),) = replies(Server(chat_url, NAME), [about("birds", max_tokens=40, schema=form)])
    assert json.loads(reply.text)["better"] in ("A", "B")


def test_a_model_that_is_not_there(proxy, server):
    said = refusal(Server(proxy.url, "smolm2"))
    assert "no model 'smolm2' (did you mean 'smollm2'?); it lists" in said and not proxy.calls
    assert len(list(replies(Server(proxy.url, "else", listed=False), REQUESTS[:2]))) == 2
    assert len(list(replies(Server(proxy.url, f"org/{NAME}:fast"), REQUESTS[:2]))) == 2
    proxy.faults = ["missing"]
    said = refusal(Server(proxy.url, "else", listed=False))
    assert "has no model 'else' (HTTP 404: no such model); it lists" in said


class Unlisted(Proxy):
    """Keeps no list of models, and says of each that it is not there, as Ollama does."""

    def _pass_on(self, handler, body):
        named = f"model '{json.loads(body)['model']}' not found" if body else "no list"
        _send(handler, 404, json.dumps({"error": {"message": named}}).encode())


def test_a_model_that_is_not_there_where_none_is_listed(chat_url):
    proxy = Unlisted(chat_url)
    said = refusal(Server(proxy.url, "smolm2"))
    proxy.stop()
    assert said.endswith("has no model 'smolm2' (HTTP 404: model 'smolm2' not found)")


def test_what_is_too_long_is_said_with_its_remedy(chat_url):
    long = about("birds " * 5000)
    (_, whole), (_, refused) = replies(Server(chat_url, NAME), [about("rain"), long])
    assert whole.text and refused.error.startswith("HTTP 400: ") and refused.retries == 0
    assert refused.error.endswith("; serve the model with a longer context")
    said = refusal(Server(chat_url, NAME), [long] * LOST)
    assert said.endswith("; serve the model with a longer context") and "must be" not in said


def test_numbers_of_tokens_that_can_be_none(proxy, server):
    proxy.faults = ["miscounted"]
    ((_, reply),) = replies(server(), REQUESTS[:1])
    assert (reply.text, reply.input_tokens, reply.output_tokens) == ("Aye.", 0, 0)


def test_keys(keyed_url, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with_key = Server(keyed_url, NAME, key_env="MY_KEY")
    monkeypatch.setenv("MY_KEY", "sk-right")
    assert len(list(replies(with_key, REQUESTS[:2]))) == 2
    assert "it wants a key (HTTP 401" in refusal(Server(keyed_url, NAME))
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    said = refusal(with_key)
    assert "it refuses the key" in said and "variable MY_KEY" in said and "sk-" not in said


def test_a_server_that_repeats_the_key(proxy, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    proxy.faults = [None, "echoing"]
    _, (_, reply) = replies(server(concurrency=1), REQUESTS[:2])
    assert reply.error == "HTTP 400: bad Bearer [key]"


def test_nobody_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        said = refusal(Server(url, NAME, retries=0))
    assert said.startswith(f"no server answers at {url}: the connection failed (")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_server_of_another_kind(proxy, server, chat_url):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as other:
        threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        said = refusal(Server(url, NAME, retries=0))
        other.shutdown()
    assert "gives no chat completions of 'smollm2' (HTTP 501); the URL must be" in said
    assert "(HTTP 404: File Not Found); the URL must be" in refusal(Server(f"{chat_url}x", NAME))
    proxy.faults = ["page"] * 2
    assert "the body is no chat completion" in refusal(server(retries=1))
    assert len(proxy.calls) == 2  # nothing else was asked


def test_what_is_not_wanted_any_more_is_not_asked(proxy, server):
    arriving = replies(server(concurrency=1), REQUESTS * 3)
    next(arriving)
    arriving.close()
    assert len(proxy.calls) <= 3


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert "pip install 'remid_jax[server]'" in refusal(Server("http://127.0.0.1:9", NAME))
