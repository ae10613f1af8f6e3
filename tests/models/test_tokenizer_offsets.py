"""Spans of tokens, for every kind of vocabulary, against decoding each prefix."""

import itertools

import numpy as np
import pytest
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from remid_jax.models.tokenizer import Tokenizer
from remid_jax.models.tokenizer_offsets import _WINDOW, _ends_by_windows, token_offsets

TEXTS = {
    "english": "\"I'm afraid it's damp,\" she said -- twice.  And how!\n\nNo; never. " * 4,
    "german": "Übermorgen läßt Frau Müller für große Äcker süße Grüße da. " * 4,
    "chinese": "我在2024年去了北京,天气很好。你呢?" * 8,
    "hindi": "मैं कल दिल्ली जाऊँगा, आप कैसे हैं? " * 5,
    "korean": "밤 농장의 형님에게 먼저요! " * 6,
    "emoji": "Aye 👍🏽👩‍👩‍👧 ❤️! 🇩🇪 " * 6,
    "leading": "  leading space",
    "spaces": "a" + " " * 120 + "b" + "\n" * 60,
    "one": "x",
    "none": "",
}
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"▁abcdehinors天我,."]


def byte_level():
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=BYTES, special_tokens=["<s>", "</s>"], show_progress=False
    )
    backend.train_from_iterator([TEXTS["english"], TEXTS["german"], TEXTS["korean"]], trainer)
    backend.add_tokens([AddedToken("<think>"), AddedToken("a b"), AddedToken("é")])
    return backend


def fallback(decoder):
    merges = [("▁", "a"), ("▁", "s"), ("i", "s"), ("▁a", "n")]
    vocabulary = {w: i for i, w in enumerate([*PIECES, *map("".join, merges)])}
    backend = Backend(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    backend.decoder = decoder
    if isinstance(decoder, decoders.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        rules = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        backend.normalizer = normalizers.Sequence(rules)
    return backend


def sentence_pieces():
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return fallback(decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)]))


def word_pieces():
    vocabulary = ["[UNK]", "i", "##'", "m", "a", "##f", "##r", "##a", "##i", "##d", ",", ".", "!"]
    backend = Backend(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    return backend


def unigrams():
    scored = [("<unk>", 0.0), *((c, -5.0) for c in "▁sabcdefinö"), ("▁an", -6.0)]
    backend = Backend(models.Unigram(scored, unk_id=0, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def words():
    backend = Backend(models.WordLevel({w: i for i, w in enumerate(["?", "and", "she"])}, "?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return backend  # no decoder: words are joined by spaces


def suffixes():
    vocabulary = {w: i for i, w in enumerate(["u", "a", "b", "a</w>", "b</w>", "s</w>"])}
    backend = Backend(
        models.BPE(vocabulary, [], unk_token="u", end_of_word_suffix="</w>", fuse_unk=True)
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.BPEDecoder()
    return backend


KINDS = {
    "bytes": byte_level(),
    "bytes in a sequence": byte_level(),
    "sentence pieces": sentence_pieces(),
    "metaspace": fallback(decoders.Metaspace(prepend_scheme="first", split=False)),
    "word pieces": word_pieces(),
    "unigrams": unigrams(),
    "words": words(),
    "suffixes": suffixes(),
}
KINDS["bytes in a sequence"].decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()])
WHOLE = ("bytes", "bytes in a sequence", "sentence pieces")  # decode what they encode


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return of_kind(request.param)


def of_kind(kind):
    return Tokenizer(KINDS[kind], "", 0, (0,), None, {}, "")


def by_prefixes(tokenizer, ids, text):
    """Where each token ends: what all tokens so far spell, but for a character cut off."""
    end = 0
    for i in range(len(ids)):
        spelt = tokenizer.decode(ids[: i + 1])
        spelt = spelt if text.startswith(spelt) else spelt.rstrip("\ufffd")
        end = max(end, len(spelt)) if text.startswith(spelt) else end
        yield end


def check(tokenizer, ids, exact=True):
    text = tokenizer.decode(ids)
    spans = token_offsets(tokenizer, ids, text)
    assert spans.shape == (len(ids), 2) and spans.dtype.kind == "i"
    assert "".join(text[a:b] for a, b in spans) == text
    assert [0, *spans[:, 1]][: len(ids)] == spans[:, 0].tolist()  # no gap, no overlap
    assert (spans[:, 1] >= spans[:, 0]).all() and (spans[-1:, 1] == len(text)).all()
    if exact:
        assert spans[:, 1].tolist() == list(by_prefixes(tokenizer, ids, text))
        assert spans[:, 1].tolist() == list(_ends_by_windows(tokenizer, ids, text))
    return text, spans


@pytest.mark.parametrize("name", TEXTS)
def test_texts(tokenizer, name):
    check(tokenizer, tokenizer.encode(TEXTS[name]))


@pytest.mark.parametrize("kind, name", itertools.product(WHOLE, TEXTS))
def test_spans_give_the_text_back(kind, name):
    text, _ = check(of_kind(kind), of_kind(kind).encode(TEXTS[name]))
    assert text == TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_the_default(smollm2, name):
    assert check(smollm2.tokenizer, smollm2.tokenizer.encode(TEXTS[name]))[0] == TEXTS[name]


def test_any_ids(tokenizer):
    """A model may draw bytes that are no character, and tokens without text."""
    rng = np.random.default_rng(0)
    size = tokenizer.backend.get_vocab_size()
    for _ in range(40):
        check(tokenizer, rng.integers(0, size, rng.integers(0, 90)).tolist())


def test_long_runs_of_bytes_that_are_no_text():
    """One bad byte makes a sign of every byte of its run, near it or not."""
    tokenizer = of_kind("sentence pieces")
    good, end = [3 + b for b in "役👍".encode()], tokenizer.backend.token_to_id("a")
    text, spans = check(tokenizer, [*good * 30, 3 + 0xE4, end, *good * 30], exact=False)
    assert text == "\ufffd" * 211 + "a" + "役👍" * 30
    assert spans[211].tolist() == [211, 212]  # and none is lost for what follows
    assert np.abs(spans[:211, 1] - np.arange(1, 212)).max() <= 2 * _WINDOW + 1
    check(tokenizer, [3 + 0xE4, *good * 30, end, *good], exact=False)
    for n in range(1, 24):
        check(tokenizer, [*good * n, 3 + 0xE4], exact=False)


def test_parts_of_a_character_stand_before_it():
    tokenizer = of_kind("bytes")
    ids = [tokenizer.backend.token_to_id(t) for t in ("a", "ð", "Ł", "ĳ", "ı", "</s>")]
    text, spans = check(tokenizer, ids)
    assert text == "a👏"
    assert spans.tolist() == [[0, 1], [1, 1], [1, 1], [1, 1], [1, 2], [2, 2]]


def test_special_tokens_have_no_text():
    tokenizer = of_kind("bytes")
    text, spans = check(tokenizer, [0, *tokenizer.encode("Aye"), 1, 1])
    assert text == "Aye" and spans[[0, -2, -1]].tolist() == [[0, 0], [3, 3], [3, 3]]
    assert token_offsets(tokenizer, [], "").shape == (0, 2)


def test_another_text_is_refused():
    tokenizer = of_kind("bytes")
    with pytest.raises(ValueError, match="the tokens spell 'Aye', not 'Nay'"):
        token_offsets(tokenizer, tokenizer.encode("Aye"), "Nay")
