"""The loop of a training run: stages of updates, their checkpoints, metrics and evaluations.

A step is a pure function of the state and of (seed, stage, step): a killed run goes on to the same
bits.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from remid_jax.checkpoints import load_tree
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.inference.compilations import count_compilations
from remid_jax.messages import log
from remid_jax.models.sharding import on_mesh, using
from remid_jax.processes import is_primary
from remid_jax.progress import progress
from remid_jax.settings import made_from
from remid_jax.training import rollout as rollouts
from remid_jax.training.config import Stage
from remid_jax.training.experiment import Experiment
from remid_jax.training.groups import Example, GroupedBatch
from remid_jax.training.grpo import Completions, GrpoConfig, group_advantages
from remid_jax.training.judge import Drawn
from remid_jax.training.optimiser import OptimiserConfig, TrainState, init_state
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.run_logger import ResumePoint, RunLogger
from remid_jax.training.updates import grpo_update, sft_update

Trained = tuple[TrainState, dict[str, Any]]  # and the metrics of the step
# (texts, completions, [B, G] whether they ended) -> [B·G] rewards, and those of each name
Judged = Callable[[list[list[str]], Drawn, np.ndarray], tuple[np.ndarray, Mapping[str, np.ndarray]]]
Item = TypeVar("Item")


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


class Loop:
    """One run, from its beginning or from a checkpoint; a subclass says what an update is."""

    def __init__(
        self, config: ConfigDict, experiment: Experiment, folder: Path, stages: Sequence[Stage],
        groups: Sequence[ConfigDict],
    ):  # fmt: skip
        """Checks what can be checked before any work; a `UserError` says what is wrong.

        Args:
          config: of the run.
          experiment: what it works on.
          folder: of its files.
          stages: its updates.
          groups: of the configuration, one a stage: how its updates are made.
        """
        self.config, self.experiment = config, experiment
        self.stages, self.groups = tuple(stages), tuple(groups)
        paired = list(zip(self.stages, self.groups, strict=True))
        self.optimisers = [optimiser_of(c, stage.steps) for stage, c in paired]
        self.losses = [
            made_from(GrpoConfig, c) if stage.kind.endswith("grpo") else None for stage, c in paired
        ]
        self.worker = RolloutWorker(config, experiment)
        self.logger = RunLogger(folder, experiment.identity, config)

    def run(self) -> State:
        """Runs what is left of the stages, and returns the last state."""
        try:
            with using(self.experiment.mesh), count_compilations() as programs:
                point = self.logger.latest()
                first, step = (0, 0) if point is None else (point.stage, point.step)
                state = self._init_stage(0) if point is None else self._restored(point)
                for i in range(first, len(self.stages)):
                    state = self._stage(i, step if i == first else 0, state)
            if is_primary():
                log.info("stages: %s", programs)
            return state
        finally:
            self.logger.close()

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
        if c.evaluate.start and (i, first) == (0, 0):
            self._evaluate(i, 0, state)
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

    def speakers(self, i: int, state: State) -> dict[str, Any]:
        """Role -> the parameters with which it is evaluated."""
        return self._roles(i, state)

    def _evaluate(self, i: int, step: int, state: State) -> None:
        tests, roles = self.experiment.tests, self.speakers(i, state)
        title = f"stage {i + 1} of {len(self.stages)}, held-out samples"
        with progress(title, sum(map(len, tests.values()))) as advance:
            for tag, samples in tests.items():
                predicted = self.worker.predict(samples, roles, advance)
                self.logger.add_evaluation(i, step, tag, predicted)

    def _step(self, i: int, step: int, state: State) -> Trained:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.config.seed), i), step)
        train, metrics = self.update(i, step, state, key)
        return train, {name: float(value) for name, value in metrics.items()}

    def update(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        """One update of stage i."""
        raise NotImplementedError

    def chosen(self, items: Sequence[Item], i: int, step: int, size: int) -> list[Item]:
        """The items of a step: a new order in each pass over all of them."""
        found = []
        for k in range(step * size, (step + 1) * size):
            order = np.random.default_rng([self.config.seed, i, k // len(items)])
            found.append(items[order.permutation(len(items))[k % len(items)]])
        return found

    def sft(
        self, i: int, state: State, examples: list[list[Example]], key: jax.Array, scored: int
    ) -> Trained:
        """One step of supervised fine-tuning on examples.

        `key` is of the dropout, `scored` the least width of scored parts.
        """
        c = self.groups[i]
        batch = self.worker.place(self.worker.batch(examples, scored))
        return sft_update(
            self.experiment.frozen, state.train, batch, key, graphdef=self.experiment.graphdef,
            optimiser=self.optimisers[i], micro_batches=c.micro_batches, remat=c.remat,
        )  # fmt: skip

    def grpo(
        self, i: int, step: int, state: State, samples: Sequence[Sample],
        prompts: list[Sequence[int]], key: jax.Array, judged: Judged,
    ) -> Trained:  # fmt: skip
        """One step of GRPO: completions of each sample's prompt, rewarded by `judged`."""
        c, loss, role = self.groups[i], self.losses[i], self.stages[i].role
        drawn, completed, texts = self.worker.draw(state.train.params, prompts, c, key, c.group)
        stopped = np.asarray(drawn.stopped)
        total, parts = judged(texts, completed, stopped)
        rewards = total.reshape(-1, c.group)
        advantages, flat = group_advantages(
            jnp.asarray(rewards), baseline=c.baseline, scale=c.scale, epsilon=loss.epsilon
        )
        if self.config.log_samples_every and step % self.config.log_samples_every == 0:
            self.logger.add_texts(i, step, samples, texts, rewards)

        examples = rollouts.completion_examples(prompts, completed)
        batch = self.worker.batch(examples, c.max_tokens + 1)
        known = self._known(i, state.roles[role], state, batch, drawn, advantages)
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
        self, i: int, reference: Any, state: State, batch: GroupedBatch, drawn: rollouts.Rollout,
        advantages: Any,
    ) -> Completions:  # fmt: skip
        """What the loss knows of completions before the policy changes."""
        old = np.zeros(batch.weights.shape, np.float32)
        if self.groups[i].inner_epochs > 1:
            old = self.worker.score(state.train.params, batch)
        else:  # only for comparison: the ratio is 1
            sampled = np.asarray(drawn.log_probs)
            old[..., : sampled.shape[-1]] = sampled
        near = np.zeros_like(old)
        if self.losses[i].kl_coefficient:
            near = self.worker.score(reference, batch)
        return Completions(
            old_log_probs=old,
            reference_log_probs=near,
            advantages=np.asarray(advantages),
            mask=batch.weights > 0,
            truncated=~np.asarray(drawn.stopped),
        )


def optimiser_of(c: ConfigDict, steps: int) -> OptimiserConfig:
    """The optimiser of a stage of so many steps."""
    return made_from(OptimiserConfig, c, steps=steps * c.get("inner_epochs", 1))
