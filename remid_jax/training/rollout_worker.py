"""What reasoner and policy do with the parameters they are given: draw, score, and be rewarded."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.sharding import place_rows, using
from remid_jax.training import rollout as rollouts
from remid_jax.training.config import ROLES
from remid_jax.training.evaluation import Predicted
from remid_jax.training.experiment import Setting
from remid_jax.training.groups import Groups, Row, group
from remid_jax.training.leaks import ngram_overlap
from remid_jax.training.notes import notes_of
from remid_jax.training.rewards import RewardBatch, combined
from remid_jax.training.updates import score, whole

Array = jax.Array
Notes = list[list[str | None]]


def sampling_of(c: ConfigDict, temperature: float | None = None) -> SamplingConfig:
    """How a role draws, as its group of the configuration says.

    Raises:
      UserError: a value out of range.
    """
    warmth = c.temperature if temperature is None else temperature
    return SamplingConfig(max_tokens=c.max_tokens, temperature=warmth)


class Actors:
    """Both roles at work; who trains them gives the parameters with each call."""

    def __init__(self, config: ConfigDict, setting: Setting):
        """Finds the sizes that all batches share.

        Raises:
          UserError: a prompt and what follows it exceed the window, or a value out of range.
        """
        self.config, self.setting = config, setting
        for role in ROLES:
            sampling_of(config[role])
        c, task = setting.shape, setting.task
        self.longest = max(len(task.reason_prompt(s)) for s in setting.train)
        self.golden = max(len(task.encode(s.golden)) for s in setting.train)
        room = c.max_positions - self.longest
        if room < max(config.reasoner.max_tokens, self.golden) + 1:
            raise UserError(
                f"the longest prompt has {self.longest} tokens; a thought of "
                f"{config.reasoner.max_tokens} does not fit the window of {c.max_positions}"
            )

    def laid(self, rows: list[list[Row]], scored: int) -> Groups:
        """Rows as arrays of few shapes, on the host."""
        return group(rows, self.setting.shape.max_positions, (self.longest, 0, scored))

    def placed(self, batch: Any) -> Any:
        """A pytree of [B, ...] arrays on the devices of the mesh."""
        return place_rows(batch, self.setting.mesh)

    def score(self, params: Any, groups: Groups) -> np.ndarray:
        """log q [B, G, K] of a role with these parameters, 0 where nothing is scored, in nats."""
        whole_params = whole(self.setting.frozen, params)
        with using(self.setting.mesh):
            values = score(whole_params, self.placed(groups), graphdef=self.setting.graphdef)
        return np.asarray(values)

    def answer_rows(self, samples: Sequence[Sample], notes: Notes) -> list[list[Row]]:
        """The policy's prompt with each of a sample's notes, and the golden response to score."""
        task = self.setting.task
        return [
            [Row(task.policy_prompt(s, n), task.encode(s.golden)) for n in group]
            for s, group in zip(samples, notes, strict=True)
        ]

    def draw(
        self, params: Any, prompts: list[Sequence[int]], c: ConfigDict, key: jax.Array,
        draws: int, temperature: float | None = None,
    ) -> rollouts.Rollout:  # fmt: skip
        """Completions of prompts.

        Args:
          params: of the role that draws.
          prompts: B token lists.
          c: the role's group of the configuration.
          key: of the draws.
          draws: completions a prompt.
          temperature: by default the role's own.
        """
        ids, lengths = self.placed(rollouts.padded(prompts, self.longest))
        with using(self.setting.mesh):
            return rollouts.rollout(
                whole(self.setting.frozen, params), ids, lengths, key,
                graphdef=self.setting.graphdef, sampling=sampling_of(c, temperature), draws=draws,
                end=self.setting.task.end, split=jax.default_backend() == "cpu",
                gather=self.config.rollout_weights == "gathered",
            )  # fmt: skip

    def texts(self, drawn: list[list[tuple[int, ...]]]) -> list[list[str]]:
        """The drawn token lists as texts."""
        return [[self.setting.task.decode(ids) for ids in group] for group in drawn]

    def thoughts(
        self, params: Any, samples: Sequence[Sample], key: jax.Array, draws: int,
        temperature: float | None = None,
    ) -> list[list[str]]:  # fmt: skip
        """Thoughts of the reasoner about samples, `draws` each; arguments as of `draw`."""
        prompts = [self.setting.task.reason_prompt(s) for s in samples]
        drawn = self.draw(params, prompts, self.config.reasoner, key, draws, temperature)
        return self.texts(rollouts.completions(drawn, self.setting.task.end))

    def rewards(
        self, role: str, policy: Any, samples: Sequence[Sample], notes: Notes,
        texts: list[list[str]], stopped: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # fmt: skip
        """Rewards of a batch of completions.

        Args:
          role: whose completions they are.
          policy: parameters of the policy that judges thoughts.
          samples: B; notes: what the policy read, for its own completions.
          texts: B lists of G; stopped: [B, G] bool, whether they ended by themselves.

        Returns:
          [B·G] weighted sums, and name -> [B·G] of each reward.

        Raises:
          UserError: an unknown reward, one that lacks what it needs, or a value that is not finite.
        """
        c = self.config[role]
        flat = [text for each in texts for text in each]
        more: dict[str, Any] = {"golden": [s.golden for s in samples for _ in range(c.group)]}
        if role == "reasoner":
            read = notes_of(texts, self.config.notes)
            groups = self.laid(self.answer_rows(samples, read), self.golden)
            width = groups.weights.shape[-1]
            more["log_probs"] = self.score(policy, groups).reshape(-1, width)
            more["mask"] = (groups.weights > 0).reshape(-1, width)
            if "cross_information" in c.rewards:
                negatives = self._negatives(policy, samples, read, c.negatives)
                more["negatives"] = np.repeat(negatives, c.group, axis=0)
        elif "reference_match" in c.rewards:
            golden = [[s.golden] for s in samples]
            candidates, best = self._match(notes, texts), self._match(notes, golden)
            more["match"] = (candidates.reshape(-1), np.repeat(best, c.group))
        batch = RewardBatch(texts=flat, truncated=~stopped.reshape(-1), **more)
        total, parts = combined(batch, dict(c.rewards), c.parameters.to_dict())
        return np.asarray(total), {name: np.asarray(v) for name, v in parts.items()}

    def _negatives(
        self, policy: Any, samples: Sequence[Sample], notes: Notes, count: int
    ) -> np.ndarray:
        """[B, K] log q of each golden response under the contexts of the next K samples, in nats.

        Each of these contexts is read with the first of its notes.
        """
        b, task = len(samples), self.setting.task
        count = min(count, b - 1)
        golden = [task.encode(s.golden) for s in samples]
        rows = [
            [Row(task.policy_prompt(s, notes[k][0]), golden[k - j]) for j in range(1, count + 1)]
            for k, s in enumerate(samples)
        ]
        sums = self.score(policy, self.laid(rows, self.golden)).sum(-1)
        return np.stack([np.roll(sums[:, j - 1], -j) for j in range(1, count + 1)], axis=1)

    def _match(self, notes: Notes, replies: list[list[str]]) -> np.ndarray:
        """Mean token log p of the answer "100%" by the frozen base: [B, G], in nats."""
        rows = [
            [Row(*self.setting.task.match(features or "", reply)) for reply in each]
            for (features,), each in zip(notes, replies, strict=True)
        ]
        groups = self.laid(rows, 1)
        values = self.score(self.setting.initial, groups)  # new adapters change nothing
        return values.astype(np.float64).sum(-1) / groups.weights.sum(-1)

    def predict(
        self,
        samples: Sequence[Sample],
        roles: dict[str, Any],
        advance: Callable[[int], None] = lambda n: None,
    ) -> Predicted:
        """Golden responses under the policy, given thoughts that the reasoner draws.

        Args:
          samples: any.
          roles: role -> trainable parameters.
          advance: is told the number of samples of each finished batch.
        """
        size = self.config.evaluate.batch
        found = []
        for a in range(0, len(samples), size):
            part = [samples[k % len(samples)] for k in range(a, a + size)]  # the last one is whole
            found.append(self._predict(part, roles, jax.random.key(a)))
            advance(min(size, len(samples) - a))
        sums, tokens, other, overlap = (
            np.concatenate(x)[: len(samples)] for x in zip(*found, strict=True)
        )
        return Predicted([s.sample_id for s in samples], sums, tokens, other, overlap)

    def _predict(
        self, samples: Sequence[Sample], roles: dict[str, Any], key: jax.Array
    ) -> tuple[np.ndarray, ...]:
        e = self.config.evaluate
        if self.config.notes == "none":
            thoughts = [[""] for _ in samples]
        else:
            thoughts = self.thoughts(roles["reasoner"], samples, key, e.thoughts, e.temperature)
        notes = notes_of(thoughts, self.config.notes)
        others = notes[1:] + notes[:1]
        # Rows of one group: what the prompt says before its notes is computed once for both.
        both = [own + other for own, other in zip(notes, others, strict=True)]
        values, tokens = self._answers(samples, both, roles["policy"])
        sums, other = (x.mean(-1) for x in np.split(values, 2, axis=1))
        overlap = [
            np.mean([ngram_overlap(t, s.golden, 2) for t in group])
            for s, group in zip(samples, thoughts, strict=True)
        ]
        return sums, tokens, other, np.array(overlap)

    def pairs(
        self, samples: Sequence[Sample], responses: Sequence[str], roles: dict[str, Any]
    ) -> np.ndarray:
        """S[i, j] = log q(y_j | x_i, r_i), one drawn thought a context, in nats: [N, M].

        Args:
          samples: N contexts.
          responses: M texts.
          roles: role -> trainable parameters.
        """
        task, size = self.setting.task, self.config.evaluate.batch
        scored = [task.encode(y) for y in responses]
        tokens = np.array([len(y) - 1 for y in scored])
        blocks = []
        for a in range(0, len(samples), size):
            part = [samples[k % len(samples)] for k in range(a, a + size)]
            thoughts = [[""] for _ in part]
            if self.config.notes != "none":
                thoughts = self.thoughts(roles["reasoner"], part, jax.random.key(a), 1, 1.0)
            notes = notes_of(thoughts, self.config.notes)
            rows = [
                [Row(task.policy_prompt(s, n), y) for y in scored]
                for s, (n,) in zip(part, notes, strict=True)
            ]
            values = self.score(roles["policy"], self.laid(rows, self.golden)).astype(np.float64)
            inside = np.arange(values.shape[-1]) < tokens[:, None]
            blocks.append(np.where(inside, values, 0.0).sum(-1))
        return np.concatenate(blocks)[: len(samples)]

    def _answers(
        self, samples: Sequence[Sample], notes: Notes, policy: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """log q(y|x, r) in nats, the end of turn not counted: [B, G], and tokens of y: [B]."""
        rows = self.answer_rows(samples, notes)
        values = self.score(policy, self.laid(rows, self.golden)).astype(np.float64)
        tokens = np.array([len(r[0].scored) - 1 for r in rows])
        inside = np.arange(values.shape[-1]) < tokens[:, None, None]
        return np.where(inside, values, 0.0).sum(-1), tokens
