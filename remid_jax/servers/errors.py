"""What goes wrong with servers: what another try may mend, what none can, and how it is said."""

import re
from collections.abc import Iterable
from typing import Any

from remid_jax.errors import UserError, nearest, visible
from remid_jax.json_files import parse_json, part_of
from remid_jax.servers.chat import Server

LONGER = "serve the model with a longer context"  # for a request that it refuses for its length
_TOO_LONG = re.compile("context[ _](size|length|window)", re.IGNORECASE)
HOPELESS = {401, 402, 404, 405, 501}  # of every request alike: key, credit, address
_MOST = 200  # characters of a server's words
_LISTED = 8  # names of models in a message


def status_of(error: Exception) -> int | None:
    """The HTTP status that a failed request met; None where it met no answer."""
    return getattr(error, "status_code", None)


def said(error: Exception, server: Server) -> str:
    """One line of a failed request: its status and the server's words, without the key."""
    status = status_of(error)
    if status is None:
        return _without_key(_cause(error), server)
    body = getattr(error, "body", None)
    words = part_of(body, "message", str) or (body if isinstance(body, str) else "")
    if words.lstrip().startswith("<"):  # a page for people
        words = ""
    why = _without_key(f"HTTP {status}" + (f": {words}" if words.strip() else ""), server)
    return f"{why}; {LONGER}" if _TOO_LONG.search(why) else why


def _cause(error: Exception) -> str:
    """What a connection met, in the words of the network where there are some."""
    if type(error).__name__ == "APITimeoutError":
        return "no answer in time"
    inner: BaseException | None = error
    while inner is not None and not getattr(inner, "strerror", None):
        inner = inner.__cause__ or inner.__context__
    words = getattr(inner, "strerror", None) or str(error.__cause__ or error)
    return f"the connection failed ({words})"


def _without_key(text: str, server: Server) -> str:
    """A server's words for files and terminals; some repeat the key that they refuse."""
    if server.key:
        text = text.replace(server.key, "[key]")
    text = visible(" ".join(text.split()))
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def hopeless(error: Exception, server: Server, names: Iterable[str]) -> UserError:
    """The one line of a failure that every request would meet.

    Args:
      error: of the request.
      server: that was asked.
      names: of the models that it lists, as far as they are known.
    """
    why, status = said(error, server), status_of(error)
    if status in (401, 403):
        remedy = f"set the environment variable {server.key_env} to a key of this server"
        state = "it refuses the key" if server.key else "it wants a key"
        return UserError(f"the server at {server.api}: {state} ({why}); {remedy}")
    if status == 402:
        return UserError(f"the server at {server.api}: the account has no credit ({why})")
    names = list(names)
    if (names and server.model not in names) or _is_unknown(server.model, why):
        return unknown_model(server, names, why)
    return no_such_server(server, why)


def _is_unknown(model: str, why: str) -> bool:
    """Whether a server that lists no models says that it has not this one."""
    name = rf"model\W{{1,3}}{re.escape(model)}(?!\w)"
    return why.startswith("HTTP 404") and bool(re.search(name, why, re.IGNORECASE))


def unknown_model(server: Server, names: Iterable[str], why: str = "") -> UserError:
    """The server is there, and has no model of that name."""
    names = list(names)
    if not names:
        return UserError(f"the server at {server.api} has no model {server.model!r} ({why})")
    some = ", ".join(visible(name) for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    hint, because = nearest(server.model, names), f" ({why})" if why else ""
    return UserError(
        f"the server at {server.api} has no model {server.model!r}{hint}{because}; it lists "
        f"{some}{more}"
    )


def no_such_server(server: Server, why: str) -> UserError:
    """What answers there is no OpenAI-compatible API, or has no such model."""
    return UserError(
        f"what answers at {server.api} gives no chat completions of {server.model!r} ({why}); the "
        "URL must be that of an OpenAI-compatible API, most often with /v1 at its end"
    )


def nobody_there(error: Exception, server: Server) -> UserError:
    """Nothing listens at the address, or what listens does not answer."""
    return UserError(
        f"no server answers at {server.api}: {said(error, server)}; start it, or correct its URL"
    )


def refuses_all(why: str, server: Server) -> UserError:
    """A server that has answered nothing yet."""
    return UserError(f"the server at {server.api} answers no request: {why}")


def gone(why: str, server: Server) -> UserError:
    """A server that answered does so no longer."""
    return UserError(f"the server at {server.api} answers no longer: {why}")


def names_of(listed: Any) -> list[str]:
    """Names of the models in a server's list, and their aliases; empty where it is no such list."""
    models = [m for m in part_of(listed, "data", list) if isinstance(m, dict)]
    names = (n for m in models for n in (m.get("id"), *part_of(m, "aliases", list)))
    return list(dict.fromkeys(n for n in names if isinstance(n, str) and n))


def is_listed(name: str, names: Iterable[str]) -> bool:
    """Whether a list has the name; a part of one counts, as servers add paths and variants."""
    folded = name.lower()
    return any(folded in n.lower() or n.lower() in folded for n in names)


def decoded(text: str) -> Any:
    """A body, or None where it is no JSON."""
    try:
        return parse_json(text, "the body", finite=False)
    except UserError:
        return None
