"""Role-play worlds whose every quantity is known exactly."""

from typing import Any

__all__ = ["exact_quantities"]


def __getattr__(name: str) -> Any:
    """Loads JAX when it is needed: the command of `textual` hears of Ctrl-C before."""
    if name not in __all__:
        raise AttributeError(f"module 'remid_jax.worlds' has no attribute {name!r}")
    from remid_jax.worlds.exact import exact_quantities

    return exact_quantities
