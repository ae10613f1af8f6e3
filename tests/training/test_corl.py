"""The loop as a whole, on the smallest world: what it writes, and how it is stopped and resumed."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_corl
from ml_collections import ConfigDict
from tiny_corl import lines, tiny_config

from remid_jax.errors import UserError
from remid_jax.models.adapters import saved_scoring
from remid_jax.training.config import ROLES, check_config
from remid_jax.training.corl import Corl
from remid_jax.training.experiment import make_experiment
from remid_jax.training.groups import Example
from remid_jax.training.run_logger import EVALUATIONS, METRICS, RunLogger, read_lines

GRPO_METRICS = {
    "reward", "reward_std", "frac_reward_zero_std", "kl", "entropy", "clip_ratio",
    "completions/mean_length", "completions/clipped_ratio", "sampling_logp_difference",
    "grad_norm", "learning_rate", "loss",
}  # fmt: skip


def arrays(state) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(state)]


def loop(folder: Path, config=None) -> Corl:
    config = config or tiny_config()
    return Corl(config, make_experiment(config, folder), folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, last state) of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, loop(folder).run()


def test_what_a_run_writes(whole):
    folder, _ = whole
    metrics = lines(folder, METRICS)
    assert [(m["stage"], m["step"]) for m in metrics] == [
        (i, k) for i, n in enumerate((2, 2, 3, 2, 2)) for k in range(n)
    ]
    for m in metrics:
        wanted = GRPO_METRICS if m["kind"].endswith("grpo") else {"loss", "grad_norm", "tokens"}
        assert wanted <= set(m)
        assert all(np.isfinite(v) for v in m.values() if not isinstance(v, str))
    grpo = [m for m in metrics if m["kind"].endswith("grpo")]
    assert all(m["sampling_logp_difference"] < 1e-4 for m in grpo if m["kind"] == "policy_grpo")
    evaluations = lines(folder, EVALUATIONS)
    assert [(e["stage"], e["step"]) for e in evaluations][::2] == [
        (0, 2), (1, 2), (2, 2), (2, 3), (3, 2), (4, 2)
    ]  # fmt: skip
    assert all(e["n"] == 4 and e["perplexity"] > 1 for e in evaluations)
    text = next(iter(sorted((folder / "texts").iterdir()))).read_text(encoding="utf-8")
    assert "golden:" in text and "reward" in text


def test_each_stage_moves_its_role_alone(tmp_path):
    config = tiny_config()
    config.cold_start, config.round = ("reasoner_sft:1",), ("policy_sft:1", "reasoner_grpo:1")
    run = loop(tmp_path, config)
    start = arrays(run._init_stage(0).roles["policy"])
    first = run._stage(0, 0, run._init_stage(0))
    assert all(map(np.array_equal, arrays(first.roles["policy"]), start))
    assert not all(map(np.array_equal, arrays(first.roles["reasoner"]), start))
    reasoner = arrays(first.roles["reasoner"])
    second = run._stage(1, 0, first)
    assert all(map(np.array_equal, arrays(second.roles["reasoner"]), reasoner))
    assert not all(map(np.array_equal, arrays(second.roles["policy"]), start))


def test_a_run_goes_on_from_a_trained_pair(whole, tmp_path):
    folder, state = whole
    config = tiny_config()
    config.cold_start, config.round, config.rounds = (), ("policy_sft:1",), 1
    config.init_from, config.evaluate.ends = str(tmp_path / "pair"), False
    make_experiment(tiny_config(), folder).save_adapters(tmp_path / "pair", state.roles)
    for role in ROLES:
        assert saved_scoring(tmp_path / "pair" / role) == {
            "draws": 2, "temperature": 1.0, "thought_free": 0.0, "repetition_penalty": 1.0
        }  # fmt: skip
    run = loop(tmp_path / "run", config)
    begun = run._init_stage(0)
    for role in ROLES:
        assert all(map(np.array_equal, arrays(begun.roles[role]), arrays(state.roles[role])))
    assert all(map(np.array_equal, arrays(begun.cold), arrays(state.roles["policy"])))
    run.run()
    assert lines(tmp_path / "run", METRICS)
    assert read_lines(tmp_path / "run" / EVALUATIONS) == []
    config.lora.rank += 1
    with pytest.raises(UserError, match="another shape"):
        make_experiment(config, tmp_path)
    config.pretraining.seed += 1
    with pytest.raises(UserError, match="trained on another base"):
        make_experiment(config, tmp_path / "other")


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("after", [5, 8])
def test_stopped_it_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch, after):
    folder, state = whole
    written = RunLogger.add_metrics
    count = 0

    def stops(self, *arguments):
        nonlocal count
        written(self, *arguments)
        count += 1
        if count == after:
            raise Stopped

    monkeypatch.setattr(RunLogger, "add_metrics", stops)
    with pytest.raises(Stopped):
        loop(tmp_path).run()
    monkeypatch.setattr(RunLogger, "add_metrics", written)
    again = loop(tmp_path).run()
    same(folder, state, tmp_path, again)


def same(folder, state, other, again) -> None:
    for a, b in zip(arrays(again), arrays(state), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in (METRICS, EVALUATIONS):
        assert lines(other, name) == lines(folder, name)


@pytest.mark.slow
def test_killed_at_twenty_moments_it_ends_with_the_same_bits(whole, tmp_path):
    folder, state = whole
    command = [sys.executable, tiny_corl.__file__, str(tmp_path)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu",
                   "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # as conftest has it for this process
                   "PATH": "", "HOME": str(tmp_path / "home"),
                   "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs"),
                   "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}  # fmt: skip
    chance = random.Random(0)
    killed = 0
    for _ in range(200):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        if killed < 20:
            end = time.monotonic() + chance.uniform(3, 14)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
        if process.poll() is None and killed < 20:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        assert process.wait() == 0
        if killed == 20:
            break
        for file in tmp_path.glob("*.jsonl"):  # it ended too early: from the beginning once more
            file.unlink()
        subprocess.run(["/bin/rm", "-rf", str(tmp_path / "checkpoints")], check=True)
    assert killed == 20
    run = loop(tmp_path)
    reached = run.logger.latest()
    assert (reached.stage, reached.step) == (5, 0)
    same(folder, state, tmp_path, run._restored(reached))


def test_a_folder_of_another_run_is_refused(whole):
    folder, _ = whole
    config = tiny_config()
    config.seed = 1
    with pytest.raises(UserError, match="another configuration, base or file"):
        loop(folder, config)
    config = tiny_config()
    config.checkpoint.every = 7  # how often it is kept may change
    loop(folder, config)


def test_cross_information_compares_with_the_next_contexts(tmp_path):
    config = tiny_config()
    config.reasoner.rewards = ConfigDict({"cross_information": 1.0})
    config.reasoner.negatives = 2
    run = loop(tmp_path, config)
    worker, samples = run.worker, run.experiment.train[:4]
    policy, notes = run.experiment.initial, [["Hello"], ["bold"], ["surely"], ["lantern"]]
    golden = [[run.experiment.task.encode(s.golden)] for s in samples]
    read = [note for (note,) in notes]
    got = run.judge.negatives("reasoner", policy, samples, read, golden)[:, 0]
    for b in range(4):
        for j in (1, 2):
            k = (b + j) % 4
            task = run.experiment.task
            row = Example(
                task.policy_prompt(samples[k], notes[k][0]), task.encode(samples[b].golden)
            )
            alone = np.asarray(worker.score(policy, worker.batch([[row]], 9))).sum()
            assert got[b, j - 1] == pytest.approx(alone, abs=1e-4)
    texts = [["Hello", "bold"]] * 4
    total, _ = run.judge.rewards("reasoner", policy, samples, [], texts, [], np.ones((4, 2), bool))
    assert total.shape == (8,) and np.isfinite(total).all()


def test_own_thoughts_and_those_of_another_are_scored_as_if_alone(tmp_path):
    run = loop(tmp_path)
    worker, samples, c = run.worker, run.experiment.train[:4], run.config.scoring
    roles = run._init_stage(0).roles
    got = worker.predict(samples, roles)
    thoughts = worker.thoughts(
        roles["reasoner"], samples, jax.random.key(0), c.draws, c.temperature
    )
    assert len({tuple(t) for t in thoughts}) > 1
    for shift, values in ((0, got.sums), (1, got.other)):
        for b, sample in enumerate(samples):
            rows = worker.answer_examples(
                [sample] * 4, [[t] for t in thoughts[(b + shift) % 4]] * 2
            )
            alone = worker.score(roles["policy"], worker.batch(rows, worker.max_golden))
            n = len(rows[0][0].scored) - 1  # without the end of turn
            assert values[b] == pytest.approx(alone[:2, 0, :n].sum(-1).mean(), abs=1e-4)


@pytest.mark.parametrize("free, drawn_twice", [(0.0, False), (0.2, True)])
def test_the_mixture_is_that_of_thoughts_scored_alone(tmp_path, free, drawn_twice):
    config = tiny_config()
    config.scoring.thought_free, config.scoring.draws = free, 3
    run = loop(tmp_path, config)
    worker, samples, task = run.worker, run.experiment.train[:3], run.experiment.task
    roles = run._init_stage(0).roles
    if drawn_twice:
        worker.thoughts = lambda params, samples, *_: [["bold", "Hello", "bold"] for _ in samples]
    done = []
    got = worker.predict(samples, roles, done.append)
    assert sum(done) == len(samples) and done[0] == len(samples) / 2  # also heard while drawing
    drawn = worker.drawn_notes(samples, roles)
    texts = [s.golden for s in samples] + ["bold lantern"]
    one, mixed = worker.pairs(samples, texts, roles)

    def alone(sample, note, text):
        row = Example(task.policy_prompt(sample, note), task.encode(text))
        return worker.answers(roles["policy"], [[row]])[0].item()

    for i, sample in enumerate(samples):
        notes = drawn.notes[i]
        assert len(notes) == 3
        for j, text in enumerate(texts):
            q = np.exp([alone(sample, n, text) for n in notes])
            expected = np.log((1 - free) * q.mean() + free * np.exp(alone(sample, None, text)))
            assert one[i, j] == pytest.approx(np.log(q[0]), abs=1e-3)
            assert mixed[i, j] == pytest.approx(expected, abs=1e-3)
        assert got.sums[i] == pytest.approx(
            np.mean([alone(sample, n, sample.golden) for n in notes]), abs=1e-3
        )
        assert got.mixture[i] == pytest.approx(mixed[i, i], abs=1e-3)
        counts = np.unique(notes, return_counts=True)[1] / 3
        assert got.entropy[i] == pytest.approx(-(counts * np.log(counts)).sum(), abs=1e-12)


def test_several_thoughts_that_are_all_empty_are_refused(tmp_path):
    run = loop(tmp_path)
    run.worker.thoughts = lambda params, samples, key, draws, temperature=None: [
        [""] * draws for _ in samples
    ]
    with pytest.raises(UserError, match="all 8 thoughts about 'IDTest' are empty"):
        run.worker.predict(run.experiment.tests["IDTest"], run._init_stage(0).roles)
    run.config.scoring.draws = 1
    assert np.isfinite(
        run.worker.predict(run.experiment.tests["IDTest"], run._init_stage(0).roles).mixture
    ).all()


def test_a_share_of_supervised_rows_shows_no_notes(tmp_path):
    config = tiny_config()
    config.cold_start, config.round, config.sft.without_notes = ("policy_sft:3",), (), 0.5
    config.evaluate.every, config.evaluate.ends = 0, False

    def notes_read(folder):
        run, seen = loop(folder, config), []
        made = run.worker.answer_examples

        def listening(samples, notes):
            seen.extend(n for group in notes for n in group)
            return made(samples, notes)

        run.worker.answer_examples = listening
        run._stage(0, 0, run._init_stage(0))
        return seen

    first = notes_read(tmp_path / "first")
    assert len(first) == 12 and 0 < first.count(None) < 12
    assert notes_read(tmp_path / "again") == first  # a function of seed, stage and step


def test_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    config = tiny_config()
    config.cold_start, config.round = ("policy_sft:4",), ()
    run = loop(tmp_path, config)
    good = run._init_stage(0)

    def poisoned(i, step, state):
        train, metrics = Corl._step(run, i, step, state)
        return train, {**metrics, "finite": float(step < 2)}

    run._step = poisoned
    with pytest.raises(UserError, match="step 2 is not finite; the last good state is kept"):
        run._stage(0, 0, good)
    assert run.logger.latest().step == 2


def test_samples_without_golden_responses_are_refused_in_one_line(short_benchmark, tmp_path):
    content = json.loads(Path(short_benchmark).read_text(encoding="utf-8"))
    train = [{**r, "sample_ID": f"IDTrain_{r['sample_ID']}"} for r in content["IDTest"]]
    content["IDTrain"] = [{**r, "subset_tag": "IDTrain"} for r in train]
    file = tmp_path / "benchmark.json"
    config = tiny_config()
    config.task, config.benchmark = "benchmark", str(file)
    for split in ("IDTrain", "OOD1Test"):
        lacking = json.loads(json.dumps(content))
        lacking[split][2]["agent_golden_response"] = None
        file.write_text(json.dumps(lacking), encoding="utf-8")
        name = lacking[split][2]["sample_ID"]
        with pytest.raises(UserError, match=f"sample '{name}' has no golden response, which"):
            make_experiment(config, tmp_path)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c.update(notes="owned"), "did you mean|choose among"),
        (lambda c: c.scoring.update(temperature=0.0), "scoring.draws is 2 and .*temperature=1.0"),
        (lambda c: c.scoring.update(thought_free=1.0), "scoring.thought_free is 1.0"),
        (lambda c: c.sft.update(without_notes=1.0), "sft.without_notes is 1.0"),
        (lambda c: c.update(cold_start=("reasoner_sft",)), "KIND:STEPS"),
        (lambda c: c.update(round=("resoner_grpo:3",)), "cold_start|round is 'resoner_grpo'"),
        (lambda c: c.update(cold_start=("policy_grpo:3",)), "supervised"),
        (lambda c: c.update(cold_start=(), round=()), "no stage"),
        (lambda c: c.sft.update(batch=0), "at least 1"),
        (lambda c: c.reasoner.update(group=1), "at least 2"),
        (lambda c: c.evaluate.update(tags=("IDTset",)), "IDTset"),
        (lambda c: c.reasoner.update(kl_estimator="k4"), "k4"),
        (lambda c: c.reasoner.update(rewards={"likelyhood": 1.0}), "unknown reward 'likelyhood'"),
        (lambda c: c.sft.update(micro_batches=3), r"sft.batch .* multiple of micro_batches 3 "),
        (lambda c: c.policy.update(micro_batches=0), "at least 1"),
        (lambda c: c.mesh.update(data=3), r"must be a multiple of micro_batches 1 times the 3 "),
        (lambda c: c.mesh.update(tensor=0), "at least 1"),
        (lambda c: c.sft.update(batch=50), "fewer than a batch"),
        (lambda c: c.reasoner.update(max_tokens=250), "does not fit the window"),
    ],
)
def test_bad_configurations_are_one_line(tmp_path, change, said):
    config = tiny_config()
    config.pretraining.steps = 1
    with pytest.raises(UserError, match=said) as found:
        change(config)
        check_config(config)
        loop(tmp_path, config)
    assert "\n" not in str(found.value)
