"""What completions are worth: likelihoods by the policy that judges, turned into rewards."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.factors import FACTORS, Factor, differing, swapped
from remid_jax.data.rules import language_of
from remid_jax.data.samples import Sample
from remid_jax.information.mixture import (
    leave_one_out,
    mixture_tokens,
    thought_mixture,
)
from remid_jax.training.groups import Example
from remid_jax.training.reward_batch import REWARDS, RewardBatch
from remid_jax.training.rewards import combined
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.tasks import Notes, notes_of

Drawn = list[list[tuple[int, ...]]]  # B prompts, G completions of each, as token ids


class Judge:
    """Rewards completions of both roles; the caller gives the policy that judges with each call."""

    def __init__(self, config: ConfigDict, worker: RolloutWorker):
        """Judges with the sizes and programs of a worker."""
        self.config, self.worker = config, worker

    def rewards(
        self, role: str, policy: Any, samples: Sequence[Sample], notes: Notes,
        texts: list[list[str]], completed: Drawn, stopped: np.ndarray,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # fmt: skip
        """[B·G] rewards of a role's completions, and those of each name; see `combined`.

        Args:
          role: whose completions they are.
          policy: parameters of the policy that judges.
          samples: B, one a prompt.
          notes: what the policy read, for its own completions.
          texts, completed: the completions, as texts and as token ids.
          stopped: [B, G] bool, whether completions ended by themselves.
        """
        c = self.config[role]
        fields: dict[str, Any] = {
            "texts": [text for each in texts for text in each],
            "truncated": ~stopped.reshape(-1),
            "golden": [s.golden for s in samples for _ in range(c.group)],
        }
        needed = {need for name in c.rewards for need in REWARDS[name].needs}
        if role == "reasoner":
            read = notes_of(texts, self.config.notes)
            fields |= self._of_thoughts(policy, samples, read, needed)
        else:
            fields |= self._of_candidates(policy, samples, notes, completed, needed)
            if "match" in needed:
                golden = self._match(notes, [[s.golden] for s in samples])
                fields["match"] = self._match(notes, texts).reshape(-1)
                fields["golden_match"] = np.repeat(golden, c.group)
        return combined(RewardBatch(**fields), dict(c.rewards), c.parameters.to_dict())

    def _of_thoughts(
        self, policy: Any, samples: Sequence[Sample], notes: Notes, needed: set[str]
    ) -> dict[str, Any]:
        """Golden responses given each of a group's notes, with the prompt without any mixed in."""
        free, g = self.config.scoring.thought_free, len(notes[0])
        rows = [[*own, None] if free else own for own in notes]
        batch = self.worker.batch(
            self.worker.answer_examples(samples, rows), self.worker.max_golden
        )
        values = self.worker.score(policy, batch).astype(np.float64)  # [B, G or G + 1, S]
        own, plain = values[:, :g], values[:, g:]
        sums, beside = np.moveaxis(own.sum(-1), 1, 0), plain.sum((1, 2)) if free else None
        mixed = mixture_tokens(own, np.broadcast_to(plain, own.shape), free) if free else own
        width = own.shape[-1]
        fields = {
            "log_probs": mixed.astype(np.float32).reshape(-1, width),
            "mask": (batch.weights[:, :g] > 0).reshape(-1, width),
        }
        if "mixture" in needed:
            fields["mixture"] = np.repeat(thought_mixture(sums, beside, free), g)
            fields["mixture_without"] = leave_one_out(sums, beside, free).T.reshape(-1)
        if "negatives" in needed:
            golden = [[self.worker.experiment.task.encode(s.golden)] for s in samples]
            found = self.negatives("reasoner", policy, samples, [n[0] for n in notes], golden)
            if free:
                without = [None] * len(samples)
                alone = self.negatives("reasoner", policy, samples, without, golden)
                found = thought_mixture(found[None], alone, free)
            fields["negatives"] = np.repeat(found[:, 0], g, axis=0)
        return fields

    def _of_candidates(
        self, policy: Any, samples: Sequence[Sample], notes: Notes, completed: Drawn,
        needed: set[str],
    ) -> dict[str, Any]:  # fmt: skip
        """Candidate responses under their own prompt, under others, and under swapped contexts."""
        task, fields = self.worker.experiment.task, {}
        read = [own[0] for own in notes]
        if "log_probs" in needed:
            examples = [
                [Example(task.policy_prompt(s, n), y) for y in group]
                for s, n, group in zip(samples, read, completed, strict=True)
            ]
            batch = self.worker.batch(examples, self.config.policy.max_tokens + 1)
            values = self.worker.score(policy, batch)
            fields["log_probs"] = values.reshape(-1, values.shape[-1])
            fields["mask"] = (batch.weights > 0).reshape(-1, values.shape[-1])
        if "negatives" in needed:
            found = self.negatives("policy", policy, samples, read, completed)
            fields["negatives"] = found.reshape(-1, found.shape[-1])
        if "swapped" in needed:
            fields |= self.swapped(policy, samples, completed)
        return fields

    def negatives(
        self, role: str, policy: Any, samples: Sequence[Sample], notes: Sequence[str | None],
        responses: Drawn,
    ) -> np.ndarray:  # fmt: skip
        """[B, R, K] log q of R responses to each sample under contexts and notes of the next K."""
        b, task = len(samples), self.worker.experiment.task
        offsets = range(1, min(self.config[role].negatives, b - 1) + 1)
        examples = [
            [Example(task.policy_prompt(s, notes[k]), y) for j in offsets for y in responses[k - j]]
            for k, s in enumerate(samples)
        ]
        sums = self._sums(policy, examples).reshape(b, len(offsets), -1)
        return np.stack([np.roll(sums[:, j - 1], -j, axis=0) for j in offsets], axis=-1)

    def swapped(
        self, policy: Any, samples: Sequence[Sample], completed: Drawn
    ) -> dict[str, np.ndarray]:
        """`plain`, `swapped` and `swap_weights` of candidates' own words, without notes."""
        task, g = self.worker.experiment.task, len(completed[0])
        found = [[partner(samples, i, f) for f in FACTORS] for i in range(len(samples))]
        contexts = [
            [s, *(swapped(s, samples[j], f) for f, (j, _) in zip(FACTORS, row, strict=True))]
            for s, row in zip(samples, found, strict=True)
        ]  # a sample without a partner swaps with itself, which its weight of 0 leaves out
        examples = [
            [Example(task.policy_prompt(x, None), y) for x in each for y in group]
            for each, group in zip(contexts, completed, strict=True)
        ]
        batch = self.worker.batch(examples, self.config.policy.max_tokens + 1)
        values = self.worker.score(policy, batch).astype(np.float64)
        values = values.reshape(len(samples), 1 + len(FACTORS), g, -1)
        own = np.zeros((len(samples), 1, g, values.shape[-1]))
        for b, (s, group) in enumerate(zip(samples, completed, strict=True)):
            for k, y in enumerate(group):
                own[b, 0, k, : len(y)] = task.own_tokens(s, y)
        sums = (values * own).sum(-1)
        weights = np.array([[w for _, w in row] for row in found])
        return {
            "plain": sums[:, 0].reshape(-1),
            "swapped": np.moveaxis(sums[:, 1:], 1, 2).reshape(-1, len(FACTORS)),
            "swap_weights": np.repeat(weights, g, axis=0),
        }

    def _sums(self, policy: Any, examples: list[list[Example]]) -> np.ndarray:
        """log q of whole responses, the end of turn among their tokens: [B, rows], in nats."""
        batch = self.worker.batch(examples, self.worker.max_golden)
        return self.worker.score(policy, batch).astype(np.float64).sum(-1)

    def _match(self, notes: Notes, replies: list[list[str]]) -> np.ndarray:
        """Mean token log p of the answer "100%" by the frozen base: [B, G], in nats."""
        e = self.worker.experiment
        examples = [
            [Example(*e.task.match(features or "", reply)) for reply in each]
            for (features,), each in zip(notes, replies, strict=True)
        ]
        batch = self.worker.batch(examples, 1)
        values = self.worker.score(e.initial, batch)  # new adapters change nothing
        return values.astype(np.float64).sum(-1) / batch.weights.sum(-1)


def partner(samples: Sequence[Sample], i: int, factor: Factor) -> tuple[int, float]:
    """The next sample of a batch that has another value of a factor, and how many do.

    Both within the samples of the same language, where languages are known.

    Returns:
      Its index, i itself where there is none; and the share of the others that differ.
    """
    alike = [j for j, s in enumerate(samples) if language_of(s) == language_of(samples[i])]
    found = [j for j in differing(samples, i, factor) if j in alike]
    return (found[0], len(found) / (len(alike) - 1)) if found else (i, 0.0)
