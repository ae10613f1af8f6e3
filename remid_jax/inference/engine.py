"""The two questions that everything else asks of a language model, and our own answer to them."""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import jax
import numpy as np

from remid_jax.errors import UserError
from remid_jax.inference import cost
from remid_jax.inference.likelihood import MEMORY, score_responses, wanted_pairs
from remid_jax.inference.prefix import PrefixCache, branch_points
from remid_jax.inference.sampling import Sampled, in_batches, sample_from
from remid_jax.inference.sizes import Work, rows_that_fit, share_of, sizes_for
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import DTYPES, LanguageModel
from remid_jax.models.sharding import parts_of_mesh
from remid_jax.models.tokenizer import Tokenizer

T = TypeVar("T")
Tokens = Sequence[int]


class PromptError(UserError):
    """What cannot be done with one of several prompts.

    Attributes:
      index: which one.
    """

    def __init__(self, index: int, message: str):
        super().__init__(message)
        self.index = index


class Engine(Protocol):
    """Whatever can score and generate: this project's decoders, or another library's.

    Attributes:
      name: for reports.
      fingerprint: equal exactly when the numbers must be; part of the name of every stored result.
      dtype: name of the weights' type.
      config: shape of the decoder; its context window bounds prompts, its size gives the cost.
      tokenizer: text to token ids and back.
    """

    name: str
    fingerprint: str
    dtype: str
    config: DecoderConfig
    tokenizer: Tokenizer

    def log_likelihood(
        self,
        prompts: Sequence[Tokens],
        responses: Sequence[Tokens],
        pairs: np.ndarray | None = None,
        skip: Sequence[int] | None = None,
        cuts: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Scores responses prompt by prompt, in an order of its own.

        Args:
          prompts: N token lists.
          responses: M token lists.
          pairs: [N, M] bool, which pairs are wanted; by default all.
          skip: M numbers of leading tokens that are read but not scored; by default none.
          cuts: for each prompt the lengths of beginnings that other prompts share, now or later; a
            hint of what to compute once.

        Yields:
          (prompt's index, [M] float64 sums of log q over the response's tokens in nats, NaN where
          not wanted), for each prompt with a wanted pair.

        Raises:
          PromptError: a prompt that cannot be scored.
        """

    def generate(
        self,
        prompts: Sequence[Tokens],
        config: SamplingConfig,
        draws: int = 1,
        cuts: Sequence[Sequence[int]] | None = None,
    ) -> list[Sampled]:
        """Continues prompts: `draws` responses each, side by side, in the order of the prompts."""


class JaxEngine:
    """Our own decoders: each beginning of a prompt is computed once, within a memory budget."""

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
        differs = cache_dtype and cache_dtype != model.dtype
        self.fingerprint = model.fingerprint + (f"/cache={cache_dtype}" if differs else "")
        self.batch_rows = batch_rows
        self._dtype = cache_dtype or model.dtype
        self._share = share_of(model.config, parts_of_mesh(model.mesh, "tensor"))
        self.sizes = sizes_for(self._share, memory, longest, self._dtype)
        self.work = Work()
        self.clear()

    def clear(self) -> None:
        """Forgets cached prompts."""
        parts = (self.sizes.cache, self.sizes.chunk, self._dtype, self.work)
        self._cache = PrefixCache(self.model, *parts)

    def log_likelihood(
        self,
        prompts: Sequence[Tokens],
        responses: Sequence[Tokens],
        pairs: np.ndarray | None = None,
        skip: Sequence[int] | None = None,
        cuts: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `Engine.log_likelihood`; prompts of one beginning run together, the costliest first.

        Raises:
          PromptError: an empty prompt or response, one too long or with an id that the model does
            not have, or a value that is not finite.
          UserError: too little memory for the smallest pieces.
          ValueError: `pairs` has another shape.
        """
        wanted = wanted_pairs((len(prompts), len(responses)), pairs)
        cuts = branch_points(prompts) if cuts is None else cuts
        skip = [0] * len(responses) if skip is None else skip
        lengths = [len(y) for y in responses]
        costs = [
            row_flops(self.config, len(p), [n for n, w in zip(lengths, row, strict=True) if w])
            for p, row in zip(prompts, wanted, strict=True)
        ]
        for i in _by_cost(prompts, cuts, costs):
            chosen = np.flatnonzero(wanted[i]).tolist()
            if not chosen:
                continue
            some = [responses[j] for j in chosen]
            run = functools.partial(self._score, prompts[i], cuts[i], some)
            try:
                values = self._within_memory(run)
            except UserError as e:
                raise PromptError(i, str(e)) from None
            row = np.full(len(responses), np.nan)
            row[chosen] = [v[skip[j] :].sum() for j, v in zip(chosen, values, strict=True)]
            yield i, row

    def _score(
        self, prompt: Tokens, cuts: Sequence[int], responses: Sequence[Tokens]
    ) -> list[np.ndarray]:
        prefix = self._cache.prefix(prompt, cuts)
        return score_responses(
            self.model, prefix, responses, self.sizes, end_of_turn=False, work=self.work
        )

    def generate(
        self,
        prompts: Sequence[Tokens],
        config: SamplingConfig,
        draws: int = 1,
        cuts: Sequence[Sequence[int]] | None = None,
        limits: Sequence[int] | None = None,
        expected: Sequence[int] | None = None,
    ) -> list[Sampled]:
        """See `Engine.generate`.

        Args:
          prompts: N token lists.
          config: how to draw.
          draws: responses a prompt, all continuing one cache.
          cuts: see `log_likelihood`.
          limits: N·draws, most tokens of each response; by default `config.max_tokens`.
          expected: N, about how long responses will be: rows that end together run together.

        Raises:
          UserError: a prompt is empty or has an id that the model does not have, or it and its
            response exceed the context window.
        """
        cuts = branch_points(prompts) if cuts is None else cuts

        def run(part: list[int], rows: int) -> list[Sampled]:
            prefixes = [self._cache.prefix(prompts[i], cuts[i]) for i in part]
            own = limits and [n for i in part for n in limits[i * draws : (i + 1) * draws]]
            spare = self.sizes.cache // 2
            return sample_from(self.model, prefixes, config, draws, own, rows, spare)

        def all_batches() -> list[Sampled]:
            longest = max(map(len, prompts), default=1) + config.max_tokens
            parts = (self._share, self.sizes, longest, self._dtype, self.batch_rows)
            rows = rows_that_fit(*parts)
            return in_batches(prompts, max(rows, draws), draws, run, expected)

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
                print(
                    f"note: out of memory; going on with pieces of {smaller.call} tokens",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
            self.sizes = smaller
            self.clear()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, MemoryError):
        return True
    said = str(error)
    return isinstance(error, jax.errors.JaxRuntimeError) and (
        "RESOURCE_EXHAUSTED" in said or "Out of memory" in said
    )


def row_flops(c: DecoderConfig, prompt: int, lengths: Sequence[int], shared: int = 0) -> float:
    """Operations of one row: a prompt of which `shared` tokens are cached, and its responses."""
    new = cost.extend_flops(c, prompt - shared, shared) + cost.head_flops(c, 1)
    return new + sum(cost.score_flops(c, prompt, n) for n in lengths)


def _by_cost(
    prompts: Sequence[Tokens], cuts: Sequence[Sequence[int]], costs: Sequence[float]
) -> list[int]:
    """Order of work: the costliest group of one beginning first, neighbours within a group.

    What needs most memory fails early, and what is left never turns out longer than it looked.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, points) in enumerate(zip(prompts, cuts, strict=True)):
        start = tuple(prompt[: points[0]]) if points else tuple(prompt)
        groups.setdefault(start, []).append(i)
    heaviest = sorted(groups.values(), key=lambda g: (-max(costs[i] for i in g), g))
    return [i for g in heaviest for i in sorted(g, key=lambda i: (tuple(prompts[i]), i))]
