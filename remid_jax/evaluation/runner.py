"""Executes requests: which run together, which process runs them, in which order."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from remid_jax.errors import UserError
from remid_jax.evaluation.asking import ask_servers, share_failures
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.requests import Ask, Embed, Generate, Request, Score, beginnings, costs
from remid_jax.information.uncertainty import clusters
from remid_jax.processes import agree, gather, is_primary, process_count, process_index
from remid_jax.progress import OPERATIONS, progress

EMBEDDED = 32  # texts that are encoded together
Piece = list[Request]


@dataclasses.dataclass(frozen=True)
class Part:
    """What this process does of the work.

    Attributes:
      index: of this part.
      count: parts in all.
      together: whether parts run in processes that wait for one another.
      lockstep: whether all processes run every request together, on one mesh.
    """

    index: int = 0
    count: int = 1
    together: bool = False
    lockstep: bool = False

    def chosen(self, pieces: Sequence[Piece], cache: Cache) -> list[Piece]:
        """The pieces that this process executes.

        Parts of a job array are cut from all pieces, finished or not, so that each can start at any
        time; processes that run together cut what is left, as process 0 sees it.
        """
        if not self.together:
            mine = shares(pieces, self.count)[self.index]
            return [p for p in mine if _is_left(p, cache)]
        left = [p for p, is_left in zip(pieces, _agreed(pieces, cache), strict=True) if is_left]
        return left if self.lockstep else shares(left, self.count)[self.index]


def pieces_of(requests: Sequence[Request], batch_rows: int) -> list[Piece]:
    """Requests that run together, whatever is finished: a resumed run gives the same bits.

    Prompts of like length of answers are decoded together, prompts of one beginning are scored one
    after another, the costliest beginning first: what needs most memory fails early, and what is
    left never turns out longer than it looked.

    Args:
      requests: that can be executed, by models of this machine.
      batch_rows: prompts that are decoded together.
    """
    generating: dict[Any, list[Generate]] = {}
    scoring: dict[Any, list[Score]] = {}
    embedding: list[Embed] = []
    for r in requests:
        if isinstance(r, Generate):
            kind = (r.about.stage, r.about.subset, r.model.fingerprint, r.sampling, r.draws)
            generating.setdefault(kind, []).append(r)
        elif isinstance(r, Score):
            start = r.prompt[: r.prefix_lengths[0]] if r.prefix_lengths else r.prompt
            scoring.setdefault((r.model.fingerprint, start), []).append(r)
        else:
            embedding.append(r)
    ordered = [
        sorted(group, key=lambda r: (-r.expected, r.about.sample)) for group in generating.values()
    ]
    rows = [sorted(group, key=lambda r: r.prompt) for group in scoring.values()]
    rows.sort(key=lambda piece: -max(r.cost().flops for r in piece))
    return [
        *_batches(embedding, EMBEDDED),
        *(piece for group in ordered for piece in _batches(group, batch_rows)),
        *rows,
    ]


def _batches(requests: Sequence[Request], size: int) -> list[Piece]:
    return [list(requests[a : a + size]) for a in range(0, len(requests), size)]


def shares(pieces: Sequence[Piece], count: int) -> list[list[Piece]]:
    """Pieces for each of `count` processes: the costliest left goes to who has least.

    What shares the beginning of a prompt stays together, so that it is read once, unless the
    slowest process is done earlier where it does not. Where none costs anything here, as servers
    do the work, all count alike.
    """
    if count == 1 or not pieces:
        return [list(pieces), *([] for _ in range(count - 1))]
    ways = [_dealt(pieces, units, count) for units in (_sharing(pieces), range(len(pieces)))]
    return min(ways, key=lambda parts: max(_flops(itertools.chain(*part)) for part in parts))


def _sharing(pieces: Sequence[Piece]) -> Sequence[int]:
    """A number for each piece, equal where they share a beginning."""
    entries = [
        (k, place)
        for k, piece in enumerate(pieces)
        for place in dict.fromkeys(place for r in piece for place in beginnings(r)) or (k,)
    ]
    unit_of = dict(zip((k for k, _ in entries), clusters(*zip(*entries, strict=True)), strict=True))
    return [unit_of[k] for k in range(len(pieces))]


def _dealt(pieces: Sequence[Piece], units: Sequence[int], count: int) -> list[list[Piece]]:
    """Pieces of each process, in order; those of one unit stay together."""
    of_unit: dict[int, list[int]] = {}
    for k, unit in enumerate(units):
        of_unit.setdefault(unit, []).append(k)
    work = {u: _flops(r for k in own for r in pieces[k]) or 1.0 for u, own in of_unit.items()}
    load, owner = [0.0] * count, {}
    for unit in sorted(of_unit, key=lambda u: -work[u]):
        owner[unit] = load.index(min(load))
        load[owner[unit]] += work[unit]
    return [[p for p, u in zip(pieces, units, strict=True) if owner[u] == i] for i in range(count)]


def _flops(requests: Iterable[Request]) -> float:
    return sum(c.flops for c in costs(requests))


def _is_left(piece: Piece, cache: Cache) -> bool:
    return any(r not in cache for r in piece)


def _agreed(pieces: Sequence[Piece], cache: Cache) -> list[bool]:
    """Which pieces are left, the same in all processes: what process 0 finds."""
    return gather(is_primary() and [_is_left(p, cache) for p in pieces])[0]


def run(what: str, requests: Sequence[Request], cache: Cache, batch_rows: int, part: Part) -> None:
    """Executes what is not in the cache, or this process's part of it.

    Args:
      what: name of the work, for its progress.
      requests: that can be executed.
      cache: of results.
      batch_rows: prompts that are decoded together.
      part: of this process.

    Raises:
      UserError: naming the sample at fault.
    """
    distinct = _distinct(requests)
    asks = part.chosen([[r] for r in distinct if isinstance(r, Ask)], cache)
    local = [r for r in distinct if not isinstance(r, Ask)]
    chosen = part.chosen(pieces_of(local, batch_rows), cache)
    flops = [_flops(piece) for piece in chosen]
    writes = not part.lockstep or is_primary()
    error = None
    try:
        if writes:
            ask_servers([r for piece in asks for r in piece], cache)
        with progress(what, sum(flops), OPERATIONS) as advance:
            for piece, cost in zip(chosen, flops, strict=True):
                _execute(piece, cache, writes)
                advance(cost, piece[0].about.subset)
    except UserError as e:
        if not part.together:
            raise
        error = e
    if part.together:
        agree(error)
        share_failures(cache)
    if part.count > 1:
        cache.refresh()  # others have written meanwhile


def _distinct(requests: Sequence[Request]) -> list[Request]:
    """Each request once, with all responses that are asked of its prompt.

    Of requests in lockstep only process 0 notes that they are done, so none may come again.
    """
    found: dict[str, Request] = {}
    for r in requests:
        if isinstance(r, Score) and r.key in found:
            both = (*found[r.key].responses, *r.responses)
            r = dataclasses.replace(found[r.key], responses=tuple(dict.fromkeys(both)))
        found[r.key] = r
    return list(found.values())


def _execute(piece: Piece, cache: Cache, writes: bool) -> None:
    first = piece[0]
    if isinstance(first, Score):
        for request in piece:
            _score(request, cache, writes)
        return
    if isinstance(first, Generate):
        lengths = [r.prefix_lengths for r in piece]
        prompts = [r.prompt for r in piece]
        drawn = first.model.engine.generate(prompts, first.sampling, first.draws, lengths)
        for k, r in enumerate(piece):
            if writes and r not in cache:
                cache.put_generated(r, drawn[k * first.draws : (k + 1) * first.draws])
        return
    for r, vector in zip(piece, first.model.engine.embed([r.text for r in piece]), strict=True):
        if writes and r not in cache:
            cache.put_embedded(r, vector)


def _score(request: Score, cache: Cache, writes: bool) -> None:
    chosen = cache.missing(request)
    if not chosen:
        return
    responses = [request.responses[j] for j in chosen]
    try:
        values = request.model.engine.score(request.prompt, responses, request.prefix_lengths)
    except UserError as e:
        raise UserError(f"sample {request.about.sample!r}: {e}") from None
    if writes:
        cache.put_scored(request, chosen, values)


def part_of(shard: str, mesh_size: int) -> Part:
    """This process's part, from `config.shard`, or from the processes that run together."""
    if shard:
        index, count = map(int, shard.split("/"))
        return Part(index, count)
    if process_count() == 1:
        return Part()
    # Where JAX has joined the processes, their devices may bear one mesh.
    lockstep = jax.process_count() > 1 and mesh_size > jax.local_device_count()
    return Part(process_index(), process_count(), together=True, lockstep=lockstep)
