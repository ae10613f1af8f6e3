"""Role-play worlds whose every quantity is known exactly."""

from remid_jax.worlds.exact import exact_quantities

__all__ = ["exact_quantities"]
