"""Tokenizers out of GGUF metadata."""

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from remid_jax.errors import UserError
from remid_jax.models.fields import Fields
from remid_jax.models.tokenizer_library import TokenizerFiles, checked_id, guarded
from remid_jax.models.weights import gguf_fields

_CONTROL, _USER_DEFINED = 3, 4  # types of tokens
_ENDS = ("eos", "eot", "eom")  # of a text, a turn, a message

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Pre-tokenizer -> how numerals are cut: Llama 3 by up to three digits, Qwen by single ones.
_NUMERALS = {"llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}
_KNOWN = "gpt-2, smollm, llama-bpe, qwen2"


def gguf_tokenizer(path: Path, metadata: dict[str, Any]) -> TokenizerFiles:
    """Builds the tokenizer of a GGUF file from its metadata.

    Raises:
      UserError: it is of an unsupported kind, damaged, or does not say how texts are cut.
    """
    fields = gguf_fields(path, metadata)
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise UserError(f"{path}: tokenizer kind {kind!r} is not supported, only 'gpt2'")
    tokens, merges = (_texts(fields, f"tokenizer.ggml.{n}", path) for n in ("tokens", "merges"))
    types, pre = fields.get("tokenizer.ggml.token_type"), metadata.get("tokenizer.ggml.pre")
    if not isinstance(types, list) or len(types) != len(tokens):
        raise UserError(f"{path}: tokenizer.ggml.token_type must have a number for each token")
    splits = _pre_tokenizer(pre, path)
    backend = guarded(lambda: _byte_pairs(tokens, types, merges, pre), f"{path}: not a tokenizer")
    backend.pre_tokenizer = splits
    fields.get("tokenizer.ggml.eos_token_id")  # the one that must be there
    ids = {
        name: checked_id(metadata[key], f"{path}: {key}", backend)
        for name in (*_ENDS, "bos")
        if (key := f"tokenizer.ggml.{name}_token_id") in metadata
    }
    bos = ids.pop("bos", None)
    adds_bos = bos is not None and bool(metadata.get("tokenizer.ggml.add_bos_token", False))
    template = metadata.get("tokenizer.chat_template")
    if not isinstance(template, str | None):
        raise UserError(f"{path}: tokenizer.chat_template must be a text")
    return TokenizerFiles(backend, template, tuple(dict.fromkeys(ids.values())), bos, adds_bos)


def _texts(fields: Fields, name: str, path: Path) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(t, str) for t in value):
        raise UserError(f"{path}: {name} must be a list of texts")
    return value


def _byte_level(use_regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _pre_tokenizer(name: Any, path: Path) -> Any:
    if name in ("gpt-2", "gpt2"):
        return _byte_level(True)
    if name == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, _byte_level(True)])
    if isinstance(name, str) and name in _NUMERALS:
        pattern = Regex(f"{_WORDS}|{_NUMERALS[name]}|{_REST}")
        split = pre_tokenizers.Split(pattern, behavior="isolated")
        return pre_tokenizers.Sequence([split, _byte_level(False)])
    if name is None:
        raise UserError(
            f"{path}: GGUF metadata lacks 'tokenizer.ggml.pre', without which texts get other "
            "tokens; convert the model again with a current llama.cpp, or add the field with its "
            f"gguf_new_metadata.py --pre-tokenizer (supported: {_KNOWN})"
        )
    raise UserError(f"{path}: pre-tokenizer {name!r} is not supported; supported: {_KNOWN}")


def _byte_pairs(tokens: list[str], types: list[int], merges: list[str], pre: str) -> Any:
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [tuple(m.split(" ")) for m in merges]
    whole = pre == "llama-bpe"  # Llama 3 takes a word that is a token as it is
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=whole))
    backend.decoder = decoders.ByteLevel()
    if pre == "qwen2":  # composed characters, which the file does not say
        backend.normalizer = normalizers.NFC()
    for kind, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        add = backend.add_special_tokens if special else backend.add_tokens
        chosen = [t for t, k in zip(tokens, types, strict=True) if k == kind]
        add([tokenizers.AddedToken(t, normalized=False, special=special) for t in chosen])
    return backend
