"""Requests as data: keys, costs, and the pieces and parts into which they are cut."""

import dataclasses
import itertools

import numpy as np
import pytest
from small_requests import MODEL, SHAPE, generate, score

from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.cost import stages_of
from remid_jax.evaluation.requests import About, Embed, costs
from remid_jax.evaluation.runner import Part, pieces_of, run, shares
from remid_jax.inference import cost
from remid_jax.inference.sampling import Sampled
from remid_jax.inference.token_sampling import SamplingConfig


def test_a_key_holds_all_that_decides_a_result():
    other = dataclasses.replace(MODEL, fingerprint="weights-2")
    keys = [
        generate([1, 2]).key, generate([1, 3]).key, generate([1, 2], model=other).key,
        generate([1, 2], sampling=SamplingConfig(max_tokens=6)).key,
        generate([1, 2], sampling=SamplingConfig(max_tokens=5, seed=1)).key,
        generate([1, 2], draws=2).key, score([1, 2]).key, score([1, 3]).key,
        score([1, 2], model=other).key, Embed(MODEL, "a", About("", "", "")).key,
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert generate([1, 2], tag="u", sample="x", expected=9).key == keys[0]
    assert score([1, 2], lengths=(1,), tag="u").key == score([1, 2], responses=((9,),)).key
    assert len(set(score([1], ((1, 2), (1, 3), (12,))).digests)) == 3


def test_numerics_are_part_of_every_key(monkeypatch):
    before = [r.key for r in (generate([1]), score([1]), Embed(MODEL, "a", About("", "", "")))]
    monkeypatch.setattr("remid_jax.evaluation.requests.NUMERICS", 2)
    after = [r.key for r in (generate([1]), score([1]), Embed(MODEL, "a", About("", "", "")))]
    assert not set(before) & set(after)


def test_a_shared_beginning_is_paid_once_a_model():
    common, other = (7,) * 60, dataclasses.replace(MODEL, fingerprint="weights-2")
    rows = [score((*common, *end), lengths=(60,)) for end in ((1,), (2, 3), (4,))]
    first, second, third = costs([rows[0], rows[1], dataclasses.replace(rows[2], model=other)])
    assert first == rows[0].cost() and third == rows[2].cost()
    saved = rows[1].cost().flops - second.flops
    assert saved == pytest.approx(cost.extend_flops(SHAPE, 60))


def test_what_a_score_costs():
    n, lengths = 100, (10, 20)
    request = score([3] * n, tuple((1,) * k for k in lengths))
    assert request.cost().tokens == n + sum(lengths) == request.cost(20).tokens + 20
    expected = cost.extend_flops(SHAPE, n) + cost.head_flops(SHAPE, 1)
    assert request.cost().flops == expected + sum(cost.score_flops(SHAPE, n, k) for k in lengths)


def test_pieces_hold_what_shares_a_batch_or_a_beginning():
    rows = [score([5] * 9 + [i], lengths=(9,)) for i in range(3)] + [score([6] * 40)]
    asked = [generate([i], expected=i % 4, sample=str(i)) for i in range(7)]
    elsewhere = generate([9], tag="other")
    pieces = pieces_of([*rows, *asked, elsewhere], batch_rows=3)
    assert [[r.about.sample for r in p] for p in pieces[:3]] == [
        ["3", "2", "6"], ["1", "5", "0"], ["4"],
    ]  # fmt: skip
    assert pieces[3] == [elsewhere]
    assert pieces[4:] == [[rows[3]], rows[:3]]  # the costliest beginning first


@pytest.mark.parametrize(("draws", "calls"), [(1, 2), (4, 4), (20, 7)])
def test_draws_of_a_prompt_share_a_batch(draws, calls):
    asked = [generate([i], draws=draws) for i in range(7)]
    (stage,) = stages_of(asked, batch_rows=8 if draws > 1 else 4)
    assert stage.steps == calls * asked[0].sampling.max_tokens


def test_shares_are_even_and_hold_each_piece_once():
    pieces = [[score([1] * n)] for n in (600, 500, 500, 300, 200, 150, 100, 50)]
    parts = shares(pieces, 3)
    assert sorted(id(p) for part in parts for p in part) == sorted(map(id, pieces))
    loads = [sum(p[0].cost().flops for p in part) for part in parts]
    assert max(loads) < 1.2 * min(loads)
    assert shares(pieces, 3) == parts and shares(pieces, 1) == [pieces]


def test_what_shares_a_beginning_stays_in_one_process():
    rows = [score((k,) * 300 + (i,), lengths=(300,)) for k in range(4) for i in range(3)]
    parts = shares([[row] for row in rows], 2)
    began = [{piece[0].prompt[0] for piece in part} for part in parts]
    assert [len(part) for part in parts] == [6, 6] and not began[0] & began[1]


def test_a_prompt_that_is_asked_twice_runs_once(tmp_path):
    asked = []

    class Engine:
        def score(self, prompt, responses, prefix_lengths):
            asked.append(responses)
            return [np.zeros(len(y)) for y in responses]

    model = dataclasses.replace(MODEL, load=Engine)
    rows = [score([1, 2], model=model, responses=y) for y in (((3,), (4, 5)), ((4, 5), (6,)))]
    cache = Cache(tmp_path)
    run("likelihoods", rows, cache, 1, Part())
    assert asked == [[(3,), (4, 5), (6,)]]
    assert [len(y) for row in rows for y in cache.scored(row)] == [1, 2, 2, 1]


def test_parts_of_an_array_do_not_depend_on_what_is_finished(tmp_path):
    requests = [generate([i], sample=str(i)) for i in range(9)]
    pieces, cache = pieces_of(requests, 1), Cache(tmp_path)
    first = [Part(i, 3).chosen(pieces, cache) for i in range(3)]
    done = first[0][0][0]
    cache.put_generated(done, [Sampled((1,), np.zeros(1), True)])
    again = [Part(i, 3).chosen(pieces, cache) for i in range(3)]
    assert again[1:] == first[1:] and again[0] == first[0][1:]
    assert sorted(itertools.chain(*(p[0].about.sample for part in first for p in part))) == [
        str(i) for i in range(9)
    ]
