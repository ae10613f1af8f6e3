"""Evaluated models behind servers: what they are asked, and their replies as answers."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.prompts import Messages
from remid_jax.data.responses import Answer, read_choice
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import specs_of
from remid_jax.evaluation.models import Model
from remid_jax.evaluation.requests import About, Ask, Request, seed_of
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.json_files import read_json_object
from remid_jax.servers.chat import CUT, ChatRequest, Reply, Server, check_server
from remid_jax.settings import made_from

_TOKENS_APART = 4  # tokens of q, at most, for one of a server
NOT_SENT = ("repetition_penalty",)  # keys of the sampling that the API has no name for
_PRICES = ("input", "output")
_HIGHEST = 10**9  # of them


def servers_of(config: ConfigDict) -> dict[str, Server]:
    """RPM -> its server, of those that have one.

    Raises:
      UserError: a key that no server can be asked with, or a price table that cannot be read.
    """
    specs = {name: spec for name, spec in specs_of(config).items() if spec.url}
    return _made(specs, {name: f"config.rpms.{name}" for name in config.rpms}, config)


def judge_servers_of(config: ConfigDict) -> dict[str, Server]:
    """Judge -> its server, of those that have one; as `servers_of`."""
    specs = {name: spec for name, spec in config.judges.items() if spec.url}
    return _made(specs, {name: f"config.judges.{name}" for name in specs}, config)


def _made(
    specs: Mapping[str, ConfigDict], places: Mapping[str, str], config: ConfigDict
) -> dict[str, Server]:
    """Servers by the keys of RPMs or judges; `places` are where these keys stand."""
    prices, found = _price_table(config.server.prices), {}
    for name, spec in specs.items():
        price = prices.get(spec.model, {})
        found[name] = made_from(
            Server, config.server, url=spec.url, model=spec.model,
            key_env=spec.key_env or config.server.key_env,
            **{f"{kind}_price": float(price.get(kind, 0.0)) for kind in _PRICES},
        )  # fmt: skip
        check_server(found[name], places.get(name, "config.server"))
    return found


def _price_table(path: str) -> dict[str, dict[str, float]]:
    """Model -> prices of a million `input` and `output` tokens."""
    table = read_json_object(path, "price table") if path else {}
    for model, prices in table.items():
        values = prices.values() if isinstance(prices, dict) else [None]
        numbers = all(type(v) in (int, float) and 0 <= v <= _HIGHEST for v in values)
        if not numbers or set(prices) - set(_PRICES):
            raise UserError(
                f"price table file {path}: {model!r} must be an object of numbers from 0 to "
                f'{_HIGHEST:,}, as {{"input": 0.15, "output": 0.6}} for a million tokens each'
            )
    return table


def asks_of(
    server: Server, messages: Messages, sampling: SamplingConfig, draws: int, about: About
) -> list[Ask]:
    """The requests for all replies to a sample, one a draw."""
    asked = ChatRequest(
        tuple(messages), sampling.max_tokens, float(sampling.temperature), float(sampling.top_p),
        tuple(sampling.stop_strings),
    )  # fmt: skip
    return [
        Ask(server, dataclasses.replace(asked, seed=seed_of(sampling.seed, messages, k)), about, k)
        for k in range(draws)
    ]


def room_of(config: ConfigDict) -> int:
    """Tokens of q, at most, that contexts leave to the answer of a server."""
    return _TOKENS_APART * config.sampling.max_tokens


def answer_of(reply: Reply, sample: Sample, scorer: Model, room: int) -> Answer:
    """A reply as an answer, read as collected ones are.

    Args:
      reply: of a server.
      sample: what it replies to.
      scorer: q.
      room: see `room_of`.
    """
    if reply.error:
        return Answer(failure=f"the server gave no answer: {reply.error}")
    choice = {"message": reply.message, "finish_reason": reply.finish_reason}
    answer = dataclasses.replace(read_choice(choice, sample), stopped=reply.finish_reason != CUT)
    if answer.failure and not answer.stopped:
        ended = f"{answer.failure}; config.sampling.max_tokens ended it"
        return dataclasses.replace(answer, failure=ended)
    if (n := len(scorer.tokenizer.encode(answer.text))) > room:
        why = f"the answer has {n} tokens of {scorer.name}, which leaves {room} to answers"
        return dataclasses.replace(answer, text="", failure=why)
    return answer


def server_notes(servers: Mapping[str, Server], config: ConfigDict) -> Iterator[str]:
    """What servers are not told, and what is not known of them."""
    if not servers:
        return
    told = config.sampling
    for name in NOT_SENT:
        if told[name] != 1:
            yield (
                f"config.sampling.{name} = {told[name]:g} is not sent to servers: their API has no "
                "name for it"
            )
    if config.server.prices:
        unknown = {s.model for s in servers.values() if s.price(1, 1) is None}
        for model in sorted(unknown):
            yield f"{config.server.prices} has no price of {model!r}: its tokens are counted alone"


def asked_record(requests: Sequence[Request]) -> list[dict[str, Any]]:
    """What servers would be asked: `model`, `url`, `calls`, tokens and `cost`, at most.

    Tokens that are read are estimated; `cost` is None where no price is known.
    """
    counts: dict[Server, list[int]] = {}
    for r in requests:
        if isinstance(r, Ask):
            one = counts.setdefault(r.server, [0, 0, 0])
            for k, more in enumerate((1, r.input_tokens, r.output_tokens)):
                one[k] += more
    return [
        {"model": s.model, "url": s.api, "calls": calls, "input_tokens": read,
         "output_tokens": written, "cost": s.price(read, written)}
        for s, (calls, read, written) in counts.items()
    ]  # fmt: skip


def server_records(
    asked: Mapping[str, Sequence[Ask]], cache: Cache, who: str = "rpm"
) -> list[dict[str, Any]]:
    """What servers were asked, and what that took, as `provenance.servers` holds it.

    Args:
      asked: RPM, or judge, -> its requests in all subsets.
      cache: that holds every reply.
      who: the key of their names.
    """
    records = []
    for name, requests in asked.items():
        if not requests:
            continue
        replies = [cache.replied(r) for r in requests]
        server = requests[0].server
        read, written, retries = (
            sum(getattr(reply, count) for reply in replies)
            for count in ("input_tokens", "output_tokens", "retries")
        )
        records.append({
            who: name, "model": server.model, "url": server.api, "calls": len(replies),
            "retries": retries, "failures": sum(bool(reply.error) for reply in replies),
            "input_tokens": read, "output_tokens": written, "cost": server.price(read, written),
        })  # fmt: skip
    return records
