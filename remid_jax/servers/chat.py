"""A server, what is asked of it, and what it replies."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from remid_jax.errors import UserError
from remid_jax.settings import brief

KEY_ENV = "OPENAI_API_KEY"
CUT = "length"  # the finish reason of an answer that the limit of tokens ended
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclasses.dataclass(frozen=True)
class Server:
    """A chat model behind an OpenAI-compatible server.

    Attributes:
      url: of the API, as "http://127.0.0.1:8000/v1"; requests go to URL/chat/completions.
      model: its name there.
      key_env: environment variable that holds the key; where it is not set, none is sent.
      concurrency: requests that are under way at a time.
      timeout_s: seconds that a request may go without a sign of life.
      retries: of a request that failed and may be mended by another try.
      input_price: of a million tokens that are read, in any currency; 0: unknown.
      output_price: of a million tokens that are written.
      max_tokens_key: the server's name for the limit of tokens.
      listed: whether the server's list of models, where it has one, must hold `model`.
    """

    url: str
    model: str
    key_env: str = KEY_ENV
    concurrency: int = 8
    timeout_s: float = 120.0
    retries: int = 5
    input_price: float = 0.0
    output_price: float = 0.0
    max_tokens_key: str = "max_tokens"
    listed: bool = True

    @property
    def key(self) -> str:
        """The key, read anew whenever it is needed so that no object holds it; empty: none."""
        return os.environ.get(self.key_env, "").strip()

    @property
    def api(self) -> str:
        """The URL without a slash at its end: two spellings are one server."""
        return self.url.strip().rstrip("/")

    def price(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost; None where the price is unknown."""
        if not (self.input_price or self.output_price):
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


@dataclasses.dataclass(frozen=True)
class ChatRequest:
    """What is asked.

    Attributes:
      messages: of a chat, each with `role` and `content`.
      max_tokens: of the reply, at most.
      temperature: of the draw.
      top_p: share of the distribution that is drawn from.
      stop: texts that end the reply.
      seed: of the draw, for servers that have one.
      schema: JSON schema that the server forces the reply into, or None.
    """

    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    schema: Mapping[str, Any] | None = None

    def body(self, server: Server) -> dict[str, Any]:
        """The keywords of a chat completion; those that change nothing are left to the server."""
        asked: dict[str, Any] = {
            "model": server.model,
            "messages": [dict(m) for m in self.messages],
            "temperature": self.temperature,
            server.max_tokens_key: self.max_tokens,
        }
        if self.top_p != 1:
            asked["top_p"] = self.top_p
        if self.stop:
            asked["stop"] = list(self.stop)
        if self.seed is not None:
            asked["seed"] = self.seed
        if self.schema is not None:
            named = {"name": "reply", "schema": dict(self.schema), "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": named}
        return asked


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
      text: of the message; empty where it has none.
      finish_reason: the server's reason to end it; `CUT` where the limit of tokens did.
      input_tokens: that were read, by the server's count; 0 where it does not count.
      output_tokens: that were written.
      retries: tries before this one.
      error: one line that says why there is no reply, or an empty text.
      message: as the server sent it, with what it holds beside the text (a refusal, a thought).
    """

    text: str = ""
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0
    error: str = ""
    message: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def check_server(server: Server, where: str) -> None:
    """Checks what can be told without the network.

    Args:
      server: to ask.
      where: group of the configuration that names it, as "config.server".

    Raises:
      UserError: naming the key; a URL with a password in it is not repeated.
    """
    _check_url(server.url, where)
    if not server.model.strip():
        raise UserError(f"{where}.model is empty: give the model's name on the server")
    if not _VARIABLE.fullmatch(server.key_env):
        raise UserError(
            f"{where}.key_env must be the name of an environment variable, as {KEY_ENV}, and never "
            "a key itself"
        )
    if server.key_env != KEY_ENV and not server.key:
        raise UserError(
            f"{where}.key_env names an environment variable that is not set; set it to the key, "
            f"or leave out {where}.key_env where the server needs none"
        )
    if not server.key.isascii() or not server.key.isprintable():
        raise UserError(
            f"the environment variable {server.key_env} ({where}.key_env) holds what no key can: "
            "it must be ASCII without white space"
        )


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port  # raises where it is no number
    except ValueError:
        raise UserError(f"{where}.url is no URL; give one as 'http://127.0.0.1:8000/v1'") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UserError(
            f"{where}.url must hold no user, password, query or fragment, which would be written "
            f"into files; the key belongs into the environment variable of {where}.key_env"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{where}.url is {brief(url)}; it must be the http:// or https:// address of an "
            "OpenAI-compatible API, as 'http://127.0.0.1:8000/v1'"
        )
