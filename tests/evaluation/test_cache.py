"""Files of results: whole or noticed, one by one or copied together."""

import dataclasses
import shutil

import numpy as np
import pytest
from small_requests import MODEL, generate, score

from remid_jax.errors import UserError
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.requests import About, Embed
from remid_jax.evaluation.runner import Part, run
from remid_jax.inference.sampling import Sampled

RESPONSES = ((1, 2), (3,), (4, 5, 6))
VALUES = [np.arange(len(y), dtype=np.float32) - 7.25 for y in RESPONSES]
DRAWN = [Sampled((4, 5), np.array([-0.5, -1.5]), True), Sampled((), np.empty(0), False)]


def same(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_put_is_found_by_another(tmp_path):
    row, asked = score([1, 2], RESPONSES), generate([1, 2], draws=2)
    text = Embed(MODEL, "a text", About("", "", ""))
    cache = Cache(tmp_path)
    assert row not in cache and asked not in cache and text not in cache
    cache.put_scored(row, [0, 1, 2], VALUES)
    cache.put_generated(asked, DRAWN)
    cache.put_embedded(text, np.array([1.5, -2], np.float32))
    for found in (cache, Cache(tmp_path)):
        assert row in found and asked in found and text in found
        same(found.scored(row), VALUES)
        same(found.embedded(text), [1.5, -2])
        for a, b in zip(found.generated(asked), DRAWN, strict=True):
            assert (a.tokens, a.stopped) == (b.tokens, b.stopped)
            same(a.log_probs, b.log_probs)
    assert row not in Cache() and Cache().missing(row) == [0, 1, 2]


def test_responses_are_known_one_by_one(tmp_path):
    cache = Cache(tmp_path)
    cache.put_scored(score([1], RESPONSES[1:2]), [0], VALUES[1:2])
    row = score([1], RESPONSES)
    assert cache.missing(row) == [0, 2]
    cache.put_scored(row, [0, 2], [VALUES[0], VALUES[2]])
    same(Cache(tmp_path).scored(row), VALUES)
    assert len(list((tmp_path / "score").iterdir())) == 2  # neither was written twice


def test_files_of_several_machines_lie_together(tmp_path):
    row = score([1], RESPONSES)
    Cache(tmp_path / "a").put_scored(row, [0, 1], VALUES[:2])
    Cache(tmp_path / "b").put_scored(row, [1, 2], VALUES[1:])
    for part in "ab":
        shutil.copytree(tmp_path / part, tmp_path / "all", dirs_exist_ok=True)
    same(Cache(tmp_path / "all").scored(row), VALUES)


def test_every_altered_byte_is_noticed(tmp_path, capsys):
    row = score([1], RESPONSES)
    Cache(tmp_path).put_scored(row, [0, 1, 2], VALUES)
    (file,) = (tmp_path / "score").iterdir()
    content = file.read_bytes()
    places = range(0, len(content), 7)
    for k in places:
        file.write_bytes(content[:k] + bytes([content[k] ^ 4]) + content[k + 1 :])
        assert row not in Cache(tmp_path)
    for k in (0, 1, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:k])
        assert row not in Cache(tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(places) + 4 and "was cut or altered and is not used" in said[0]
    file.write_bytes(content)
    file.rename(file.with_name(f"{score([2]).key}.x.result"))  # what another prompt gave
    assert score([2], RESPONSES) not in Cache(tmp_path)


def test_a_damaged_file_goes_when_its_results_are_made_again(tmp_path):
    row = score([1], RESPONSES)
    Cache(tmp_path).put_scored(row, [0, 1], VALUES[:2])
    (file,) = (tmp_path / "score").iterdir()
    file.write_bytes(b"")
    cache = Cache(tmp_path)
    assert cache.missing(row) == [0, 1, 2]
    cache.put_scored(row, [0, 1, 2], VALUES)
    assert not file.exists() and row in Cache(tmp_path)


class Scorer:
    """Scores by a rule; fails at one prompt."""

    def __init__(self, bad=None):
        self.bad, self.asked = bad, []

    def score(self, prompt, responses, prefix_lengths):
        if prompt == self.bad:
            raise UserError("it is too long")
        self.asked.append((prompt, responses))
        return [np.full(len(y), -float(sum(prompt)), np.float32) for y in responses]

    def generate(self, prompts, config, draws, prefix_lengths):
        self.asked.append(tuple(prompts))
        return [Sampled((p[0],), np.array([-1.0]), True) for p in prompts for _ in range(draws)]


def rows_of(engine):
    model = dataclasses.replace(MODEL, load=lambda: engine)
    return [score([7, 7, k], RESPONSES, (2,), model=model) for k in (1, 2, 3)]


def test_only_what_is_missing_is_run(tmp_path):
    cache, engine = Cache(tmp_path), Scorer()
    rows = rows_of(engine)
    cache.put_scored(rows[0], [0, 1], VALUES[:2])
    cache.put_scored(rows[1], [0, 1, 2], VALUES)
    run("scores", rows, cache, 2, Part())
    assert engine.asked == [((7, 7, 1), [RESPONSES[2]]), ((7, 7, 3), list(RESPONSES))]
    run("scores", rows, Cache(tmp_path), 2, Part())
    assert len(engine.asked) == 2


def test_what_was_finished_before_a_failure_is_kept(tmp_path):
    rows = rows_of(Scorer(bad=(7, 7, 2)))
    with pytest.raises(UserError, match="sample 's': it is too long"):
        run("scores", rows, Cache(tmp_path), 2, Part())
    assert [r in Cache(tmp_path) for r in rows] == [True, False, False]


def test_a_batch_of_which_a_part_is_lost_runs_whole_again(tmp_path):
    engine = Scorer()
    model = rows_of(engine)[0].model
    asked = [generate([k], sample=str(k), model=model) for k in range(4)]
    run("answers", asked, Cache(tmp_path), 4, Part())
    (tmp_path / "generate" / f"{asked[2].key}.result").unlink()
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "generate").iterdir()}
    run("answers", asked, Cache(tmp_path), 4, Part())
    assert engine.asked == [((0,), (1,), (2,), (3,))] * 2
    after = {f: f.stat().st_mtime_ns for f in (tmp_path / "generate").iterdir()}
    assert set(before.items()) < set(after.items()) and len(after) == 4
