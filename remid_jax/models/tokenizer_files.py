"""What the files of a model say of its tokenizer: GGUF metadata, or a Hugging Face directory."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from remid_jax.errors import UserError
from remid_jax.files import read_text
from remid_jax.json_files import kind_of, parse_json
from remid_jax.models.chat_template import read_template
from remid_jax.models.families import GGUF
from remid_jax.models.fields import Fields
from remid_jax.models.tokenizer_library import checked_id, guarded
from remid_jax.models.weights import ModelFiles

_SETTINGS = "tokenizer_config.json"
_FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")


_CONTROL, _USER_DEFINED = 3, 4  # types of tokens
_ENDS = ("eos", "eot", "eom")  # of a text, a turn, a message

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Pre-tokenizer -> how numerals are cut: Llama 3 by up to three digits, Qwen by single ones.
_NUMERALS = {"llama-bpe": r"\p{N}{1,3}", "qwen2": r"\p{N}"}
_KNOWN = "gpt-2, smollm, llama-bpe, qwen2"


@dataclasses.dataclass(frozen=True)
class TokenizerFiles:
    """What a checkpoint says of its tokenizer.

    Attributes:
      backend: the `tokenizers.Tokenizer`.
      template: jinja source, or None.
      ends: ids that end a text or a turn, the tokenizer's own eos first; may be empty.
      bos: id of the beginning of a text, or None.
      adds_bos: whether `bos` must begin a prompt.
    """

    backend: tokenizers.Tokenizer
    template: str | None
    ends: tuple[int, ...]
    bos: int | None
    adds_bos: bool


def read_tokenizer(model: ModelFiles) -> TokenizerFiles:
    """Reads the tokenizer of a model.

    Raises:
      UserError: it is of an unsupported kind, damaged, contradicts itself, draws at random, does
        not say how texts are cut, or has ids that the weights have no row for.
    """
    path, read = model.path, _from_gguf if model.source == GGUF else _from_hugging_face
    files = read(path, model.metadata)
    rows, vocabulary = model.config.vocab_size, files.backend.get_vocab(with_added_tokens=True)
    last = max(vocabulary, key=vocabulary.__getitem__, default="")
    if vocabulary.get(last, 0) >= rows:
        raise UserError(
            f"{path}: token {last!r} has id {vocabulary[last]}, but the embedding has {rows} rows; "
            "take the tokenizer that belongs to these weights"
        )
    texts = {i: token for token, i in vocabulary.items()}
    for token, i in vocabulary.items():
        if texts[i] != token:
            raise UserError(f"{path}: tokens {token!r} and {texts[i]!r} stand for one id, {i}")
    return files


def _from_hugging_face(path: Path, metadata: dict[str, Any]) -> TokenizerFiles:
    settings = metadata.get(_SETTINGS, {})
    backend = _read_backend(path / "tokenizer.json", settings.get("added_tokens_decoder"))
    eos, bos = (_named_id(settings, k, backend, path) for k in ("eos_token", "bos_token"))
    ends = [] if eos is None else [eos]
    for name in ("generation_config.json", "config.json"):
        ids = metadata.get(name, {}).get("eos_token_id")
        ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
        ends += [checked_id(i, f"{path / name}: eos_token_id", backend) for i in ids]
    begun = guarded(lambda: backend.encode("", add_special_tokens=True).ids, f"{path}: tokenizer")
    template = _own_template(path, settings.get("chat_template"))
    return TokenizerFiles(backend, template, tuple(dict.fromkeys(ends)), bos, bos in begun)


def _read_backend(file: Path, more: Any) -> tokenizers.Tokenizer:
    """The tokenizer of tokenizer.json, and the added tokens that only its settings name."""
    if not file.exists():
        raise UserError(f"{file.parent}: no tokenizer.json")
    text = read_text(file, "tokenizer")
    content = parse_json(text, f"tokenizer file {file}", finite=False)
    backend = _from_json(text, file)
    if dropout := content["model"].get("dropout"):
        raise UserError(
            f"{file}: the tokenizer has a dropout of {dropout}, with which a text gets other "
            "tokens each time; set model.dropout to null"
        )
    stated = content.get("added_tokens", [])
    added = _merged(stated, more, backend.get_vocab(with_added_tokens=False), file)
    if added != stated:
        backend = _from_json(json.dumps(content | {"added_tokens": added}), file)
    for token in added:
        found = backend.token_to_id(token["content"])
        if found != token["id"]:
            raise UserError(
                f"{file}: the added token {token['content']!r} has id {token['id']} by the files, "
                f"and {found} by its place; ids may leave no holes"
            )
    backend.no_truncation()
    backend.no_padding()
    return backend


def _from_json(text: str, file: Path) -> tokenizers.Tokenizer:
    return guarded(lambda: tokenizers.Tokenizer.from_str(text), f"{file}: not a tokenizer")


def _merged(
    stated: list[dict[str, Any]], more: Any, vocabulary: dict[str, int], file: Path
) -> list[dict[str, Any]]:
    """The added tokens of tokenizer.json and of `added_tokens_decoder`, whose flags hold."""
    where = f"{file.parent / _SETTINGS}: added_tokens_decoder"
    if not isinstance(more, dict | None):
        raise UserError(f"{where} must be an object, not {kind_of(more)}")
    tokens = {token["id"]: token for token in stated}
    ids = vocabulary | {token["content"]: token["id"] for token in stated}
    texts = {i: text for text, i in ids.items()}
    for key, given in sorted((more or {}).items()):
        token = _added_token(key, given, where)
        i, text = token["id"], token["content"]
        if texts.get(i, text) != text or ids.get(text, i) != i:
            other = f"{texts[i]!r}" if i in texts else f"id {ids[text]} for it"
            raise UserError(f"{where} has {text!r} with id {i}, and {file.name} has {other}")
        tokens[i] = dict.fromkeys(_FLAGS, False) | tokens.get(i, {}) | token
    return [tokens[i] for i in sorted(tokens)] if more else stated


def _added_token(key: str, given: Any, where: str) -> dict[str, Any]:
    """One entry of `added_tokens_decoder`, as tokenizer.json has it."""
    text = given.get("content") if isinstance(given, dict) else None
    if not (key.isascii() and key.isdigit() and len(key) < 10 and isinstance(text, str) and text):
        raise UserError(f"{where} must map ids to tokens with a content; see {key!r}")
    flags = {name: given[name] for name in _FLAGS if name in given}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise UserError(f"{where}: the flags of {text!r} must be true or false")
    return {"id": int(key), "content": text, **flags}


def _named_id(settings: dict[str, Any], name: str, backend: Any, path: Path) -> int | None:
    """The id of a token that tokenizer_config.json names by its text."""
    token = settings.get(name)
    text = token.get("content") if isinstance(token, dict) else token
    if text is None and token is None:
        return None
    if not isinstance(text, str):
        raise UserError(f"{path / _SETTINGS}: {name} must be a text, not {kind_of(text)}")
    found = backend.token_to_id(text)
    if found is None:
        raise UserError(f"{path / _SETTINGS}: {name} {text!r} is no token of tokenizer.json")
    return found


def _own_template(path: Path, setting: Any) -> str | None:
    """The chat template of a directory: its file, else the setting, a list's `default`."""
    file = path / "chat_template.jinja"
    if file.exists():
        return read_template(file)
    if isinstance(setting, list):
        if not all(isinstance(t, dict) and isinstance(t.get("name"), str) for t in setting):
            raise UserError(f"{path / _SETTINGS}: chat_template must list named templates")
        setting = {t["name"]: t.get("template") for t in setting}.get("default")
    if not isinstance(setting, str | None):
        raise UserError(f"{path / _SETTINGS}: chat_template must be a text, not {kind_of(setting)}")
    return setting


def _from_gguf(path: Path, metadata: dict[str, Any]) -> TokenizerFiles:
    fields = Fields(metadata, f"{path}: GGUF metadata")
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
