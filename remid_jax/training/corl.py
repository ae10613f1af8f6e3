"""The loop: reasoner and policy take turns, each judged by how the other stands.

A run is a list of stages, a stage a number of steps, and a step a pure function of the state and of
(seed, stage, step). So a killed run goes on from its last checkpoint to the same bits.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.models.sharding import on_mesh, using
from remid_jax.progress import progress
from remid_jax.training import rollout as rollouts
from remid_jax.training.config import ROLES, Stage, stages
from remid_jax.training.experiment import Setting
from remid_jax.training.groups import Row
from remid_jax.training.grpo import Completions, GrpoConfig, group_advantages
from remid_jax.training.notes import notes_of
from remid_jax.training.optimiser import OptimiserConfig, TrainState, begin
from remid_jax.training.rewards import check_rewards
from remid_jax.training.rollout_worker import Actors, Notes
from remid_jax.training.run_logger import Reached, Records
from remid_jax.training.updates import Running, grpo_update, sft_update

_GRPO_FIELDS = tuple(f.name for f in dataclasses.fields(GrpoConfig))
Metrics = dict[str, float]


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

    def __init__(self, config: ConfigDict, setting: Setting, folder: Path):
        """Checks what can be checked before any work.

        Raises:
          UserError: a value out of range, or a folder of another run.
        """
        self.config, self.setting = config, setting
        self.stages = stages(config)
        self.optimisers = [optimiser_of(self._part(s), s.steps) for s in self.stages]
        self.grpo = {role: loss_of(config[role]) for role in ROLES}
        for role in {s.role for s in self.stages if s.kind.endswith("grpo")}:
            check_rewards(config[role].rewards, config[role].parameters)
        self.actors = Actors(config, setting)
        self.records = Records(folder, setting.identity, config)

    def run(self) -> State:
        """Runs what is left of the stages, and returns the last state."""
        try:
            with using(self.setting.mesh):
                return self._run()
        finally:
            self.records.close()

    def _run(self) -> State:
        reached = self.records.reached()
        state = self._begin(0) if reached is None else self._restored(reached)
        at, first = (0, 0) if reached is None else (reached.stage, reached.step)
        for i in range(at, len(self.stages)):
            state = self._stage(i, first if i == at else 0, state)
        return state

    # Beginning and resuming.

    def _part(self, stage: Stage) -> ConfigDict:
        return self.config.sft if stage.kind.endswith("sft") else self.config[stage.role]

    def _begin(self, i: int, state: State | None = None) -> State:
        """The state with which stage i begins."""
        roles = dict(self.setting.start) if state is None else state.roles
        cold = roles["policy"] if state is None else state.cold
        stage = self.stages[min(i, len(self.stages) - 1)]
        if i and not stage.cold and self.stages[i - 1].cold:
            cold = roles["policy"]
        # A copy: an update uses up what it is given, and the role's beginning is its reference.
        train = begin(jax.tree.map(jnp.copy, roles[stage.role]), self._optimiser(i))
        return on_mesh(State(roles, train, cold), self.setting.mesh)

    def _optimiser(self, i: int) -> OptimiserConfig:
        return self.optimisers[min(i, len(self.stages) - 1)]

    def _restored(self, reached: Reached) -> State:
        return self.records.load(reached, self._begin(reached.stage))

    # One stage.

    def _stage(self, i: int, first: int, state: State) -> State:
        stage, every = self.stages[i], self.config.checkpoint.every
        title = f"stage {i + 1} of {len(self.stages)}, {stage.kind}"
        with progress(title, stage.steps - first) as advance:
            for step in range(first, stage.steps):
                started = time.monotonic()
                train, metrics = self._step(i, step, state)
                state = dataclasses.replace(state, train=train)
                if not metrics.pop("finite"):
                    raise UserError(
                        f"{title}: the gradient of step {step} is not finite; the last good state "
                        f"is kept in {self.records.folder}: lower the learning rate"
                    )
                seconds = time.monotonic() - started
                self.records.add_metrics(i, step, stage.kind, metrics, seconds)
                done, each = step + 1, self.config.evaluate.every
                if done < stage.steps and each and done % each == 0:
                    self._evaluate(i, done, self._roles(i, state))
                if done < stage.steps and done % every == 0:
                    self.records.save(i, done, state)
                name = "reward" if "reward" in metrics else "loss"
                advance(1, f"{name} {metrics[name]:.3f}")
        roles = self._roles(i, state)
        if self.config.evaluate.ends:
            self._evaluate(i, stage.steps, roles)
        state = self._begin(i + 1, dataclasses.replace(state, roles=roles))
        self.records.save(i + 1, 0, state)
        return state

    def _roles(self, i: int, state: State) -> dict[str, Any]:
        return {**state.roles, self.stages[i].role: state.train.params}

    def _step(self, i: int, step: int, state: State) -> tuple[TrainState, Metrics]:
        kind = self.stages[i].kind
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), i), step)
        run = self._sft if kind.endswith("sft") else self._grpo
        train, metrics = run(i, step, state, key)
        return train, {name: float(value) for name, value in metrics.items()}

    def _batch(self, i: int, step: int, size: int) -> list[Sample]:
        """The samples of a step: a new order in each pass over the training set."""
        n = len(self.setting.train)
        a = step * size
        chosen = []
        for k in range(a, a + size):
            order = np.random.default_rng([self.config.seed, i, k // n]).permutation(n)
            chosen.append(self.setting.train[order[k % n]])
        return chosen

    # Supervised steps.

    def _sft(
        self, i: int, step: int, state: State, key: jax.Array
    ) -> tuple[TrainState, dict[str, Any]]:
        task, c, stage = self.setting.task, self.config.sft, self.stages[i]
        samples = self._batch(i, step, c.batch)
        draw, drop = jax.random.split(key)
        if stage.role == "reasoner":
            rows = [
                [Row(task.reason_prompt(s), task.encode(task.cold_thought(s)))] for s in samples
            ]
        else:
            if stage.cold or self.config.notes == "none":
                thoughts = [[task.cold_thought(s)] for s in samples]
            else:
                thoughts = self.actors.thoughts(state.roles["reasoner"], samples, draw, c.draws)
            rows = self.actors.answer_rows(samples, notes_of(thoughts, self.config.notes))
        groups = self.actors.placed(self.actors.laid(rows, self.actors.golden))
        return sft_update(
            self.setting.frozen, state.train, groups, drop, graphdef=self.setting.graphdef,
            optimiser=self.optimisers[i], running=running_of(c),
        )  # fmt: skip

    def _grpo(
        self, i: int, step: int, state: State, key: jax.Array
    ) -> tuple[TrainState, dict[str, Any]]:
        role, task = self.stages[i].role, self.setting.task
        c = self.config[role]
        samples = self._batch(i, step, c.prompts)
        first, second = jax.random.split(key)
        notes: Notes = []
        if role == "reasoner":
            prompts = [task.reason_prompt(s) for s in samples]
        else:
            thoughts = self.actors.thoughts(state.roles["reasoner"], samples, first, 1)
            notes = notes_of(thoughts, self.config.notes)
            prompts = [task.policy_prompt(s, n) for s, (n,) in zip(samples, notes, strict=True)]
        drawn = self.actors.draw(state.train.params, prompts, c, second, c.group)
        completed = rollouts.completions(drawn, task.end)
        texts = self.actors.texts(completed)
        policy = state.cold if self.config.reward_policy == "cold" else state.roles["policy"]
        stopped = np.asarray(drawn.stopped)
        total, parts = self.actors.rewards(role, policy, samples, notes, texts, stopped)
        shape = (c.prompts, c.group)
        advantages, no_variance = group_advantages(
            jnp.asarray(total.reshape(shape)), baseline=c.baseline, scale=c.scale,
            epsilon=self.grpo[role].epsilon,
        )  # fmt: skip
        self._record_texts(i, step, samples, texts, total.reshape(shape))

        rows = rollouts.completion_rows(prompts, completed)
        groups = self.actors.laid(rows, c.max_tokens + 1)
        known = self._known(role, state, groups, drawn, advantages)
        groups, known = self.actors.placed((groups, known))
        train, metrics = state.train, {}
        for epoch in range(c.inner_epochs):
            train, said = grpo_update(
                self.setting.frozen, train, groups, known, graphdef=self.setting.graphdef,
                optimiser=self.optimisers[i], running=running_of(c), grpo=self.grpo[role],
                on_policy=c.inner_epochs == 1,
            )  # fmt: skip
            metrics = said if not epoch else {**said, "finite": metrics["finite"] * said["finite"]}
        counts = np.asarray(drawn.counts)
        return train, {
            "reward": total.mean(),
            "reward_std": total.reshape(shape).std(axis=1, ddof=1).mean(),
            "frac_reward_zero_std": np.mean(np.asarray(no_variance)),
            **{f"rewards/{name}": values.mean() for name, values in parts.items()},
            "completions/mean_length": counts.mean(),
            "completions/max_length": counts.max(),
            "completions/clipped_ratio": 1 - stopped.mean(),
            "completions/tokens": counts.sum(),
            **metrics,
        }

    def _known(
        self, role: str, state: State, groups: Any, drawn: rollouts.Rollout, advantages: Any
    ) -> Completions:
        old = np.zeros(groups.weights.shape, np.float32)
        if self.config[role].inner_epochs > 1:
            old = self.actors.score(state.train.params, groups)
        else:  # the ratio is 1 whatever this is: it is compared only
            sampled = np.asarray(drawn.log_probs)
            old[..., : sampled.shape[-1]] = sampled
        reference = np.zeros_like(old)
        if self.grpo[role].kl_coefficient:
            reference = self.actors.score(state.roles[role], groups)
        return Completions(
            old_log_probs=old,
            reference_log_probs=reference,
            advantages=np.asarray(advantages),
            mask=groups.weights > 0,
            truncated=~np.asarray(drawn.stopped),
        )

    def _record_texts(
        self, i: int, step: int, samples: Sequence[Sample], texts: list[list[str]],
        rewards: np.ndarray,
    ) -> None:  # fmt: skip
        every = self.config.log_samples_every
        if every and step % every == 0:
            self.records.add_texts(i, step, samples, texts, rewards)

    # Evaluation.

    def _evaluate(self, i: int, step: int, roles: dict[str, Any]) -> None:
        tests = self.setting.tests
        title = f"stage {i + 1} of {len(self.stages)}, held-out samples"
        with progress(title, sum(map(len, tests.values()))) as advance:
            for tag, samples in tests.items():
                found = self.actors.predict(samples, roles, advance)
                self.records.add_evaluation(i, step, tag, found)


def running_of(c: ConfigDict) -> Running:
    """How updates run, as a role's group of the configuration says."""
    return Running(c.micro_batches, c.remat)


def optimiser_of(c: ConfigDict, steps: int) -> OptimiserConfig:
    """The optimiser of a stage of so many steps."""
    steps *= c.get("inner_epochs", 1)
    return OptimiserConfig(c.learning_rate, steps, c.warmup, c.schedule, c.clip, c.weight_decay)


def loss_of(c: ConfigDict) -> GrpoConfig:
    """The loss, as a role's group of the configuration says."""
    return GrpoConfig(**{name: c[name] for name in _GRPO_FIELDS if name in c})
