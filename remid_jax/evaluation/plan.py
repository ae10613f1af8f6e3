"""What a run will cost, before any of it: contexts, pairs, operations, time and memory."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from remid_jax.analysis import measures
from remid_jax.data import prompts
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.answers import golden_answer
from remid_jax.evaluation.factor_swaps import Swaps
from remid_jax.evaluation.generation import cuts_of, shared_beginning
from remid_jax.evaluation.selection import Answers, Selection, count_tokens
from remid_jax.inference import cost
from remid_jax.inference.cost import probe
from remid_jax.inference.engine import row_flops
from remid_jax.inference.sizes import Sizes, share_of, sizes_for
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import Checkpoint
from remid_jax.models.tokenizer import Tokenizer
from remid_jax.report.tables import new_table

SWAPPED = "contexts with a swapped factor"


@dataclasses.dataclass
class Stage:
    """One kind of work over all subsets; answers that are not known yet count at full length.

    Attributes:
      what: its name.
      shape: of the decoder that does it.
      contexts: prompts that are read; pairs: responses scored under them.
      prefill: operations of prompts and of scored responses; decoding: of generated tokens.
      steps: of the decoding loop.
    """

    what: str
    shape: DecoderConfig
    contexts: int = 0
    pairs: int = 0
    prefill: float = 0.0
    decoding: float = 0.0
    steps: int = 0

    @property
    def flops(self) -> float:
        """All operations."""
        return self.prefill + self.decoding


@dataclasses.dataclass(frozen=True)
class Plan:
    """The work of a run.

    Attributes:
      stages: its kinds.
      longest: tokens of the longest prompt that the policy reads.
      sizes: of the pieces in which the policy's work runs.
      devices: over which a model's weights are spread.
      weights: bytes of all models; memory: bytes beside them; both of one device.
      dtype: of the weights.
    """

    stages: tuple[Stage, ...]
    longest: int
    sizes: Sizes
    devices: int
    weights: int
    memory: int
    dtype: str

    @property
    def flops(self) -> float:
        """All operations."""
        return sum(s.flops for s in self.stages)


def make_plan(
    selection: Selection,
    labels: Mapping[str, measures.Labels | None],
    given: Answers | None,
    swaps: Mapping[str, Swaps],
    cards: Mapping[str, Checkpoint],
    config: ConfigDict,
) -> Plan:
    """Counts the work, and checks that it fits windows and memory.

    Args:
      selection: the chosen contexts; labels: their clusters.
      given: collected responses, or None.
      swaps: contexts with one factor swapped.
      cards: path -> model, under "" and `config.model.path` the policy.
      config: of the diagnosis.

    Raises:
      UserError: a prompt and its answer exceed an evaluated model's window, or too little memory.
    """
    counter = _Counter(cards, given, config)
    for tag, samples in selection.subsets.items():
        counter.subset(samples, labels[tag], swaps.get(tag))
    policy = cards[""]
    memory, longest = config.limits.memory_bytes, counter.longest
    dtype = config.model.cache_dtype or policy.dtype
    models = {id(card): card for card in cards.values()}.values()
    weights = sum(cost.num_parameters(m.config) * cost.BYTES[m.dtype] for m in models)
    devices = config.mesh.fsdp * config.mesh.tensor
    return Plan(
        stages=tuple(s for s in counter.stages.values() if s.contexts),
        longest=longest,
        sizes=sizes_for(share_of(policy.config, config.mesh.tensor), memory, longest, dtype),
        devices=devices,
        weights=weights // devices,
        memory=memory,
        dtype=policy.dtype,
    )


class _Counter:
    """Adds up the stages, subset by subset, in the order in which the line runs them."""

    def __init__(self, cards: Mapping[str, Checkpoint], given: Answers | None, config: ConfigDict):
        self._cards, self._given, self._config = cards, given or {}, config
        shape = cards[""].config
        rpms = {} if given else config.rpms
        self._rpms = {name: (spec, cards[spec.path]) for name, spec in rpms.items()}
        self.stages = {f"answers of {n}": Stage("", c.config) for n, (_, c) in self._rpms.items()}
        for what in ("thoughts", "likelihoods with reasoning", "likelihoods without", SWAPPED):
            self.stages[what] = Stage("", shape)
        for what, stage in self.stages.items():
            stage.what = what
        self.longest = 1
        self._beginnings: dict[tuple[int, str], list[int]] = {}
        self._paid: set[tuple[int, tuple[int, ...]]] = set()  # beginnings cached by which decoder

    def subset(
        self, samples: Sequence[Sample], labels: measures.Labels | None, swaps: Swaps | None
    ) -> None:
        """Adds one subset's work."""
        c = self._config
        for name, (spec, card) in self._rpms.items():
            chats = [(s, prompts.reply_messages(s, spec.view)) for s in samples]
            self._generation(self.stages[f"answers of {name}"], card, name, chats, c.sampling)
        chats = [(s, prompts.reason_messages(s)) for s in samples]
        self._generation(self.stages["thoughts"], self._cards[""], "reasoner", chats, c.reasoning)
        tokenizer = self._cards[""].tokenizer
        golden = [count_tokens(golden_answer(s), tokenizer) for s in samples]
        columns = [golden, *self._answers(samples, tokenizer)]
        pairs = measures.wanted_columns(len(samples), len(columns) - 1, c, labels)
        flat = np.concatenate(columns).astype(int)
        kinds = (("likelihoods with reasoning", c.reasoning.max_tokens), ("likelihoods without", 0))
        for (what, room), wanted in zip(kinds, pairs, strict=True):
            for sample, row in zip(samples, wanted, strict=True):
                chat = prompts.scorer_messages(sample, "" if room else None)
                self._row(what, sample, chat, room, flat[row])
        for i, contexts in enumerate(swaps.contexts if swaps else ()):
            own = [column[i] for column in columns]
            for context in contexts:
                self._row(SWAPPED, context, prompts.scorer_messages(context), 0, own)

    def _answers(self, samples: Sequence[Sample], tokenizer: Tokenizer) -> Iterator[list[int]]:
        """Tokens of each policy's answers, of unknown ones the most that they can have."""
        for column in self._given.values():
            yield [count_tokens(column[s.sample_id], tokenizer) for s in samples]
        for _ in self._rpms:
            yield [self._config.sampling.max_tokens] * len(samples)

    def _row(self, what: str, sample: Sample, chat, room: int, lengths: Sequence[int]) -> None:
        card, stage = self._cards[""], self.stages[what]
        prompt = card.tokenizer.encode_chat(chat)
        shared = self._shared(card, sample, prompt) if what != SWAPPED else 0
        self.longest = max(self.longest, len(prompt) + room)
        stage.contexts += 1
        stage.pairs += len(lengths)
        stage.prefill += row_flops(card.config, len(prompt) + room, lengths, shared)

    def _generation(self, stage: Stage, card: Checkpoint, name: str, chats, drawn) -> None:
        shape, rows = card.config, self._config.sampling.batch_rows
        for sample, chat in chats:
            prompt = card.tokenizer.encode_chat(chat)
            n = len(prompt)
            if (over := n + drawn.max_tokens - shape.max_positions) > 0:
                raise UserError(
                    f"sample {sample.sample_id!r} is {over} tokens too long for the context window "
                    f"of {name!r} ({card.name}, {shape.max_positions}); lower max_tokens or choose "
                    "another model"
                )
            shared = self._shared(card, sample, prompt)
            self.longest = max(self.longest, n)
            stage.contexts += 1
            stage.prefill += cost.extend_flops(shape, n - shared, shared)
            stage.decoding += cost.extend_flops(shape, drawn.max_tokens, n)
            stage.decoding += cost.head_flops(shape, drawn.max_tokens)
        stage.steps += -(-len(chats) // rows) * drawn.max_tokens

    def _shared(self, card: Checkpoint, sample: Sample, prompt: Sequence[int]) -> int:
        """Tokens of the prompt that an earlier one has left in the cache."""
        place = (id(card), sample.sample_id)
        if place not in self._beginnings:  # tokenised once for all roles
            self._beginnings[place] = shared_beginning(card.tokenizer, sample)
        beginning = self._beginnings[place]
        cuts = cuts_of(prompt, beginning)
        if not cuts:
            return 0
        name = (id(card), tuple(beginning))
        first = name not in self._paid
        self._paid.add(name)
        return 0 if first else cuts[0]


def plan_table(plan: Plan) -> Iterator[Table | str]:
    """The plan as a table and lines; measures the machine for the expected time."""
    columns = ("", "contexts", "pairs", "TFLOP", "expected time")
    table = new_table("what this run would do, at most", columns)
    total = 0.0
    machines = {s.shape: probe(s.shape, plan.dtype) for s in plan.stages}
    for s in plan.stages:
        machine = machines[s.shape]
        read = cost.num_parameters(s.shape) * cost.BYTES[plan.dtype]
        seconds = machine.scoring_seconds(s.prefill)
        seconds += machine.decoding_seconds(s.steps, s.decoding, read)
        total += seconds
        pairs = f"{s.pairs:,}" if s.pairs else ""
        table.add_row(s.what, f"{s.contexts:,}", pairs, f"{s.flops / 1e12:.2f}", _time(seconds))
    table.add_section()
    contexts, pairs = (sum(getattr(s, f) for s in plan.stages) for f in ("contexts", "pairs"))
    flops = f"{plan.flops / 1e12:.2f}"
    table.add_row("in all", f"{contexts:,}", f"{pairs:,}", flops, _time(total))
    yield table
    rate = min(m.flops for m in machines.values()) / 1e9
    yield (
        f"time at {rate:.0f} GFLOP/s, measured just now; compilation (once) and finished pieces of "
        "an earlier run are not counted"
    )
    yield from memory_lines(plan)


def memory_lines(plan: Plan) -> Iterator[str]:
    """Memory, and the sizes chosen from it."""
    s, gib = plan.sizes, 2**30
    place = "" if plan.devices == 1 else " of each device"
    yield (
        f"memory{place}: {plan.weights / gib:.2f} GiB of weights, {plan.memory / gib:.2f} GiB "
        f"beside them (config.limits.memory_bytes), of which {s.cache / gib:.2f} GiB for cached "
        f"prompts of up to {plan.longest:,} tokens; prompts run in pieces of {s.chunk:,} tokens, "
        f"responses of {s.call:,}, logits of {s.head:,} tokens"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Prints what a run would cost."""
    console = console or Console(width=120, soft_wrap=True)
    for part in plan_table(plan):
        console.print(part, markup=False, highlight=False)
