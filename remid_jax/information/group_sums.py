"""vCLUB with its delete-one-group replicates from sums over groups, at any N in bounded memory.

Negatives are the pairs of different groups: pairs within a cluster are dependent and would bias the
estimate. With one context a group these are all pairs i ≠ j.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information.checking import check_block, is_concrete

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
      ValueError: not square, fewer than 2 contexts, or a used entry is not finite.
    """
    groups = jnp.asarray(groups)
    used = groups >= 0
    check_block(scores, used[:, None] & used[None, :])
    scores = jnp.where(used[:, None] & used[None, :], jnp.asarray(scores), 0)
    member = jax.nn.one_hot(groups, num_groups, dtype=scores.dtype, axis=0)
    within = member @ scores @ member.T
    inside = jnp.diagonal(within)
    return GroupSums(
        member.sum(1), member @ jnp.diagonal(scores), within.sum(1) - inside, within.sum(0) - inside
    )


def streamed_group_sums(
    block: Callable[[int, int], Array], groups: np.ndarray, num_groups: int, block_rows: int = 512
) -> GroupSums:
    """The same sums from blocks of rows, computed one after the other; never [N, N] in memory.

    Args:
      block: (start, stop) -> S[start:stop, :] nats, [stop − start, N].
      groups, num_groups: as in `group_sums`.
      block_rows: contexts a block.

    Raises:
      ValueError: a used entry is not finite.
    """
    groups = np.asarray(groups)
    n = len(groups)
    size = np.bincount(groups[groups >= 0], minlength=num_groups).astype(np.float64)
    own, row, column, inside = (np.zeros(num_groups) for _ in range(4))
    used = groups >= 0
    for start in range(0, n, block_rows):
        stop = min(start + block_rows, n)
        here = groups[start:stop]
        scores = np.asarray(block(start, stop), np.float64)
        _check_rows(scores, used[start:stop, None] & used[None, :], start)
        scores = np.where(used[start:stop, None] & used[None, :], scores, 0)
        kept = here >= 0
        same = (here[:, None] == groups[None, :]) & kept[:, None]
        diagonal = scores[np.arange(stop - start), np.arange(start, stop)]
        np.add.at(own, here[kept], diagonal[kept])
        np.add.at(row, here[kept], scores.sum(1)[kept])
        np.add.at(inside, here[kept], np.where(same, scores, 0).sum(1)[kept])
        np.add.at(column, groups[used], scores.sum(0)[used])
    return GroupSums(*(jnp.asarray(x) for x in (size, own, row - inside, column - inside)))


def _check_rows(scores: np.ndarray, used: np.ndarray, start: int) -> None:
    bad = ~np.isfinite(scores) & used
    if bad.any():
        i, j = (int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"scores hold {scores[i, j]} at {(start + i, j)}")


def club_replicates(sums: GroupSums) -> tuple[Array, Array]:
    """All-pairs (between groups) vCLUB, and its values with each group deleted.

    Returns:
      (value, replicates [G]) in nats: what `jackknife_error` takes. A group without contexts
      repeats the value.

    Raises:
      ValueError: fewer than 2 groups have contexts.
    """
    if is_concrete(sums) and np.count_nonzero(np.asarray(sums.size)) < 2:
        raise ValueError("sums of fewer than 2 groups: there is no pair of different groups")
    n, own, total = sums.size.sum(), sums.own.sum(), sums.row.sum()
    pairs = n**2 - jnp.sum(sums.size**2)
    value = own / n - total / pairs
    left, left_pairs = n - sums.size, pairs - 2 * sums.size * (n - sums.size)
    rest = total - sums.row - sums.column
    return value, (own - sums.own) / left - rest / left_pairs


def streamed_infonce(
    block: Callable[[int, int], Array], n: int, block_rows: int = 512
) -> tuple[float, float]:
    """InfoNCE and leave-one-out (see `infonce`, `leave_one_out`) from blocks of rows.

    Returns:
      (infonce, leave_one_out), nats.

    Raises:
      ValueError: an entry is not finite, or fewer than 2 contexts.
    """
    if n < 2:
        raise ValueError(f"{n} contexts: an estimate needs at least 2")
    running, others, own = np.full(n, -np.inf), np.full(n, -np.inf), np.zeros(n)
    for start in range(0, n, block_rows):
        stop = min(start + block_rows, n)
        scores = np.asarray(block(start, stop), np.float64)
        _check_rows(scores, np.ones(scores.shape, bool), start)
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
