"""What reasoner and policy do with the parameters they are given: draw, score, be rewarded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.sharding import place_rows, using
from remid_jax.settings import made_from
from remid_jax.training import rollout as rollouts
from remid_jax.training.experiment import Experiment
from remid_jax.training.groups import Example, GroupedBatch, group_examples
from remid_jax.training.held_out import Predicted, ngram_overlap
from remid_jax.training.rewards import RewardBatch, combined
from remid_jax.training.tasks import Notes, notes_of
from remid_jax.training.updates import score


class RolloutWorker:
    """Draws and scores texts of both roles; the caller gives the parameters with each call."""

    def __init__(self, config: ConfigDict, experiment: Experiment):
        """Finds the sizes that all batches share.

        Raises:
          UserError: a prompt and what follows it exceed the window.
        """
        self.config, self.experiment = config, experiment
        task, window = experiment.task, experiment.shape.max_positions
        self.max_prompt = max(len(task.reason_prompt(s)) for s in experiment.train)
        self.max_golden = max(len(task.encode(s.golden)) for s in experiment.train)
        if window - self.max_prompt < max(config.reasoner.max_tokens, self.max_golden) + 1:
            raise UserError(
                f"the longest prompt has {self.max_prompt} tokens; a thought of "
                f"{config.reasoner.max_tokens} does not fit the window of {window}"
            )

    def batch(self, groups: list[list[Example]], scored: int) -> GroupedBatch:
        """Examples as arrays of few shapes, on the host; `scored`: least width of scored parts."""
        window = self.experiment.shape.max_positions
        return group_examples(groups, window, (self.max_prompt, 0, scored))

    def place(self, batch: Any) -> Any:
        """A pytree of [B, ...] arrays on the devices of the mesh."""
        return place_rows(batch, self.experiment.mesh)

    def score(self, params: Any, batch: GroupedBatch) -> np.ndarray:
        """log q [B, G, K] of a role with these parameters, 0 where nothing is scored, in nats."""
        merged = nnx.merge_state(self.experiment.frozen, params)
        with using(self.experiment.mesh):
            values = score(merged, self.place(batch), graphdef=self.experiment.graphdef)
        return np.asarray(values)

    def answer_examples(self, samples: Sequence[Sample], notes: Notes) -> list[list[Example]]:
        """The policy's prompt with each of a sample's notes, and the golden response to score."""
        task = self.experiment.task
        return [
            [Example(task.policy_prompt(s, n), task.encode(s.golden)) for n in group]
            for s, group in zip(samples, notes, strict=True)
        ]

    def draw(
        self, params: Any, prompts: list[Sequence[int]], c: ConfigDict, key: jax.Array,
        draws: int, temperature: float | None = None,
    ) -> tuple[rollouts.Rollout, list[list[tuple[int, ...]]], list[list[str]]]:  # fmt: skip
        """Draws of each of B prompts with a role's parameters and group of the configuration.

        Returns:
          The rollout, and B lists of `draws` completions as token ids and as texts.
        """
        e = self.experiment
        temperature = c.temperature if temperature is None else temperature
        sampling = made_from(SamplingConfig, c, temperature=temperature)
        ids, lengths = self.place(rollouts.padded(prompts, self.max_prompt))
        with using(e.mesh):
            drawn = rollouts.rollout(
                nnx.merge_state(e.frozen, params), ids, lengths, key, graphdef=e.graphdef,
                sampling=sampling, draws=draws, end=e.task.end,
                split=jax.default_backend() == "cpu",
                gather=self.config.rollout_weights == "gathered",
            )  # fmt: skip
        completed = rollouts.completions(drawn, e.task.end)
        return drawn, completed, [[e.task.decode(ids) for ids in group] for group in completed]

    def thoughts(
        self, params: Any, samples: Sequence[Sample], key: jax.Array, draws: int,
        temperature: float | None = None,
    ) -> list[list[str]]:  # fmt: skip
        """The reasoner's thoughts, `draws` a sample; one empty thought where nobody reads them."""
        if self.config.notes == "none":
            return [[""] for _ in samples]
        prompts = [self.experiment.task.reason_prompt(s) for s in samples]
        return self.draw(params, prompts, self.config.reasoner, key, draws, temperature)[2]

    def rewards(
        self, role: str, policy: Any, samples: Sequence[Sample], notes: Notes,
        texts: list[list[str]], stopped: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # fmt: skip
        """[B·G] rewards of a role's completions `texts`, and those of each name; see `combined`.

        Args:
          policy: parameters of the policy that judges thoughts.
          notes: what the policy read, for its own completions.
          stopped: [B, G] bool, whether completions ended by themselves.
        """
        c = self.config[role]
        fields: dict[str, Any] = {
            "texts": [text for each in texts for text in each],
            "truncated": ~stopped.reshape(-1),
            "golden": [s.golden for s in samples for _ in range(c.group)],
        }
        if role == "reasoner":
            read = notes_of(texts, self.config.notes)
            batch = self.batch(self.answer_examples(samples, read), self.max_golden)
            width = batch.weights.shape[-1]
            fields["log_probs"] = self.score(policy, batch).reshape(-1, width)
            fields["mask"] = (batch.weights > 0).reshape(-1, width)
            if "cross_information" in c.rewards:
                negatives = self._negatives(policy, samples, read, c.negatives)
                fields["negatives"] = np.repeat(negatives, c.group, axis=0)
        elif "reference_match" in c.rewards:
            golden = self._match(notes, [[s.golden] for s in samples])
            fields["match"] = self._match(notes, texts).reshape(-1)
            fields["golden_match"] = np.repeat(golden, c.group)
        return combined(RewardBatch(**fields), dict(c.rewards), c.parameters.to_dict())

    def _negatives(
        self, policy: Any, samples: Sequence[Sample], notes: Notes, count: int
    ) -> np.ndarray:
        """[B, K] log q of golden responses under contexts and first notes of the next K samples."""
        b, task = len(samples), self.experiment.task
        offsets = range(1, min(count, b - 1) + 1)
        golden = [task.encode(s.golden) for s in samples]
        examples = [
            [Example(task.policy_prompt(s, notes[k][0]), golden[k - j]) for j in offsets]
            for k, s in enumerate(samples)
        ]
        sums = self.score(policy, self.batch(examples, self.max_golden)).sum(-1)
        return np.stack([np.roll(sums[:, j - 1], -j) for j in offsets], axis=1)

    def _match(self, notes: Notes, replies: list[list[str]]) -> np.ndarray:
        """Mean token log p of the answer "100%" by the frozen base: [B, G], in nats."""
        examples = [
            [Example(*self.experiment.task.match(features or "", reply)) for reply in each]
            for (features,), each in zip(notes, replies, strict=True)
        ]
        batch = self.batch(examples, 1)
        values = self.score(self.experiment.initial, batch)  # new adapters change nothing
        return values.astype(np.float64).sum(-1) / batch.weights.sum(-1)

    def predict(
        self, samples: Sequence[Sample], roles: Mapping[str, Any],
        advance: Callable[[int], None] = lambda n: None,
    ) -> Predicted:  # fmt: skip
        """Golden responses under the policy, given thoughts that the reasoner draws.

        `roles` holds the parameters of each, and `advance` hears the size of each finished batch.
        """
        e, found = self.config.evaluate, []
        for a, part in self._batches(samples):
            key = jax.random.key(a)
            thoughts = self.thoughts(roles["reasoner"], part, key, e.thoughts, e.temperature)
            notes = notes_of(thoughts, self.config.notes)
            # In one group what the prompt says before its notes is computed once for both.
            both = [own + other for own, other in zip(notes, notes[1:] + notes[:1], strict=True)]
            values, tokens = self.answers(roles["policy"], self.answer_examples(part, both))
            sums, other = (x.mean(-1) for x in np.split(values, 2, axis=1))
            overlap = [
                np.mean([ngram_overlap(t, s.golden, 2) for t in group])
                for s, group in zip(part, thoughts, strict=True)
            ]
            found.append((sums, tokens[:, 0], other, overlap))
            advance(min(len(part), len(samples) - a))
        columns = (np.concatenate(x)[: len(samples)] for x in zip(*found, strict=True))
        return Predicted([s.sample_id for s in samples], *columns)

    def _batches(self, samples: Sequence[Sample]) -> Iterator[tuple[int, list[Sample]]]:
        """Batches of one size, the last filled up from the beginning, and where each begins."""
        n, size = len(samples), self.config.evaluate.batch
        for a in range(0, n, size):
            yield a, [samples[k % n] for k in range(a, a + size)]

    def pairs(
        self, samples: Sequence[Sample], responses: Sequence[str], roles: Mapping[str, Any]
    ) -> np.ndarray:
        """S[i, j] = log q(y_j | x_i, r_i), one drawn thought a context, in nats: [N, M]."""
        task, blocks = self.experiment.task, []
        scored = [task.encode(y) for y in responses]
        for a, part in self._batches(samples):
            thoughts = self.thoughts(roles["reasoner"], part, jax.random.key(a), 1, 1.0)
            notes = notes_of(thoughts, self.config.notes)
            examples = [
                [Example(task.policy_prompt(s, n), y) for y in scored]
                for s, (n,) in zip(part, notes, strict=True)
            ]
            blocks.append(self.answers(roles["policy"], examples)[0])
        return np.concatenate(blocks)[: len(samples)]

    def answers(self, policy: Any, examples: list[list[Example]]) -> tuple[np.ndarray, np.ndarray]:
        """log q of scored responses in nats, and their tokens, the end not counted: [B, G] both."""
        values = self.score(policy, self.batch(examples, self.max_golden)).astype(np.float64)
        tokens = np.array([[len(e.scored) - 1 for e in group] for group in examples])
        counted = np.arange(values.shape[-1]) < tokens[..., None]
        return np.where(counted, values, 0.0).sum(-1), tokens
