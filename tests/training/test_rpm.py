"""Every method on the smallest world: where it begins, what it learns, and what it leaves."""

import dataclasses
import json
import logging
import re

import jax
import numpy as np
import pytest
from tiny_corl import lines
from tiny_model import filled
from tiny_rpm import tiny_rpm, train

from remid_jax.data.reading import load_benchmark
from remid_jax.errors import UserError
from remid_jax.inference.compilations import count_compilations
from remid_jax.models.adapters import Adapter, adapted_fingerprint, new_params, save_adapter
from remid_jax.models.lora import LoraConfig
from remid_jax.models.rpm import RPM, read_rpm
from remid_jax.training.experiment import digest_of
from remid_jax.training.groups import Example
from remid_jax.training.rewards import exact_match_reward
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.rpm import ANSWERS, RpmTraining
from remid_jax.training.rpm_config import METHODS, check_config, loop_config, needs_golden
from remid_jax.training.rpm_experiment import make_rpm_experiment
from remid_jax.training.run_logger import EVALUATIONS, METRICS, RunLogger


def arrays(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def equal(a, b):
    return all(map(np.array_equal, arrays(a), arrays(b)))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folder with the base, and the runs of `sft` and `thinking_sft`."""
    folder = tmp_path_factory.mktemp("rpms")
    for method in ("sft", "thinking_sft"):
        train(tiny_rpm(method, folder / "base"), folder / method)
    return folder


def training(root, tmp_path, method, **changes):
    """A run that has not begun, from the start that its method needs."""
    starts = METHODS[method].starts
    start = {"start": str(root / ("sft" if "sft" in starts else starts[0]))} if starts else {}
    config = tiny_rpm(method, root / "base", **start, **changes)
    check_config(config)
    return RpmTraining(config, make_rpm_experiment(config, tmp_path), tmp_path)


def test_sft_learns_golden_answers_from_the_base(root):
    losses = [m["loss"] for m in lines(root / "sft", METRICS)]
    assert losses[1] < losses[0]
    assert read_rpm(root / "sft" / RPM).method == "sft"
    config = tiny_rpm("sft", root / "base")
    made = make_rpm_experiment(config, root / "x")
    run = RpmTraining(config, made, root / "x")
    samples = run.chosen(made.experiment.train, 0, 0, 4)
    task = made.experiment.task.plain
    rows = [[len(task.encode(s.golden))] for s in samples]
    assert lines(root / "sft", METRICS)[0]["tokens"] == np.sum(rows)


def test_it_is_measured_before_the_first_step_and_after_the_last(root):
    before, after = lines(root / "sft", EVALUATIONS)
    assert (before["step"], after["step"]) == (0, 2)
    made = make_rpm_experiment(tiny_rpm("sft", root / "base"), root / "x")
    worker = RolloutWorker(loop_config(tiny_rpm("sft", root / "base")), made.experiment)
    roles = dict.fromkeys(("reasoner", "policy"), made.experiment.start["policy"])
    base = worker.predict(made.experiment.tests["IDTest"], roles, lambda n: None).summary()
    assert before["log_q"] == pytest.approx(base["log_q"], abs=1e-4)
    assert after["log_q"] != pytest.approx(base["log_q"], abs=1e-2)


def test_augmented_samples_are_learnt(root, tmp_path):
    train(tiny_rpm("sft_augmented", root / "base", augmentation__share=1.0), tmp_path)
    plain, other = (lines(f, METRICS)[0]["loss"] for f in (root / "sft", tmp_path))
    assert plain != other


def test_thoughts_are_the_bases_own_and_stand_before_the_answer(root, tmp_path, monkeypatch):
    run = training(root, tmp_path, "thinking_sft")
    seen = []
    monkeypatch.setattr(run, "sft", lambda i, state, examples, *rest: seen.extend(examples))
    state = run._init_stage(0)
    run._sft(0, 0, state, jax.random.key(3))
    task, samples = run.experiment.task, run.chosen(run.experiment.train, 0, 0, 4)
    prompts = [task.naive_prompt(s) for s in samples]
    first, _ = jax.random.split(jax.random.key(3))
    _, _, drawn = run.worker.draw(
        run.experiment.start["policy"], prompts, run.config.reasoner, first, 1
    )
    for s, (thought,), (example,) in zip(samples, drawn, seen, strict=True):
        text = task.decode(example.scored)
        assert task.answer_of(text) == s.golden
        assert task.thought_of(text) == task.thought_of(thought)
        assert example.prompt == task.naive_prompt(s)


def test_dpo_prefers_golden_answers_to_those_of_its_start(root, tmp_path, caplog):
    run = training(root, tmp_path, "dpo", dpo__normalisation="token")
    with caplog.at_level(logging.INFO, "remid_jax"):
        state = run.run()
    said = r"stages: \d+ programs compiled and \d+ found in the cache, \d+ s"
    assert re.fullmatch(said, caplog.messages[-1])
    first, second = lines(tmp_path, METRICS)
    assert first["loss"] == pytest.approx(np.log(2), rel=1e-5) and first["margin"] == 0
    assert second["margin"] > 0 and second["loss"] < first["loss"]
    assert equal(state.roles["policy"], state.train.params)
    begun = run._init_stage(0).roles["policy"]
    assert not equal(begun, state.roles["policy"])
    kept = json.loads((tmp_path / ANSWERS).read_text(encoding="utf-8"))["answers"]
    golden = {s.sample_id: s.golden for s in run.experiment.train}
    assert kept and all(text not in ("", golden[name]) for name, text in kept.items())
    again = training(root, tmp_path, "dpo", dpo__normalisation="token")
    assert equal(again.run().roles, state.roles)  # nothing is left to do


def test_a_step_is_compiled_once(root, tmp_path):
    run = training(root, tmp_path, "dpo")  # its start is read from files, its moments are made
    run.answers = run._prepare()
    state = run._init_stage(0)
    train, _ = run._step(0, 0, state)
    with count_compilations() as programs:
        run._step(0, 0, dataclasses.replace(state, train=train))
    assert programs.compiled + programs.found == 0


def test_pairs_without_preference_are_refused(root, tmp_path):
    run = training(root, tmp_path, "dpo")
    own = {name: y for name, y, _ in run._drawn()}
    same = [dataclasses.replace(s, golden=own[s.sample_id]) for s in run.experiment.train]
    run.experiment = dataclasses.replace(run.experiment, train=same)
    with pytest.raises(UserError, match="golden ones everywhere"):
        run.run()


def test_the_best_of_its_own_answers_are_learnt(root, tmp_path):
    run = training(root, tmp_path, "rejection_sft", answers__rewards={"exact_match": 1.0})
    run.run()
    size, key = 4, jax.random.fold_in(jax.random.key(0), 1)
    samples = run.experiment.train[:size]
    _, second = jax.random.split(jax.random.fold_in(key, 0))
    prompts = [run.experiment.task.policy_prompt(s, None) for s in samples]
    start = run.experiment.start["policy"]
    drawn, _, texts = run.worker.draw(start, prompts, run.config.answers, second, 2)
    ended = np.asarray(drawn.stopped)
    assert 0 < ended.sum() < ended.size
    for s, group, own in zip(samples, texts, ended, strict=True):
        whole = [text for text, e in zip(group, own, strict=True) if e]
        if whole:
            worth = exact_match_reward(whole, [s.golden] * len(whole))
            assert run.answers[s.sample_id] == whole[int(np.argmax(worth))]
        else:
            assert s.sample_id not in run.answers
    tokens = [len(run.experiment.task.encode(run.answers[s.sample_id]))
              for s in run.chosen(run._taught(), 0, 0, 4)]  # fmt: skip
    assert lines(tmp_path, METRICS)[0]["tokens"] == sum(tokens)


@pytest.mark.parametrize("method", ["rejection_sft", "dpo"])
def test_answers_that_were_cut_off_are_not_learnt(method, root, tmp_path):
    run = training(root, tmp_path, method, answers__max_tokens=1)
    with pytest.raises(UserError, match="no answer of its start ends: raise"):
        run.run()


def test_grpo_is_rewarded_by_its_start_and_stopped_it_goes_on_to_the_same_bits(root, tmp_path):
    run = training(root, tmp_path / "whole", "grpo")
    state = run.run()
    drawn = lines(tmp_path / "whole", METRICS)[0]
    assert drawn["rewards/likelihood"] > 0 and drawn["sampling_logp_difference"] < 1e-4
    assert not equal(state.roles["policy"], run.experiment.start["policy"])
    halved = training(root, tmp_path / "halved", "grpo")
    written, count = halved.logger.add_metrics, []

    def stops(*arguments):
        written(*arguments)
        count.append(arguments)
        if len(count) == 2:
            raise KeyboardInterrupt

    halved.logger.add_metrics = stops
    with pytest.raises(KeyboardInterrupt):
        halved.run()
    assert equal(training(root, tmp_path / "halved", "grpo").run().roles, state.roles)


def test_thoughts_are_rewarded_for_what_they_make_of_golden_answers(root, tmp_path):
    run = training(root, tmp_path, "thinking_grpo")
    run.run()
    assert run.of_thoughts
    task, samples = run.experiment.task, run.experiment.train[:4]
    start = run.experiment.start["policy"]
    thoughts = [["Hello, bold.", "surely, lantern."]] * 4
    texts = [[f"{t} <reply> Hello, surely, buy the lantern." for t in own] for own in thoughts]
    completed = [[task.encode(t) for t in own] for own in texts]
    judged = run._judged(start, samples, jax.random.key(0))
    total, _ = judged(texts, completed, np.ones((4, 2), bool))
    batch = run.worker.batch(run.worker.answer_examples(samples, thoughts), 1)
    tokens = (batch.weights > 0).sum(-1)
    whole = run.worker.score(start, batch).sum(-1)  # with the end of the answer
    np.testing.assert_allclose(total.reshape(4, 2), np.exp(whole / tokens), rtol=1e-5)


@pytest.fixture(scope="module")
def pair(root):
    """Folder of a pair with random adapters of the base, and its policy's fingerprint."""
    made = make_rpm_experiment(tiny_rpm("sft", root / "base"), root / "y")
    lora = LoraConfig(rank=3, dropout=0.0)
    for i, role in enumerate(("reasoner", "policy")):
        params = new_params(made.base.config, lora, jax.random.key(i))
        adapter = filled(Adapter(lora, params, made.base.fingerprint), seed=i)
        save_adapter(root / "pair" / role, adapter)
    return root / "pair", adapted_fingerprint(adapter)


def test_an_estimator_judges_by_its_own_notes_and_is_remembered(root, pair, tmp_path):
    folder, fingerprint = pair
    rewards = {"likelihood": 1.0, "cross_information": 0.0}
    run = training(root, tmp_path, "migrpo", estimator=str(folder), answers__rewards=rewards)
    samples, key = run.experiment.train[:4], jax.random.key(0)
    notes, by = run._notes(samples, key), run.estimator
    texts = [["Hello, surely, buy the lantern.", s.golden] for s in samples]
    task = by.worker.experiment.task
    completed = [[task.encode(t) for t in own] for own in texts]
    judged = run._judged(run.experiment.start["policy"], samples, key)
    total, parts = judged(texts, completed, np.ones((4, 2), bool))
    rows = [
        [Example(task.policy_prompt(s, n), y) for y in own]
        for s, (n,), own in zip(samples, notes, completed, strict=True)
    ]
    batch = by.worker.batch(rows, 1)
    sums = by.worker.score(by.roles["policy"], batch).sum(-1)
    np.testing.assert_allclose(
        total.reshape(4, 2), np.exp(sums / (batch.weights > 0).sum(-1)), rtol=1e-4
    )
    assert parts["cross_information"].std() > 0
    made = make_rpm_experiment(
        tiny_rpm("migrpo", root / "base", start=str(root / "sft"), estimator=str(folder)), tmp_path
    )
    assert made.record.judges == (fingerprint,)


BAD = [
    ("dpo", {}, "config.start is empty: method 'dpo' begins from an RPM"),
    ("sft", {"start": "x"}, "method 'sft' begins from the base"),
    ("migrpo", {"start": "x", "answers__rewards": {"profile": 1.0}}, "config.estimator is empty"),
    ("migrpo", {"start": "x", "estimator": "y"}, "name cross_information or profile"),
    ("grpo", {"start": "x", "answers__rewards": {"mixture": 1.0}}, "unknown reward"),
    ("grpo", {"start": "x", "answers__temperature": 0.0}, "would learn nothing"),
    ("sft_augmented", {"augmentation__styles": ("terse",)}, "a world has no words for 'terse'"),
    ("thinking_sft", {"scoring__temperature": 0.5}, "config.scoring.draws is 2"),
]


@pytest.mark.parametrize(("method", "changes", "said"), BAD)
def test_what_a_method_cannot_do_is_refused_before_work(tmp_path, method, changes, said):
    with pytest.raises(UserError, match=said):
        check_config(tiny_rpm(method, tmp_path, **changes))


def test_batches_of_other_methods_are_not_read(root, tmp_path):
    others = {"dpo__batch": 50, "answers__prompts": 50, "answers__micro_batches": 3}
    check_config(tiny_rpm("sft", root / "base", **others))
    make_rpm_experiment(tiny_rpm("sft", root / "base", **others), tmp_path)
    config = tiny_rpm("dpo", root / "base", start=str(root / "sft"), answers__prompts=50)
    with pytest.raises(UserError, match=r"lower config\.dpo\.batch and config\.answers\.prompts"):
        make_rpm_experiment(config, tmp_path)


def test_samples_of_other_texts_are_others_whatever_their_ids():
    sample = next(iter(load_benchmark()))
    other = dataclasses.replace(sample, golden="Another answer.")
    found = [digest_of([s]) for s in (sample, sample, other)]
    assert found[0] == found[1] != found[2]


def test_a_start_of_another_kind_is_refused_before_work(root, tmp_path):
    for method, start, said in (
        ("dpo", "nothing", "holds no trained RPM; train one first, by sft"),
        ("dpo", "thinking_sft", "was trained by 'thinking_sft'; method 'dpo' begins from sft"),
        ("thinking_grpo", "sft", "begins from thinking_sft"),
    ):
        config = tiny_rpm(method, root / "base", start=str(root / start))
        with pytest.raises(UserError, match=said):
            make_rpm_experiment(config, tmp_path)
    config = tiny_rpm("dpo", root / "base", start=str(root / "sft"), trained="full")
    with pytest.raises(UserError, match=r"was trained with config\.trained='lora'"):
        make_rpm_experiment(config, tmp_path)


@pytest.mark.parametrize(("method", "rewards", "needs"), [
    ("dpo", {}, "method 'dpo'"), ("grpo", {"likelihood": 1.0}, ""),
    ("grpo", {"exact_match": 1.0}, "reward 'exact_match'"),
    ("thinking_grpo", {"likelihood": 1.0}, "reward 'likelihood'"),
])  # fmt: skip
def test_golden_answers_are_asked_for_where_they_are_read(tmp_path, method, rewards, needs):
    config = tiny_rpm(method, tmp_path)
    if rewards:
        config.answers.rewards = rewards
    assert needs_golden(config) == needs


def test_all_weights_are_trained_kept_and_gone_on_from(root, tmp_path):
    full = {"trained": "full", "steps": 1, "sft__learning_rate": 1e-3}
    state = train(tiny_rpm("sft", root / "base", **full), tmp_path / "sft")
    assert len(arrays(state.roles)) > 10 and not (tmp_path / "sft" / RPM / "adapter").exists()
    config = tiny_rpm("dpo", root / "base", trained="full", start=str(tmp_path / "sft"))
    made = make_rpm_experiment(config, tmp_path / "dpo")
    assert equal(made.experiment.start["policy"], state.roles["policy"])
    worker = RolloutWorker(loop_config(config), made.experiment)
    example = worker.answer_examples(made.experiment.train[:4], [[None]] * 4)
    assert np.isfinite(worker.answers(made.experiment.start["policy"], example)[0]).all()


def test_a_folder_of_another_run_is_refused(root):
    config = tiny_rpm("sft", root / "base", steps=3)
    with pytest.raises(UserError, match="holds a run of another configuration"):
        RunLogger(root / "sft", "another base", config)


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_an_rpm_is_not_trained_within_its_start(root, inside):
    with pytest.raises(UserError, match="lies in the RPM that it begins from"):
        training(root, root / "sft" / RPM / inside, "dpo")
