"""The Jensen-Shannon divergence of two sets of feature vectors by their spectra, in nats.

It is never above the divergence of the two empirical distributions, but as an estimate of what lies
behind the samples it has a finite-sample floor, which is measured and reported.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.information import checks
from remid_jax.information.arguments import is_concrete, real, refuse

Array = jax.Array

BATCH_ENTRIES = 2**22  # array entries of the permutations that are computed side by side
LARGEST = 1e15  # features; their squares and sums of those stay within float32
FEATURES = checks.Rule(lambda v: np.abs(v) <= LARGEST, "must be at most 1e15 in size")
TIE_EPSILONS = 32  # values of permutations that differ by rounding alone count as equal


@dataclasses.dataclass(frozen=True)
class RepresentationJSD:
    """A representation divergence beside what relabelled data give.

    Attributes:
      value: the divergence, nats.
      floor: mean of the divergence under permuted labels: what no shift at all reads.
      corrected: value − floor; may be negative.
      p_value: share of permutations, the data's own labels included, that reach the value.
      n: vectors in each set.
    """

    value: float
    floor: float
    corrected: float
    p_value: float
    n: int


def check_pair(a: Any, b: Any) -> None:
    """Checks that a [n, d] and b [m, d] are finite and hold at least 2 vectors each."""
    for name, x in (("a", a), ("b", b)):
        shape = real(x, name, empty=True).shape
        if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
            raise ValueError(f"{name} must be [n >= 2 vectors, d >= 1 features], got shape {shape}")
        checks.entries(x, name, FEATURES)
    if np.shape(a)[1] != np.shape(b)[1]:
        raise ValueError(f"a and b must have equal width, got shapes {np.shape(a)}, {np.shape(b)}")


def _check_directions(a: Any, b: Any) -> None:
    """Checks two sets of equally many directions."""
    check_pair(a, b)
    if np.shape(a) != np.shape(b):
        raise ValueError(
            f"a and b must hold equally many vectors, got shapes {np.shape(a)}, {np.shape(b)}: "
            "the finite-sample floor depends on n (see equal_size)"
        )
    for name, x in (("a", a), ("b", b)):
        if is_concrete(x):
            norms = np.linalg.norm(np.asarray(real(x, name), np.float64), axis=1)
            if not norms.all():
                row = int(np.argmin(norms))
                raise ValueError(
                    f"{name} of shape {np.shape(x)}: row {row} is zero, has no direction"
                )
            what = f"must be at least {1 / LARGEST:g} for float32"
            refuse(norms, norms < 1 / LARGEST, f"{name}: lengths of rows", what)


@checks.arguments(seed=checks.SEED)
def equal_size(a: Any, b: Any, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws rows of the larger set, without replacement and in order, to the smaller one's number.

    Raises:
      ValueError: shapes that do not fit, an entry that is not finite, or a seed that is none.

    >>> [len(x) for x in equal_size(np.ones((5, 2)), np.ones((3, 2)))]
    [3, 3]
    """
    check_pair(a, b)
    a, b = (np.asarray(real(x, name)) for name, x in (("a", a), ("b", b)))
    rng = np.random.default_rng(seed)
    n = min(len(a), len(b))
    draw = lambda x: x if len(x) == n else x[np.sort(rng.permutation(len(x))[:n])]  # noqa: E731
    return draw(a), draw(b)


def _unit(x: Any) -> Array:
    x = jnp.asarray(real(x, "features"), float)
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def _density(z: Array) -> Array:
    """ρ of unit rows [n, d]: the covariance, or the Gram matrix with the same spectrum."""
    n, d = z.shape
    small = z if d <= n else z.T
    return jnp.matmul(small.T, small, precision="highest") / n


def _entropy(z: Array) -> Array:
    eigenvalues = jnp.linalg.eigvalsh(_density(z))
    safe = jnp.where(eigenvalues > 0, eigenvalues, 1)  # rounding leaves null ones on either side
    return -jnp.sum(safe * jnp.log(safe))


def von_neumann_entropy(features: Any) -> Array:
    """S(ρ) = −Σ λ log λ over the eigenvalues of ρ = Σ z zᵀ / n, z = x / ‖x‖.

    Args:
      features: [n, d], no row zero.

    Returns:
      A scalar in nats, in [0, log min(n, d)].

    Raises:
      ValueError: not a matrix, an entry that is not finite, or a zero row.

    >>> round(float(von_neumann_entropy(jnp.eye(2))), 4)
    0.6931
    """
    _check_directions(features, features)
    return checks.result(_entropy(_unit(features)), "von_neumann_entropy of features")


def representation_jsd(a: Any, b: Any) -> Array:
    """S((ρ_a + ρ_b)/2) − (S(ρ_a) + S(ρ_b))/2, the quantum Jensen-Shannon divergence of two sets.

    ρ is the covariance (not centred) of unit-norm vectors, of trace 1, and S its von Neumann
    entropy (Hoyos-Osorio and Sanchez-Giraldo, arXiv 2305.16446, with a linear kernel). It is at
    most the Jensen-Shannon divergence of the empirical distributions, and log 2; as an estimate of
    what they were drawn from it is biased upwards: see the floor of `representation_jsd_test`. It
    compares second moments of directions, so x and −x are the same to it, and means count:
    features should not be centred.

    Args:
      a: [n, d] feature vectors, no row zero; b: likewise.

    Returns:
      A scalar in nats.

    Raises:
      ValueError: shapes that differ, an entry that is not finite, or a zero row.

    >>> a, b = jnp.array([[1.0, 0.0]] * 2), jnp.array([[0.0, 1.0]] * 2)
    >>> round(float(representation_jsd(a, b)), 4)
    0.6931
    """
    _check_directions(a, b)
    return checks.result(_divergence(_unit(a), _unit(b)), "representation_jsd of a and b")


def _divergence(a: Array, b: Array) -> Array:
    return _entropy(jnp.concatenate([a, b])) - (_entropy(a) + _entropy(b)) / 2


def _relabelled(key: Array, n: int, paired: bool) -> Array:
    """Indices [2n] into the pooled sets: the first n go to one set, the rest to the other."""
    if not paired:
        return jax.random.permutation(key, 2 * n)
    swap = n * jax.random.bernoulli(key, shape=(n,)).astype(int)
    own = jnp.arange(n)
    return jnp.concatenate([own + swap, own + n - swap])


@functools.partial(jax.jit, static_argnames=("paired",))
def _relabelled_densities(pooled: Array, keys: Array, paired: bool) -> Array:
    """ρ of the two halves of the pooled sets under each key's labels, [keys, 2, m, m]."""
    n = len(pooled) // 2

    def relabel(key: Array) -> Array:
        rows = pooled[_relabelled(key, n, paired)]
        return jnp.stack([_density(rows[:n]), _density(rows[n:])])

    return jax.vmap(relabel)(keys)


def _host_entropy(densities: Any) -> np.ndarray:
    """S of [..., m, m] on the host: NumPy spares the eigenvectors, most of the time of `eigh`."""
    values = np.linalg.eigvalsh(np.asarray(densities, np.float64))
    return -np.sum(values * np.log(values, where=values > 0, out=np.zeros_like(values)), axis=-1)


def _permutation_null(
    a: Array, b: Array, permutations: int, seed: int, paired: bool
) -> tuple[float, np.ndarray]:
    """The divergence, and [permutations] values of it under random labels."""
    pooled = jnp.concatenate([a, b])
    mixture = _host_entropy(_density(pooled))  # the same whatever the labels
    value = mixture - (_host_entropy(_density(a)) + _host_entropy(_density(b))) / 2
    together = max(1, BATCH_ENTRIES // pooled.size)
    keys = jax.random.split(jax.random.key(seed), permutations)
    halves = [
        _host_entropy(_relabelled_densities(pooled, keys[i : i + together], paired))
        for i in range(0, permutations, together)
    ]
    return float(value), mixture - np.concatenate(halves).mean(axis=1)


@checks.arguments(permutations=checks.DRAWS, seed=checks.SEED, paired=checks.flag)
def representation_jsd_test(
    a: Any, b: Any, *, permutations: int = 200, seed: int = 0, paired: bool = False
) -> RepresentationJSD:
    """`representation_jsd` with its floor and p-value from permuted labels.

    Args:
      a: [n, d] feature vectors, no row zero; b: likewise.
      permutations: number of random relabellings.
      seed: of the relabellings.
      paired: whether row i of `b` varies row i of `a`; then the two are exchanged within a pair.
        Without pairs, dependent rows void the p-value.

    Returns:
      Value, floor, value − floor, p-value (with the +1 correction) and n.

    Raises:
      ValueError: as `representation_jsd`, or an argument of another kind.
    """
    _check_directions(a, b)
    a, b = _unit(a), _unit(b)
    value, null = _permutation_null(a, b, permutations, seed, paired)
    slack = TIE_EPSILONS * float(jnp.finfo(a.dtype).eps)
    floor = float(null.mean())
    p_value = (1 + int((null >= value - slack).sum())) / (1 + permutations)
    return RepresentationJSD(value, floor, value - floor, p_value, len(a))
