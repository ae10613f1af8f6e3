"""Asks a server many things at once, and hands over each reply as it arrives.

The openai package sends, waits as Retry-After says (up to two minutes), and tries again after
429, 5xx, timeouts and cut connections; what it does not know is written here.
"""

import asyncio
import queue
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from remid_jax.errors import UserError
from remid_jax.json_files import part_of
from remid_jax.servers import errors
from remid_jax.servers.chat import ChatRequest, Reply, Server

LOST = 10  # failures in a row after which a server is given up
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds before another try, as in the openai package
_CONTACT_RETRIES = 2  # at most: nobody waits long to hear that no server is there
_MOST_TOKENS = 10**9  # that one request may be said to have taken
_NO_COMPLETION = "the body is no chat completion"
HandOver = Callable[[tuple[int, Reply]], None]


def replies(server: Server, requests: Sequence[ChatRequest]) -> Iterator[tuple[int, Reply]]:
    """Asks all requests, `server.concurrency` at a time; the first is asked alone.

    A request that fails though it was tried again gives a `Reply` with `error`. Closing the
    iterator cancels what is under way.

    Yields:
      (index of the request, its reply) in the order of arrival.

    Raises:
      UserError: what no other try can mend (nobody answers, a wrong key, an unknown model, no such
        API), before anything else is asked; or a server that went away. Replies that had arrived
        before are yielded first.
    """
    if not requests:
        return
    portal = _openai_installed()
    arrived: queue.SimpleQueue[tuple[int, Reply] | None] = queue.SimpleQueue()
    # Its own thread: a notebook has a loop of its own, and Ctrl-C is heard while this one waits.
    with portal() as inside:
        work = inside.start_task_soon(_ask_all, server, requests, arrived.put)
        work.add_done_callback(lambda _: arrived.put(None))
        try:
            while (found := arrived.get()) is not None:
                yield found
            work.result()
        finally:
            work.cancel()


def _openai_installed() -> Callable[[], Any]:
    try:
        import openai  # noqa: F401
        from anyio.from_thread import start_blocking_portal
    except ImportError:
        raise UserError(
            "asking a server needs the package openai: pip install 'remid_jax[server]', or pip "
            "install openai"
        ) from None
    return start_blocking_portal


async def _ask_all(server: Server, requests: Sequence[ChatRequest], hand_over: HandOver) -> None:
    import openai

    async with openai.AsyncOpenAI(
        base_url=server.api, api_key=server.key or "none", timeout=server.timeout_s
    ) as client:
        asking = _Asking(client, server)
        await asking.make_contact()
        todo = iter(enumerate(requests))
        index, request = next(todo)
        hand_over((index, await asking.ask(request)))

        async def work() -> None:
            for index, request in todo:
                hand_over((index, await asking.ask(request)))

        workers = [asyncio.create_task(work()) for _ in range(server.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


class _Asking:
    """One server, and how it has behaved so far."""

    def __init__(self, client: Any, server: Server):
        import openai

        self._client, self._server = client, server
        # Without a key no header is sent: some servers refuse an empty one.
        self._headers = {} if server.key else {"Authorization": openai.Omit()}
        self._names: list[str] = []  # of the models that it lists
        self._answered = False  # whether any request was answered
        self._failed = 0  # requests in a row, of those that speak against the server

    async def make_contact(self) -> None:
        """Looks whether a server is there, takes the key, and has the model.

        Raises:
          UserError: where one of these is known not to be so.
        """
        import openai

        server = self._server
        try:
            raw = await self._list(min(server.retries, _CONTACT_RETRIES))
        except openai.AuthenticationError as e:
            raise errors.hopeless(e, server, ()) from None
        except openai.APIConnectionError as e:
            raise errors.nobody_there(e, server) from None
        except openai.APIStatusError:
            return  # some have no list, and some keys may not read it
        self._names = errors.names_of(errors.decoded(raw.text))
        if server.listed and self._names and not errors.is_listed(server.model, self._names):
            raise errors.unknown_model(server, self._names)

    async def _list(self, retries: int) -> Any:
        client = self._client.with_options(max_retries=retries)
        return await client.models.with_raw_response.list(extra_headers=self._headers)

    async def ask(self, request: ChatRequest) -> Reply:
        """The reply to one request, after as many tries as it takes and may take.

        Raises:
          UserError: the server is to be given up.
        """
        import openai

        body, tries = request.body(self._server), 0  # tries that failed
        while True:
            left = self._server.retries - tries
            chat = self._client.with_options(max_retries=left).chat.completions
            try:
                raw = await chat.with_raw_response.create(**body, extra_headers=self._headers)
            except openai.APIStatusError as e:
                return await self._refused(e, tries)
            except openai.APIConnectionError as e:
                return await self._cut_off(e)
            tries += raw.retries_taken
            if (reply := _read(raw.text, tries)) is not None:
                self._answered, self._failed = True, 0
                return reply
            if tries >= self._server.retries:
                if not self._answered:
                    raise errors.no_such_server(self._server, _NO_COMPLETION)
                return self._failure(_NO_COMPLETION, tries, against=True)
            await asyncio.sleep(_pause(tries))
            tries += 1

    async def _refused(self, error: Exception, tries: int) -> Reply:
        """What becomes of a request that the server answered with an error."""
        status, server = errors.status_of(error), self._server
        no_money = getattr(error, "code", "") == "insufficient_quota"
        if status in errors.HOPELESS or no_money or (status == 403 and not self._answered):
            raise errors.hopeless(error, server, self._names) from None
        again = status in (408, 409, 429) or status >= 500
        # A request that is refused by itself says nothing of the server once others are answered.
        against = again or not self._answered
        return self._failure(
            errors.said(error, server), server.retries if again else tries, against
        )

    async def _cut_off(self, error: Exception) -> Reply:
        """What becomes of a request that met no answer: is the server still there?"""
        import openai

        try:
            await self._list(0)
        except openai.APIConnectionError as e:
            raise errors.gone(errors.said(e, self._server), self._server) from None
        except openai.APIStatusError:
            pass
        return self._failure(errors.said(error, self._server), self._server.retries, against=True)

    def _failure(self, why: str, retries: int, against: bool) -> Reply:
        """A request without reply; raises where the server is to be given up."""
        self._failed += against
        if self._failed >= LOST:
            why = f"{LOST} requests in a row failed, the last: {why}"
            told = errors.gone if self._answered else errors.refuses_all
            raise told(why, self._server)
        return Reply(retries=retries, error=why)


def _pause(tries: int) -> float:
    """Seconds before the next try: twice as long each time, less a random part."""
    longest = min(_FIRST_PAUSE * 2.0**tries, _LONGEST_PAUSE)
    return longest * random.uniform(0.75, 1.0)


def _read(text: str, retries: int) -> Reply | None:
    """The reply in a body, or None where it holds none."""
    body = errors.decoded(text)
    choices = part_of(body, "choices", list)
    choice = choices[0] if choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    usage = part_of(body, "usage", dict)
    return Reply(
        text=_text_of(message.get("content")),
        finish_reason=part_of(choice, "finish_reason", str),
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        retries=retries,
        message=message,
    )


def _count(usage: Mapping[str, Any], key: str) -> int:
    """A number of tokens; 0 where it can be none."""
    value = part_of(usage, key, int)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else 0


def _text_of(content: Any) -> str:
    """The text of a message's content, which may come in parts."""
    if isinstance(content, list):
        parts = [p for p in content if part_of(p, "type", str) in ("text", "output_text")]
        return "".join(part_of(p, "text", str) for p in parts)
    return content if isinstance(content, str) else ""
