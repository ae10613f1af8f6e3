"""Chat templates: rendered in a sandbox, because they come with untrusted files."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from remid_jax.errors import UserError
from remid_jax.files import read_text
from remid_jax.models.template_limits import metered
from remid_jax.models.template_sandbox import DATE, TemplateEnvironment

MAX_SOURCE = 500_000  # characters; the templates of released models have some ten thousand
_OWN = {
    "messages", "add_generation_prompt", "tools", "documents", "bos_token", "eos_token",
    "raise_exception", "strftime_now", "range", "dict", "cycler", "joiner", "namespace", "loop",
    "self", "super", "caller", "varargs", "kwargs", "true", "false", "none", "True", "False",
    "None",
}  # fmt: skip
_THINKING = frozenset(("enable_thinking", "thinking", "reasoning_effort"))
Messages = list[dict[str, str]]


def read_template(path: str | Path) -> str:
    """The source of a jinja file, its line ends as jinja reads them; errors as of `read_text`."""
    return read_text(path, "chat template").replace("\r\n", "\n").replace("\r", "\n")


def checked_variables(variables: Mapping[str, Any] | None) -> dict[str, Any]:
    """Further variables of a template as plain JSON.

    Args:
      variables: such as {"enable_thinking": False}.

    Raises:
      UserError: a name that is no name or that the renderer sets itself, or a value that is none
        of JSON's.
    """
    try:
        given = dict(variables or {})
        plain = json.loads(json.dumps(given, allow_nan=False, default=dict))
    except (TypeError, ValueError, RecursionError) as e:
        raise UserError(f"template_variables must be names and values of JSON: {e}") from None
    for name in given:
        if not (isinstance(name, str) and name.isidentifier()):
            raise UserError(f"template_variables: {name!r} is no name of a variable")
        if name in _OWN:
            raise UserError(f"template_variables: {name!r} is set by the renderer itself")
    return plain


def template_notes(template: str, variables: Mapping[str, Any]) -> tuple[str, ...]:
    """For reports: the day that a template is told, and variables that are unread or unset."""
    environment = _compiled(template).environment
    read = meta.find_undeclared_variables(environment.parse(template))
    notes = []
    if "strftime_now" in template:
        notes.append(f"strftime_now gives {DATE:%Y-%m-%d} to the chat template")
    for name in sorted(set(variables) - read):
        notes.append(f"the chat template does not read the variable {name!r}")
    for name in sorted(read & _THINKING - set(variables)):
        notes.append(
            f"the chat template reads {name!r}, which is not set: the model's thinking can be "
            "switched in config.model.template_variables"
        )
    return tuple(notes)


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    if len(template) > MAX_SOURCE:
        raise UserError(f"the chat template has more than {MAX_SOURCE:,} characters")
    if "\0" in template:
        raise UserError("the chat template holds a NUL character; is it in another encoding?")
    try:
        return TemplateEnvironment().from_string(template)
    except jinja2.TemplateError as e:
        raise UserError(f"the chat template is no valid jinja: {e}") from None
    except Exception as e:  # Python compiles what jinja writes, and finds it too deep, say
        raise UserError(f"the chat template cannot be compiled: {e}") from None


def render_chat(
    template: str,
    messages: Messages,
    add_generation_prompt: bool,
    special: Mapping[str, str],
    variables: Mapping[str, Any] | None = None,
) -> str:
    """Renders messages by a template.

    Args:
      template: jinja source.
      messages: {"role", "content"} objects.
      add_generation_prompt: whether the text ends where the assistant's answer begins.
      special: the texts of special tokens, such as `bos_token`.
      variables: see `checked_variables`.

    Raises:
      UserError: the template is broken, unsafe, refuses the chat, runs too long or makes too much,
        or gives a text that is no Unicode.
    """
    compiled = _compiled(template)
    given = {"tools": None, "documents": None, **special, **(variables or {})}
    try:
        with metered():
            text = compiled.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **given
            )
        text.encode()
    except UserError:
        raise
    except UnicodeEncodeError:
        raise UserError("the chat holds half of a surrogate pair, which is no character") from None
    except Exception as e:  # a template can fail in any way: TypeError, ZeroDivisionError, ...
        raise UserError(f"the chat template fails on this chat: {e}") from None
    return text


def without_system(messages: Messages) -> Messages:
    """The chat with a leading system text at the beginning of the first user turn.

    >>> without_system([{"role": "system", "content": "a"}, {"role": "user", "content": "b"}])
    [{'role': 'user', 'content': 'a\\n\\nb'}]
    """
    if not messages or messages[0].get("role") != "system":
        return messages
    first, *rest = messages
    if not (rest and rest[0].get("role") == "user"):
        return [{**first, "role": "user"}, *rest]
    parts = [m["content"] for m in (first, rest[0]) if m["content"]]
    if not all(isinstance(part, str) for part in parts):
        raise UserError("a message in parts cannot take the system text; give its text as one")
    return [{**rest[0], "content": "\n\n".join(parts)}, *rest[1:]]
