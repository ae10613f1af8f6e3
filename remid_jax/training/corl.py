"""CoRL: reasoner and policy take turns, each judged by how the other stands."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from remid_jax.training.config import stages
from remid_jax.training.experiment import Experiment
from remid_jax.training.groups import Example
from remid_jax.training.judge import Judge
from remid_jax.training.loop import Loop, State, Trained
from remid_jax.training.tasks import Notes, notes_of, partly_without


class Corl(Loop):
    """One run of CoRL."""

    def __init__(self, config: ConfigDict, experiment: Experiment, folder: Path):
        """As of `Loop`."""
        planned = stages(config)
        groups = [config.sft if s.kind.endswith("sft") else config[s.role] for s in planned]
        super().__init__(config, experiment, folder, planned, groups)
        self.judge = Judge(config, self.worker)

    def update(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        """One update of the role of stage i."""
        run = self._sft if self.stages[i].kind.endswith("sft") else self._grpo
        return run(i, step, state, key)

    def _sft(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        task, c, stage = self.experiment.task, self.config.sft, self.stages[i]
        samples = self.chosen(self.experiment.train, i, step, c.batch)
        draw, drop = jax.random.split(key)
        if stage.role == "reasoner":
            examples = [
                [Example(task.reason_prompt(s), task.encode(task.cold_thought(s)))] for s in samples
            ]
        else:
            if stage.cold:
                thoughts = [[task.cold_thought(s)] for s in samples]
            else:
                thoughts = self.worker.thoughts(state.roles["reasoner"], samples, draw, c.draws)
            notes = notes_of(thoughts, self.config.notes)
            rng = np.random.default_rng([self.config.seed, i, step, len(samples)])
            notes = partly_without(notes, c.without_notes, rng)
            examples = self.worker.answer_examples(samples, notes)
        return self.sft(i, state, examples, drop, self.worker.max_golden)

    def _grpo(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        role, task = self.stages[i].role, self.experiment.task
        samples = self.chosen(self.experiment.train, i, step, self.config[role].prompts)
        first, second = jax.random.split(key)
        notes: Notes = []
        if role == "reasoner":
            prompts = [task.reason_prompt(s) for s in samples]
        else:
            thoughts = self.worker.thoughts(state.roles["reasoner"], samples, first, 1)
            notes = notes_of(thoughts, self.config.notes)
            prompts = [task.policy_prompt(s, n) for s, (n,) in zip(samples, notes, strict=True)]
        policy = state.cold if self.config.reward_policy == "cold" else state.roles["policy"]

        def judged(texts, completed, stopped):
            return self.judge.rewards(role, policy, samples, notes, texts, completed, stopped)

        return self.grpo(i, step, state, samples, prompts, second, judged)
