"""Double precision for computations that are exact, whatever the caller's setting."""

import contextlib

import jax


def double_precision() -> contextlib.AbstractContextManager:
    """A context in which JAX computes in float64."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()
