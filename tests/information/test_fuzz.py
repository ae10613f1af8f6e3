"""Public estimators on arrays drawn at random: a finite result, or a `ValueError`."""

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from public_estimators import CALLS, NOT_FINITE, is_finite

ODD = (
    0.0, -0.0, 1.0, -1.0, 0.5, 95.0, 1e-45, 1e-30, -1e-300, 1e18, -1e20, 3e38, -3.5e38, 1e75, 1e300,
    np.nan, np.inf, -np.inf,
)  # fmt: skip
LONG = (2**31 - 1, 2**31, -(2**31), 2**32, 2**63, 10**30, -(10**400))
DTYPES = (
    np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, np.uint64, bool, np.complex64,
    "U3", "M8[s]", "m8[s]", object,
)  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(ODD), st.integers(-3, 12), st.sampled_from(LONG), st.booleans(), st.none(),
    st.complex_numbers(), st.text(max_size=3), st.floats(), st.fractions(),
)  # fmt: skip


def shapes_near(shape: tuple[int, ...]) -> st.SearchStrategy:
    """The shape itself as often as another one."""
    near = [shape, shape, shape, shape[::-1], shape[1:], (*shape, 1), (0,) * len(shape)]
    return st.one_of(st.sampled_from(near), hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))


@st.composite
def arrays_near(draw: Any, sound: np.ndarray) -> Any:
    """A sound array with a few odd entries, or anything."""
    changed = np.array(sound, np.float64)
    if draw(st.booleans()) and changed.size:
        for _ in range(draw(st.integers(1, 3))):
            changed.flat[draw(st.integers(0, changed.size - 1))] = draw(st.sampled_from(ODD))
    else:
        shape = draw(shapes_near(np.shape(sound)))
        size = int(np.prod(shape))
        entries = draw(st.lists(st.sampled_from(ODD), min_size=1, max_size=4))
        changed = np.resize(np.array(entries), size).reshape(shape)
    with np.errstate(all="ignore"):
        changed = changed.astype(draw(st.sampled_from((np.float64, sound.dtype, *DTYPES))))
    return changed.tolist() if draw(st.integers(0, 5)) == 0 else changed


def anything_like(sound: Any) -> st.SearchStrategy:
    """What may be given in place of a sound argument."""
    if isinstance(sound, np.ndarray | jax.Array) and not jax.dtypes.issubdtype(
        sound.dtype, jax.dtypes.prng_key
    ):
        return st.one_of(arrays_near(np.asarray(sound)), SCALARS)
    if isinstance(sound, tuple | list):
        return st.one_of(st.lists(SCALARS, max_size=4), st.lists(SCALARS, max_size=4).map(tuple))
    return st.one_of(SCALARS, SCALARS, arrays_near(np.zeros(2)))


@pytest.mark.slow
@settings(
    max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_a_finite_result_or_a_value_error(data):
    name = data.draw(st.sampled_from(sorted(CALLS)))
    call = CALLS[name]
    chosen = data.draw(st.sets(st.sampled_from(sorted(call.arguments)), min_size=1, max_size=3))
    changed = {k: data.draw(anything_like(call.arguments[k])) for k in sorted(chosen)}
    try:
        result = call(**changed)
    except ValueError as error:
        assert len(str(error)) < 400
        return
    assert is_finite(result) or name in NOT_FINITE
