"""What reasoner and policy do with the parameters they are given: draw, score, be evaluated."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import check_some_text, word_agreement
from remid_jax.errors import UserError
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.information.mixture import draw_entropy, thought_mixture
from remid_jax.models.sharding import place_rows, using
from remid_jax.settings import made_from
from remid_jax.training import rollout as rollouts
from remid_jax.training.experiment import Experiment
from remid_jax.training.groups import Example, GroupedBatch, group_examples
from remid_jax.training.held_out import Predicted, ngram_overlap
from remid_jax.training.tasks import Notes, notes_of
from remid_jax.training.updates import score


class Drawn(NamedTuple):
    """Thoughts about N samples, K each, and what the policy reads of them."""

    thoughts: list[list[str]]
    notes: Notes


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
        task = self.experiment.task
        prompts = [task.reason_prompt(s) for s in samples]
        texts = self.draw(params, prompts, self.config.reasoner, key, draws, temperature)[2]
        return [[task.thought_of(text) for text in group] for group in texts]

    def predict(
        self, samples: Sequence[Sample], roles: Mapping[str, Any],
        advance: Callable[[float], None] = lambda n: None,
    ) -> Predicted:  # fmt: skip
        """Golden responses under the policy, given thoughts that the reasoner draws.

        `roles` holds the parameters of each, and `advance` hears how many samples are done; drawing
        their thoughts is half of it.

        Raises:
          UserError: as of `drawn_notes`.
        """
        found, free = [], self.config.scoring.thought_free
        n, drawn = len(samples), self.drawn_notes(samples, roles, lambda k: advance(k / 2))
        for a, places in self._batches(n):
            part, notes = [samples[k] for k in places], [drawn.notes[k] for k in places]
            # In one group what the prompt says before its notes is computed once for all.
            groups = [
                [*own, *other, *([None] if free else ())]
                for own, other in zip(notes, notes[1:] + notes[:1], strict=True)
            ]
            values, tokens = self.answers(roles["policy"], self.answer_examples(part, groups))
            own, other, plain = np.split(values.T, (len(notes[0]), 2 * len(notes[0])))
            mixed = thought_mixture(own, plain[0] if free else None, free)
            found.append((own.mean(0), tokens[:, 0], other.mean(0), mixed))
            advance(min(len(part), n - a) / 2)
        sums, tokens, other, mixed = (np.concatenate(x)[:n] for x in zip(*found, strict=True))
        overlap = [
            np.mean([ngram_overlap(t, s.golden, 2) for t in group])
            for s, group in zip(samples, drawn.thoughts, strict=True)
        ]
        return Predicted(
            ids=[s.sample_id for s in samples], sums=sums, tokens=tokens, other=other,
            overlap=np.array(overlap), mixture=mixed,
            agreement=np.array([word_agreement(own) for own in drawn.notes]),
            entropy=np.array([_entropy(own) for own in drawn.notes]),
        )  # fmt: skip

    def drawn_notes(
        self, samples: Sequence[Sample], roles: Mapping[str, Any],
        advance: Callable[[int], None] = lambda n: None,
    ) -> Drawn:  # fmt: skip
        """Thoughts about each sample as `config.scoring` draws them, and what is read of them.

        `advance` hears the size of each finished batch.

        Raises:
          UserError: several thoughts a sample, and all of them empty.
        """
        c, thoughts, notes = self.config.scoring, [], []
        for a, places in self._batches(len(samples)):
            part = [samples[k] for k in places]
            texts = self.thoughts(
                roles["reasoner"], part, jax.random.key(a), c.draws, c.temperature
            )
            thoughts += texts
            notes += notes_of(texts, self.config.notes)
            advance(min(len(part), len(samples) - a))
        thoughts, notes = thoughts[: len(samples)], notes[: len(samples)]
        if self.config.notes == "own" and c.draws > 1:
            check_some_text(samples[0].tag, notes)
        return Drawn(thoughts, notes)

    def _batches(self, n: int) -> Iterator[tuple[int, list[int]]]:
        """Start and indices of batches of one size, the last filled up from the beginning."""
        size = self.config.evaluate.batch
        for a in range(0, n, size):
            yield a, [k % n for k in range(a, a + size)]

    def pairs(
        self, samples: Sequence[Sample], responses: Sequence[str], roles: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """log q(y_j | x_i) in nats, given one thought a context and by the mixture: [N, M]."""
        task, free, blocks = self.experiment.task, self.config.scoring.thought_free, []
        scored = [task.encode(y) for y in responses]
        rows = [Counter(own) for own in self.drawn_notes(samples, roles).notes]
        asked = [(s, n) for s, own in zip(samples, rows, strict=True) for n in own]
        asked += [(s, None) for s in samples if free]
        for _, places in self._batches(len(asked)):
            examples = [
                [Example(task.policy_prompt(s, n), y) for y in scored]
                for s, n in (asked[k] for k in places)
            ]
            blocks.append(self.answers(roles["policy"], examples)[0])
        found = np.concatenate(blocks)[: len(asked)]
        ends = np.cumsum([len(own) for own in rows])
        *by_thought, plain = np.split(found, ends)
        beside = plain if free else [None] * len(rows)
        mixed = [
            thought_mixture(part, p, free, [*own.values()])
            for part, p, own in zip(by_thought, beside, rows, strict=True)
        ]
        return np.stack([part[0] for part in by_thought]), np.stack(mixed)

    def answers(self, policy: Any, examples: list[list[Example]]) -> tuple[np.ndarray, np.ndarray]:
        """log q of scored responses in nats, and their tokens, the end not counted: [B, G] both."""
        values = self.score(policy, self.batch(examples, self.max_golden)).astype(np.float64)
        tokens = np.array([[len(e.scored) - 1 for e in group] for group in examples])
        counted = np.arange(values.shape[-1]) < tokens[..., None]
        return np.where(counted, values, 0.0).sum(-1), tokens


def _entropy(notes: Sequence[str | None]) -> float:
    """Of the draws of one context, in nats; NaN of a single one."""
    return draw_entropy([*Counter(notes).values()]) if len(notes) > 1 else np.nan
