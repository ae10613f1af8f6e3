"""What the evaluated models answer, and what the reasoner notes, one subset at a time."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from remid_jax.data import prompts
from remid_jax.data.samples import Sample
from remid_jax.evaluation.answers import Drawn
from remid_jax.evaluation.sharing import shared
from remid_jax.evaluation.store import Store, key_of
from remid_jax.inference.engine import Engine
from remid_jax.inference.prefix import LEAST_SHARED, common_prefix_length
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.tokenizer import Tokenizer


def is_own_law(config: SamplingConfig) -> bool:
    """Whether answers are drawn from the model's own law: temperature, top_p and penalty are 1."""
    return config.temperature == config.top_p == config.repetition_penalty == 1


def shared_beginning(tokenizer: Tokenizer, sample: Sample) -> list[int]:
    """Tokens with which the prompts of all roles about one sample begin."""
    roles = (prompts.reply_messages(sample), prompts.reason_messages(sample))
    encoded = [tokenizer.encode_chat(messages) for messages in roles]
    return encoded[0][: common_prefix_length(*encoded)]


def cuts_of(prompt: Sequence[int], beginning: Sequence[int]) -> list[int]:
    """Where a prompt is cut so that its sample's beginning is computed once for all roles."""
    n = len(beginning)
    begins = n < len(prompt) and list(prompt[:n]) == list(beginning)
    return [n] if begins and n >= LEAST_SHARED else []


def generate(
    engine: Engine,
    store: Store,
    kind: str,
    chats: Mapping[str, tuple[Sample, list[dict[str, str]]]],
    config: SamplingConfig,
    batch_rows: int,
    advance: Callable[[float], None],
) -> dict[str, Drawn]:
    """Answers chats in batches, each stored whole as soon as it is there.

    Args:
      engine: who answers.
      store: finished batches.
      kind: folder in the store, `responses` or `thoughts`.
      chats: sample id -> (sample, messages).
      config: how to draw.
      batch_rows: rows decoded together.
      advance: called with the number of finished chats.

    Returns:
      sample id -> what was drawn.
    """
    encode = engine.tokenizer.encode_chat
    encoded = {i: encode(messages) for i, (_, messages) in chats.items()}
    # Golden answers tell about how long others will be: rows that end together run together.
    expected = {i: len(engine.tokenizer.encode(x.golden)) for i, (x, _) in chats.items()}
    ids = sorted(chats, key=lambda i: (-expected[i], i))
    batches = [ids[a : a + batch_rows] for a in range(0, len(ids), batch_rows)]
    drawn = engine.fingerprint, dataclasses.asdict(config), batch_rows

    def key(batch: list[str]) -> str:
        return key_of(*drawn, [encoded[i] for i in batch])

    def stored(batch: list[str]) -> list[dict[str, Any]] | None:
        rows = store.get_json(kind, key(batch))
        whole = rows is not None and (not is_own_law(config) or all("log_probs" in r for r in rows))
        return rows if whole else None

    answers: dict[str, Drawn] = {}

    def read(batch: list[str]) -> bool:
        rows = stored(batch)
        for i, row in zip(batch, rows or (), strict=rows is not None):
            log_probs = row.get("log_probs")
            own = None if log_probs is None else tuple(log_probs)
            answers[i] = Drawn(tuple(row["tokens"]), row["stopped"], own)
        return rows is not None

    def make(batch: list[str]) -> None:
        asked = [encoded[i] for i in batch]
        beginnings = [shared_beginning(engine.tokenizer, chats[i][0]) for i in batch]
        cuts = [cuts_of(p, b) for p, b in zip(asked, beginnings, strict=True)]
        store.put_json(kind, key(batch), _generated(engine, asked, config, cuts))

    for batch in shared(batches, store.claims, key, read, make):
        advance(len(batch))
    return {i: answers[i] for i in chats}


def _generated(
    engine: Engine,
    asked: Sequence[Sequence[int]],
    config: SamplingConfig,
    cuts: Sequence[Sequence[int]],
) -> list[dict[str, Any]]:
    drawn = engine.generate(asked, config, cuts=cuts)
    rows: list[dict[str, Any]] = [{"tokens": list(d.tokens), "stopped": d.stopped} for d in drawn]
    if is_own_law(config):
        for row, d in zip(rows, drawn, strict=True):
            row["log_probs"] = [float(x) for x in d.log_probs]
    return rows
