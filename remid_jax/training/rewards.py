"""Rewards of reasoner and policy: pure functions over a batch, named, weighted and added up.

Those of likelihoods run under `jit` and have gradients; those of texts run on the host.
"""

import inspect
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from remid_jax.data.thoughts import comparable_words, parse_thought
from remid_jax.errors import UserError, nearest
from remid_jax.information.arguments import is_concrete
from remid_jax.information.profile import factor_gaps
from remid_jax.settings import brief, fault_of
from remid_jax.training.reward_batch import REWARDS, RewardBatch, check_mask, register

Array = jax.Array


def _sums(log_probs: Array, mask: Array) -> tuple[Array, Array]:
    """Σ log q over scored tokens and their number, both [...] float32."""
    check_mask(log_probs, mask)
    mask = jnp.asarray(mask, bool)
    scored = jnp.where(mask, jnp.asarray(log_probs).astype(jnp.float32), 0)
    return jnp.sum(scored, axis=-1), jnp.sum(mask, axis=-1, dtype=jnp.float32)


@register("likelihood", "log_probs", "mask", by_field=True)
def likelihood_reward(log_probs: Array, mask: Array) -> Array:
    """exp((1/n) Σ_t log q(y_t | x, r, y_<t)): the geometric mean of token probabilities, in [0, 1].

    Args:
      log_probs: [..., S] token log q, nats.
      mask: [..., S] bool, scored tokens.

    Returns:
      [...] float32; 0 in rows without scored tokens.

    Raises:
      ValueError: the shapes differ.
    """
    total, count = _sums(log_probs, mask)
    return jnp.where(count > 0, jnp.exp(total / jnp.maximum(count, 1)), 0)


@register("token_log_likelihood", "log_probs", "mask", by_field=True)
def token_log_likelihood_reward(log_probs: Array, mask: Array) -> Array:
    """(1/n) Σ_t log q(y_t | x, r, y_<t) over the n scored tokens, in nats; as `likelihood_reward`.

    Rows without scored tokens are 0, with gradient 0: leave them out of means.

    >>> token_log_likelihood_reward(jnp.array([-1.0, -3.0, -9.0]), jnp.array([1, 1, 0])).item()
    -2.0
    """
    total, count = _sums(log_probs, mask)
    return total / jnp.maximum(count, 1)


@register("sequence_likelihood", "log_probs", "mask", by_field=True)
def sequence_likelihood_reward(log_probs: Array, mask: Array, scale: float | Array = 1.0) -> Array:
    """Σ_t log q(y_t | x, r, y_<t) / scale: as `likelihood_reward`, `scale` being nats that count 1.

    Raises:
      UserError: the scale is not positive.
    """
    if is_concrete(scale) and not scale > 0:
        raise UserError(f"the scale of a sequence likelihood must be positive, not {scale}")
    return _sums(log_probs, mask)[0] / scale


@register("cross_information", "log_probs", "mask", "negatives", by_field=True)
def cross_information_reward(log_probs: Array, mask: Array, negatives: Array) -> Array:
    """log q(y|x, r) − log mean_k q(y|x_k, r_k) over the own and K other contexts, in nats.

    As `likelihood_reward`, at most log(K + 1); `negatives` are [..., K] log q of the whole response
    under other contexts, in nats. A thought that makes it likely in every context is not rewarded.

    Raises:
      ValueError: the shapes differ, or there are no negatives.
    """
    own, count = _sums(log_probs, mask)
    shape = np.shape(negatives)
    if shape[:-1] != own.shape or not shape or shape[-1] < 1:
        raise ValueError(f"negatives must be {own.shape} with K >= 1 each, got shape {shape}")
    gaps = jnp.asarray(negatives).astype(jnp.float32) - own[..., None]
    gaps = jnp.concatenate([jnp.zeros_like(gaps[..., :1]), gaps], axis=-1)
    value = math.log(gaps.shape[-1]) - jax.nn.logsumexp(gaps, axis=-1)
    return jnp.where(count > 0, value, 0)


@register("marginal_likelihood", "mixture", "mixture_without", by_field=True)
def marginal_likelihood_reward(mixture: Array, mixture_without: Array) -> Array:
    """What a thought adds to its group's mixture: log q with it less log q without it, in nats.

    Both are [...]; see `information.mixture.leave_one_out`. Of G thoughts it is at least
    log((G − 1) / G), and 0 for one as good as the mean of the others. A thought that is right where
    the others are wrong earns most, one that repeats them nothing.
    """
    return jnp.asarray(mixture - mixture_without, jnp.float32)


@register("profile", "plain", "swapped", "swap_weights", by_field=True)
def profile_reward(plain: Array, swapped: Array, swap_weights: Array) -> Array:
    """The information profile of a candidate: mean over factors of `factor_gaps`, in nats.

    How much likelier its own words are in its context than with one factor of another sample. What
    is copied from the context pays nothing, but paraphrase is no copy: see `data.own_words`.

    Args:
      plain: [N] nats, log q of own words without a thought.
      swapped: [N, F] nats, with one factor swapped.
      swap_weights: [N, F], as of `factor_gaps`; a factor of weight 0 adds nothing.

    Returns:
      [N] float32.

    Raises:
      ValueError: as of `factor_gaps`.
    """
    f = swapped.shape[1]
    gaps = [factor_gaps(plain, swapped[:, k : k + 1], swap_weights[:, k]) for k in range(f)]
    return jnp.mean(jnp.nan_to_num(jnp.stack(gaps, axis=1)), axis=1).astype(jnp.float32)


@register("reference_match", "match", "golden_match", by_field=True)
def reference_match_reward(candidate: Array, golden: Array) -> Array:
    """min(1, p("100%" | candidate) / p("100%" | golden)) of a frozen model: [...] float32.

    Both are mean token log p of the answer "100%" in nats, [...].

    >>> reference_match_reward(jnp.array([-2.0, -1.0]), jnp.array([-2.0, -3.0])).tolist()
    [1.0, 1.0]
    """
    candidate, golden = (jnp.asarray(x).astype(jnp.float32) for x in (candidate, golden))
    return jnp.exp(jnp.minimum(candidate - golden, 0))


@register("format", "texts", by_field=True)
def format_reward(texts: Sequence[str]) -> np.ndarray:
    """[N] float32: .5 for core features with text, and .5 for all three sections with text."""
    thoughts = [parse_thought(text) for text in texts]
    return np.array([bool(t.core) / 2 + t.complete / 2 for t in thoughts], np.float32)


@register("length", "texts", by_field=True)
def length_reward(texts: Sequence[str], words: float = 600) -> np.ndarray:
    """[N] float32: min(1, words of the thought / words), the markers' own words not counted.

    Raises:
      UserError: words is not positive.
    """
    if not words > 0:
        raise UserError(f"the words of a length reward must be positive, not {words}")
    return np.array([min(1.0, parse_thought(text).words / words) for text in texts], np.float32)


@register("exact_match", "texts", "golden", by_field=True)
def exact_match_reward(texts: Sequence[str], golden: Sequence[str]) -> np.ndarray:
    """[N] float32: the share of the longer text's words that both texts have at the same place.

    Case and punctuation are ignored; texts without any word match if they are equal.

    Raises:
      ValueError: not one golden response a candidate.

    >>> exact_match_reward(["Hello, buy the kettle."], ["Hello, buy the lantern."]).tolist()
    [0.75]
    """
    if len(texts) != len(golden):
        raise ValueError(f"{len(texts)} candidates, but {len(golden)} golden responses")
    return np.array([*map(_in_place, texts, golden)], np.float32)


def _in_place(text: str, golden: str) -> float:
    got, wanted = comparable_words(text), comparable_words(golden)
    longer = max(len(got), len(wanted))
    if not longer:
        return float(text.strip() == golden.strip())
    return sum(a == b for a, b in zip(got, wanted, strict=False)) / longer


@register("finished", "truncated", by_field=True)
def _finished(truncated: Array) -> np.ndarray:
    return 1 - np.asarray(truncated, bool).astype(np.float32)


def check_rewards(
    weights: Mapping[str, float], parameters: Mapping[str, Any], where: str = "",
    fields: Collection[str] = tuple(RewardBatch.__dataclass_fields__),
) -> None:  # fmt: skip
    """Refuses what `combined` cannot compute.

    Args:
      weights, parameters: as of `combined`.
      where: begins the messages, as "config.policy.".
      fields: of a batch, those that there will be.

    Raises:
      UserError: no reward, an unknown one (naming the nearest), one that needs another field, a
        weight that is not finite, or a parameter that a reward does not have, or of another type
        than its default.
    """
    known = ", ".join(REWARDS)
    if not weights:
        raise UserError(f"{where}rewards: no reward was named; choose among {known}")
    for group, names in (("rewards", weights), ("parameters", parameters)):
        for name in names:
            if name not in REWARDS:
                hint = nearest(str(name), REWARDS)
                unknown = f"unknown reward {name!r}{hint}; choose among {known}"
                raise UserError(f"{where}{group}: {unknown}")
    for name, weight in weights.items():
        if lacking := [need for need in REWARDS[name].needs if need not in fields]:
            able = ", ".join(n for n, r in REWARDS.items() if set(r.needs) <= {*fields})
            raise UserError(
                f"{where}rewards: reward {name!r} needs the field {lacking[0]!r}, which there is "
                f"not for this role; choose among {able}"
            )
        if not math.isfinite(weight):
            finite = f"its weight must be finite, not {weight}"
            raise UserError(f"{where}rewards: reward {name!r}: {finite}")
    for name, given in parameters.items():
        _check_parameters(name, given, f"{where}parameters")


def _check_parameters(name: str, given: Mapping[str, Any], where: str) -> None:
    reward = REWARDS[name]
    accepted = list(inspect.signature(reward.function).parameters.values())
    accepted = accepted[len(reward.needs) if reward.by_field else 1 :]
    if any(p.kind is p.VAR_KEYWORD for p in accepted):
        return
    defaults = {p.name: p.default for p in accepted}
    for parameter, value in given.items():
        if parameter not in defaults:
            hint = nearest(str(parameter), defaults)
            raise UserError(f"{where}: reward {name!r} has no parameter {parameter!r}{hint}")
        default = defaults[parameter]
        like = float(default) if type(default) is int else default
        if isinstance(like, (bool, float, str)) and (needed := fault_of(value, type(like))):
            raise UserError(f"{where}.{name}.{parameter} is {brief(value)}; it must be {needed}")


def combined(
    batch: RewardBatch, weights: Mapping[str, float],
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:  # fmt: skip
    """Σ weight · reward over the named rewards, and each of them.

    Args:
      batch: N texts and what else the rewards read.
      weights: reward -> weight, negative for a penalty; one of weight 0 is only shown.
      parameters: reward -> its parameters by name.

    Returns:
      (total [N], reward -> [N] unweighted), float32.

    Raises:
      UserError: as of `check_rewards`; a field that a reward needs is missing; or a reward that is
        NaN or infinite, naming it and the row.

    >>> batch = RewardBatch(texts=["one two three", "one"], truncated=[True, False])
    >>> combined(batch, {"length": 2.0, "finished": 1.0}, {"length": {"words": 4}})[0].tolist()
    [1.5, 1.5]
    """
    parameters = {} if parameters is None else parameters
    check_rewards(weights, parameters)
    parts = {name: _part(name, batch, dict(parameters.get(name, {}))) for name in weights}
    total = sum(float(weights[name]) * part.astype(np.float64) for name, part in parts.items())
    return total.astype(np.float32), parts


def _part(name: str, batch: RewardBatch, parameters: dict[str, Any]) -> np.ndarray:
    reward = REWARDS[name]
    for need in reward.needs:
        if getattr(batch, need) is None:
            raise UserError(f"reward {name!r} needs the field {need!r}, which this batch lacks")
    fields = [getattr(batch, need) for need in reward.needs] if reward.by_field else [batch]
    values = np.asarray(reward.function(*fields, **parameters), np.float32)
    if values.shape != (batch.size,):
        raise UserError(f"reward {name!r} must be one number a text, got shape {values.shape}")
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise UserError(f"reward {name!r} is {values[bad[0]]} in row {bad[0]} of the batch")
    return values
