"""A plain forward pass over whole sequences: our decoder beside transformers with sdpa attention.

Both end at the normalised hidden states; no logits are computed and no cache is kept.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from benchmarks import gemm, program
from benchmarks.full_sequence import hidden_states
from benchmarks.harness import Contestant, Timed, contest, medians
from benchmarks.model import random_tokens
from benchmarks.program import Report
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops
from remid_jax.models.pretrained import LanguageModel

SIZES = {"tokens": (1024, 40, "tokens of a sequence")}
BATCHES = (1, 2)
TOLERANCE = 1e-4  # of logits, in units of their standard deviation where that is above 1
COMPARED = 16  # positions whose logits are compared


def _agreement(model: LanguageModel, theirs: Any) -> Callable[[int, Mapping[str, Any]], None]:
    decoder = nnx.merge(model.graphdef, model.params)

    def agree(r: int, found: Mapping[str, Any]) -> None:
        ours, other = (found[k] for k in ("ours", "transformers"))
        places = np.unique(np.linspace(0, ours.shape[1] - 1, COMPARED).astype(int))
        logits = np.asarray(decoder.logits(ours[:, places]))
        expected = theirs.logits_of(other[:, places])
        worst = float(np.abs(logits - expected).max()) / max(1.0, float(expected.std()))
        if not worst <= TOLERANCE:
            raise UserError(
                f"logits of ours and transformers differ by {worst:.2g} (at most {TOLERANCE:g} is "
                "rounding); no time is reported"
            )

    return agree


def _contest(args: argparse.Namespace, model: LanguageModel, theirs: Any, batch: int) -> Timed:
    rows = random_tokens(model, [args.tokens] * batch, seed=batch)
    tokens = np.array(rows, np.int32)

    def ours(r: int) -> np.ndarray:
        return np.asarray(hidden_states(model.params, tokens, graphdef=model.graphdef))

    def flops(r: int) -> tuple[float, float]:
        return batch * extend_flops(model.config, args.tokens), 0.0

    contestants = {
        "ours": Contestant({"": ours}, flops),
        "transformers": Contestant({"": lambda r: theirs.full_forward(tokens)}, flops),
    }
    products = gemm.ModelProducts(model.config, batch * args.tokens, args.tokens // 2)
    agree = _agreement(model, theirs)
    return contest(f"forward, batch {batch}", contestants, args.rounds, agree, products)


def run(args: argparse.Namespace) -> Report:
    """Times both sides at each batch size."""
    from benchmarks import torch_side

    model = program.load_model(args)
    theirs = torch_side.TorchModel(model)
    timed = {batch: _contest(args, model, theirs, batch) for batch in BATCHES}
    per_round, meaning = {}, {}
    for batch, t in timed.items():
        end = "" if batch == 1 else f"_batch_{batch}"
        per_round |= {
            f"ratio{end}": t.ratio("transformers", "ours"),
            f"gemm_share{end}": t.share("ours"),
        }
        meaning |= {
            f"ratio{end}": f"seconds of transformers / ours, batch {batch}",
            f"gemm_share{end}": "our FLOP/s / those of plain JAX products of these shapes",
        }
    figures = medians(per_round)
    tables = [
        program.contest_table(f"seconds for {batch} x {args.tokens} tokens", t)
        for batch, t in timed.items()
    ]
    lines = list(program.ratio_lines(figures, meaning))
    figures["batches"] = {str(batch): program.contest_json(t) for batch, t in timed.items()}
    return Report(figures, tables, lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    return program.command("forward", __doc__, run, SIZES, argv)


if __name__ == "__main__":
    sys.exit(main())
