"""SFT: a step beside peft and transformers, with LoRA on all linear layers.

A step takes the mean −log q of the responses' tokens over examples of one size, each with a prompt
of its own, its gradient, and one update of AdamW. Both sides begin with the same weights and
adapter; the learning rate is so small that all steps find the same loss. Of each side the fastest
setting is timed: parts of the batch one after the other, and in PyTorch logits of the responses
alone or, as its trainers compute them, of all tokens.
"""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.grpo import LORA, OURS, filled_adapter, step_flops
from benchmarks.model import model_of, random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import head_flops
from remid_jax.models.adapters import Adapter, adapted_structure
from remid_jax.models.pretrained import LanguageModel
from remid_jax.training.groups import Example, group_examples
from remid_jax.training.optimiser import OptimiserConfig, init_state
from remid_jax.training.updates import sft_update

SIZES = {
    "examples": (4, 4, "examples of a step"),
    "prompt-tokens": (512, 24, "tokens of a prompt"),
    "response-tokens": (64, 8, "tokens of a response"),
}
LEARNING_RATE = 1e-12
TOLERANCE = {"loss": 1e-4, "norm": 1e-3}  # relative
THEIRS = "peft"
Examples = Sequence[Example]


class OurSteps:
    """Steps of `sft_update`, as training runs them."""

    def __init__(self, model: LanguageModel, adapter: Adapter, examples: Examples):
        self.model = model
        self.optimiser = OptimiserConfig(
            LEARNING_RATE, steps=10**6, warmup=0.0, schedule="constant", clip=1.0
        )
        self.graphdef, _ = adapted_structure(model.config, LORA)
        own = jax.tree.map(jnp.copy, adapter.params)  # an update uses up what it is given
        self.state = init_state(own, self.optimiser)
        longest = max(len(e.prompt) for e in examples)
        rows = [[e] for e in examples]
        self.batch = group_examples(rows, model.config.max_positions, (longest, 0, 0))

    def step(self, parts: int) -> Callable[[int], dict[str, float]]:
        """Round -> loss and norm of the gradient, of so many parts one after the other."""

        def run(r: int) -> dict[str, float]:
            self.state, said = sft_update(
                self.model.params, self.state, self.batch, jax.random.key(r),
                graphdef=self.graphdef, optimiser=self.optimiser, micro_batches=parts, remat=False,
            )  # fmt: skip
            jax.block_until_ready(self.state)
            return {"loss": float(said["loss"]), "norm": float(said["grad_norm"])}

        return run


def agree(r: int, found: Mapping[str, Mapping[str, float]]) -> None:
    """Refuses steps that do not find the same loss and gradient."""
    for name, tolerance in TOLERANCE.items():
        ours, theirs = found[OURS][name], found[THEIRS][name]
        if not abs(ours - theirs) <= tolerance * abs(theirs):
            raise UserError(
                f"the {name} is {ours:.6g} in ours and {theirs:.6g} in peft (at most "
                f"{tolerance:g} of it is rounding); no time is reported"
            )


def run(args: argparse.Namespace) -> h.Report:
    """Lets both sides take turns."""
    from benchmarks import peft_side

    model = model_of(args)
    c, n, p, m = model.config, args.examples, args.prompt_tokens, args.response_tokens
    prompts = random_tokens(model, [p] * n, seed=5)
    responses = random_tokens(model, [m] * n, seed=6)
    examples = [Example(x, y) for x, y in zip(prompts, responses, strict=True)]
    adapter = filled_adapter(model, seed=1)
    numbers = sum(x.size for x in jax.tree.leaves(adapter.params))
    # A response's last token is read by nobody.
    flops = n * step_flops(c, numbers, p + m - 1), head_flops(c, 3 * n * m)
    ours = OurSteps(model, adapter, examples)
    theirs = peft_side.PeftSteps(model, adapter, examples, LEARNING_RATE)
    parts = sorted({1, n})
    ways = {
        OURS: {f"{k} part{'s' * (k > 1)}": ours.step(k) for k in parts},
        THEIRS: {
            f"{k} part{'s' * (k > 1)}, {which} logits": theirs.step(k, every_logit=which == "all")
            for k in parts
            for which in ("answers'", "all")
        },
    }
    contestants = {name: h.Contestant(way, lambda r: flops) for name, way in ways.items()}
    products = h.ModelProducts(c, keys=p)
    timed = h.contest("SFT", contestants, args.rounds, products, agree)
    report = h.Report()
    title = f"seconds for a step on {n} examples, prompts of {p} tokens, responses of {m}"
    report.contest("contestants", title, timed)
    over, under = timed[THEIRS].seconds, timed[OURS].seconds
    report.ratio("ratio", over, under, "seconds of peft and transformers / ours, a step")
    report.figure("gemm_share", timed[OURS].gemm_share, h.GEMM_SHARE)
    return report


main = functools.partial(cli.command, "sft", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
