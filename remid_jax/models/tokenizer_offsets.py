"""Where the tokens of a response stand in its text."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import decoders

from remid_jax.models.tokenizer import Tokenizer

_SHOWN = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # bytes shown as they are
_OTHERS = [b for b in range(256) if b not in _SHOWN]  # from U+0100 on, in their order
_BYTES = {chr(b): b for b in _SHOWN} | {chr(256 + i): b for i, b in enumerate(_OTHERS)}
_WINDOW = 24  # tokens that are decoded together, at least


def token_offsets(tokenizer: Tokenizer, ids: Sequence[int], text: str | None = None) -> np.ndarray:
    """Start and end of each token in the text that the tokens spell.

    The spans follow each other without gap or overlap from 0 to the end of the text. A character
    whose bytes are several tokens belongs to the last of them; the others have empty spans before
    it. Tokens without text, such as the end of turn, have empty spans too.

    Tokens of byte-level vocabularies are joined as bytes. Others, and bytes that are no text, are
    decoded in windows: what a window adds to the tokens before it is held against the text, so that
    no rule for the beginning or the end of a text moves a span. The time is linear in the number of
    tokens, but for long runs of tokens that spell nothing until later ones are there.

    Args:
      tokenizer: whose ids they are.
      ids: T token ids, as drawn or encoded.
      text: `tokenizer.decode(ids)`, where the caller has it.

    Returns:
      [T, 2] int, in characters.

    Raises:
      ValueError: `text` is not what the ids spell.
    """
    ids, spelt = list(ids), tokenizer.decode(ids)
    if text is not None and text != spelt:
        raise ValueError(f"the tokens spell {spelt[:40]!r}, not {text[:40]!r}")
    ends = None
    if isinstance(tokenizer.backend.decoder, decoders.ByteLevel):
        ends = _ends_by_bytes(tokenizer, ids, spelt)
    ends = list(_ends_by_windows(tokenizer, ids, spelt)) if ends is None else ends
    return np.stack([[0, *ends][:-1], ends], axis=1).astype(int).reshape(-1, 2)


def _ends_by_bytes(tokenizer: Tokenizer, ids: list[int], text: str) -> list[int] | None:
    """Where each token ends; None where the bytes of the tokens are not those of the text."""
    backend = tokenizer.backend
    unheard = {i for i, t in backend.get_added_tokens_decoder().items() if t.special}
    tokens = ["" if i in unheard else backend.id_to_token(i) or "" for i in ids]
    pieces = [
        bytes(_BYTES[c] for c in token) if all(c in _BYTES for c in token) else token.encode()
        for token in tokens
    ]
    data = b"".join(pieces)
    if data != text.encode():
        return None
    goes_on = (np.frombuffer(data + b"\0", np.uint8) & 0xC0) == 0x80  # a byte within a character
    begun = np.cumsum([0, *~goes_on[:-1]])
    last = np.cumsum([len(piece) for piece in pieces], dtype=int)
    return (begun[last] - goes_on[last]).tolist()


def _ends_by_windows(tokenizer: Tokenizer, ids: list[int], text: str) -> Iterator[int]:
    """Where each token ends; where a window is no part of the text yet, a character is cut off."""
    first, known = 0, 0  # a window begins at `first`; its tokens before `known` spell `base`
    base, place, end = "", 0, 0  # which the text holds up to `place`
    for i in range(len(ids)):
        if i - known > 2 * _WINDOW:  # a decoder that needs to see more
            first, known, base, place = 0, 0, "", 0
        window = tokenizer.decode(ids[first : i + 1])
        fits = window.startswith(base)
        more = window.removeprefix(base)
        whole = fits and text.startswith(more, place)
        more = more if whole else more.rstrip("\ufffd")  # a character may be cut off
        if fits and text.startswith(more, place):
            end = max(end, place + len(more))
        if whole and i + 1 - known >= _WINDOW:
            base, place = tokenizer.decode(ids[known : i + 1]), place + len(more)
            first, known = known, i + 1
        yield end if i + 1 < len(ids) else len(text)
