"""What RPGBench and CoRL would cost on TPU: a roofline estimate, nothing measured.

The time of a pass is the longest of three: its operations at the chips' peak rate, its bytes of
weights and caches at their memory's rate, what layers exchange at their links' rate. Real runs
reach a share of a roofline, --share says which. Prices are list prices in dollars a chip and hour,
and change: give your own.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from benchmarks import program
from benchmarks.tpu_programs import MODELS
from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.models.decoder import DecoderConfig
from remid_jax.tables import new_table, print_whole

BYTES = cost.BYTES["bfloat16"]
NEGATIVES = 1000  # random pairs of the reference's procedure, for each side
SHIFTS = 32  # cyclic negatives of configs/rpgbench_qwen3_8b.py
SUBSETS = 12


@dataclasses.dataclass(frozen=True)
class Chips:
    """Some chips of one kind.

    Attributes:
      count: how many.
      flops: operations a second of one, in bfloat16.
      memory: bytes a second of its memory; links: of its links to other chips, both ways together.
      price: dollars an hour of one.
      tensor: chips over which heads are cut; the rest of them have rows of their own.
    """

    count: int
    flops: float
    memory: float
    links: float
    price: float
    tensor: int

    def seconds(self, flops: float, read: float, exchanged: float) -> float:
        """Time of work that is spread evenly; `exchanged` is of one chip."""
        return max(
            flops / (self.count * self.flops), read / (self.count * self.memory),
            exchanged / self.links,
        )  # fmt: skip


CHIPS = {
    "v5e-8": Chips(8, 197e12, 819e9, 200e9, 1.2, 8),
    "v5p-64": Chips(64, 459e12, 2765e9, 600e9, 4.2, 4),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """Sizes of RPGBench and of a round of CoRL.

    Attributes:
      contexts: of a subset; context, response, thought: tokens.
      prompts: of a GRPO stage; group: completions of each.
    """

    contexts: int
    context: int
    response: int
    thought: int
    prompts: int
    group: int


def reading(c: DecoderConfig, chips: Chips, tokens: float, flops: float) -> float:
    """Seconds of passes over so many tokens that need so many operations: layers exchange twice."""
    replicas = chips.count / chips.tensor
    share = 2 * (chips.tensor - 1) / chips.tensor  # of an all-reduce, sent by each chip
    exchanged = 2 * c.num_layers * tokens / replicas * c.width * BYTES * share
    return chips.seconds(flops, 0.0, exchanged)


def decoding(c: DecoderConfig, chips: Chips, rows: int, before: int, new: int, batch: int) -> float:
    """Seconds of drawing `new` tokens for `rows` prompts of `before` tokens, `batch` at once."""
    steps = -(-rows // batch) * new
    weights = cost.num_parameters(c) * BYTES * chips.count / chips.tensor  # each replica reads all
    caches = batch * cost.cache_bytes(c, before + new // 2, "bfloat16")
    flops = 2.0 * cost.num_parameters(c) * batch
    return steps * chips.seconds(flops, weights + caches, 0.0)


def benchmark(c: DecoderConfig, chips: Chips, job: Job, way: str) -> float:
    """Seconds of scoring all subsets for golden and one RPM; `way`: reference, cyclic or all."""
    n, context, y = job.contexts, job.context + job.thought, job.response
    if way == "reference":  # every pair is a pass over context and response
        passes = 2 * (n + NEGATIVES)
        tokens = passes * (context + y)
        flops = passes * (cost.extend_flops(c, context + y) + cost.head_flops(c, context + y))
    else:
        pairs = 2 * n * (SHIFTS + 1 if way == "cyclic" else n)
        tokens = n * context + pairs * y
        flops = n * cost.extend_flops(c, context) + pairs * cost.score_flops(c, context, y)
    return SUBSETS * reading(c, chips, tokens, flops)


def generation(c: DecoderConfig, chips: Chips, job: Job, batch: int) -> float:
    """Seconds of all answers and thoughts of all subsets."""
    n = job.contexts * SUBSETS
    prefill = reading(c, chips, n * job.context, n * cost.extend_flops(c, job.context))
    drawn = [decoding(c, chips, n, job.context, k, batch) for k in (job.response, job.thought)]
    return prefill + sum(drawn)


def corl_round(c: DecoderConfig, chips: Chips, job: Job, batch: int) -> dict[str, float]:
    """Seconds of the parts of a round: rollouts, rewards and updates of the reasoner's stage."""
    rows, x, r, y = job.prompts * job.group, job.context, job.thought, job.response
    forward = job.prompts * cost.extend_flops(c, x) + rows * cost.score_flops(c, x, r)
    reward = job.prompts * cost.extend_flops(c, x) + rows * (
        cost.extend_flops(c, r, x) + cost.score_flops(c, x + r, y)
    )
    tokens = job.prompts * x + rows * r
    return {
        "rollouts": decoding(c, chips, rows, x, r, batch),
        "rewards": reading(c, chips, tokens + rows * y, reward),
        # Forward, again for remat, and the activations' gradients: kernels have none of their own.
        "updates": reading(c, chips, 3 * tokens, 3 * forward),
    }


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = program.Parser("roofline", __doc__)
    sizes = {
        "contexts": (1000, "of a subset"), "context": (2000, "tokens of a context"),
        "response": (150, "tokens of a response"), "thought": (512, "tokens of a thought"),
        "prompts": (1000, "of a GRPO stage"), "group": (8, "completions of a prompt"),
        "batch": (256, "rows that are drawn together"),
    }  # fmt: skip
    for name, (default, text) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
    parser.add_argument("--share", type=float, default=0.4, help="of the roofline reached (.4)")
    parser.add_argument("--model", choices=list(MODELS), default="qwen3-8b")
    for name, chips in CHIPS.items():
        parser.add_argument(f"--price-{name}", type=float, default=chips.price, help="$ an hour")
    args = parser.parse_args(argv)
    if min(getattr(args, n) for n in sizes) < 1 or not 0 < args.share <= 1:
        raise UserError("sizes must be at least 1, and --share must lie in (0, 1]")
    return args


def rows_of(args: argparse.Namespace) -> list[tuple[str, ...]]:
    """What is estimated, and for each kind of chips its hours and dollars."""
    c = MODELS[args.model]
    names = [f.name for f in dataclasses.fields(Job)]
    job = Job(**{n: getattr(args, n) for n in names})
    found: dict[str, list[float]] = {}
    for chips in CHIPS.values():
        round_ = corl_round(c, chips, job, args.batch)
        seconds = {
            "answers and thoughts of one RPM": generation(c, chips, job, args.batch),
            "pairs, the reference's way": benchmark(c, chips, job, "reference"),
            f"pairs, {SHIFTS} cyclic negatives": benchmark(c, chips, job, "cyclic"),
            "pairs, all": benchmark(c, chips, job, "all"),
            **{f"CoRL, {part} of a reasoner's stage": s for part, s in round_.items()},
        }
        for what, s in seconds.items():
            found.setdefault(what, []).append(s / args.share / 3600)
    return [
        (what, *(
            cell for name, hours in zip(CHIPS, values, strict=True)
            for cell in (f"{hours:.3g}", f"{hours * CHIPS[name].count * _price(args, name):.3g}")
        ))
        for what, values in found.items()
    ]  # fmt: skip


def _price(args: argparse.Namespace, name: str) -> float:
    return getattr(args, f"price_{name.replace('-', '_')}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command: 0, or 2 after one line of error."""

    def estimate() -> int:
        args = _parse(sys.argv[1:] if argv is None else list(argv))
        columns = ["", *(f"{name}, {unit}" for name in CHIPS for unit in ("hours", "$"))]
        title = (
            f"roofline estimate at {args.share:.0%} of the peak, {args.model}, {SUBSETS} subsets"
        )
        print_whole(new_table(title, columns, rows_of(args)))
        return program.OK

    return program.attempted(estimate)


if __name__ == "__main__":
    sys.exit(main())
