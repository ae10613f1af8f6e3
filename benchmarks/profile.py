"""Where the time of one scoring call goes: its parts, beside plain products of the same shapes.

The call is run whole, without its head, and without head and attention; what a part takes is the
difference. The rest of a part, beyond its products at the rate of plain JAX, is softmax, norms,
rotations and data that is laid out anew.
"""

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks import gemm, program
from benchmarks.harness import Contestant, contest
from benchmarks.model import random_tokens
from benchmarks.program import Report
from remid_jax.inference.cost import extend_flops, head_flops, layer_parameters
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.likelihood import packed_log_probs
from remid_jax.inference.packing import pack
from remid_jax.inference.prefix import prefill
from remid_jax.report.tables import new_table

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
            return q + (k.sum() + v.sum()), None  # keys and values are still computed

        x, _ = decoder.run_layers(decoder.embed(tokens), length + offsets, attend, prefix)
        return decoder.normalise(x)


def run(args: argparse.Namespace) -> Report:
    """Times the three forms of the call in turns."""
    model = program.load_model(args)
    engine, c = JaxEngine(model), model.config
    (context,) = random_tokens(model, [args.context_tokens], seed=8)
    responses = random_tokens(model, [args.response_tokens] * args.responses, seed=9)
    prefix = prefill(model, context)
    call = max(pack(responses, None, engine.sizes.call), key=lambda p: len(p.tokens))
    size = len(call.tokens)
    cache = (prefix.keys, prefix.values)
    parts = (cache, prefix.length, call.tokens, call.offsets, call.segments)
    static = {"graphdef": model.graphdef, "window": call.window}

    def whole(r: int) -> np.ndarray:
        return np.asarray(packed_log_probs(
            model.params, *cache, prefix.length, call.tokens, call.targets, call.offsets,
            call.segments, head=engine.sizes.head, **static,
        ))  # fmt: skip

    def layers(attention: bool) -> Callable[[int], np.ndarray]:
        return lambda r: np.asarray(_layers(model.params, *parts, attention=attention, **static))

    linear = 2.0 * layer_parameters(c) * size
    seen = sum(extend_flops(c, n, prefix.length) - extend_flops(c, n) for *_, n in call.places)
    seen += sum(extend_flops(c, n) - 2.0 * layer_parameters(c) * n for *_, n in call.places)
    head = head_flops(c, size)
    timed = contest(
        "profile",
        {
            WHOLE: Contestant({"": whole}, lambda r: (linear + seen, head)),
            NO_HEAD: Contestant({"": layers(True)}, lambda r: (linear + seen, 0.0)),
            NO_ATTENTION: Contestant({"": layers(False)}, lambda r: (linear, 0.0)),
        },
        args.rounds, lambda r, found: None, gemm.engine_products(engine),
    )  # fmt: skip
    seconds = {name: statistics.median(s) for name, s in timed.seconds.items()}
    rate = statistics.median(timed.gemm[NO_HEAD])
    head_rate = head / (
        (linear + seen + head) / statistics.median(timed.gemm[WHOLE]) - (linear + seen) / rate
    )
    found = {
        "layers": (linear, seconds[NO_ATTENTION], rate),
        "attention": (seen, seconds[NO_HEAD] - seconds[NO_ATTENTION], rate),
        "head": (head, seconds[WHOLE] - seconds[NO_HEAD], head_rate),
        "whole": (linear + seen + head, seconds[WHOLE], statistics.median(timed.gemm[WHOLE])),
    }
    rows = [
        (name, f"{work / 1e9:.4g}", f"{s:.3f}", f"{work / at:.3f}", f"{s - work / at:.3f}",
         f"{s / seconds[WHOLE]:.0%}")
        for name, (work, s, at) in found.items()
    ]  # fmt: skip
    columns = ("part", "GFLOP", "s", "its products, s", "the rest, s", "of the call")
    title = f"one call of {size} tokens on a context of {args.context_tokens}"
    figures = {"seconds": seconds, "flops": {n: w for n, (w, *_) in found.items()}, "ranges": {}}
    return Report(figures, [new_table(title, columns, rows)])


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    return program.command("profile", __doc__, run, SIZES, argv)


if __name__ == "__main__":
    sys.exit(main())
