"""Text is never structure: messages are encoded as words, what the template writes as tokens.

A tokenizer turns `<|im_end|>` into the token that ends a turn wherever it stands, in a persona too.
Here a twin of the tokenizer, in which no text makes such a token, knows the template's own tokens
by names that no text can hold.
"""

import functools
import json
import re
import secrets
from collections.abc import Callable, Iterable
from typing import Any

import tokenizers

from remid_jax.errors import UserError
from remid_jax.models.tokenizer_library import token_ids

_MARKS = range(0x20000, 0x2A6D0)  # rare ideographs: printed as they are, without case, no spaces
_NAME = f"\U000f0000{secrets.token_hex(8)}/"  # how a name begins that no text can hold


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds the longest of some texts at each place; of none, nothing."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


class Structure:
    """Which tokens of a tokenizer are structure, and texts encoded so that they are words.

    Structure is what the tokenizer flags as special, and what the template writes around turns
    without such a flag (`unflagged`).
    """

    def __init__(self, backend: tokenizers.Tokenizer, unflagged: Iterable[str] = ()):
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self._tokens = {
            token.content: i
            for i, token in added.items()
            if (token.special or token.content in unflagged) and token.content.strip()
        }
        self._pattern = any_of(self._tokens)
        # Tokens of one kind are looked for in the normalised text.
        normalized = any(added[i].normalized for i in self._tokens.values())
        self._normalizer = backend.normalizer if normalized else None

    @functools.cached_property
    def _twin(self) -> "_Twin":
        return _Twin(self._backend, self._tokens)

    def stands_in(self, text: str) -> bool:
        """Whether the tokenizer would find structure in a text."""
        if self._pattern.search(text):
            return True
        if self._normalizer is None:
            return False
        return self._pattern.search(self._normalizer.normalize_str(text)) is not None

    def encode(self, text: str) -> list[int]:
        """Ids of a text that is words throughout.

        Raises:
          UserError: see `token_ids`; or the tokenizer cannot write a special token's text as words.
        """
        if not self.stands_in(text):
            return token_ids(self._backend, text)
        return self._twin.encode(lambda word: self._pattern.sub(lambda m: word(m[0]), text))

    def encode_chat(
        self, messages: list[dict[str, Any]], render: Callable[[list[dict[str, Any]]], str]
    ) -> list[int]:
        """Ids of a rendered chat: its messages' texts are words, the template's own has structure.

        Texts that hold none are encoded together with the template's. `render` gives the text of
        messages; errors as of `encode`.
        """
        texts: list[str] = []
        _mapped(messages, texts.append)
        rendered = render(messages)
        if not any(map(self.stands_in, texts)):
            return token_ids(self._backend, rendered)
        used = set(rendered).union(*texts)
        free = (chr(c) for c in _MARKS if chr(c) not in used)
        found = dict.fromkeys(m for text in texts for m in self._pattern.findall(text))
        marks = dict(zip(found, free, strict=False))
        marked = render(_mapped(messages, lambda t: self._pattern.sub(lambda m: marks[m[0]], t)))
        named = self._pattern.sub(lambda m: self._twin.names[m[0]], marked)
        meant, there = {mark: text for text, mark in marks.items()}, any_of(marks.values())
        return self._twin.encode(lambda word: there.sub(lambda m: word(meant[m[0]]), named))


class _Twin:
    """A tokenizer that makes structure of names alone."""

    def __init__(self, backend: tokenizers.Tokenizer, tokens: dict[str, int]):
        known = backend.get_added_tokens_decoder()
        content = json.loads(backend.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["content"] in tokens
        self._backend = tokenizers.Tokenizer.from_str(json.dumps(content))
        self._backend.encode_special_tokens = True  # as words; what has no flag stays a token
        self._gap = f"{_NAME}gap"
        self.names = {text: f"{_NAME}{i}." for text, i in tokens.items()}
        added = [tokenizers.AddedToken(self._gap, normalized=False, special=False)]
        for text, i in tokens.items():
            strips = {"lstrip": known[i].lstrip, "rstrip": known[i].rstrip}
            name = self.names[text]
            added.append(tokenizers.AddedToken(name, normalized=False, special=False, **strips))
        self._backend.add_tokens(added)
        self._meant = {self._backend.token_to_id(n): tokens[text] for text, n in self.names.items()}
        self._no_word = set(tokens.values()) - {_unknown_id(content["model"])}

    def encode(self, text_with: Callable[[Callable[[str], str]], str]) -> list[int]:
        """Ids of what `text_with` gives; its argument writes what looks like structure."""
        for word in (str, self._apart):
            ids = token_ids(self._backend, text_with(word))
            if not self._no_word.intersection(ids):
                gap = self._backend.token_to_id(self._gap)
                return [self._meant.get(i, i) for i in ids if i != gap]
        raise UserError("the tokenizer has no way to write the text of one of its special tokens")

    def _apart(self, text: str) -> str:
        """For vocabularies in which a special token's text is a word like others."""
        return text[0] + self._gap + text[1:]


def _unknown_id(model: dict[str, Any]) -> int | None:
    """The id of whatever the vocabulary lacks."""
    vocabulary = model.get("vocab")
    named = vocabulary.get(model.get("unk_token")) if isinstance(vocabulary, dict) else None
    return model.get("unk_id") if named is None else named


def _mapped(value: Any, change: Callable[[str], Any]) -> Any:
    """Messages in which every text is changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {k: _mapped(v, change) for k, v in value.items()}
    return [_mapped(v, change) for v in value] if isinstance(value, (list, tuple)) else value
