"""A plain forward pass over whole sequences: our decoder beside transformers with sdpa attention.

Both end at the normalised hidden states; no logits are computed and no cache is kept.
"""

import argparse
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import model_of, random_tokens
from benchmarks.pairs import hidden_states
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops

SIZES = {"tokens": (1024, 40, "tokens of a sequence")}
BATCHES = (1, 2)
TOLERANCE = 1e-4  # of logits, in units of their standard deviation where that is above 1
COMPARED = 16  # positions whose logits are compared
OURS, THEIRS = "ours", "transformers"


def run(args: argparse.Namespace) -> h.Report:
    """Times both sides at each batch size."""
    from benchmarks import torch_side

    model = model_of(args)
    theirs, decoder = torch_side.TorchModel(model), nnx.merge(model.graphdef, model.params)
    places = np.unique(np.linspace(0, args.tokens - 1, COMPARED).astype(int))

    def agree(r: int, found: Mapping[str, Any]) -> None:
        logits = np.asarray(decoder.logits(found[OURS][:, places]))
        expected = theirs.logits_of(found[THEIRS][:, places])
        worst = float(np.abs(logits - expected).max()) / max(1.0, float(expected.std()))
        if not worst <= TOLERANCE:
            raise UserError(
                f"logits of ours and transformers differ by {worst:.2g} (at most {TOLERANCE:g} is "
                "rounding); no time is reported"
            )

    report = h.Report()
    for batch in BATCHES:
        tokens = np.array(random_tokens(model, [args.tokens] * batch, seed=batch), np.int32)
        ways = {
            OURS: lambda r, x=tokens: np.asarray(
                hidden_states(model.params, x, graphdef=model.graphdef)
            ),
            THEIRS: lambda r, x=tokens: theirs.full_forward(x),
        }
        flops = (batch * extend_flops(model.config, args.tokens), 0.0)
        contestants = {n: h.Contestant({"": way}, lambda r, f=flops: f) for n, way in ways.items()}
        products = h.ModelProducts(model.config, batch * args.tokens, args.tokens // 2)
        timed = h.contest(f"forward, batch {batch}", contestants, args.rounds, agree, products)
        report.contest(f"batch_{batch}", f"seconds for {batch} x {args.tokens} tokens", timed)
        end = "" if batch == 1 else f"_batch_{batch}"
        ratio = h.quotients(timed[THEIRS].seconds, timed[OURS].seconds)
        report.figure(f"ratio{end}", ratio, f"seconds of transformers / ours, batch {batch}")
        report.figure(f"gemm_share{end}", timed[OURS].gemm_share, h.GEMM_SHARE)
    return report


main = functools.partial(cli.command, "forward", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
