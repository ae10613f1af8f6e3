"""A real chat server on this machine, and a proxy before it that fails as servers do."""

import contextlib
import json
import socket
import string
import threading
import time
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import xllamacpp
from tiny_checkpoint import TOKENS, tiny_tensors, write_gguf

NAME = "smollm2"  # of the model, on the server
ALIAS = "my-rpm"  # the same, as the documentation calls it
STALLED = 3.0  # seconds that a stalled request hangs


def write_speaker(path):
    """A random Llama as a GGUF file, whose greedy answers hold letters and spaces alone."""
    tensors = tiny_tensors(seed=1)
    silent = [t not in string.ascii_letters + "Ġ" for t in TOKENS]
    tensors["lm_head.weight"][silent] = 0
    return write_gguf(path, tensors, fields=[("context_length", 4096)])


@contextlib.contextmanager
def chat_server(path, key="", context=4096):
    """Serves a GGUF file; yields the URL of its API.

    One thread that never spins: beside other tests several that wait for one another are slower.
    """
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {NAME, ALIAS}
    params.n_ctx, params.verbosity, params.warmup = context, -1, False
    # One request after another, each read anew: else their numbers, and now and then a token,
    # depend on which came before and beside them.
    params.n_parallel, params.cache_prompt = 1, False
    if key:
        params.api_keys = [key]
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads, threads.poll = 1, 0
    server = xllamacpp.Server(params)
    try:
        yield f"{server.listening_address}/v1"
    finally:
        del server


class Proxy:
    """Hands requests to a server, but for what `faults` says.

    Attributes:
      faults: what becomes of the next requests for an answer, one after another: the name of a
        method below, or None for nothing.
      calls: bodies of the requests for an answer that came, refused ones too.
      answered: those that were answered as they should be.
    """

    def __init__(self, upstream):
        self.faults, self.calls, self.answered = [], [], []
        self._upstream, self._lock = urlsplit(upstream), threading.Lock()
        self._port = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):  # a fault may have stopped it
            self.stop()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self):
        """Begins to listen, at the same place as before."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

            def log_message(self, *_):
                pass

            def do_GET(self):
                proxy._pass_on(self, b"")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with proxy._lock:
                    proxy.calls.append(json.loads(body))
                    fault = proxy.faults.pop(0) if proxy.faults else None
                getattr(proxy, fault or "_pass_on")(self, body)

        class Server(ThreadingHTTPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 64

            def handle_error(self, *_):
                pass  # clients go as they please

        self._server = Server(("127.0.0.1", self._port or 0), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        """Listens no longer, and cuts nothing that is under way."""
        self._server.shutdown()
        self._server.server_close()

    def _pass_on(self, handler, body):
        connection = HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=60)
        kept = ("Authorization", "Content-Type")
        headers = {name: handler.headers[name] for name in kept if handler.headers[name]}
        connection.request(handler.command, handler.path, body or None, headers)
        found = connection.getresponse()
        content = found.read()
        connection.close()
        if body and found.status == 200:
            with self._lock:
                self.answered.append(json.loads(body))
        _send(handler, found.status, content)

    def busy(self, handler, _):
        """429, and when to come again."""
        _send(handler, 429, b'{"error": {"message": "slow down"}}', {"Retry-After": "0.02"})

    def broken(self, handler, _):
        """500."""
        _send(handler, 500, b'{"error": {"message": "it broke"}}', {"Retry-After": "0.02"})

    def refused(self, handler, _):
        """400, which no other try mends."""
        _send(handler, 400, b'{"error": {"message": "a filter took offence"}}')

    def miscounted(self, handler, _):
        """An answer with numbers of tokens that can be none."""
        choice = {"message": {"role": "assistant", "content": "Aye."}, "finish_reason": "stop"}
        usage = {"prompt_tokens": -5, "completion_tokens": 10**30}
        _send(handler, 200, json.dumps({"choices": [choice], "usage": usage}).encode())

    def missing(self, handler, _):
        """404, of a model that is not there."""
        _send(handler, 404, b'{"error": {"message": "no such model"}}')

    def echoing(self, handler, _):
        """An error that repeats the key."""
        said = json.dumps({"error": {"message": f"bad {handler.headers['Authorization']}"}})
        _send(handler, 400, said.encode())

    def garbage(self, handler, _):
        """200, and a body that is no JSON."""
        _send(handler, 200, b'{"choices": [{"mess')

    def page(self, handler, _):
        """200, and a page for people."""
        _send(handler, 200, b"<html>Hello</html>", {"Content-Type": "text/html"})

    def cut(self, handler, body):
        """A connection that ends in the middle of an answer."""
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices": ')
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)

    def stall(self, handler, body):
        """No sign of life."""
        time.sleep(STALLED)
        handler.close_connection = True

    def dead(self, handler, _):
        """The server goes away, this connection with it."""
        threading.Thread(target=self.stop).start()
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)


def _send(handler, status, content, headers=None):
    handler.send_response(status)
    named = {"Content-Type": "application/json", **(headers or {})}
    for name, value in {**named, "Content-Length": str(len(content))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)
