"""What an RPM reads and writes: a response, or a thought and a response in one completion."""

from collections.abc import Sequence

import numpy as np

from remid_jax.data.samples import Sample
from remid_jax.training.tasks import Task


class AnsweringTask(Task):
    """A task without notes: the RPM reads the context, as in a diagnosis, and responds."""

    def __init__(self, task: Task):
        """Answers in the contexts of `task`."""
        self.plain, self.codec, self.end, self.marks = task, task.codec, task.end, task.marks

    def reason_prompt(self, sample: Sample) -> Sequence[int]:
        """The request for a response: nothing is read before it."""
        return self.plain.policy_prompt(sample, None)

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:
        """The request for a response; notes are not read."""
        return self.reason_prompt(sample)

    def naive_prompt(self, sample: Sample) -> Sequence[int]:  # noqa: D102
        return self.plain.naive_prompt(sample)

    def own_tokens(self, sample: Sample, ids: Sequence[int]) -> np.ndarray:  # noqa: D102
        return self.plain.own_tokens(sample, ids)

    def match(self, features: str, reply: str) -> tuple[Sequence[int], Sequence[int]]:  # noqa: D102
        return self.plain.match(features, reply)


class ThinkingTask(AnsweringTask):
    """The response stands behind a thought: OPEN thought CLOSE response.

    p(y|x) of such an RPM is a mixture over thoughts, Σ_r p(r|x) p(y|x, r): `policy_prompt` of a
    sample and a thought is what stands before the response, OPEN and CLOSE included.
    """

    def reason_prompt(self, sample: Sample) -> Sequence[int]:
        """What is read before the thought; of a chat, the request for a response."""
        opened, _ = self.marks  # where nothing opens a thought, the prompt itself must ask for it
        return self.plain.policy_prompt(sample, None) if opened else self.naive_prompt(sample)

    def policy_prompt(self, sample: Sample, notes: str | None) -> Sequence[int]:
        """What is read before the response, or before the thought where none is given."""
        prompt = self.reason_prompt(sample)
        return prompt if notes is None else (*prompt, *self.head(notes))

    def head(self, thought: str) -> Sequence[int]:
        """The thought between its marks, as token ids; an own mark in it ends it."""
        opened, closed = self.marks
        return self.codec.encode(f"{opened}{self.thought_of(thought)}{closed}")

    def completion(self, thought: str, response: str) -> Sequence[int]:
        """A thought and the response behind it, `end` included."""
        return (*self.head(thought), *self.encode(response))

    def thought_of(self, text: str) -> str:
        """What stands before the mark that ends a thought, without the mark that opens it."""
        opened, closed = (mark.strip() for mark in self.marks)
        return text.partition(closed)[0].strip().removeprefix(opened).strip()

    def answer_of(self, text: str) -> str:
        """What stands behind the mark that ends a thought; nothing where the thought never ends."""
        return text.partition(self.marks[1].strip())[2].strip()
