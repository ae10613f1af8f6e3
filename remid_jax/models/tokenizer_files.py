"""What the files of a model say of its tokenizer: GGUF metadata, or a Hugging Face directory."""

import json
from pathlib import Path
from typing import Any

import tokenizers

from remid_jax.errors import UserError
from remid_jax.files import read_text
from remid_jax.json_files import kind_of, parse_json
from remid_jax.models.chat_template import read_template
from remid_jax.models.families import GGUF
from remid_jax.models.gguf_tokenizer import gguf_tokenizer
from remid_jax.models.tokenizer_library import TokenizerFiles, checked_id, guarded
from remid_jax.models.weights import ModelFiles

_SETTINGS = "tokenizer_config.json"
_FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")


def read_tokenizer(model: ModelFiles) -> TokenizerFiles:
    """Reads the tokenizer of a model.

    Raises:
      UserError: it is of an unsupported kind, damaged, contradicts itself, draws at random, or has
        ids that the weights have no row for.
    """
    path, read = model.path, gguf_tokenizer if model.source == GGUF else _from_hugging_face
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
