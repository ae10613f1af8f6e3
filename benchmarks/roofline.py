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
from configs import corl_paper, rpgbench_qwen3_8b
from remid_jax.cli import run_command
from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.models.decoder import DecoderConfig
from remid_jax.report.tables import new_table, print_whole

MAIN, CORL = rpgbench_qwen3_8b.get_config(), corl_paper.get_config()
BYTES = cost.BYTES["bfloat16"]
NEGATIVES = 1000  # random pairs of the reference's procedure, for each side
SHIFTS = MAIN.estimator.num_negatives  # cyclic; as many without reasoning (`emi_shifts` 0)
STEP = CORL.reasoner.prompts  # prompts of a GRPO step: no others are drawn at once
SUBSETS = 12


@dataclasses.dataclass(frozen=True)
class Chips:
    """Some chips of one kind, in groups that hold the model once each.

    Attributes:
      count: how many.
      flops: operations a second of one, in bfloat16.
      memory: bytes a second of its memory.
      links: bytes a second that it sends over all of its links, half of what is listed for both
        ways; a ring through a group uses two of them, of 4 on v5e and of 6 on v5p.
      price: dollars an hour of one.
      tensor: chips of a group, over which heads are cut; training: the same in CoRL.
    """

    count: int
    flops: float
    memory: float
    links: float
    price: float
    tensor: int
    training: int

    @property
    def groups(self) -> int:
        """How often the model is held; each group has rows of its own."""
        return self.count // self.tensor

    def seconds(self, flops: float, read: float, sent: float) -> float:
        """Time of work that is spread evenly.

        Args:
          flops: operations of all chips together.
          read: bytes that all chips together read from memory.
          sent: bytes that one chip sends.
        """
        return max(
            flops / (self.count * self.flops), read / (self.count * self.memory), sent / self.links
        )


# Google's names count chips of v5e, but cores of v5p: there these 64 chips are v5p-128. In training
# v5e has the mesh of configs/corl_paper.py, v5p as many groups as a step has prompts.
CHIPS = {
    "v5e-8": Chips(8, 197e12, 819e9, 200e9, 1.2, 8, CORL.mesh.tensor),
    "v5p-64": Chips(64, 459e12, 2765e9, 600e9, 4.2, 4, 64 // STEP),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """Sizes of RPGBench and of a GRPO stage.

    Attributes:
      contexts: of a subset; context, response, thought: tokens.
      prompts: of a GRPO stage; group: completions of each.
      batch: rows that a group of chips decodes together in the main job.
    """

    contexts: int
    context: int
    response: int
    thought: int
    prompts: int
    group: int
    batch: int


def weight_bytes(c: DecoderConfig) -> float:
    """Bytes of the weights that a pass reads: layers and head; of an embedding only rows."""
    return BYTES * (cost.layer_parameters(c) + c.width * c.vocab_size)


def sent_bytes(c: DecoderConfig, chips: Chips, tokens: float) -> float:
    """Bytes that one chip sends while `tokens`, spread over the groups, go through all layers.

    A layer adds up what its group's chips have twice, after attention and after the MLP; a chip
    sends 2 (T - 1) / T of the bytes of such an all-reduce over T chips.
    """
    share = 2 * (chips.tensor - 1) / chips.tensor
    return 2 * c.num_layers * tokens / chips.groups * c.width * BYTES * share


def reading(c: DecoderConfig, chips: Chips, tokens: float, flops: float) -> float:
    """Seconds of passes over `tokens` that need `flops` operations; too long to wait for memory."""
    return chips.seconds(flops, 0.0, sent_bytes(c, chips, tokens))


def decoding(
    c: DecoderConfig, chips: Chips, prompts: int, draws: int, before: int, new: int, most: int
) -> float:
    """Seconds of drawing for cached prompts.

    A token's step reads the weights in each group, each prompt's cache once for all its draws, and
    each draw's own buffer, which has room for all its tokens from the start.

    Args:
      c: shape of the decoder.
      chips: on which.
      prompts: how many in all.
      draws: completions of a prompt.
      before: tokens of a prompt; new: of a completion.
      most: prompts that all groups together continue at once.
    """
    batches = -(-prompts // most)
    at_once = prompts / batches
    rows = at_once * draws
    flops = rows * (cost.extend_flops(c, new, before) + cost.head_flops(c, new)) / new
    caches = at_once * cost.cache_bytes(c, before, "bfloat16")
    caches += rows * cost.cache_bytes(c, new, "bfloat16")
    read = chips.groups * weight_bytes(c) + caches
    return batches * new * chips.seconds(flops, read, sent_bytes(c, chips, rows))


def generation(c: DecoderConfig, chips: Chips, job: Job) -> float:
    """Seconds of all answers and thoughts of all subsets.

    Each reads the contexts: a subset has more caches than `limits.memory_bytes` keeps.
    """
    n, context = job.contexts, job.context
    prefill = reading(c, chips, n * context, n * cost.extend_flops(c, context))
    most = job.batch * chips.groups
    drawn = [decoding(c, chips, n, 1, context, k, most) for k in (job.response, job.thought)]
    return SUBSETS * (2 * prefill + sum(drawn))


def pairs(c: DecoderConfig, chips: Chips, job: Job, way: str, thought: int) -> float:
    """Seconds of the pairs of R-EMI or of EMI in all subsets, for golden and one RPM.

    Args:
      c: shape of the decoder.
      chips: on which.
      job: sizes.
      way: `reference`, where each pair is a pass over context and response; `cyclic` or `all`,
        where a pair continues its context's cache.
      thought: tokens of reasoning after a context, for R-EMI; 0: EMI, which continues the contexts
        that R-EMI has read.
    """
    n, context, y = job.contexts, job.context + thought, job.response
    if way == "reference":
        count = 2 * (n + NEGATIVES)
        tokens = count * (context + y)
        flops = count * (cost.extend_flops(c, context + y) + cost.head_flops(c, context + y))
    else:
        count, first = 2 * n * (SHIFTS + 1 if way == "cyclic" else n), context if thought else 0
        tokens = n * first + count * (y - 1)
        flops = n * cost.extend_flops(c, first) + count * cost.score_flops(c, context, y)
    return SUBSETS * reading(c, chips, tokens, flops)


def reasoner_stage(c: DecoderConfig, chips: Chips, job: Job) -> dict[str, float]:
    """Seconds of the parts of a reasoner's GRPO stage: rollouts, rewards and updates.

    A prompt is read once for all of its rows, in each part.
    """
    chips = dataclasses.replace(chips, tensor=chips.training)
    x, r, y = job.context, job.thought, job.response
    rows, tokens = job.prompts * job.group, job.prompts * x
    prefill = job.prompts * cost.extend_flops(c, x)
    drawn = decoding(c, chips, job.prompts, job.group, x, r, STEP)
    reward = prefill + rows * (cost.extend_flops(c, r, x) + cost.score_flops(c, x + r, y))
    forward = prefill + rows * cost.score_flops(c, x, r)
    return {
        "rollouts": reading(c, chips, tokens, prefill) + drawn,
        "rewards": reading(c, chips, tokens + rows * (r + y - 1), reward),
        # Forward, again for remat, and the activations' gradients: kernels have none of their own.
        "updates": reading(c, chips, 3 * (tokens + rows * (r - 1)), 3 * forward),
    }


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = program.Parser("roofline", __doc__)
    sizes = {
        "contexts": (1000, "of a subset"), "context": (2000, "tokens of a context"),
        "response": (150, "tokens of a response"), "thought": (512, "tokens of a thought"),
        "prompts": (corl_paper.PROMPTS, "of a GRPO stage"),
        "group": (CORL.reasoner.group, "completions of a prompt"),
        "batch": (MAIN.sampling.batch_rows, "rows that a group of chips decodes together"),
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
    ways = {
        "the reference's way": "reference", f"{SHIFTS} cyclic negatives": "cyclic", "all": "all"
    }  # fmt: skip
    for chips in CHIPS.values():
        stage = reasoner_stage(c, chips, job)
        seconds = {
            "answers and thoughts of one RPM": generation(c, chips, job),
            **{
                f"{what} pairs, {said}": pairs(c, chips, job, way, thought)
                for what, thought in (("R-EMI", job.thought), ("EMI", 0))
                for said, way in ways.items()
            },
            **{f"CoRL, {part} of a reasoner's stage": s for part, s in stage.items()},
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

    return run_command(estimate)


if __name__ == "__main__":
    sys.exit(main())
