"""What the reasoner and the policy read and write about one sample, as token ids."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from remid_jax.data import prompts, thoughts
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.models.tokenizer import Tokenizer
from remid_jax.worlds.textual import reasoning as world_reasoning
from remid_jax.worlds.textual import rendering, tokenisation, truth
from remid_jax.worlds.textual.facts import TextualWorld

Notes = list[list[str | None]]  # of B samples, G each: what the policy reads of their thoughts
FILLER = "."


def notes_of(texts: Sequence[Sequence[str]], how: str) -> Notes:
    """The policy's notes for B samples with G thoughts each.

    Args:
      texts: the thoughts.
      how: `own`: the core features of each thought; `none`: no notes; `shuffled`: those of the next
        sample of the batch; `filler`: as many full stops as the core features have words.

    >>> notes_of([["a b"], ["c"]], "shuffled"), notes_of([["a b"]], "filler")
    ([['c'], ['a b']], [['. .']])
    """
    core = [[thoughts.scorer_notes(text) for text in group] for group in texts]
    if how == "none":
        return [[None] * len(group) for group in core]
    if how == "shuffled":
        return [list(core[k]) for k in np.roll(np.arange(len(core)), -1)]
    if how == "filler":
        return [[" ".join([FILLER] * max(1, len(c.split()))) for c in group] for group in core]
    return core


class Task(Protocol):
    """Everything that training needs to know of texts.

    Attributes:
      end: the token that ends a thought and a response.
    """

    end: int

    def reason_prompt(self, sample: Sample) -> Sequence[int]:
        """What the reasoner reads."""

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:
        """What the policy reads: the context, and the notes where there are any."""

    def encode(self, text: str) -> Sequence[int]:
        """A thought or a response as it is written, `end` included."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without the end."""

    def cold_thought(self, sample: Sample) -> str:
        """The thought from which the reasoner learns in the cold start."""

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:
        """The question which share of the features a reply has, and the answer that it has all.

        Raises:
          UserError: the base cannot be asked.
        """


@dataclasses.dataclass(frozen=True)
class ChatTask:
    """A role-play benchmark and a model with a chat template.

    Attributes:
      tokenizer: of the model.
      leaky: whether golden responses outside IDTrain may shape cold thoughts.
    """

    tokenizer: Tokenizer
    leaky: bool = False

    @property
    def end(self) -> int:
        """The end-of-turn token."""
        return self.tokenizer.end_of_turn

    def reason_prompt(self, sample: Sample) -> Sequence[int]:
        """Context, and the instruction to write a thought in sections."""
        return self.tokenizer.encode_chat(prompts.section_messages(sample))

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:
        """Context, notes and instruction, as in a diagnosis."""
        return self.tokenizer.encode_chat(prompts.scorer_messages(sample, notes))

    def encode(self, text: str) -> Sequence[int]:
        """Ids of a text and the end of turn."""
        return (*self.tokenizer.encode(text), self.end)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without the end of turn."""
        return self.tokenizer.decode([i for i in ids if i != self.end])

    def cold_thought(self, sample: Sample) -> str:
        """Drafted by rule from the sample."""
        return thoughts.draft_thought(sample, leaky=self.leaky)

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:
        """Asked in the words of `data.prompts`."""
        question = self.tokenizer.encode_chat(prompts.match_messages(features, reply))
        return question, self.tokenizer.encode(prompts.FULL_MATCH)


@dataclasses.dataclass(frozen=True)
class WorldTask:
    """A textual world, in whose cold thoughts each fact errs at a known rate.

    Attributes:
      world: the world.
      error: probability that one fact of a cold thought is wrong.
      seed: of these errors.
      end: the token that ends a text.
    """

    world: TextualWorld
    error: float
    seed: int = 0
    end: int = tokenisation.EOS

    def reason_prompt(self, sample: Sample) -> Sequence[int]:
        """Context, then the mark of notes."""
        return _ids(sample, tokenisation.NOTES)

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:
        """Context, notes and the mark of the reply."""
        parts = () if notes is None else (tokenisation.NOTES, notes)
        return _ids(sample, *parts, tokenisation.REPLY)

    def recall_prompt(self, sample: Sample) -> Sequence[int]:
        """Context and the mark of an agent, after which the base recalls who is what."""
        return _ids(sample, tokenisation.AGENT)

    def encode(self, text: str) -> Sequence[int]:
        """Ids of a text and the end."""
        return (*tokenisation.encode(text), self.end)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids without the end."""
        return tokenisation.decode([i for i in ids if i != self.end])

    def cold_thought(self, sample: Sample) -> str:
        """Drawn from the world's reasoner; the same for the same sample."""
        x, _ = rendering.parse_sample(self.world, sample)
        number = int(sample.sample_id.rpartition("_")[2])
        seeds = (self.seed, number, truth.checked_index(x, self.world.num_contexts, "x").item())
        r = world_reasoning.sample_thoughts(self.world, [x], self.error, seed=seeds)
        return rendering.thought_text(int(r[0]))

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:
        """A world's base judges nothing."""
        raise UserError("a world's base cannot judge a reply: reward exact_match instead")


def _ids(sample: Sample, *parts: str) -> list[int]:
    context = tokenisation.context_text(sample.persona, sample.character, sample.dialogue)
    return [tokenisation.BOS, *tokenisation.encode(" ".join((context, *parts)))]
