"""vCLUB with its delete-one-group replicates from sums over groups, at any N in bounded memory.

Negatives are the pairs of different groups: pairs within a cluster are dependent and would bias the
estimate. With one context a group these are all pairs i ≠ j.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, is_concrete, real, shown

Array = jax.Array
COUNTS = checks.Rule(
    lambda x: (x >= 0) & (x <= checks.MOST) & (x == np.floor(x)), "must be a number of contexts"
)


class GroupSums(NamedTuple):
    """Sums of a pair matrix S[i, j] = log q(y_j | x_i) by group, each [G].

    Attributes:
      size: contexts n_g of the group.
      own: Σ_{i∈g} S_ii.
      row: Σ_{i∈g, j∉g} S_ij, the group's contexts with others' responses.
      column: Σ_{i∉g, j∈g} S_ij, the group's responses under others' contexts.
    """

    size: Array
    own: Array
    row: Array
    column: Array


@checks.arguments(num_groups=checks.whole(most=checks.MOST_CONTEXTS))
def group_sums(scores: Array, groups: Array, num_groups: int) -> GroupSums:
    """The sums of a dense matrix.

    Args:
      scores: [N, N] nats.
      groups: [N] integers in 0..num_groups−1, negative where a context is left out.
      num_groups: G.

    Raises:
      ValueError: no pair matrix, no such labels, or a used entry that is not finite (in float32).
    """
    groups = jnp.asarray(checks.labels_of(groups, checks.contexts_of(scores), most=num_groups))
    used = (groups >= 0)[:, None] & (groups >= 0)[None, :]
    checks.entries(scores, "scores", used=used, on_device=True)
    scores = jnp.where(used, floating(scores), 0)
    member = jax.nn.one_hot(groups, num_groups, dtype=scores.dtype, axis=0)
    within = member @ scores @ member.T
    inside = jnp.diagonal(within)
    sums = GroupSums(
        member.sum(1), member @ jnp.diagonal(scores), within.sum(1) - inside, within.sum(0) - inside
    )
    return checks.result(sums, "group_sums of scores")


@checks.arguments(num_groups=checks.whole(most=checks.MOST_LISTED), block_rows=checks.whole())
def streamed_group_sums(
    block: Callable[[int, int], Array], groups: np.ndarray, num_groups: int, block_rows: int = 512
) -> GroupSums:
    """The same sums from blocks of rows, computed one after the other; never [N, N] in memory.

    Args:
      block: (start, stop) -> S[start:stop, :] nats, [stop − start, N].
      groups: as in `group_sums`; num_groups likewise.
      block_rows: contexts a block.

    Raises:
      ValueError: as in `group_sums`, or a block of another shape.
    """
    groups = np.asarray(checks.labels_of(groups, most=num_groups))
    checks.count_of(len(groups), "the number of contexts", 2)
    used = groups >= 0
    own, row, column, inside = (np.zeros(num_groups) for _ in range(4))
    for here, scores in _blocks(block, used, block_rows):
        kept = here[used[here]]
        scores = np.where(used, scores, 0)[used[here]]
        of_row = groups[kept]
        np.add.at(own, of_row, scores[np.arange(len(kept)), kept])
        np.add.at(row, of_row, scores.sum(1))
        np.add.at(inside, of_row, np.where(of_row[:, None] == groups, scores, 0).sum(1))
        np.add.at(column, groups[used], scores.sum(0)[used])
    size = np.bincount(groups[used], minlength=num_groups).astype(np.float64)
    sums = GroupSums(*(floating(x) for x in (size, own, row - inside, column - inside)))
    return checks.result(sums, "streamed_group_sums of scores")


def _blocks(
    block: Any, used: np.ndarray, block_rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row numbers of each block and its scores in float64, finite where both contexts are used."""
    if not callable(block):
        raise ValueError(f"block must be a function of start and stop, got {shown(block)}")
    for start in range(0, len(used), block_rows):
        stop = min(start + block_rows, len(used))
        here = np.arange(start, stop)
        read = used[here][:, None] & used
        scores = np.asarray(real(block(start, stop), "scores"), np.float64)
        if scores.shape != read.shape:
            raise ValueError(
                f"block({start}, {stop}) must have shape {read.shape}, got {scores.shape}"
            )
        bad = ~np.isfinite(scores) & read
        if bad.any():
            i, j = (int(k) for k in np.argwhere(bad)[0])
            raise ValueError(f"scores hold {scores[i, j]} at {(start + i, j)}, but must be finite")
        checks.entries(scores, f"scores from row {start} on", used=read)
        yield here, scores


def club_replicates(sums: GroupSums) -> tuple[Array, Array]:
    """All-pairs (between groups) vCLUB, and its values with each group deleted.

    Returns:
      (value, replicates [G]) in nats: what `jackknife_error` takes. A group without contexts
      repeats the value.

    Raises:
      ValueError: fewer than 3 groups with contexts, other shapes, or a sum that is not finite.
    """
    sums = _checked_sums(sums)
    n, own, total = sums.size.sum(), sums.own.sum(), sums.row.sum()
    pairs = n**2 - jnp.sum(sums.size**2)
    value = own / n - total / pairs
    left, left_pairs = n - sums.size, pairs - 2 * sums.size * (n - sums.size)
    rest = total - sums.row - sums.column
    replicates = (own - sums.own) / left - rest / left_pairs
    return checks.result((value, replicates), "club_replicates of sums")


def _checked_sums(sums: Any) -> GroupSums:
    if not isinstance(sums, GroupSums):
        raise ValueError(f"sums must be GroupSums, got {shown(sums)}")
    arrays = [real(x, f"sums.{name}") for name, x in zip(sums._fields, sums, strict=True)]
    shapes = [x.shape for x in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"sums must all have shape [groups], got {shapes}")
    if is_concrete(arrays):
        checks.entries(arrays[0], "sums.size", COUNTS)
        for name, x in zip(sums._fields[1:], arrays[1:], strict=True):
            checks.entries(x, f"sums.{name}", on_device=True)
        groups = np.count_nonzero(np.asarray(arrays[0]))
        if groups < 2:
            raise ValueError("sums of fewer than 2 groups: there is no pair of different groups")
        if groups == 2:
            raise ValueError("sums of 2 groups: a deletion leaves no pair of different groups")
    return GroupSums(*arrays)


@checks.arguments(n=checks.whole(2, checks.MOST_LISTED), block_rows=checks.whole())
def streamed_infonce(
    block: Callable[[int, int], Array], n: int, block_rows: int = 512
) -> tuple[float, float]:
    """InfoNCE and leave-one-out (see `infonce`, `leave_one_out`) from blocks of rows.

    Returns:
      (infonce, leave_one_out), nats.

    Raises:
      ValueError: an entry is not finite, a block has another shape, or fewer than 2 contexts.
    """
    running, others, own = np.full(n, -np.inf), np.full(n, -np.inf), np.zeros(n)
    for here, scores in _blocks(block, np.ones(n, bool), block_rows):
        scores = scores.copy()
        row = np.arange(len(here))
        own[here] = scores[row, here]
        running = np.logaddexp(running, np.logaddexp.reduce(scores, axis=0))
        scores[row, here] = -np.inf
        others = np.logaddexp(others, np.logaddexp.reduce(scores, axis=0))
    return (float(np.mean(own - running + np.log(n))), float(np.mean(own - others + np.log(n - 1))))
