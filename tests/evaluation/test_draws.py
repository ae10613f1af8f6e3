"""Several answers of an RPM to each context."""

import json

import numpy as np
import pytest

from remid_jax import default_config
from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import check_config
from remid_jax.report.terminal import print_report

RPM = "full_context"


def small(model, benchmark):
    c = default_config()
    c.model.path, c.benchmark, c.shifts = model, benchmark, ("german",)
    c.rpms = {RPM: {"view": "full", "path": ""}}
    c.limits.contexts = 4
    c.sampling.max_tokens, c.sampling.batch_rows, c.reasoning.max_tokens = 8, 8, 5
    c.sampling.temperature = c.sampling.repetition_penalty = 1.0
    return c


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def run_with(tiny_path, short_benchmark, tmp_path_factory):
    """A run of so many draws, or of the answers in records; its results and folder."""

    def run(answers=None, draws=1, **estimator):
        folder = tmp_path_factory.mktemp("draws")
        config = small(tiny_path, short_benchmark)
        config.sampling.draws = draws
        config.estimator.update(estimator)
        if answers is not None:
            file = folder / "answers.jsonl"
            file.write_text("".join(json.dumps(r) + "\n" for r in answers), encoding="utf-8")
            config.responses = str(file)
        return diagnose(config, folder / "run"), folder / "run"

    return run


@pytest.fixture(scope="module")
def drawn(run_with):
    return run_with(draws=2)


@pytest.fixture(scope="module")
def records(drawn):
    return lines_of(drawn[1] / "responses.jsonl")


def with_draws(record, *chosen):
    """A record with some of its draws, as they were drawn; None stands for an empty one."""
    texts, details = record["model_response"][RPM], record["response_details"][RPM]
    each = [{k: v for k, v in details.items() if k != "further"}, *details["further"]]
    kept = ["" if k is None else texts[k] for k in chosen]
    about = [{} if k is None else each[k] for k in chosen]
    found = {**about[0], "further": about[1:]}
    return {**record, "model_response": {RPM: kept}, "response_details": {RPM: found}}


@pytest.fixture(scope="module")
def singles(run_with, records):
    """A run with each context's first draw alone, and one with its second."""
    return [run_with([with_draws(r, k) for r in records]) for k in (0, 1)]


def values(results, table, key):
    return np.array([r[key] for r in results[table] if r["rpm"] == RPM], float)


def test_what_is_linear_is_the_mean_over_draws(run_with, records, drawn, singles):
    """Of lists in a response file; what is not linear takes the first answer."""
    lists = [r["model_response"][RPM] for r in records]
    assert all(len(some) == 2 and some[0] != some[1] for some in lists)
    results, _ = run_with(records)
    for table, key in (("rows", "r_emi"), ("rows", "draws_share"), ("profile", "info")):
        both = [[r[key] for r in x[table]] for x in (results, drawn[0])]
        assert both[0] == both[1]  # of the tokens that were drawn
    linear = {"rows": ("r_emi", "emi", "r_emid"), "profile": ("info", "info_copied", "lost")}
    for table, keys in linear.items():
        for key in keys:
            means = np.mean([values(one, table, key) for one, _ in singles], axis=0)
            np.testing.assert_allclose(values(results, table, key), means, atol=2e-4)
    first = singles[0][0]
    crossed = [values(x, "rows", "cross_information") for x in (results, first)]
    np.testing.assert_allclose(*crossed, atol=1e-5)
    assert (values(results, "rows", "n") == 4).all() and (
        values(results, "rows", "draws") == 2
    ).all()
    golden = [values(x, "profile", "info_golden") for x in (results, first)]
    np.testing.assert_allclose(*golden, atol=1e-5)


def test_nats_per_token_are_those_of_all_tokens_of_a_context(run_with, records):
    """The pair matrices on disk are means."""
    texts, found, baselines = ("Aye.", "No, I saw none of them."), [], []
    for content in (texts, *texts):
        made = [{**r, "model_response": {RPM: content}, "response_details": {}} for r in records]
        results, folder = run_with(made)
        baselines.append(values(results, "rows", "baseline")[1])
        with np.load(folder / "pairs" / "german.npz") as saved:
            names = f"{RPM}/scores", f"{RPM}/num_tokens"
            found.append([saved[name] for name in names])
            golden = saved["golden/scores"].diagonal() / saved["golden/num_tokens"]
    (scores, lengths), *each = found
    assert len({int(n) for _, some in each for n in some}) == 2  # draws differ in length
    np.testing.assert_allclose(scores, np.mean([s for s, _ in each], axis=0), atol=2e-4)
    np.testing.assert_allclose(lengths, np.mean([n for _, n in each], axis=0))
    own = sum(s.diagonal() for s, _ in each) / sum(n for _, n in each)
    assert baselines[0] == pytest.approx((own - golden).mean(), abs=1e-4)


def test_contexts_may_have_different_numbers_of_answers(run_with, records, singles):
    """Each context counts once, with the mean over its own draws; an empty draw is none."""
    uneven = [with_draws(r, *((0, 1) if i % 2 else (None, 0))) for i, r in enumerate(records)]
    results, folder = run_with(uneven)
    both = [{r["sample_ID"]: r["nats"] for r in lines_of(f / "contributions.jsonl")}
            for _, f in singles]  # fmt: skip
    mine = {x["sample_ID"]: x["nats"] for x in lines_of(folder / "contributions.jsonl")}
    for i, r in enumerate(records):
        name = r["sample_ID"]
        expected = np.mean([one[name] for one in both]) if i % 2 else both[0][name]
        assert mine[name] == pytest.approx(expected, abs=2e-4)
    assert values(results, "rows", "draws").tolist() == [1.5, 1.5]
    assert results["answers"][RPM]["unused_draws"] == 4
    assert results["excluded"] == []


def test_a_run_that_draws_says_what_sampling_adds(drawn, capsys):
    results, folder = drawn
    cells = [r for t in ("rows", "profile") for r in results[t] if r["rpm"] == RPM]
    shares = [r["draws_share"] for r in cells if r.get("factor") not in ("history", "last_turn")]
    assert len(shares) == 2 + 2 * 3 and all(0 <= x <= 1 for x in shares)
    assert (values(results, "rows", "draws_worth_it") >= 1).all()
    others = [r for r in results["rows"] if r["rpm"] != RPM]
    assert all(r["draws_share"] is None and r["draws"] in (1, None) for r in others)
    assert results["cut_at_max_tokens"]["german"][RPM] <= 8
    print_report(results, folder)
    (line,) = [x for x in capsys.readouterr().out.split("\n") if "2 answers a context" in x]
    assert "n = 4: their sampling is " in line


def test_an_answer_more_costs_what_it_reads_and_writes(tiny_path, short_benchmark, tmp_path):
    stages = []
    for draws in (1, 2, 3):
        config = small(tiny_path, short_benchmark)
        config.sampling.draws, config.dry_run = draws, True
        plan = diagnose(config, tmp_path)["plan"]["stages"]
        stages.append({s["what"]: s for s in plan})
    few, some, many = stages
    drawing, scoring = f"answers of {RPM}", "likelihoods with reasoning"
    swaps = "contexts with a swapped factor"
    assert many[drawing]["contexts"] == few[drawing]["contexts"] == 8
    one, two, three = (s[drawing]["flops"] for s in stages)
    assert three - two == pytest.approx(two - one) and two > one
    assert many[scoring]["pairs"] - some[scoring]["pairs"] == 2 * 4 * 4
    assert many[swaps]["pairs"] - some[swaps]["pairs"] == few[swaps]["contexts"]


def test_several_alike_answers_are_refused(tiny_path, short_benchmark, run_with, records):
    config = small(tiny_path, short_benchmark)
    config.sampling.draws = 2
    check_config(config)
    config.estimator.name = "infonce"
    with pytest.raises(UserError, match=r"sampling\.draws is 2, of which only estimator 'club'"):
        check_config(config)
    config.estimator.name, config.sampling.temperature = "club", 0.0
    with pytest.raises(UserError, match=r"draws is 2 and config\.sampling\.temperature 0: greedy"):
        check_config(config)
    with pytest.raises(UserError, match=r"'IDTest_\d' has 2 answers of 'full_context', of which"):
        run_with(records, name="infonce")
