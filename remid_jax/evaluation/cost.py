"""What a run costs: the sum over its requests that are not in the cache, by stage."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from remid_jax.evaluation.answers import blocks_of
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.drawn import ANSWERS
from remid_jax.evaluation.plan import Plan, Task
from remid_jax.evaluation.prediction import STAND_INS
from remid_jax.evaluation.requests import Ask, Generate, Request, Score, costs, is_drawn
from remid_jax.evaluation.runner import pieces_of
from remid_jax.evaluation.servers import asked_record
from remid_jax.inference import cost
from remid_jax.inference.sizes import Sizes, share_of, sizes_for
from remid_jax.information.pairs import REFERENCE_ROWS


@dataclasses.dataclass
class Stage:
    """One kind of work over all subsets.

    Attributes:
      what: its name.
      model: that does it.
      contexts: prompts that are read.
      pairs: responses that are scored.
      tokens: that are read, scored or, at most, generated.
      prefill: operations of what is read and scored.
      decoding: operations of generated tokens, at most.
      steps: of the decoding loop, at most.
      estimated: contexts of which answer or thought is not known yet; they count at full length.
    """

    what: str
    model: Any
    contexts: int = 0
    pairs: int = 0
    tokens: int = 0
    prefill: float = 0.0
    decoding: float = 0.0
    steps: int = 0
    estimated: int = 0

    @property
    def flops(self) -> float:
        """All operations."""
        return self.prefill + self.decoding


def left_of(requests: Sequence[Request], cache: Cache) -> list[Request]:
    """Requests that are not in the cache, those of which a part is there without that part."""
    left: list[Request] = []
    for r in requests:
        if isinstance(r, Score) and is_drawn(r.prompt):
            if chosen := cache.missing(r):
                some = tuple(r.responses[j] for j in chosen)
                left.append(dataclasses.replace(r, responses=some))
        elif not r.is_known or r not in cache:
            left.append(r)
    return left


def stages_of(requests: Sequence[Request], batch_rows: int) -> list[Stage]:
    """The work of requests on this machine, added up by stage."""
    stages: dict[str, Stage] = {}
    requests = [r for r in requests if not isinstance(r, Ask)]
    passes: tuple[list[Request], ...] = [], [], []  # caches of one may be gone in the next
    for r in requests:
        passes[2 if isinstance(r, Score) else r.about.stage == STAND_INS].append(r)
    for r, paid in (x for some in passes for x in zip(some, costs(some), strict=True)):
        stage = stages.setdefault(r.about.stage, Stage(r.about.stage, r.model))
        stage.contexts += 1
        stage.pairs += len(r.responses) if isinstance(r, Score) else 0
        stage.tokens += paid.tokens
        stage.prefill += paid.prefill
        stage.decoding += paid.decoding
        stage.estimated += not r.is_known
    for piece in pieces_of([r for r in requests if isinstance(r, Generate)], batch_rows):
        first = piece[0]
        calls = math.ceil(len(piece) / max(1, batch_rows // first.draws))
        stages[first.about.stage].steps += calls * first.sampling.max_tokens
    return list(stages.values())


def context_cost(plan: Plan) -> float | None:
    """What one more context costs, in answers that all RPMs give to one; None where each gives one.

    Of a finished plan: what its requests cost without the RPMs' answers, against what drawing and
    scoring these costs.
    """
    if not any(subset.further for subset in plan.subsets.values()):
        return None
    whole = own = 0.0
    answers = contexts = 0
    for subset in plan.subsets.values():
        blocks = blocks_of(subset.responses, subset.further)
        rpms = {name for name, _ in blocks} - {*REFERENCE_ROWS}
        drawn = [y for (name, _), column in blocks.items() if name in rpms for y in column if y]
        tokens = {y.tokens for y in drawn}
        for r, paid in zip(subset.requests, costs(subset.requests), strict=True):
            whole += paid.flops
            if isinstance(r, Score):
                some = (y for y in r.responses if y in tokens)
                shape, n = r.model.config, len(r.prompt)
                own += sum(cost.score_flops(shape, n, len(y)) for y in some)
            elif r.about.stage.startswith(ANSWERS):
                own += paid.decoding
        contexts += len(subset.asked.ids) * len(rpms)
        answers += len(drawn)
    return (whole - own) / own * answers / contexts if own else None


def longest_of(plan: Plan) -> int:
    """Tokens of the longest prompt, at most."""
    return max(len(r.prompt) for r in plan.requests)


def sizes_of(task: Task, longest: int) -> Sizes:
    """Sizes of the pieces in which the scorer's work runs.

    Raises:
      UserError: too little memory.
    """
    scorer, config = task.models.scorer, task.config
    share = share_of(scorer.config, config.mesh.tensor)
    dtype = config.model.cache_dtype or scorer.dtype
    return sizes_for(share, config.limits.memory_bytes, longest, dtype)


def memory_record(task: Task, longest: int) -> dict[str, Any]:
    """Bytes of one device, and the sizes chosen from them."""
    config = task.config
    devices = config.mesh.fsdp * config.mesh.tensor
    weights = sum(cost.num_parameters(m.config) * cost.BYTES[m.dtype] for m in task.models.all)
    return {
        "weights": weights // devices,
        "memory": config.limits.memory_bytes,
        "devices": devices,
        "longest": longest,
        "sizes": dataclasses.asdict(sizes_of(task, longest)),
    }


def cost_record(task: Task, plan: Plan, longest: int, cache: Cache) -> dict[str, Any]:
    """What is left of a run as plain numbers; measures the machine for the expected time.

    Returns:
      `stages` with `what`, `contexts`, `pairs`, `tokens`, `flops`, `seconds` and `known_share`,
      `rate` in operations a second, `servers` (see `asked_record`), `memory_record`, and
      `at_home`: how many shifted subsets share
      the in-distribution one, its contexts, and the number `best` of them that minimises the
      variance of all unpaired R-EMIDs at one number in all (√k as many as each of k shifted
      subsets).
    """
    left = left_of(plan.requests, cache)
    stages = stages_of(left, task.config.sampling.batch_rows)
    shapes = {s.model.config: s.model.dtype for s in stages if s.model.config}
    machines = {shape: cost.probe(shape, dtype) for shape, dtype in shapes.items()}
    records = []
    for s in stages:
        seconds = 0.0
        if s.model.config:
            machine = machines[s.model.config]
            read = cost.num_parameters(s.model.config) * cost.BYTES[s.model.dtype]
            seconds = machine.scoring_seconds(s.prefill)
            seconds += machine.decoding_seconds(s.steps, s.decoding, read)
        records.append({
            "what": s.what, "contexts": s.contexts, "pairs": s.pairs, "tokens": s.tokens,
            "flops": s.flops, "seconds": seconds, "known_share": 1 - s.estimated / s.contexts,
        })  # fmt: skip
    rate = min((m.flops for m in machines.values()), default=0.0)
    home, *shifted = (len(s) for s in task.selection.subsets.values())
    best = math.ceil(math.sqrt(len(shifted)) * max(shifted))
    share = {"shifted": len(shifted), "contexts": home, "best": best}
    asked = asked_record(left)
    memory = memory_record(task, longest)
    return {"stages": records, "rate": rate, "servers": asked, "at_home": share, **memory}
