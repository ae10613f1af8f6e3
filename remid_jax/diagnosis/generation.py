"""What the evaluated models answer, and what the reasoner notes, one subset at a time."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from remid_jax.benchmark import prompts
from remid_jax.benchmark.samples import Sample
from remid_jax.diagnosis.store import Store, key_of
from remid_jax.inference.prefix import (
    Prefix,
    capacity_for,
    common_prefix_length,
    prefill,
    trunk_of,
)
from remid_jax.inference.sampling import SamplingConfig, sample_from
from remid_jax.models.pretrained import LanguageModel


@dataclasses.dataclass(frozen=True)
class Answer:
    """A generated text.

    Attributes:
      text: as decoded, stripped.
      tokens: its token ids; empty where it came as text.
      tokenizer: identity of the tokenizer the ids belong to.
      stopped: whether it ended by itself rather than at the limit.
      log_prob: log p_θ of its tokens in nats, the end of turn not counted; None where it came as
        text or was drawn from another law than the model's own (see `is_own_law`).
    """

    text: str
    tokens: tuple[int, ...] = ()
    tokenizer: str = ""
    stopped: bool = True
    log_prob: float | None = None


def is_own_law(config: SamplingConfig) -> bool:
    """Whether answers are drawn from the model's own law: temperature, top_p and penalty are 1."""
    return config.temperature == config.top_p == config.repetition_penalty == 1


class Trunks:
    """The cached contexts that all roles' prompts begin with, kept within a number of bytes."""

    def __init__(self, model: LanguageModel, budget: int):
        self._model = model
        self._budget = budget
        self._kept: OrderedDict[str, Prefix] = OrderedDict()

    def prefixes(
        self, sample: Sample, chats: Sequence[list[dict[str, str]]], capacity: int | None = None
    ) -> list[Prefix]:
        """Caches of several prompts about one sample, sharing the work on its context."""
        encode = self._model.tokenizer.encode_chat
        wanted = [encode(chat) for chat in chats]
        return prefill(self._model, wanted, capacity, self._trunk(sample, wanted))

    def _trunk(self, sample: Sample, wanted: Sequence[Sequence[int]]) -> Prefix | None:
        roles = (prompts.reply_messages(sample), prompts.reason_messages(sample))
        encoded = [self._model.tokenizer.encode_chat(messages) for messages in roles]
        shared = encoded[0][: common_prefix_length(encoded)]
        if not all(_begins(prompt, shared) for prompt in wanted):
            return None
        key = key_of(shared)
        if key not in self._kept:
            trunk = trunk_of(self._model, encoded)
            if trunk is None:
                return None
            self._kept[key] = trunk
            while len(self._kept) > 1 and self._bytes() > self._budget:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _bytes(self) -> int:
        return sum(p.keys.nbytes + p.values.nbytes for p in self._kept.values())


def _begins(prompt: Sequence[int], trunk: Sequence[int]) -> bool:
    return len(prompt) > len(trunk) and tuple(prompt[: len(trunk)]) == tuple(trunk)


def generate(
    model: LanguageModel,
    trunks: Trunks,
    store: Store,
    kind: str,
    chats: Mapping[str, tuple[Sample, list[dict[str, str]]]],
    config: SamplingConfig,
    batch_rows: int,
    advance,
) -> dict[str, Answer]:
    """Answers chats in batches, each stored whole as soon as it is there.

    Args:
      model: who answers.
      trunks: the caches of that model.
      store: finished batches.
      kind: folder in the store, `responses` or `thoughts`.
      chats: sample id -> (sample, messages).
      config: how to draw.
      batch_rows: rows decoded together.
      advance: called with the number of finished chats.

    Returns:
      sample id -> answer.
    """
    answers: dict[str, Answer] = {}
    ids = list(chats)
    encode = model.tokenizer.encode_chat
    for a in range(0, len(ids), batch_rows):
        batch = ids[a : a + batch_rows]
        encoded = [encode(chats[i][1]) for i in batch]
        settings = dataclasses.asdict(config)
        key = key_of(model.identity, settings, batch_rows, encoded)
        rows = store.get_json(kind, key)
        own = is_own_law(config)
        if rows is None or (own and any("log_prob" not in row for row in rows)):
            asked = [chats[i] for i in batch]
            rows = _generate_batch(model, trunks, asked, encoded, config, batch_rows)
            store.put_json(kind, key, rows)
        for i, row in zip(batch, rows, strict=True):
            tokens = tuple(row["tokens"])
            answers[i] = Answer(
                row["text"], tokens, model.tokenizer.identity, row["stopped"], row.get("log_prob")
            )
        advance(len(batch))
    return answers


def _generate_batch(model, trunks, chats, encoded, config, batch_rows) -> list[dict]:
    capacity = capacity_for(max(len(p) for p in encoded))
    cached = [trunks.prefixes(sample, [messages], capacity)[0] for sample, messages in chats]
    drawn = sample_from(model, cached, config, batch_rows)
    decode = model.tokenizer.decode
    rows = [
        {"text": decode(d.tokens).strip(), "tokens": list(d.tokens), "stopped": d.stopped}
        for d in drawn
    ]
    if is_own_law(config):
        for row, d in zip(rows, drawn, strict=True):
            row["log_prob"] = float(d.log_probs.sum())
    return rows
