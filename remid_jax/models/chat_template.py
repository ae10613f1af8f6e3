"""Chat templates, rendered in a jinja sandbox because they come with untrusted files."""

import functools
import json
from typing import Any

from remid_jax.errors import UserError


def _refuse(message: str) -> None:
    raise UserError(f"the chat template refuses this chat: {message}")


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    import jinja2
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = _refuse
    environment.filters["tojson"] = _to_json
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as e:
        raise UserError(f"the chat template is no valid jinja: {e}") from None


def render_chat(
    template: str,
    messages: list[dict[str, str]],
    add_generation_prompt: bool,
    special: dict[str, str],
) -> str:
    """Renders messages by a template.

    Args:
      template: jinja source.
      messages: {"role", "content"} objects.
      add_generation_prompt: whether the text ends where the assistant's answer begins.
      special: further variables, such as `bos_token`.

    Raises:
      UserError: the template is broken, unsafe, or refuses the chat.
    """
    try:
        return _compiled(template).render(
            messages=messages,
            add_generation_prompt=add_generation_prompt,
            tools=None,
            documents=None,
            **special,
        )
    except UserError:
        raise
    except Exception as e:  # a template can fail in any way: TypeError, ZeroDivisionError, ...
        raise UserError(f"the chat template fails on this chat: {e}") from None
