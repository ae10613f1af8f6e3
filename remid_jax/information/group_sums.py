"""vCLUB with its delete-one-group replicates from sums over groups, at any N in bounded memory.

Negatives are the pairs of different groups: pairs within a cluster are dependent and would bias the
estimate. With one context a group these are all pairs i ≠ j.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.arguments import floating, is_concrete, real, shown
from remid_jax.information.checking import (
    MOST,
    MOST_CONTEXTS,
    MOST_LISTED,
    check_block,
    check_each,
    check_finite,
    check_result,
    count_of,
    labels_of,
)

Array = jax.Array


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


def group_sums(scores: Array, groups: Array, num_groups: int) -> GroupSums:
    """The sums of a dense matrix.

    Args:
      scores: [N, N] nats; groups: [N] integers in 0..num_groups−1, negative where a context is
        left out.
      num_groups: G.

    Raises:
      ValueError: not square, fewer than 2 contexts, a label that is no whole number below
        num_groups, or a used entry that is not finite (in float32).
    """
    check_block(scores, np.zeros((), bool))  # its shape and dtype
    num_groups = count_of(num_groups, "num_groups", most=MOST_CONTEXTS)
    groups = jnp.asarray(labels_of(groups, np.shape(scores)[0], most=num_groups))
    used = groups >= 0
    check_block(scores, used[:, None] & used[None, :])
    scores = jnp.where(used[:, None] & used[None, :], floating(scores), 0)
    member = jax.nn.one_hot(groups, num_groups, dtype=scores.dtype, axis=0)
    within = member @ scores @ member.T
    inside = jnp.diagonal(within)
    sums = GroupSums(
        member.sum(1), member @ jnp.diagonal(scores), within.sum(1) - inside, within.sum(0) - inside
    )
    return check_result(sums, "group_sums of scores")


def streamed_group_sums(
    block: Callable[[int, int], Array], groups: np.ndarray, num_groups: int, block_rows: int = 512
) -> GroupSums:
    """The same sums from blocks of rows, computed one after the other; never [N, N] in memory.

    Args:
      block: (start, stop) -> S[start:stop, :] nats, [stop − start, N].
      groups, num_groups: as in `group_sums`.
      block_rows: contexts a block.

    Raises:
      ValueError: a label that is no whole number below num_groups, fewer than 2 contexts, a block
        of another shape, or a used entry that is not finite.
    """
    num_groups = count_of(num_groups, "num_groups", most=MOST_LISTED)
    block_rows = count_of(block_rows, "block_rows")
    groups = np.asarray(labels_of(groups, most=num_groups))
    n = count_of(len(groups), "the number of contexts", 2)
    size = np.bincount(groups[groups >= 0], minlength=num_groups).astype(np.float64)
    own, row, column, inside = (np.zeros(num_groups) for _ in range(4))
    used = groups >= 0
    for start in range(0, n, block_rows):
        stop = min(start + block_rows, n)
        here = groups[start:stop]
        scores = _rows(block, start, stop, used[start:stop, None] & used[None, :])
        scores = np.where(used[start:stop, None] & used[None, :], scores, 0)
        kept = here >= 0
        same = (here[:, None] == groups[None, :]) & kept[:, None]
        diagonal = scores[np.arange(stop - start), np.arange(start, stop)]
        np.add.at(own, here[kept], diagonal[kept])
        np.add.at(row, here[kept], scores.sum(1)[kept])
        np.add.at(inside, here[kept], np.where(same, scores, 0).sum(1)[kept])
        np.add.at(column, groups[used], scores.sum(0)[used])
    sums = GroupSums(*(floating(x) for x in (size, own, row - inside, column - inside)))
    return check_result(sums, "streamed_group_sums of scores")


def _rows(
    block: Callable[[int, int], Array], start: int, stop: int, used: np.ndarray
) -> np.ndarray:
    """Rows of a pair matrix in float64, finite where they are used, [stop − start, N] bool."""
    if not callable(block):
        raise ValueError(f"block must be a function of start and stop, got {shown(block)}")
    scores = np.asarray(real(block(start, stop), "scores"), np.float64)
    if scores.shape != used.shape:
        raise ValueError(f"block({start}, {stop}) must have shape {used.shape}, got {scores.shape}")
    bad = ~np.isfinite(scores) & used
    if bad.any():
        i, j = (int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"scores hold {scores[i, j]} at {(start + i, j)}, but must be finite")
    check_finite(scores, used, f"scores from row {start} on")
    return scores


def club_replicates(sums: GroupSums) -> tuple[Array, Array]:
    """All-pairs (between groups) vCLUB, and its values with each group deleted.

    Returns:
      (value, replicates [G]) in nats: what `jackknife_error` takes. A group without contexts
      repeats the value.

    Raises:
      ValueError: fewer than 2 groups have contexts, with 2 of them a deletion leaves no pair of
        different groups, or a sum is not finite or has another shape.
    """
    sums = _checked_sums(sums)
    n, own, total = sums.size.sum(), sums.own.sum(), sums.row.sum()
    pairs = n**2 - jnp.sum(sums.size**2)
    value = own / n - total / pairs
    left, left_pairs = n - sums.size, pairs - 2 * sums.size * (n - sums.size)
    rest = total - sums.row - sums.column
    return check_result(
        (value, (own - sums.own) / left - rest / left_pairs), "club_replicates of sums"
    )


def _checked_sums(sums: Any) -> GroupSums:
    if not isinstance(sums, GroupSums):
        raise ValueError(f"sums must be GroupSums, got {shown(sums)}")
    arrays = [real(x, f"sums.{name}") for name, x in zip(sums._fields, sums, strict=True)]
    shapes = [x.shape for x in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise ValueError(f"sums must all have shape [groups], got {shapes}")
    if is_concrete(arrays):
        counts = lambda x: (x >= 0) & (x <= MOST) & (x == np.floor(x))  # noqa: E731
        check_each(arrays[0], counts, "must be a number of contexts", "sums.size")
        for name, x in zip(sums._fields[1:], arrays[1:], strict=True):
            check_finite(x, name=f"sums.{name}", on_device=True)
        groups = np.count_nonzero(np.asarray(arrays[0]))
        if groups < 2:
            raise ValueError("sums of fewer than 2 groups: there is no pair of different groups")
        if groups == 2:
            raise ValueError("sums of 2 groups: a deletion leaves no pair of different groups")
    return GroupSums(*arrays)


def streamed_infonce(
    block: Callable[[int, int], Array], n: int, block_rows: int = 512
) -> tuple[float, float]:
    """InfoNCE and leave-one-out (see `infonce`, `leave_one_out`) from blocks of rows.

    Returns:
      (infonce, leave_one_out), nats.

    Raises:
      ValueError: an entry is not finite, a block has another shape, or fewer than 2 contexts.
    """
    n, block_rows = count_of(n, "n", 2, MOST_LISTED), count_of(block_rows, "block_rows")
    running, others, own = np.full(n, -np.inf), np.full(n, -np.inf), np.zeros(n)
    for start in range(0, n, block_rows):
        stop = min(start + block_rows, n)
        scores = _rows(block, start, stop, np.ones((stop - start, n), bool))
        here, columns = np.arange(stop - start), np.arange(start, stop)
        own[columns] = scores[here, columns]
        running = np.logaddexp(running, np.logaddexp.reduce(scores, axis=0))
        scores = scores.copy()
        scores[here, columns] = -np.inf
        others = np.logaddexp(others, np.logaddexp.reduce(scores, axis=0))
    return (
        float(np.mean(own - running + np.log(n))),
        float(np.mean(own - others + np.log(n - 1))),
    )
