"""Tokenizers and chat templates, from GGUF metadata or from a Hugging Face directory."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers

from remid_jax.errors import UserError
from remid_jax.models import template_probe
from remid_jax.models.chat_template import (
    Messages,
    checked_variables,
    render_chat,
    template_notes,
    without_system,
)
from remid_jax.models.structure import Structure
from remid_jax.models.tokenizer_files import read_tokenizer
from remid_jax.models.weights import ModelFiles


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back, and chats to prompts.

    Text is never structure: what stands in messages and what `encode` is given is words, even where
    it reads like a special token; only the chat template writes special tokens.

    Attributes:
      backend: the `tokenizers.Tokenizer`.
      chat_template: jinja source.
      end_of_turn: id that ends a response.
      stop_ids: ids at which sampling stops, `end_of_turn` among them.
      bos: id that must begin a prompt exactly once, or None.
      special: names of special tokens for the template (`bos_token`, `eos_token`).
      fingerprint: digest of vocabulary, rules, special tokens, template and its variables.
      template_variables: further variables of the template, such as `enable_thinking`.
      template_notes: what was decided or assumed on the template's behalf, for reports.
      folds_system: whether the template takes the system text in the first user turn alone.
      around_turns: tokens that are not flagged as special, but are the template's to write.
    """

    backend: tokenizers.Tokenizer
    chat_template: str
    end_of_turn: int
    stop_ids: tuple[int, ...]
    bos: int | None
    special: dict[str, str]
    fingerprint: str
    template_variables: dict[str, Any] = dataclasses.field(default_factory=dict)
    template_notes: tuple[str, ...] = ()
    folds_system: bool = False
    around_turns: tuple[str, ...] = ()

    @functools.cached_property
    def _structure(self) -> Structure:
        return Structure(self.backend, self.around_turns)

    @functools.cached_property
    def opens_thought(self) -> bool:
        """Whether an answer begins within `<think>`, which the template has opened."""
        return template_probe.opens_thought(self.render)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with no special token added or read out of it.

        Raises:
          UserError: the text is no Unicode, or the tokenizer cannot write it.
        """
        return self._structure.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def render(self, messages: Messages, add_generation_prompt: bool = True) -> str:
        """A chat by the model's template; errors as of `render_chat`."""
        if self.folds_system:
            messages = without_system(messages)
        given = self.special, self.template_variables
        return render_chat(self.chat_template, messages, add_generation_prompt, *given)

    def encode_chat(self, messages: Messages, add_generation_prompt: bool = True) -> list[int]:
        """Renders a chat and tokenises it once; the beginning-of-sequence token stands once."""
        ids = self._structure.encode_chat(messages, lambda m: self.render(m, add_generation_prompt))
        if self.bos is not None and ids[:1] != [self.bos]:
            ids = [self.bos, *ids]
        return ids


def load_tokenizer(
    model: ModelFiles,
    chat_template: str | None = None,
    template_variables: Mapping[str, Any] | None = None,
) -> Tokenizer:
    """Builds the tokenizer of a model.

    Args:
      model: its opened files.
      chat_template: jinja source that replaces the model's own.
      template_variables: further variables of the template.

    Raises:
      UserError: the tokenizer cannot be used (see `read_tokenizer`), there is no chat template or
        one that cannot be, or nothing says how a turn ends.
    """
    variables, files = checked_variables(template_variables), read_tokenizer(model)
    template, backend = chat_template or files.template, files.backend
    if not template:
        raise UserError(
            f"{model.path}: the tokenizer has no chat template; "
            "name a jinja file in config.model.chat_template"
        )
    names = {"bos_token": files.bos, "eos_token": files.ends[0] if files.ends else None}
    special = {k: backend.id_to_token(i) for k, i in names.items() if i is not None}
    added = {t.content: t.special for t in backend.get_added_tokens_decoder().values()}
    try:
        found = template_probe.examine(
            lambda chat, prompt: render_chat(template, chat, prompt, special, variables),
            added,
            [backend.id_to_token(i) for i in files.ends],
        )
        notes = *found.notes, *template_notes(template, variables)
    except UserError as e:
        raise UserError(f"{model.path}: {e}") from None
    if not (found.end or files.ends):
        raise UserError(f"{model.path}: no eos token in tokenizer_config.json or config.json")
    written = () if found.end is None else (backend.token_to_id(found.end),)
    stops = tuple(dict.fromkeys((*written, *files.ends)))
    rules = repr((list(stops), files.bos, files.adds_bos, special))
    rules += json.dumps(variables, sort_keys=True) if variables else ""
    return Tokenizer(
        backend=backend,
        chat_template=template,
        end_of_turn=stops[0],
        stop_ids=stops,
        bos=files.bos if files.adds_bos else None,
        special=special,
        fingerprint=hashlib.sha256((backend.to_str() + template + rules).encode()).hexdigest(),
        template_variables=variables,
        template_notes=notes,
        folds_system=found.folds_system,
        around_turns=found.around_turns,
    )
