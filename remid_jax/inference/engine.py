"""The two questions that everything else asks of a language model, and our own answer to them."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import jax
import numpy as np

from remid_jax.errors import UserError
from remid_jax.inference.features import hidden_features
from remid_jax.inference.likelihood import MEMORY, score_responses
from remid_jax.inference.prefix import PrefixCache, branch_points
from remid_jax.inference.sampling import Sampled, in_batches, sample_from
from remid_jax.inference.sizes import Work, rows_that_fit, share_of, sizes_for
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.messages import log
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import DTYPES, LanguageModel
from remid_jax.models.sharding import parts_of_mesh
from remid_jax.models.tokenizer import Tokenizer

T = TypeVar("T")
Tokens = Sequence[int]


class Engine(Protocol):
    """Whatever can score and generate: this project's decoders, or another library's.

    An engine may also have `embed(texts) -> [n, d]`, which features of contexts need, and `sizes`
    and `work`, which are written beside the results.
    """

    name: str  # for reports
    fingerprint: str  # equal exactly when the numbers must be; part of every cache key
    dtype: str  # of the weights
    config: DecoderConfig  # its context window bounds prompts, its size gives the cost
    tokenizer: Tokenizer

    def score(
        self, prompt: Tokens, responses: Sequence[Tokens], prefix_lengths: Sequence[int] = ()
    ) -> list[np.ndarray]:
        """Log-probabilities of responses that follow one prompt, token by token.

        Args:
          prompt: token ids.
          responses: M token lists, none empty.
          prefix_lengths: ascending lengths of prefixes that other prompts share, now or later; a
            hint of what to compute once.

        Returns:
          M float arrays in nats, one value for each of a response's tokens.

        Raises:
          UserError: the prompt or a response cannot be scored.
        """

    def generate(
        self,
        prompts: Sequence[Tokens],
        config: SamplingConfig,
        draws: int = 1,
        prefix_lengths: Sequence[Sequence[int]] | None = None,
    ) -> list[Sampled]:
        """Continues prompts: `draws` responses each, side by side, in the order of the prompts."""


def engine_fingerprint(model: str, dtype: str, cache_dtype: str) -> str:
    """Fingerprint of a `JaxEngine` from its model's and the types of weights and caches."""
    sums = "/float32 between products" if dtype == "bfloat16" else ""  # it was not always so
    return model + sums + (f"/cache={cache_dtype}" if cache_dtype not in ("", dtype) else "")


class JaxEngine:
    """Our own decoders: prefixes that prompts share are computed once, within a memory budget."""

    def __init__(
        self,
        model: LanguageModel,
        memory: int = MEMORY,
        longest: int = 2048,
        cache_dtype: str = "",
        batch_rows: int = 16,
    ):
        """Chooses the sizes of the pieces in which work runs.

        Args:
          model: the language model.
          memory: bytes to use beside the weights, of each device.
          longest: tokens of the longest prompt to expect.
          cache_dtype: `float32` or `bfloat16`, by default the weights'.
          batch_rows: rows that are decoded together.

        Raises:
          UserError: too little memory, or an unknown dtype.
        """
        if cache_dtype and cache_dtype not in DTYPES:
            raise UserError(f"unknown dtype {cache_dtype!r} of caches; choose {', '.join(DTYPES)}")
        self.model = model
        self.name, self.dtype = model.name, model.dtype
        self.config, self.tokenizer = model.config, model.tokenizer
        self.fingerprint = engine_fingerprint(model.fingerprint, model.dtype, cache_dtype)
        self.batch_rows = batch_rows
        self._dtype = cache_dtype or model.dtype
        self._share = share_of(model.config, parts_of_mesh(model.mesh, "tensor"))
        self.sizes = sizes_for(self._share, memory, longest, self._dtype)
        self.work = Work()
        self.clear()

    def clear(self) -> None:
        """Forgets cached prompts."""
        sizes = self.sizes
        self._cache = PrefixCache(self.model, sizes.cache, sizes.chunk, self._dtype, self.work)

    def score(
        self, prompt: Tokens, responses: Sequence[Tokens], prefix_lengths: Sequence[int] = ()
    ) -> list[np.ndarray]:
        """See `Engine.score`; errors as of `pair_log_likelihoods`, values in float64."""

        def run() -> list[np.ndarray]:
            shared = [n for n in prefix_lengths if n < len(prompt)]
            prefix = self._cache.prefix(prompt, shared)
            return score_responses(
                self.model, prefix, responses, self.sizes, end_of_turn=False, work=self.work
            )

        return self._within_memory(run)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[n, width] mean hidden states of texts; see `hidden_features`."""
        return hidden_features(self.model, texts)

    def generate(
        self,
        prompts: Sequence[Tokens],
        config: SamplingConfig,
        draws: int = 1,
        prefix_lengths: Sequence[Sequence[int]] | None = None,
        limits: Sequence[int] | None = None,
    ) -> list[Sampled]:
        """See `Engine.generate`.

        Args:
          prompts, config, draws: see `Engine.generate`; draws continue one cache.
          prefix_lengths: for each prompt, see `Engine.score`; by default where they part.
          limits: N·draws, most tokens of each response; by default `config.max_tokens`.

        Raises:
          UserError: as of `sampling.sample`.
        """
        if draws < 1:
            raise UserError(f"draws is {draws}; it must be at least 1")
        shared = branch_points(prompts) if prefix_lengths is None else prefix_lengths

        def run(part: list[int], rows: int) -> list[Sampled]:
            prefixes = [self._cache.prefix(prompts[i], shared[i]) for i in part]
            own = limits and [n for i in part for n in limits[i * draws : (i + 1) * draws]]
            spare = self.sizes.cache // 2
            return sample_from(self.model, prefixes, config, draws, own, rows, spare)

        def all_batches() -> list[Sampled]:
            longest = max(map(len, prompts), default=1) + config.max_tokens
            rows = rows_that_fit(self._share, self.sizes, longest, self._dtype, self.batch_rows)
            return in_batches(prompts, max(rows, draws), draws, run)

        return self._within_memory(all_batches)

    def _within_memory(self, run: Callable[[], T]) -> T:
        """Runs, in smaller pieces where memory runs out; a finished part is never lost."""
        while True:
            try:
                return run()
            except Exception as e:
                if not is_out_of_memory(e):
                    raise
                smaller = self.sizes.halved()
                if smaller is None:
                    raise UserError(
                        f"out of memory on {jax.default_backend()}, in pieces of "
                        f"{self.sizes.call} tokens; finished work is kept: use fewer or larger "
                        "devices, a smaller model or config.model.dtype='bfloat16'"
                    ) from None
                log.warning("note: out of memory; going on with pieces of %d tokens", smaller.call)
            self.sizes = smaller
            self.clear()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return any(said in str(error) for said in ("RESOURCE_EXHAUSTED", "Out of memory"))
    return isinstance(error, MemoryError)
