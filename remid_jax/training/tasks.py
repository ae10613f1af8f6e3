"""What the reasoner and the policy read and write about one sample, as token ids."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from remid_jax.data import prompts, thoughts
from remid_jax.data.own_words import copied_from
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.models.tokenizer import Tokenizer
from remid_jax.models.tokenizer_offsets import token_offsets
from remid_jax.worlds.textual import reasoning as world_reasoning
from remid_jax.worlds.textual import rendering, tokenisation, truth
from remid_jax.worlds.textual.facts import TextualWorld

Notes = list[list[str | None]]  # of B samples, G each: what the policy reads of their thoughts


def notes_of(texts: Sequence[Sequence[str]], how: str) -> Notes:
    """The policy's notes for B samples with G thoughts each.

    `own` are the core features of each thought, `shuffled` those of the next sample of the batch,
    `filler` as many full stops as the core features have words, and `whole` each thought as it is.

    >>> notes_of([["a b"], ["c"]], "shuffled"), notes_of([["a b"]], "filler")
    ([['c'], ['a b']], [['. .']])
    """
    if how == "whole":
        return [[text.strip() for text in group] for group in texts]
    core = [[thoughts.scorer_notes(text) for text in group] for group in texts]
    if how == "none":
        return [[None] * len(group) for group in core]
    if how == "shuffled":
        return [list(core[k]) for k in np.roll(np.arange(len(core)), -1)]
    if how == "filler":
        return [[" ".join(["."] * max(1, len(c.split()))) for c in group] for group in core]
    return core


def partly_without(notes: Notes, share: float, rng: np.random.Generator) -> Notes:
    """The same notes, each left out with probability `share`: the policy learns to do without."""
    if not share:
        return notes
    return [[None if rng.random() < share else text for text in group] for group in notes]


class Task:
    """Everything that training needs to know of texts.

    Attributes:
      codec: has `encode` and `decode` of texts.
      end: the token that ends a thought and a response.
      marks: what stands before and after a thought that is written in front of a response.
    """

    codec: Any
    end: int
    marks: tuple[str, str]

    def reason_prompt(self, sample: Sample) -> Sequence[int]:
        """What the reasoner reads: the context, and that a thought should follow."""
        raise NotImplementedError

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:
        """What the policy reads: the context, notes where there are any, and the instruction."""
        raise NotImplementedError

    def naive_prompt(self, sample: Sample) -> Sequence[int]:
        """What a model reads that nobody taught to reason, before it writes a thought."""
        raise NotImplementedError

    def cold_thought(self, sample: Sample) -> str:
        """The thought from which the reasoner learns in the cold start."""
        raise NotImplementedError

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:
        """The question which share of the features a reply has, and the answer that it has all."""
        raise NotImplementedError

    def own_tokens(self, sample: Sample, ids: Sequence[int]) -> np.ndarray:
        """[T] bool, the tokens of a reply that are not copied from the context, see `own_words`."""
        raise NotImplementedError

    def encode(self, text: str) -> Sequence[int]:
        """A thought or a response as it is written, `end` included."""
        return (*self.codec.encode(text), self.end)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without the end."""
        return self.codec.decode([i for i in ids if i != self.end])

    def thought_of(self, text: str) -> str:
        """The thought in a completion, which is a thought here and nothing else."""
        return text

    def answer_of(self, text: str) -> str:
        """The response in a completion, which is a response here and nothing else."""
        return text


class ChatTask(Task):
    """A role-play benchmark and a model with a chat template; prompts as in a diagnosis."""

    marks = ("<think>\n", "\n</think>\n\n")  # which a diagnosis cuts from answers

    def __init__(self, tokenizer: Tokenizer, train_on_test: bool = False):
        """With `train_on_test`, golden responses outside IDTrain may shape cold thoughts too."""
        self.codec, self.end, self._train_on_test = tokenizer, tokenizer.end_of_turn, train_on_test

    def reason_prompt(self, sample: Sample) -> Sequence[int]:  # noqa: D102
        return self.codec.encode_chat(prompts.section_messages(sample))

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:  # noqa: D102
        return self.codec.encode_chat(prompts.scorer_messages(sample, notes))

    def naive_prompt(self, sample: Sample) -> Sequence[int]:  # noqa: D102
        return self.codec.encode_chat(prompts.reason_messages(sample))

    def cold_thought(self, sample: Sample) -> str:
        """Drafted by rule from the sample."""
        return thoughts.draft_thought(sample, train_on_test=self._train_on_test)

    def own_tokens(self, sample: Sample, ids: Sequence[int]) -> np.ndarray:  # noqa: D102
        return ~copied_from(sample, self.codec.decode(ids), token_offsets(self.codec, ids))

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:  # noqa: D102
        question = self.codec.encode_chat(prompts.match_messages(features, reply))
        return question, self.codec.encode(prompts.FULL_MATCH)


class WorldTask(Task):
    """A textual world."""

    marks = ("", f" {tokenisation.REPLY}")

    def __init__(self, world: TextualWorld, error: float, seed: int = 0):
        """Each fact of a cold thought is wrong with probability `error`, drawn with `seed`."""
        self.codec, self.end = tokenisation, tokenisation.EOS
        self.world, self._error, self._seed = world, error, seed

    def reason_prompt(self, sample: Sample) -> Sequence[int]:  # noqa: D102
        return _ids(sample, tokenisation.NOTES)

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:  # noqa: D102
        parts = () if notes is None else (tokenisation.NOTES, notes)
        return _ids(sample, *parts, tokenisation.REPLY)

    def naive_prompt(self, sample: Sample) -> Sequence[int]:  # noqa: D102
        return self.reason_prompt(sample)

    def recall_prompt(self, sample: Sample) -> Sequence[int]:
        """Context and the mark of an agent, after which the base recalls who is what."""
        return _ids(sample, tokenisation.AGENT)

    def cold_thought(self, sample: Sample) -> str:
        """Drawn from the world's reasoner; the same for the same sample."""
        x, _ = rendering.parse_sample(self.world, sample)
        number = int(sample.sample_id.rpartition("_")[2])
        seeds = (self._seed, number, truth.checked_index(x, self.world.num_contexts, "x").item())
        r = world_reasoning.sample_thoughts(self.world, [x], self._error, seed=seeds)
        return rendering.thought_text(int(r[0]))

    def own_tokens(self, sample: Sample, ids: Sequence[int]) -> np.ndarray:
        """All of them: no run of a world's reply stands in its contexts."""
        return np.ones(len(ids), bool)

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:  # noqa: D102
        raise UserError("a world's base cannot judge a reply: reward exact_match instead")


def _ids(sample: Sample, *parts: str) -> list[int]:
    context = tokenisation.context_text(sample.persona, sample.character, sample.dialogue)
    return [tokenisation.BOS, *tokenisation.encode(" ".join((context, *parts)))]
