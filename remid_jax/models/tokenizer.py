"""Tokenizers and chat templates, from GGUF metadata or from a Hugging Face directory."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from remid_jax.errors import UserError
from remid_jax.json_files import read_json
from remid_jax.models.chat_template import render_chat
from remid_jax.models.weights import GGUF, Checkpoint, gguf_field

CONTROL_TOKEN, USER_DEFINED_TOKEN = 3, 4  # GGUF token types

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Pre-tokenizer -> how numerals are cut: Llama 3 by up to three digits, Qwen by single ones.
_NUMERALS = {"llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}


def _byte_level(use_regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _pre_tokenizer(name: str, path: Path) -> Any:
    if name in ("gpt-2", "gpt2"):
        return _byte_level(True)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, _byte_level(True)])
    if name in _NUMERALS:
        pattern = Regex(f"{_WORDS}|{_NUMERALS[name]}|{_REST}")
        split = pre_tokenizers.Split(pattern, behavior="isolated")
        return pre_tokenizers.Sequence([split, _byte_level(False)])
    known = "gpt-2, smollm, llama-bpe, qwen2"
    raise UserError(f"{path}: pre-tokenizer {name!r} is not supported; supported: {known}")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text to token ids and back, and chats to prompts.

    Attributes:
      backend: the `tokenizers.Tokenizer`.
      chat_template: jinja source.
      end_of_turn: id that ends a response.
      stop_ids: ids at which sampling stops, `end_of_turn` among them.
      bos: id that must begin a prompt exactly once, or None.
      special: names of special tokens for the template (`bos_token`, `eos_token`).
      identity: digest of vocabulary, rules, special tokens and template.
    """

    backend: tokenizers.Tokenizer
    chat_template: str
    end_of_turn: int
    stop_ids: tuple[int, ...]
    bos: int | None
    special: dict[str, str]
    identity: str

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with no special token added."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids, without special tokens."""
        return self.backend.decode(list(ids), skip_special_tokens=True)

    def render(self, messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Renders a chat by the model's template."""
        return render_chat(self.chat_template, messages, add_generation_prompt, self.special)

    def encode_chat(
        self, messages: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> list[int]:
        """Renders a chat and tokenises it once; the beginning-of-sequence token stands once."""
        ids = self.encode(self.render(messages, add_generation_prompt))
        if self.bos is not None and ids[:1] != [self.bos]:
            ids = [self.bos, *ids]
        return ids


def load_tokenizer(checkpoint: Checkpoint, chat_template: str | None = None) -> Tokenizer:
    """Builds the tokenizer of a checkpoint.

    Args:
      checkpoint: an opened checkpoint.
      chat_template: jinja source that replaces the checkpoint's own.

    Raises:
      UserError: the tokenizer is of an unsupported kind, or there is no chat template.
    """
    build = _from_gguf if checkpoint.source == GGUF else _from_hugging_face
    backend, own_template, eos, bos, add_bos = build(checkpoint)
    template = chat_template or own_template
    if not template:
        raise UserError(
            f"{checkpoint.path}: the tokenizer has no chat template; "
            "name a jinja file in config.model.chat_template"
        )
    names = {"bos_token": bos, "eos_token": eos[0]}
    special = {k: backend.id_to_token(i) for k, i in names.items() if i is not None}
    rules = repr((eos, bos, add_bos, special))
    digest = hashlib.sha256((backend.to_str() + template + rules).encode()).hexdigest()
    return Tokenizer(
        backend=backend,
        chat_template=template,
        end_of_turn=eos[0],
        stop_ids=tuple(eos),
        bos=bos if add_bos else None,
        special=special,
        identity=digest,
    )


def _from_gguf(checkpoint: Checkpoint) -> tuple[Any, str | None, list[int], int | None, bool]:
    fields = checkpoint.metadata
    kind = fields.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise UserError(f"{checkpoint.path}: tokenizer kind {kind!r} is not supported, only 'gpt2'")
    get = functools.partial(gguf_field, checkpoint.path, fields)
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in get("tokenizer.ggml.merges")]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pre = str(fields.get("tokenizer.ggml.pre", "gpt-2"))
    whole = pre == "llama-bpe"  # Llama 3 takes a word that is a token as it is
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole))
    backend.pre_tokenizer = _pre_tokenizer(pre, checkpoint.path)
    backend.decoder = decoders.ByteLevel()
    if pre == "qwen2":  # composed characters, which the file does not say
        backend.normalizer = normalizers.NFC()
    added = {
        kind: [
            tokenizers.AddedToken(t, normalized=False, special=kind == CONTROL_TOKEN)
            for t, k in zip(tokens, types, strict=True)
            if k == kind
        ]
        for kind in (CONTROL_TOKEN, USER_DEFINED_TOKEN)
    }
    backend.add_special_tokens(added[CONTROL_TOKEN])
    backend.add_tokens(added[USER_DEFINED_TOKEN])
    eos = [int(get("tokenizer.ggml.eos_token_id"))]
    eos += [int(fields[k]) for k in ("tokenizer.ggml.eot_token_id",) if k in fields]
    bos = fields.get("tokenizer.ggml.bos_token_id")
    add_bos = bool(fields.get("tokenizer.ggml.add_bos_token", False))
    template = fields.get("tokenizer.chat_template")
    return backend, template, eos, None if bos is None else int(bos), add_bos


def _from_hugging_face(
    checkpoint: Checkpoint,
) -> tuple[Any, str | None, list[int], int | None, bool]:
    file = checkpoint.path / "tokenizer.json"
    if not file.exists():
        raise UserError(f"{checkpoint.path}: no tokenizer.json")
    read_json(file, "tokenizer", finite=False)  # a clear message where it is broken
    try:
        backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as e:  # the library raises plain Exception
        raise UserError(f"{file}: not a tokenizer ({e})") from None
    backend.no_truncation()
    backend.no_padding()
    settings = checkpoint.metadata.get("tokenizer_config.json", {})

    def special_id(name: str) -> int | None:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        return None if token is None else backend.token_to_id(token)

    eos = [] if special_id("eos_token") is None else [special_id("eos_token")]
    for name in ("generation_config.json", "config.json"):
        ids = checkpoint.metadata.get(name, {}).get("eos_token_id")
        eos += [i for i in (ids if isinstance(ids, list) else [ids]) if i is not None]
    if not eos:
        raise UserError(f"{checkpoint.path}: no eos token in tokenizer_config.json or config.json")
    bos = special_id("bos_token")
    empty = backend.encode("", add_special_tokens=True).ids
    template = settings.get("chat_template")
    jinja_file = checkpoint.path / "chat_template.jinja"
    if jinja_file.exists():
        template = jinja_file.read_text(encoding="utf-8")
    elif isinstance(template, list):
        template = {t["name"]: t["template"] for t in template}.get("default")
    return backend, template, list(dict.fromkeys(eos)), bos, bos is not None and bos in empty
