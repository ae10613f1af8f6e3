"""A plain forward pass over whole sequences: our decoder beside transformers with sdpa attention.

Both end at the normalised hidden states; no logits are computed and no cache is kept.
"""

import argparse
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import model_of, random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops

SIZES = {"tokens": (1024, 40, "tokens of a sequence")}
BATCHES = (1, 2)
TOLERANCE = 1e-4  # of logits, in units of their standard deviation where that is above 1
COMPARED = 16  # positions whose logits are compared
OURS, THEIRS = "ours", "transformers"


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _hidden_states(params: Any, tokens: jax.Array, *, graphdef: Any) -> jax.Array:
    """Normalised hidden states [R, S, width] of whole sequences [R, S], without logits."""
    decoder = nnx.merge(graphdef, params)
    c = decoder.config
    empty = jnp.zeros((c.num_layers, 0, c.num_kv_heads, c.head_dim), decoder.embedding[...].dtype)
    with jax.default_matmul_precision("highest"):
        return decoder.extend(tokens, (empty, empty), 0)[0]


def run(args: argparse.Namespace) -> h.Report:
    """Times both sides at each batch size."""
    from benchmarks import torch_side

    model = model_of(args)
    theirs, decoder = torch_side.TorchModel(model), nnx.merge(model.graphdef, model.params)
    places = np.unique(np.linspace(0, args.tokens - 1, COMPARED).astype(int))
    ours = functools.partial(_hidden_states, model.params, graphdef=model.graphdef)

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
        flops = (batch * extend_flops(model.config, args.tokens), 0.0)
        ways = {
            OURS: lambda r, x=tokens: np.asarray(ours(x)),
            THEIRS: lambda r, x=tokens: theirs.full_forward(x),
        }
        contestants = {n: h.Contestant({"": way}, lambda r, f=flops: f) for n, way in ways.items()}
        products = h.ModelProducts(model.config, batch * args.tokens, args.tokens // 2)
        timed = h.contest(f"forward, batch {batch}", contestants, args.rounds, products, agree)
        report.contest(f"batch_{batch}", f"seconds for {batch} x {args.tokens} tokens", timed)
        end = "" if batch == 1 else f"_batch_{batch}"
        meaning = f"seconds of transformers / ours, batch {batch}"
        report.ratio(f"ratio{end}", timed[THEIRS].seconds, timed[OURS].seconds, meaning)
        report.figure(f"gemm_share{end}", timed[OURS].gemm_share, h.GEMM_SHARE)
    return report


main = functools.partial(cli.command, "forward", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
