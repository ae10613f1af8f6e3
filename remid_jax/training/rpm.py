"""RPMs in training: every method is one stage of the loop that CoRL runs in, of one role."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from remid_jax.data.augmentation import augmented
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.json_files import read_json_object
from remid_jax.models.sharding import using
from remid_jax.processes import is_primary
from remid_jax.progress import progress
from remid_jax.settings import made_from
from remid_jax.training.config import ROLES
from remid_jax.training.dpo import DpoConfig
from remid_jax.training.groups import Example
from remid_jax.training.judge import Judge
from remid_jax.training.loop import Judged, Loop, State, Trained
from remid_jax.training.rpm_config import METHODS, judges_thoughts, loop_config, stage_of
from remid_jax.training.rpm_experiment import RpmExperiment
from remid_jax.training.tasks import Notes, notes_of
from remid_jax.training.updates import dpo_update

ANSWERS = "answers.json"  # of a run: answers of the start that DPO and rejection learn from


class RpmTraining(Loop):
    """One run of a method."""

    def __init__(self, config: ConfigDict, made: RpmExperiment, folder: Path):
        """As of `Loop`; also a `UserError` for a thought that does not fit the window."""
        stage, _ = stage_of(config)
        settings = loop_config(config)
        super().__init__(settings, made.experiment, folder, (stage,), (stage_of(settings)[1],))
        self.method, self.estimator = METHODS[config.method], made.estimator
        self.of_thoughts = judges_thoughts(config)
        self.dpo = made_from(DpoConfig, config.dpo)
        by = self.estimator
        self.judge = Judge(settings, self.worker) if by is None else Judge(by.config, by.worker)
        self.answers: dict[str, str] = {}  # sample id -> the start's, see `_prepare`
        if self.method.thinks:
            self._check_window()

    def run(self) -> State:
        """As of `Loop`, after the start's answers have been drawn where the method needs some."""
        if self.method.starts and self.method.learns != "grpo":
            with using(self.experiment.mesh):
                self.answers = self._prepare()
        return super().run()

    def _taught(self) -> Sequence[Sample]:
        """The samples of the training set that the method learns from."""
        train = self.experiment.train
        return [s for s in train if s.sample_id in self.answers] if self.answers else train

    def speakers(self, i: int, state: State) -> dict[str, Any]:
        """The RPM in both roles: it thinks and answers."""
        return dict.fromkeys(ROLES, state.train.params)

    def update(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        """One update by the method's loss."""
        run = {"sft": self._sft, "dpo": self._dpo, "grpo": self._grpo}[self.method.learns]
        return run(i, step, state, key)

    def _check_window(self) -> None:
        e, limit = self.experiment, self.config.reasoner.max_tokens
        longest = max(len(e.task.naive_prompt(s)) for s in e.train)
        room = e.shape.max_positions - max(longest, self.worker.max_prompt) - limit
        if room <= self.worker.max_golden:
            raise UserError(
                f"config.thoughts.max_tokens {limit}: the longest prompt has {longest} tokens, and "
                f"thought and answer do not fit the window of {e.shape.max_positions} with it"
            )

    def _sft(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        task, batch = self.experiment.task, self.config.sft.batch
        samples = self.chosen(self._taught(), i, step, batch)
        draw, drop = jax.random.split(key)
        if self.config.method == "sft_augmented":
            c, rng = self.config.augmentation, np.random.default_rng([self.config.seed, step])
            samples = augmented(samples, self.experiment.train, c.share, c.styles, rng)
        texts = [self.answers.get(s.sample_id, s.golden) for s in samples]
        scored, width = [task.encode(text) for text in texts], self.worker.max_golden
        if self.method.thinks:
            # Nobody taught the start to reason: its own thoughts are learnt as they are.
            prompts = [task.naive_prompt(s) for s in samples]
            _, _, drawn = self.worker.draw(
                state.roles["policy"], prompts, self.config.reasoner, draw, 1
            )
            scored = [task.completion(r, y) for (r,), y in zip(drawn, texts, strict=True)]
            width += self.config.reasoner.max_tokens
        prompts = [task.policy_prompt(s, None) for s in samples]
        examples = [[Example(x, y)] for x, y in zip(prompts, scored, strict=True)]
        return self.sft(i, state, examples, drop, width)

    def _dpo(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        task, c = self.experiment.task, self.config.dpo
        examples = []
        for s in self.chosen(self._taught(), i, step, c.batch):
            both = s.golden, self.answers[s.sample_id]
            prompt = task.policy_prompt(s, None)
            examples.append([Example(prompt, task.encode(text)) for text in both])
        width = max(self.worker.max_golden, self.config.answers.max_tokens + 1)
        batch = self.worker.batch(examples, width)
        reference = self.worker.score(state.roles["policy"], batch)
        batch, reference = self.worker.place((batch, reference))
        return dpo_update(
            self.experiment.frozen, state.train, batch, reference,
            graphdef=self.experiment.graphdef, optimiser=self.optimisers[i],
            micro_batches=c.micro_batches, remat=c.remat, dpo=self.dpo,
        )  # fmt: skip

    def _grpo(self, i: int, step: int, state: State, key: jax.Array) -> Trained:
        samples = self.chosen(self.experiment.train, i, step, self.config.answers.prompts)
        first, second = jax.random.split(key)
        prompts = [self.experiment.task.policy_prompt(s, None) for s in samples]
        judged = self._judged(state.roles["policy"], samples, first)
        return self.grpo(i, step, state, samples, prompts, second, judged)

    def _judged(self, start: Any, samples: Sequence[Sample], key: jax.Array) -> Judged:
        """What completions of these samples are worth, by the estimator or by the start.

        Without an estimator, thoughts are worth what they make of the golden answer. Otherwise
        the answer behind the thought is judged.
        """
        task = self.experiment.task
        policy, notes = start, [[None]] * len(samples)
        if self.estimator is not None:
            policy, notes = self.estimator.roles["policy"], self._notes(samples, key)

        def judged(texts, completed, stopped):
            if self.of_thoughts:
                thoughts = [[task.thought_of(t) for t in each] for each in texts]
                return self.judge.rewards(
                    "reasoner", start, samples, [], thoughts, completed, stopped
                )
            answers = [[task.answer_of(t) for t in each] for each in texts]
            if self.method.thinks:
                completed = [[task.encode(y) for y in each] for each in answers]
            return self.judge.rewards("policy", policy, samples, notes, answers, completed, stopped)

        return judged

    def _notes(self, samples: Sequence[Sample], key: jax.Array) -> Notes:
        """One note a sample, of the estimator's reasoner."""
        config, worker, roles = self.estimator
        return notes_of(worker.thoughts(roles["reasoner"], samples, key, 1), config.notes)

    def _prepare(self) -> dict[str, str]:
        """Sample id -> an answer of the start: the best of a group, or for DPO the other one.

        Raises:
          UserError: no answer is preferred to another, or none of those to be learnt ends.
        """
        file = self.logger.folder / ANSWERS
        if file.exists():
            known = read_json_object(file, "answer")
            if known.get("run") == self.logger.identity:
                return known["answers"]
        drawn, draws = [*self._drawn()], self.method.draws
        if not any(y for _, y, _ in drawn):
            raise UserError("no answer of its start ends: raise config.answers.max_tokens")
        if not any(prefers for _, _, prefers in drawn):
            why = (
                "all answers to a sample earn the same reward: name another in "
                "config.answers.rewards"
                if draws
                else "those of the start are the golden ones everywhere: it has nothing to learn "
                "from them"
            )
            raise UserError(f"no answer is preferred to another, {why}, or raise "
                            "config.answers.temperature")  # fmt: skip
        # Of a group whose answers are all worth the same, any may be learnt; of a pair, none.
        answers = {name: y for name, y, prefers in drawn if (y if draws else prefers)}
        if is_primary():
            content = {"run": self.logger.identity, "answers": answers}
            write_atomically(file, [json.dumps(content, ensure_ascii=False, indent=1).encode()])
        return answers

    def _drawn(self) -> Iterator[tuple[str, str, bool]]:
        """(sample id, answer of the start, whether one is preferred to another) of all samples.

        An answer that was cut off is empty: as it stands it would teach to stop there, or, as the
        worse one of a pair, never to end.
        """
        c, train, start = self.config.answers, self.experiment.train, self.experiment.start
        size, draws = c.prompts, c.group if self.method.draws else 1
        key = jax.random.fold_in(jax.random.key(self.config.seed), len(self.stages))
        with progress("answers of the start", len(train)) as advance:
            for a in range(0, len(train), size):
                # One size for all batches; the last is filled up from the beginning.
                samples = [train[k % len(train)] for k in range(a, a + size)]
                first, second = jax.random.split(jax.random.fold_in(key, a))
                prompts = [self.experiment.task.policy_prompt(s, None) for s in samples]
                drawn = self.worker.draw(start["policy"], prompts, c, second, draws)
                if self.method.draws:
                    found = self._best(samples, drawn, first)
                else:
                    found = _others(samples, drawn)
                new = min(size, len(train) - a)
                yield from found[:new]
                advance(new)

    def _best(
        self, samples: Sequence[Sample], drawn: Any, key: jax.Array
    ) -> list[tuple[str, str, bool]]:
        """As `_drawn`, the answer of each group that earns most of those that end by themselves."""
        rollout, completed, texts = drawn
        judged, ended = self._judged(self.experiment.start["policy"], samples, key), rollout.stopped
        total, _ = judged(texts, completed, np.asarray(ended))
        rewards = total.reshape(len(samples), -1)
        best = np.where(ended, rewards, -np.inf).argmax(1)
        return [
            (s.sample_id, group[k] if e[k] else "", bool(np.ptp(r) > 0))
            for s, group, k, e, r in zip(samples, texts, best, ended, rewards, strict=True)
        ]


def _others(samples: Sequence[Sample], drawn: Any) -> list[tuple[str, str, bool]]:
    """As `_drawn`, the one answer to each sample; golden is preferred to it where it is another."""
    rollout, _, texts = drawn
    ended = np.asarray(rollout.stopped).reshape(len(samples))
    return [
        (s.sample_id, y if e else "", bool(e) and y.strip() != s.golden.strip())
        for s, (y, *_), e in zip(samples, texts, ended, strict=True)
    ]
