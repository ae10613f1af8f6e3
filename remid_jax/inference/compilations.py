"""Counts the programs that are compiled."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_FOUND = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass
class Compilations:
    """What was compiled so far."""

    compiled: int = 0  # programs made anew
    found: int = 0  # programs taken from the persistent cache
    seconds: float = 0.0  # spent on both, and on lowering before

    def __str__(self) -> str:
        """What a run says of it, as one line."""
        said = f"{self.compiled} programs compiled and {self.found} found in the cache"
        return f"{said}, {self.seconds:.0f} s"


@contextlib.contextmanager
def count_compilations() -> Iterator[Compilations]:
    """Counts what JAX compiles, and what it finds in the persistent cache, while it is open."""
    counts, counting = Compilations(), True

    def on_duration(event: str, seconds: float, **_) -> None:
        if counting and event in (_COMPILED, _LOWERED):
            counts.compiled += event == _COMPILED
            counts.seconds += seconds

    def on_event(event: str, **_) -> None:
        if counting and event == _FOUND:  # it counts as a compilation too
            counts.found += 1
            counts.compiled -= 1

    jax.monitoring.register_event_duration_secs_listener(on_duration)
    jax.monitoring.register_event_listener(on_event)
    try:
        yield counts
    finally:
        counting = False
        if hasattr(jax.monitoring, "unregister_event_listener"):  # newer versions of JAX
            jax.monitoring.unregister_event_duration_listener(on_duration)
            jax.monitoring.unregister_event_listener(on_event)
