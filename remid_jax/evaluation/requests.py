"""What is asked of a model, as data: every request has a key, a cost, and what it is about."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from remid_jax.evaluation.models import Model
from remid_jax.inference import cost
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.servers.chat import ChatRequest, Server

NUMERICS = 1  # goes up when the same request gives other numbers than before
UNKNOWN = -1  # a token that an answer or a thought may have that is not drawn yet, as all below
CHARACTERS = 4  # of a token whose tokenizer is not asked
Tokens = tuple[int, ...]


def is_drawn(tokens: Tokens) -> bool:
    """Whether none of these tokens is unknown."""
    return min(tokens, default=0) > UNKNOWN


def key_of(*parts: Any) -> str:
    """Hex digest of JSON-encodable parts.

    >>> key_of("a", [1, 2]) == key_of("a", (1, 2)) != key_of("a", [12])
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def seed_of(seed: int, messages: Any, draw: int) -> int:
    """The seed of one reply: one for all would draw with the same luck for every sample."""
    return int(key_of(seed, messages, draw)[:7], 16)


def digest_of(tokens: Sequence[int]) -> str:
    """Hex digest of token ids."""
    return hashlib.sha256(np.asarray(tokens, np.int32).tobytes()).hexdigest()[:32]


@dataclasses.dataclass(frozen=True)
class About:
    """What a request is for.

    Attributes:
      stage: kind of work, a line of the plan.
      subset: tag.
      sample: id, for messages.
    """

    stage: str
    subset: str
    sample: str


@dataclasses.dataclass(frozen=True)
class Cost:
    """Operations of a request.

    Attributes:
      prefill: of what is read and scored.
      decoding: of tokens that are generated one by one.
      tokens: that are read, scored or generated.
    """

    prefill: float
    decoding: float = 0.0
    tokens: int = 0

    @property
    def flops(self) -> float:
        """All of them."""
        return self.prefill + self.decoding


@dataclasses.dataclass(frozen=True)
class Generate:
    """Asks for responses to a prompt.

    Attributes:
      model: who answers.
      prompt: token ids.
      prefix_lengths: of beginnings that other prompts share.
      sampling: how responses are drawn.
      about: what it is for.
      expected: tokens of the sample's golden response; answers that end together run together.
      draws: responses.
    """

    model: Model
    prompt: Tokens
    prefix_lengths: Tokens
    sampling: SamplingConfig
    about: About
    expected: int = 0
    draws: int = 1

    @functools.cached_property
    def key(self) -> str:
        """Equal exactly when the result must be."""
        settings = dataclasses.asdict(self.sampling)
        return _key("generate", self.model, digest_of(self.prompt), settings, self.draws)

    @functools.cached_property
    def is_known(self) -> bool:
        """Whether it can be executed."""
        return is_drawn(self.prompt)

    def cost(self, shared: int = 0) -> Cost:
        """Operations at most, with `shared` leading tokens of the prompt in a cache."""
        shape, new = self.model.config, self.draws * self.sampling.max_tokens
        decoding = cost.extend_flops(shape, self.sampling.max_tokens, len(self.prompt)) * self.draws
        prefill = cost.extend_flops(shape, len(self.prompt) - shared, shared)
        tokens = len(self.prompt) - shared + new
        return Cost(prefill, decoding + cost.head_flops(shape, new), tokens)


@dataclasses.dataclass(frozen=True)
class Score:
    """Asks for the log-probability of each token of responses to one prompt.

    One request holds all responses of a prompt, since they share its cache and are stored together;
    the cache knows them one by one. An upper estimate has unknown tokens, and is never executed.

    Attributes:
      model: q.
      prompt: token ids.
      prefix_lengths: of beginnings that other prompts share.
      responses: distinct token lists.
      about: what it is for.
    """

    model: Model
    prompt: Tokens
    prefix_lengths: Tokens
    responses: tuple[Tokens, ...]
    about: About

    @functools.cached_property
    def key(self) -> str:
        """Of model and prompt; a response is found under it by its digest."""
        return _key("score", self.model, digest_of(self.prompt))

    @functools.cached_property
    def digests(self) -> tuple[str, ...]:
        """Of the responses."""
        return tuple(digest_of(y) for y in self.responses)

    @functools.cached_property
    def is_known(self) -> bool:
        """Whether it can be executed."""
        return all(map(is_drawn, (self.prompt, *self.responses)))

    def cost(self, shared: int = 0) -> Cost:
        """Operations at most, with `shared` leading tokens of the prompt in a cache."""
        shape, n = self.model.config, len(self.prompt)
        read = cost.extend_flops(shape, n - shared, shared) + cost.head_flops(shape, 1)
        scored = sum(cost.score_flops(shape, n, len(y)) for y in self.responses)
        tokens = n - shared + sum(map(len, self.responses))
        return Cost(read + scored, tokens=tokens)


@dataclasses.dataclass(frozen=True)
class Embed:
    """Asks for the feature vector of a text.

    Attributes:
      model: the encoder.
      text: as it is, without a chat template.
      about: what it is for.
    """

    model: Model
    text: str
    about: About
    is_known: ClassVar[bool] = True
    prompt: ClassVar[Tokens] = ()  # it shares no cache
    prefix_lengths: ClassVar[Tokens] = ()

    @functools.cached_property
    def key(self) -> str:
        """Equal exactly when the result must be."""
        return _key("embed", self.model, self.text)

    def cost(self, shared: int = 0) -> Cost:
        """Operations, at `CHARACTERS` a token."""
        tokens = 1 + len(self.text) // CHARACTERS
        flops = cost.extend_flops(self.model.config, tokens) if self.model.config else tokens
        return Cost(flops, tokens=tokens)


@dataclasses.dataclass(frozen=True)
class Ask:
    """Asks a chat model behind a server for one reply.

    Attributes:
      server: that is asked.
      asked: messages and settings.
      about: what it is for.
      draw: which of several replies to the same messages.
    """

    server: Server
    asked: ChatRequest
    about: About
    draw: int = 0
    is_known: ClassVar[bool] = True
    prompt: ClassVar[Tokens] = ()  # it shares no cache
    prefix_lengths: ClassVar[Tokens] = ()

    @functools.cached_property
    def key(self) -> str:
        """Of server, model, messages, settings and draw.

        Not of `NUMERICS`: what a server said, and was paid for, stays as it is.
        """
        return key_of("ask", self.server.api, self.asked.body(self.server), self.draw)

    @property
    def input_tokens(self) -> int:
        """That the server reads, estimated at `CHARACTERS` a token and four a message's frame."""
        return sum(4 + len(m["content"]) // CHARACTERS for m in self.asked.messages)

    @property
    def output_tokens(self) -> int:
        """That it writes, at most."""
        return self.asked.max_tokens

    def cost(self, shared: int = 0) -> Cost:
        """No operations of this machine."""
        return Cost(0.0, tokens=self.input_tokens + self.output_tokens)


Request = Generate | Score | Embed | Ask


def _key(kind: str, model: Model, *parts: Any) -> str:
    return key_of(kind, NUMERICS, model.fingerprint, *parts)


def costs(requests: Iterable[Request]) -> list[Cost]:
    """What requests cost one after another: a shared beginning is paid by the first that reads it.

    Args:
      requests: in the order in which they run.
    """
    read: set[tuple[str, Tokens]] = set()
    found = []
    for request in requests:
        shared = 0
        for place in beginnings(request):
            if place in read:
                shared = len(place[1])
            read.add(place)
        found.append(request.cost(shared))
    return found


def beginnings(request: Request) -> list[tuple[str, Tokens]]:
    """The beginnings of its prompt that others may share, as (model, tokens)."""
    return [(request.model.fingerprint, request.prompt[:n]) for n in request.prefix_lengths]
