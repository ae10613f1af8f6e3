"""Rows of pair matrices that several processes score on one store."""

import dataclasses
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from tiny_model import build_model

from remid_jax.errors import UserError
from remid_jax.evaluation import scoring, sharing
from remid_jax.evaluation.scoring import Response, find_rows, score_rows
from remid_jax.evaluation.sharing import Claims
from remid_jax.evaluation.store import Store

PROMPTS = [[7, 7, 1], [7, 7, 2], [7, 7, 3]]  # one beginning: one piece of work
CUTS = [[2]] * 3
RESPONSES = [Response((1, 2)), Response((3,))]
ALL = np.ones((3, 2), bool)


def value(prompt, response) -> float:
    return -float(10 * prompt[-1] + len(response))


@dataclasses.dataclass
class Scorer:
    """Scores by a rule, and notes what it was asked for."""

    before: Callable[[int], None] = lambda row: None
    fingerprint: str = "scorer"
    config = build_model().config
    asked: list = dataclasses.field(default_factory=list)

    def log_likelihood(self, prompts, responses, pairs, skip, cuts):
        for i, row in enumerate(pairs):
            if row.any():
                self.before(len(self.asked))
                self.asked.append((tuple(prompts[i]), row.tolist()))
                yield i, np.where(row, [value(prompts[i], y) for y in responses], np.nan)


def scored(engine, folder, responses=RESPONSES, wanted=ALL, cuts=CUTS):
    store = Store(folder)
    rows = find_rows(engine, store, "abc", PROMPTS, cuts, responses, wanted)
    return score_rows(engine, store, [rows], lambda flops: None)[0]


def expected(responses=RESPONSES):
    return np.array([[value(p, r.tokens) for r in responses] for p in PROMPTS])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sharing, "POLL", 0.01)


@pytest.fixture
def refused(monkeypatch):
    """Waits until somebody was refused a claim, or the thread has ended."""
    event, take = threading.Event(), Claims.take

    def noting(claims: Claims, name: str) -> bool:
        taken = take(claims, name)
        if not taken:
            event.set()
        return taken

    def wait(thread: threading.Thread) -> None:
        while thread.is_alive() and not event.is_set():
            time.sleep(0.001)

    monkeypatch.setattr(Claims, "take", noting)
    return wait


def test_who_joins_while_a_piece_is_half_stored_scores_none_of_it(tmp_path, refused):
    half, go_on = threading.Event(), threading.Event()

    def pause(row: int) -> None:
        if row == 1:  # the first row is stored
            half.set()
            assert go_on.wait(60)

    first, joiner, found = Scorer(pause), Scorer(), {}
    one = threading.Thread(target=lambda: found.update(first=scored(first, tmp_path)))
    one.start()
    assert half.wait(60)
    other = threading.Thread(target=lambda: found.update(joiner=scored(joiner, tmp_path)))
    other.start()
    refused(other)  # or done, had it taken another name for the piece
    go_on.set()
    one.join()
    other.join()
    assert len(first.asked) == 3 and joiner.asked == []
    for name in ("first", "joiner"):
        np.testing.assert_array_equal(found[name], expected())


def test_only_what_is_still_missing_is_scored(tmp_path):
    scored(Scorer(), tmp_path, wanted=np.array([[1, 0], [0, 1], [0, 0]], bool))
    engine = Scorer()
    np.testing.assert_array_equal(scored(engine, tmp_path), expected())
    assert engine.asked == [
        ((7, 7, 1), [False, True]), ((7, 7, 2), [True, False]), ((7, 7, 3), [True, True])
    ]  # fmt: skip


def test_who_waits_for_others_responses_scores_its_own(tmp_path):
    began, go_on = threading.Event(), threading.Event()

    def pause(row: int) -> None:
        began.set()
        assert go_on.wait(60)

    more = [*RESPONSES, Response((4, 4, 4))]
    first, later, found = Scorer(pause), Scorer(), {}
    one = threading.Thread(target=lambda: scored(first, tmp_path))
    one.start()
    assert began.wait(60)

    def wait_and_score() -> None:
        found["later"] = scored(later, tmp_path, more, np.ones((3, 3), bool))

    other = threading.Thread(target=wait_and_score)
    other.start()
    go_on.set()
    one.join()
    other.join()
    np.testing.assert_array_equal(found["later"], expected(more))
    assert [row for _, row in later.asked] == [[False, False, True]] * 3


def test_writers_of_one_row_lose_nothing(tmp_path, monkeypatch, refused):
    put, threads, found = Store.put_arrays, [], {}
    mine, others = RESPONSES[:1], RESPONSES[1:]
    one, other = Scorer(), Scorer()

    def work() -> None:  # the same prompts in pieces of another name, for other responses
        found["other"] = scored(other, tmp_path, others, ALL[:, :1], [[1]] * 3)

    def between(store, *a):
        """Another process adds to the row after this one has read it, and before it writes."""
        if not threads:
            threads.append(threading.Thread(target=work))
            threads[0].start()
            refused(threads[0])
        put(store, *a)

    monkeypatch.setattr(Store, "put_arrays", between)
    found["one"] = scored(one, tmp_path, mine, ALL[:, :1])
    threads[0].join()
    np.testing.assert_array_equal(found["one"], expected(mine))
    np.testing.assert_array_equal(found["other"], expected(others))
    assert len(one.asked) == len(other.asked) == 3  # nothing was lost and scored again
    again = Scorer()
    np.testing.assert_array_equal(scored(again, tmp_path), expected())
    assert again.asked == []


def test_a_row_that_was_lost_is_scored_again(tmp_path, monkeypatch):
    engine, add = Scorer(), scoring._add_to_row

    def overwritten(engine, store, prompt, found) -> None:
        add(engine, store, prompt, found)
        if len(engine.asked) == 2:
            row = {"digest": np.array(["another"]), "sum": np.zeros(1)}
            store.put_arrays("rows", scoring._row_key(engine, prompt), row)

    monkeypatch.setattr(scoring, "_add_to_row", overwritten)
    np.testing.assert_array_equal(scored(engine, tmp_path), expected())
    assert engine.asked[3:] == [(tuple(PROMPTS[1]), [True, True])]


def test_rows_that_cannot_be_read_again_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "get_arrays", lambda *_: None)
    with pytest.raises(UserError, match=f"stored in {tmp_path} cannot be read again"):
        scored(Scorer(), tmp_path)
