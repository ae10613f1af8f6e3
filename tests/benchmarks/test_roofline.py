"""The roofline estimate: what bounds it, against numbers that were worked out by hand."""

import dataclasses
import math

import pytest

from benchmarks import roofline
from benchmarks.roofline import (
    CHIPS,
    STEP,
    Chips,
    Job,
    decoding,
    generation,
    pairs,
    reading,
    reasoner_stage,
    sent_bytes,
    weight_bytes,
)
from benchmarks.tpu_programs import MODELS
from configs import corl_paper, rpgbench_qwen3_8b
from remid_jax.models.decoder import DecoderConfig

# Products: 16 weights of attention and 18 of the MLP in its layer, 10 in its head. So a token is
# 68 operations, 20 more with logits and 8 for each key; a cached token is 8 bytes.
TINY = DecoderConfig(
    vocab_size=5, num_layers=1, width=2, num_heads=1, num_kv_heads=1, head_dim=2, mlp_width=3,
    max_positions=100, rope_theta=1e4, norm_eps=1e-6, tie_embeddings=False,
)  # fmt: skip
JOB = Job(contexts=3, context=4, response=2, thought=1, prompts=2 * STEP, group=3, batch=2)


def chips(bound: str, count: int = 1, tensor: int = 1, training: int = 1) -> Chips:
    """Chips of which one thing alone takes time, a second for each operation or byte."""
    rates = {"flops": math.inf, "memory": math.inf, "links": math.inf, bound: 1.0}
    return Chips(count=count, price=1.0, tensor=tensor, training=training, **rates)


def test_rows_of_an_embedding_are_read_and_a_tied_one_is_the_head():
    assert weight_bytes(TINY) == 88
    assert weight_bytes(dataclasses.replace(TINY, tie_embeddings=True)) == 88
    assert weight_bytes(MODELS["qwen3-8b"]) == pytest.approx(16.38e9 - 1.24e9, rel=1e-3)


def test_each_limit_binds_alone_and_is_shared_by_what_it_is_shared_by():
    assert Chips(4, 10.0, 1e9, 1e9, 1.0, 2, 2).seconds(80, 1, 1) == 2
    assert Chips(4, 1e9, 10.0, 1e9, 1.0, 2, 2).seconds(1, 80, 1) == 2
    assert Chips(4, 1e9, 1e9, 10.0, 1.0, 2, 2).seconds(1, 1, 80) == 8


def test_a_chip_sends_two_all_reduces_a_layer():
    assert sent_bytes(TINY, chips("links"), 10) == 0
    # 5 tokens of a group, 2 sums of 2 numbers in 2 bytes, 2 · 1/2 and 2 · 3/4 of each.
    assert sent_bytes(TINY, chips("links", 4, 2), 10) == 40
    assert sent_bytes(TINY, chips("links", 8, 4), 10) == 60
    deep = dataclasses.replace(TINY, num_layers=3)
    assert reading(deep, chips("links", 4, 2), 10, 1e9) == 120


def test_links_are_those_of_one_way():
    both = {"v5e-8": 400e9, "v5p-64": 1200e9}  # listed as bidirectional for a chip
    assert {name: 2 * c.links for name, c in CHIPS.items()} == both


def test_decoding_reads_weights_a_prompts_cache_once_and_each_draws_buffer():
    # 2 batches of 5 tokens: 88 of weights, 2 prompts of 10 tokens, 6 rows of 5.
    drawn = (4, 3, 10, 5, 2)
    assert decoding(TINY, chips("memory"), *drawn) == 10 * (88 + 2 * 80 + 6 * 40)
    # Two groups read the weights twice, and share the caches.
    assert decoding(TINY, chips("memory", 2), *drawn) == 10 * (2 * 88 + 400) / 2
    assert decoding(TINY, chips("memory", 2, 2), *drawn) == 10 * (88 + 400) / 2
    # 3 prompts are 1.5 a batch.
    assert decoding(TINY, chips("memory"), 3, 3, 10, 5, 2) == 10 * (88 + 120 + 180)


def test_decoding_multiplies_and_exchanges_for_each_row():
    drawn = (4, 3, 10, 5, 2)
    one = 5 * (68 + 20) + 8 * (50 + 15)
    assert decoding(TINY, chips("flops"), *drawn) == pytest.approx(12 * one)
    # 10 steps of 3 rows of each group.
    assert decoding(TINY, chips("links", 4, 2), *drawn) == 10 * 3 * 2 * 2 * 2


def test_answers_and_thoughts_read_the_contexts_each():
    context = 4 * 68 + 8 * 10
    answer, thought = 2 * 88 + 8 * (8 + 3), 88 + 8 * 5
    every = 12 * (2 * 3 * context + 3 * answer + 3 * thought)
    assert generation(TINY, chips("flops"), JOB) == pytest.approx(every)
    # 3 contexts in 2 batches of 1.5; answers of 2 tokens, thoughts of 1.
    steps = 4 * (88 + 1.5 * 32 + 1.5 * 16) + 2 * (88 + 1.5 * 32 + 1.5 * 8)
    assert generation(TINY, chips("memory"), JOB) == 12 * steps


def test_a_group_decodes_a_batch_of_its_own():
    # Two groups of 2 rows take all 3 contexts at once.
    steps = 2 * (2 * 88 + 3 * 32 + 3 * 16) + 1 * (2 * 88 + 3 * 32 + 3 * 8)
    assert generation(TINY, chips("memory", 2), JOB) == 12 * steps / 2


def test_the_reference_passes_over_context_and_response_for_each_pair():
    count = 2 * (3 + 1000)
    for thought, tokens, keys in ((1, 7, 28), (0, 6, 21)):
        one = tokens * (68 + 20) + 8 * keys
        assert pairs(TINY, chips("flops"), JOB, "reference", thought) == 12 * count * one
        sent = 12 * count * tokens * 2 * 2 * 2
        assert pairs(TINY, chips("links", 2, 2), JOB, "reference", thought) == sent


@pytest.mark.parametrize(("way", "count"), [("cyclic", 2 * 3 * 33), ("all", 2 * 3 * 3)])
def test_pairs_continue_a_context_that_emi_does_not_read_again(way, count):
    contexts = 3 * (5 * 68 + 8 * 15)
    r_emi = contexts + count * (68 + 20 + 8 * 6)
    assert pairs(TINY, chips("flops"), JOB, way, 1) == 12 * r_emi
    assert pairs(TINY, chips("flops"), JOB, way, 0) == 12 * count * (68 + 20 + 8 * 5)
    two = chips("links", 2, 2)
    assert pairs(TINY, two, JOB, way, 1) == 12 * (3 * 5 + count) * 8
    assert pairs(TINY, two, JOB, way, 0) == 12 * count * 8


def test_a_stage_draws_the_rows_of_one_step_at_once():
    job = dataclasses.replace(JOB, thought=2, batch=1000)  # `batch` is the main job's
    assert STEP == 8
    # 2 steps of 8 prompts and 24 rows, of 2 tokens, in 2 groups: prompts read in no time.
    found = reasoner_stage(TINY, chips("memory", 4, 4, 2), job)
    assert found["rollouts"] == 4 * (2 * 88 + 8 * 32 + 24 * 16) / 4
    assert found["rewards"] == found["updates"] == 0


def test_all_parts_of_a_stage_read_each_prompt_once():
    job = dataclasses.replace(JOB, thought=2)
    prompts = 16 * (4 * 68 + 8 * 10)
    # 48 rows: drawn thoughts; thought and response but its last token; thought but its last token.
    drawn = 2 * 88 + 8 * (8 + 3)
    scored = 2 * 68 + 8 * (8 + 3) + 88 + 8 * 7
    trained = 88 + 8 * 5
    found = reasoner_stage(TINY, chips("flops"), job)
    assert found["rollouts"] == pytest.approx(prompts + 48 * drawn)
    assert found["rewards"] == prompts + 48 * scored
    assert found["updates"] == 3 * (prompts + 48 * trained)


def test_a_stage_exchanges_in_groups_of_its_own():
    job = dataclasses.replace(JOB, thought=2)
    found = reasoner_stage(TINY, chips("links", 4, 4, 2), job)
    one = 8 / 2  # bytes a token, half of the tokens in each group
    assert found["rollouts"] == (64 + 4 * 24) * one
    assert found["rewards"] == (64 + 48 * 3) * one
    assert found["updates"] == 3 * (64 + 48) * one


def test_it_supposes_what_the_configurations_do():
    main, corl = rpgbench_qwen3_8b.get_config(), corl_paper.get_config()
    assert (main.estimator.negatives, main.estimator.emi_shifts) == ("cyclic", 0)
    assert main.mesh.tensor == CHIPS["v5e-8"].tensor
    assert (corl.mesh.fsdp, corl.mesh.tensor) == (2, CHIPS["v5e-8"].training)
    assert all(STEP % (c.count // c.training) == 0 for c in CHIPS.values())
    args = roofline._parse([])
    assert (args.batch, args.thought) == (main.sampling.batch_rows, main.reasoning.max_tokens)
    assert (args.prompts, args.group) == (corl_paper.PROMPTS, corl.reasoner.group)


def test_the_command(capsys):
    assert roofline.main(["--model", "llama3-8b", "--price-v5e-8", "0"]) == 0
    out = capsys.readouterr().out
    assert "roofline estimate at 40% of the peak, llama3-8b" in out
    lines = {a: b.split() for a, _, b in (x.strip().partition("   ") for x in out.splitlines())}
    for what in ("R-EMI", "EMI"):
        for way in ("the reference's way", "32 cyclic negatives", "all"):
            hours, dollars, *_ = lines[f"{what} pairs, {way}"]
            assert float(hours) > 0 and float(dollars) == 0
    assert roofline.main(["--share", "2"]) == 2
    assert "--share must lie in (0, 1]" in capsys.readouterr().err


def test_hours_and_dollars_at_a_share():
    full, half = (roofline.rows_of(roofline._parse(["--share", s])) for s in ("1", ".5"))
    seconds = pairs(MODELS["qwen3-8b"], CHIPS["v5e-8"], Job(1000, 2000, 150, 512, 1000, 8, 32),
                    "cyclic", 0)  # fmt: skip
    for rows, times in ((full, 1), (half, 2)):
        _, hours, dollars, *_ = next(r for r in rows if r[0] == "EMI pairs, 32 cyclic negatives")
        assert float(hours) == pytest.approx(times * seconds / 3600, rel=5e-3)
        assert float(dollars) == pytest.approx(times * seconds / 3600 * 8 * 1.2, rel=5e-3)
