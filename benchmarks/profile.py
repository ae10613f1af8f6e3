"""Where the time of one scoring call goes: its parts, beside plain products of the same shapes.

The call is run whole, without its head, and without head and attention; what a part takes is the
difference. The rest of a part, beyond its products at the rate of plain JAX, is softmax, norms,
rotations and data that is laid out anew.
"""

import argparse
import functools
import statistics
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import model_of, random_tokens
from remid_jax.inference.cost import extend_flops, head_flops, layer_parameters
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.likelihood import packed_log_probs
from remid_jax.inference.packing import pack
from remid_jax.inference.prefix import prefill

SIZES = {
    "context-tokens": (1000, 50, "tokens of the context"),
    "responses": (8, 3, "responses of the call"),
    "response-tokens": (64, 12, "tokens of a response"),
}
WHOLE, NO_HEAD, NO_ATTENTION = "whole", "without head", "without head and attention"


@functools.partial(jax.jit, static_argnames=("graphdef", "window", "attention"))
def _layers(
    params: Any, prefix: Any, length: Any, tokens: Any, offsets: Any, segments: Any, *,
    graphdef: Any, window: int, attention: bool,
) -> Any:  # fmt: skip
    """The call without its head; without attention a query stands in for what it attends to."""
    decoder = nnx.merge(graphdef, params)
    with jax.default_matmul_precision("highest"):
        if attention:
            return decoder.extend_packed(tokens, length + offsets, segments, window, prefix, length)

        def attend(q: Any, k: Any, v: Any, cache: Any) -> tuple[Any, None]:
            read = (k.sum() + v.sum()).astype(q.dtype)  # keys and values are still computed
            return q + read, None

        x, _ = decoder.run_layers(decoder.embed(tokens), length + offsets, attend, prefix)
        return decoder.normalise(x)


def run(args: argparse.Namespace) -> h.Report:
    """Times the three forms of the call in turns."""
    model = model_of(args)
    engine, c = JaxEngine(model), model.config
    (context,) = random_tokens(model, [args.context_tokens], seed=8)
    responses = random_tokens(model, [args.response_tokens] * args.responses, seed=9)
    prefix = prefill(model, context)
    call = max(pack(responses, None, engine.sizes.call), key=lambda p: len(p.tokens))
    size, cache = len(call.tokens), (prefix.keys, prefix.values)
    static = {"graphdef": model.graphdef, "window": call.window}

    def whole(r: int) -> np.ndarray:
        return np.asarray(packed_log_probs(
            model.params, *cache, prefix.length, call.tokens, call.targets, call.offsets,
            call.segments, head=engine.sizes.head, **static,
        ))  # fmt: skip

    def layers(r: int, attention: bool) -> np.ndarray:
        given = (cache, prefix.length, call.tokens, call.offsets, call.segments)
        return np.asarray(_layers(model.params, *given, attention=attention, **static))

    linear, head = 2.0 * layer_parameters(c) * size, head_flops(c, size)
    seen = sum(
        extend_flops(c, n, prefix.length) - 2.0 * layer_parameters(c) * n for *_, n in call.places
    )
    body = linear + seen
    timed = h.contest(
        "profile",
        {
            WHOLE: h.Contestant({"": whole}, lambda r: (body, head)),
            NO_HEAD: h.Contestant({"": lambda r: layers(r, True)}, lambda r: (body, 0.0)),
            NO_ATTENTION: h.Contestant({"": lambda r: layers(r, False)}, lambda r: (linear, 0.0)),
        },
        args.rounds, h.ModelProducts(c, engine.sizes.call),
    )  # fmt: skip
    seconds = {name: statistics.median(t.seconds) for name, t in timed.items()}
    plain = {name: statistics.median(t.gemm_flops_per_s) for name, t in timed.items()}
    products = {WHOLE: (body + head) / plain[WHOLE], NO_HEAD: body / plain[NO_HEAD]}
    parts = {
        "layers": (linear, seconds[NO_ATTENTION], linear / plain[NO_HEAD]),
        "attention": (seen, seconds[NO_HEAD] - seconds[NO_ATTENTION], seen / plain[NO_HEAD]),
        "head": (head, seconds[WHOLE] - seconds[NO_HEAD], products[WHOLE] - products[NO_HEAD]),
        "whole": (body + head, seconds[WHOLE], products[WHOLE]),
    }
    report = h.Report()
    title = f"one call of {size} tokens on a context of {args.context_tokens}"
    report.table("parts", title, [
        {
            "part": name, "GFLOP": flops / 1e9, "s": took, "its products, s": least,
            "the rest, s": took - least, "of the call": took / seconds[WHOLE],
        }
        for name, (flops, took, least) in parts.items()
    ])  # fmt: skip
    return report


main = functools.partial(cli.command, "profile", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
