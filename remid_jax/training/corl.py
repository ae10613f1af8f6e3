"""The loop: reasoner and policy take turns, each judged by how the other stands.

A step is a pure function of the state and of (seed, stage, step): a killed run goes on to the same
bits.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.checkpoints import load_tree
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.models.sharding import on_mesh, using
from remid_jax.progress import progress
from remid_jax.settings import made_from
from remid_jax.training import rollout as rollouts
from remid_jax.training.config import ROLES, Stage, stages
from remid_jax.training.experiment import Experiment
from remid_jax.training.groups import Example, GroupedBatch
from remid_jax.training.grpo import Completions, GrpoConfig, group_advantages
from remid_jax.training.judge import Judge
from remid_jax.training.optimiser import OptimiserConfig, TrainState, init_state
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.run_logger import ResumePoint, RunLogger
from remid_jax.training.tasks import Notes, notes_of, partly_without
from remid_jax.training.updates import grpo_update, sft_update

Trained = tuple[TrainState, dict[str, Any]]  # and the metrics of the step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a run has learnt.

    Attributes:
      roles: role -> trainable parameters; of the role in training those at the stage's beginning.
      train: parameters and optimiser of the role in training.
      cold: the policy after the cold start.
    """

    roles: dict[str, Any]
    train: TrainState
    cold: Any


class Corl:
    """One run, from its beginning or from a checkpoint."""

    def __init__(self, config: ConfigDict, experiment: Experiment, folder: Path):
        """Checks what can be checked before any work; a `UserError` says what is wrong."""
        self.config, self.experiment = config, experiment
        self.stages = stages(config)
        self.optimisers = [optimiser_of(self._group(s), s.steps) for s in self.stages]
        self.losses = {role: made_from(GrpoConfig, config[role]) for role in ROLES}
        self.worker = RolloutWorker(config, experiment)
        self.judge = Judge(config, self.worker)
        self.logger = RunLogger(folder, experiment.identity, config)

    def run(self) -> State:
        """Runs what is left of the stages, and returns the last state."""
        try:
            with using(self.experiment.mesh):
                point = self.logger.latest()
                first, step = (0, 0) if point is None else (point.stage, point.step)
                state = self._init_stage(0) if point is None else self._restored(point)
                for i in range(first, len(self.stages)):
                    state = self._stage(i, step if i == first else 0, state)
                return state
        finally:
            self.logger.close()

    def _group(self, stage: Stage) -> ConfigDict:
        return self.config.sft if stage.kind.endswith("sft") else self.config[stage.role]

    def _init_stage(self, i: int, state: State | None = None) -> State:
        """The state with which stage i begins; past the end, as if the last stage began again."""
        roles = dict(self.experiment.start) if state is None else state.roles
        cold = roles["policy"] if state is None else state.cold
        last = min(i, len(self.stages) - 1)
        if i and not self.stages[last].cold and self.stages[i - 1].cold:
            cold = roles["policy"]
        # A copy: an update donates what it is given, and the role's beginning is its reference.
        params = jax.tree.map(jnp.copy, roles[self.stages[last].role])
        train = init_state(params, self.optimisers[last])
        return on_mesh(State(roles, train, cold), self.experiment.mesh)

    def _restored(self, point: ResumePoint) -> State:
        return load_tree(point.path, self._init_stage(point.stage))

    def _stage(self, i: int, first: int, state: State) -> State:
        stage, c = self.stages[i], self.config
        title = f"stage {i + 1} of {len(self.stages)}, {stage.kind}"
        with progress(title, stage.steps - first) as advance:
            for step in range(first, stage.steps):
                started, done = time.monotonic(), step + 1
                train, metrics = self._step(i, step, state)
                state = dataclasses.replace(state, train=train)
                if not metrics.pop("finite"):
                    raise UserError(
                        f"{title}: the gradient of step {step} is not finite; the last good state "
                        f"is kept in {self.logger.folder}: lower the learning rate"
                    )
                seconds = time.monotonic() - started
                self.logger.add_metrics(i, step, stage.kind, metrics, seconds)
                if done < stage.steps:
                    if c.evaluate.every and done % c.evaluate.every == 0:
                        self._evaluate(i, done, state)
                    if done % c.checkpoint.every == 0:
                        self.logger.save(i, done, state)
                name = "reward" if "reward" in metrics else "loss"
                advance(1, f"{name} {metrics[name]:.3f}")
        if c.evaluate.ends:
            self._evaluate(i, stage.steps, state)
        roles = self._roles(i, state)
        state = self._init_stage(i + 1, dataclasses.replace(state, roles=roles))
        self.logger.save(i + 1, 0, state)
        return state

    def _roles(self, i: int, state: State) -> dict[str, Any]:
        """Role -> its parameters as they are now."""
        return {**state.roles, self.stages[i].role: state.train.params}

    def _evaluate(self, i: int, step: int, state: State) -> None:
        tests, roles = self.experiment.tests, self._roles(i, state)
        title = f"stage {i + 1} of {len(self.stages)}, held-out samples"
        with progress(title, sum(map(len, tests.values()))) as advance:
            for tag, samples in tests.items():
                predicted = self.worker.predict(samples, roles, advance)
                self.logger.add_evaluation(i, step, tag, predicted)

    def _step(self, i: int, step: int, state: State) -> Trained:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), i), step)
        run = self._sft if self.stages[i].kind.endswith("sft") else self._grpo
        train, metrics = run(i, step, state, key)
        return train, {name: float(value) for name, value in metrics.items()}

    def _samples(self, i: int, step: int, size: int) -> list[Sample]:
        """The samples of a step: a new order in each pass over the training set."""
        train, chosen = self.experiment.train, []
        for k in range(step * size, (step + 1) * size):
            order = np.random.default_rng([self.config.seed, i, k // len(train)])
            chosen.append(train[order.permutation(len(train))[k % len(train)]])
        return chosen

    def _sft(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        task, c, stage = self.experiment.task, self.config.sft, self.stages[i]
        samples = self._samples(i, step, c.batch)
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
        batch = self.worker.place(self.worker.batch(examples, self.worker.max_golden))
        return sft_update(
            self.experiment.frozen, state.train, batch, drop, graphdef=self.experiment.graphdef,
            optimiser=self.optimisers[i], micro_batches=c.micro_batches, remat=c.remat,
        )  # fmt: skip

    def _grpo(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        role, task = self.stages[i].role, self.experiment.task
        c, loss, shape = self.config[role], self.losses[role], (-1, self.config[role].group)
        samples = self._samples(i, step, c.prompts)
        first, second = jax.random.split(key)
        notes: Notes = []
        if role == "reasoner":
            prompts = [task.reason_prompt(s) for s in samples]
        else:
            thoughts = self.worker.thoughts(state.roles["reasoner"], samples, first, 1)
            notes = notes_of(thoughts, self.config.notes)
            prompts = [task.policy_prompt(s, n) for s, (n,) in zip(samples, notes, strict=True)]
        drawn, completed, texts = self.worker.draw(state.train.params, prompts, c, second, c.group)
        policy = state.cold if self.config.reward_policy == "cold" else state.roles["policy"]
        stopped = np.asarray(drawn.stopped)
        total, parts = self.judge.rewards(role, policy, samples, notes, texts, completed, stopped)
        rewards = total.reshape(shape)
        advantages, flat = group_advantages(
            jnp.asarray(rewards), baseline=c.baseline, scale=c.scale, epsilon=loss.epsilon
        )
        if self.config.log_samples_every and step % self.config.log_samples_every == 0:
            self.logger.add_texts(i, step, samples, texts, rewards)

        examples = rollouts.completion_examples(prompts, completed)
        batch = self.worker.batch(examples, c.max_tokens + 1)
        known = self._known(role, state, batch, drawn, advantages)
        batch, known = self.worker.place((batch, known))
        train, metrics, finite = state.train, {}, 1.0
        for _ in range(c.inner_epochs):
            train, metrics = grpo_update(
                self.experiment.frozen, train, batch, known, graphdef=self.experiment.graphdef,
                optimiser=self.optimisers[i], micro_batches=c.micro_batches, remat=c.remat,
                grpo=loss, on_policy=c.inner_epochs == 1,
            )  # fmt: skip
            finite = finite * metrics["finite"]
        counts = np.asarray(drawn.counts)
        return train, {
            "reward": total.mean(),
            "reward_std": rewards.std(axis=1, ddof=1).mean(),
            "frac_reward_zero_std": np.mean(np.asarray(flat)),
            **{f"rewards/{name}": values.mean() for name, values in parts.items()},
            "completions/mean_length": counts.mean(),
            "completions/max_length": counts.max(),
            "completions/clipped_ratio": 1 - stopped.mean(),
            "completions/tokens": counts.sum(),
            **metrics,
            "finite": finite,
        }

    def _known(
        self, role: str, state: State, batch: GroupedBatch, drawn: rollouts.Rollout, advantages: Any
    ) -> Completions:
        """What the loss knows of completions before the policy changes."""
        old = np.zeros(batch.weights.shape, np.float32)
        if self.config[role].inner_epochs > 1:
            old = self.worker.score(state.train.params, batch)
        else:  # only for comparison: the ratio is 1
            sampled = np.asarray(drawn.log_probs)
            old[..., : sampled.shape[-1]] = sampled
        reference = np.zeros_like(old)
        if self.losses[role].kl_coefficient:
            reference = self.worker.score(state.roles[role], batch)
        return Completions(
            old_log_probs=old,
            reference_log_probs=reference,
            advantages=np.asarray(advantages),
            mask=batch.weights > 0,
            truncated=~np.asarray(drawn.stopped),
        )


def optimiser_of(c: ConfigDict, steps: int) -> OptimiserConfig:
    """The optimiser of a stage of so many steps."""
    return made_from(OptimiserConfig, c, steps=steps * c.get("inner_epochs", 1))
