"""`likelihood --bf16`: what bfloat16 saves in time, and what it changes in R-EMID."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import gemm, program
from benchmarks.harness import Contestant, contest, medians
from benchmarks.model import cast
from benchmarks.pairs import one_context, shared_flops
from benchmarks.program import Report
from remid_jax.errors import UserError
from remid_jax.inference.engine import JaxEngine
from remid_jax.information.mutual_information import club, effective, emid
from remid_jax.models.pretrained import LanguageModel
from remid_jax.report.tables import new_table

WEIGHTS, CACHES = "bfloat16 weights", "bfloat16 caches"


def r_emid(sums: np.ndarray, policies: int, tokens: int) -> np.ndarray:
    """R-EMID of each evaluated policy in nats per token: first half of the contexts minus second.

    Args:
      sums: [N, policies · K] log q; column p·K + i is policy p's response to context i, golden 0.
      policies: golden and the evaluated ones.
      tokens: of each response.
    """
    n = len(sums)
    columns = sums.reshape(n, policies, -1) / tokens
    halves = (range(n // 2), range(n // 2, n))
    blocks = [[columns[np.ix_(h, [p], h)][:, 0] for p in range(policies)] for h in halves]
    inside, outside = ([float(club(block)) for block in half] for half in blocks)
    return np.array([
        emid(effective(inside[p], inside[0]), effective(outside[p], outside[0]))
        for p in range(1, policies)
    ])  # fmt: skip


def run(
    args: argparse.Namespace,
    model: LanguageModel,
    contexts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
) -> Report:
    """Times float32, bfloat16 weights and bfloat16 caches in turns, a context a round."""
    n = args.rounds
    if not 4 <= n <= min(len(contexts), args.responses):
        raise UserError(
            f"--bf16 needs at least 4 rounds and no more than contexts and responses, not {n}: "
            "each round gives one context of R-EMID"
        )
    if args.policies < 2:
        raise UserError("--policies is 1; --bf16 needs golden and an evaluated model")
    engines = {
        "float32": JaxEngine(model),
        WEIGHTS: JaxEngine(cast(model, "bfloat16")),
        CACHES: JaxEngine(model, cache_dtype="bfloat16"),
    }
    tokens, count = args.response_tokens, len(responses)
    sums: dict[str, dict[int, np.ndarray]] = {name: {} for name in engines}

    def keep(r: int, found: dict[str, Any]) -> None:
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise UserError(f"{name} gives a log-likelihood that is not finite")
            sums[name][r] = values

    def flops(r: int) -> tuple[float, float]:
        return shared_flops(model.config, len(contexts[r]), count, tokens)

    contestants = {
        name: Contestant({"": one_context(engine, contexts, responses)}, flops)
        for name, engine in engines.items()
    }
    timed = contest("bfloat16", contestants, n, keep, gemm.engine_products(engines["float32"]))
    matrices = {name: np.stack([rows[r] for r in range(n)]) for name, rows in sums.items()}
    figures = medians({
        "ratio_bf16_weights": timed.ratio("float32", WEIGHTS),
        "ratio_bf16_caches": timed.ratio("float32", CACHES),
    })  # fmt: skip
    figures |= {"contestants": program.contest_json(timed), "precision": {}}
    exact = r_emid(matrices["float32"], args.policies, tokens)
    figures["r_emid_float32"], rows = exact.tolist(), []
    for name in (WEIGHTS, CACHES):
        apart = np.abs(matrices[name] - matrices["float32"]) / tokens
        change = np.abs(r_emid(matrices[name], args.policies, tokens) - exact)
        found = {
            "largest_per_token": float(apart.max()),
            "mean_per_token": float(apart.mean()),
            "largest_of_r_emid": float(change.max()),
        }
        figures["precision"][name] = found
        rows.append((name, *(f"{v:.2g}" for v in found.values())))
    title = f"seconds for one context of about {args.context_tokens} tokens and {count} responses"
    columns = ("absolute difference from float32", "log q, largest", "mean", "R-EMID, largest")
    tables = [
        program.contest_table(title, timed),
        new_table(f"nats per token, {n} contexts", columns, rows),
    ]
    meaning = {
        "ratio_bf16_weights": "seconds in float32 / with bfloat16 weights",
        "ratio_bf16_caches": "seconds in float32 / with bfloat16 caches",
    }
    lines = (
        *program.ratio_lines(figures, meaning),
        "log q is a response's mean over its tokens; R-EMID: first half of the contexts minus the "
        "second; the weights are random, so a trained model's figures are others",
    )
    return Report(figures, tables, lines)
