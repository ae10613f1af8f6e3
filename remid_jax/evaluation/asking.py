"""Asks servers, and stores each reply when it arrives."""

import dataclasses
from collections.abc import Sequence

from remid_jax.errors import UserError
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.requests import Ask
from remid_jax.processes import gather
from remid_jax.progress import progress
from remid_jax.servers.chat import Reply, Server
from remid_jax.servers.client import replies


def ask_servers(requests: Sequence[Ask], cache: Cache) -> None:
    """Asks what is not in the cache, one server after another, many requests at a time.

    Raises:
      UserError: what `replies` raises, with the number of answers that are kept.
    """
    by_server: dict[Server, list[Ask]] = {}
    for r in requests:
        by_server.setdefault(r.server, []).append(r)
    for server, asks in by_server.items():
        todo = [r for r in asks if r not in cache]
        with progress(f"replies of {server.model}", len(todo)) as advance:
            try:
                for i, reply in replies(server, [r.asked for r in todo]):
                    cache.put_reply(todo[i], reply)
                    advance(1, todo[i].about.subset)
            except UserError as e:
                kept = sum(r in cache and not cache.replied(r).error for r in asks)
                goes_on = f"; {kept} of {len(asks)} replies are kept, and the same command goes on"
                raise UserError(f"{e}{goes_on if kept else ''}") from None


def share_failures(cache: Cache) -> None:
    """Lets all processes that run together know of requests that failed; all of them call this."""
    for failed in gather({key: dataclasses.asdict(r) for key, r in cache.failures.items()}):
        cache.failures |= {key: Reply(**fields) for key, fields in failed.items()}
