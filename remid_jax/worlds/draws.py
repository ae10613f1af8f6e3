"""Samples from worlds, and the sums that estimators need, without the pair matrix.

What is no distribution, out of range or of another shape is a ValueError.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import floating, is_concrete, real, refuse
from remid_jax.information.group_sums import GroupSums
from remid_jax.worlds.distributions import Mechanisms, joint_distribution

Array = jax.Array


class Draw(NamedTuple):
    """Contexts and responses, as indices [N]: x = (u, c, d) in C order; group: cluster."""

    x: Array
    golden: Array
    model: Array
    group: Array


@checks.arguments(
    key=checks.random_key, n=checks.whole(most=checks.MOST_LISTED), clusters=checks.whole(0)
)
def draw_contexts(key: Array, mechanisms: Mechanisms, n: int, clusters: int = 0) -> Draw:
    """n contexts; with `clusters` = G, n/G for each of G characters drawn from p(c).

    Clustered contexts have the same distribution one by one, and are dependent within a cluster.

    Returns:
      A draw whose responses are still empty (−1).
    """
    joint = joint_distribution(mechanisms)
    if not clusters:
        x = _draw_index(key, jnp.broadcast_to(joint.ravel(), (1, joint.size)), (n,))
        group = jnp.arange(n, dtype=jnp.int32)
    else:
        if n % clusters:
            raise ValueError(f"{n} contexts cannot be split into {clusters} equal clusters")
        first, second = jax.random.split(key)
        character = _draw_index(first, joint.sum((0, 2))[None], (clusters,))
        group = jnp.repeat(jnp.arange(clusters, dtype=jnp.int32), n // clusters)
        of_character = joint.transpose(1, 0, 2).reshape(joint.shape[1], -1)
        pair = _draw_index(second, of_character, (n,), character[group])
        u, d = pair // joint.shape[2], pair % joint.shape[2]
        x = (u * joint.shape[1] + character[group]) * joint.shape[2] + d
    empty = jnp.full(n, -1, jnp.int32)
    return Draw(x, empty, empty, group)


@checks.arguments(key=checks.random_key)
def draw(
    key: Array, mechanisms: Mechanisms, channel: Array, model: Array, n: int, clusters: int = 0
) -> Draw:
    """Contexts with golden responses y ~ p(·|x) and model responses y_θ ~ p_θ(·|x)."""
    keys = jax.random.split(key, 3)
    contexts = draw_contexts(keys[0], mechanisms, n, clusters)
    return contexts._replace(
        golden=respond(keys[1], channel, contexts.x),
        model=respond(keys[2], model, contexts.x, "model"),
    )


@checks.arguments(key=checks.random_key)
def respond(key: Array, channel: Array, x: Array, name: str = "channel") -> Array:
    """One response y ~ p(·|x) for each context: [N] indices."""
    channel = _table(channel, name)
    checks.distribution(channel, -1, name)
    x = _indices(x, "x", channel.shape[0])
    return _draw_index(key, jnp.asarray(channel), x.shape, x)


def _table(table: Any, name: str) -> Array:
    table = real(table, name)
    if table.ndim != 2:
        raise ValueError(f"{name} must have shape [X, Y], got {table.shape}")
    return table


@checks.arguments(log_q=_table)
def pair_matrix(log_q: Array, x: Array, y: Array) -> Array:
    """S[i, j] = log q(y_j | x_i), [N, N], from a table log q [X, Y]; −∞ where q gives none."""
    if is_concrete(log_q):
        host = np.asarray(log_q)
        refuse(host, np.isnan(host) | np.isposinf(host), "log_q", "must be finite or −inf")
    x, y = _indices(x, "x", log_q.shape[0]), _indices(y, "y", log_q.shape[1])
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"x and y must be lists [N], got shapes {x.shape} and {y.shape}")
    return log_q[x][:, y]


@checks.arguments(log_q=_table, num_groups=checks.whole(most=checks.MOST_LISTED))
def sums_from_counts(log_q: Array, x: Array, y: Array, group: Array, num_groups: int) -> GroupSums:
    """`group_sums` of `pair_matrix` by counting contexts and responses: O(G·X·Y)."""
    checks.entries(log_q, "log_q", on_device=True)
    log_q = floating(log_q)
    x, y = _indices(x, "x", log_q.shape[0]), _indices(y, "y", log_q.shape[1])
    group = _indices(group, "group", num_groups)
    if not x.shape == y.shape == group.shape or x.ndim != 1:
        shapes = f"{x.shape}, {y.shape} and {group.shape}"
        raise ValueError(f"x, y and group must all have shape [N], got {shapes}")
    contexts = jnp.zeros((num_groups, log_q.shape[0]), log_q.dtype).at[group, x].add(1)
    responses = jnp.zeros((num_groups, log_q.shape[1]), log_q.dtype).at[group, y].add(1)
    inside = jnp.sum((contexts @ log_q) * responses, axis=1)
    own = jnp.zeros(num_groups, log_q.dtype).at[group].add(log_q[x, y])
    row = contexts @ (log_q @ responses.sum(0)) - inside
    column = responses @ (contexts.sum(0) @ log_q) - inside
    sums = GroupSums(contexts.sum(1), own, row, column)
    return checks.result(sums, "sums_from_counts of log_q")


def _indices(values: Any, name: str, size: int) -> Array:
    """Whole numbers of 0..size−1: JAX would take the last row for one that is too high."""
    values = real(values, name)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise ValueError(f"{name} must be whole numbers, of an integer type, not {values.dtype}")
    if is_concrete(values):
        host = np.asarray(values)
        refuse(host, (host < 0) | (host >= size), name, f"must be one of 0..{size - 1}")
    return values


def _draw_index(key: Array, p: Array, shape: tuple[int, ...], row: Array | None = None) -> Array:
    """Indices drawn from the rows of p [rows, V] by inverting their cumulative sums.

    One uniform number a draw: Gumbel noise on every entry would cost V of them. `row` names the
    row of each draw; by default the first.
    """
    ends = jnp.cumsum(p, axis=-1)
    uniform = jax.random.uniform(key, shape, p.dtype)
    if row is None:
        found = jnp.searchsorted(ends[0], uniform * ends[0, -1], side="right")
        return found.astype(jnp.int32)
    own = ends[row]
    return jnp.sum(own <= uniform[..., None] * own[..., -1:], axis=-1, dtype=jnp.int32)
