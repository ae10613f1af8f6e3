"""Every public estimator under jit, vmap and grad, where shapes and dtypes alone are checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from public_estimators import CALLS, Call

ANY_SHAPE = {"effective", "retained", "entropy", "jackknife_error"}
TRACED = [name for name, call in CALLS.items() if call.traced]


def of_traced(call: Call) -> tuple[Any, dict[str, Any]]:
    """A function of the arguments that may be traced, and those."""
    chosen = {k: jnp.asarray(call.arguments[k], float) for k in call.traced}
    return lambda values: call(**values), chosen


def floats(result: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(result) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]


@pytest.mark.parametrize("name", TRACED)
def test_jit_vmap_and_gradient(name):
    function, chosen = of_traced(CALLS[name])
    plain = floats(function(chosen))
    jitted = floats(jax.jit(function)(chosen))
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), chosen)
    mapped = floats(jax.jit(jax.vmap(function))(batch))
    for one, two, three in zip(plain, jitted, mapped, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(three[1], one, rtol=2e-5, atol=2e-5)
    total = lambda values: sum(jnp.nansum(x) for x in floats(function(values)))  # noqa: E731
    gradient = jax.jit(jax.grad(total))(chosen)
    assert jax.tree.all(jax.tree.map(lambda g, x: g.shape == x.shape, gradient, chosen))


@pytest.mark.parametrize("name", TRACED)
def test_shapes_and_dtypes_are_checked_while_tracing(name):
    function, chosen = of_traced(CALLS[name])
    for argument, value in chosen.items():
        with pytest.raises(ValueError, match="real numbers"):
            jax.jit(function)({**chosen, argument: jax.lax.complex(value, value)})
        if value.ndim and name not in ANY_SHAPE:
            with pytest.raises(ValueError):
                jax.jit(function)({**chosen, argument: value[..., None, None, None]})
