"""Group-relative policy optimisation (GRPO): advantages, clipped ratios, KL terms, one loss.

Log-probabilities are in nats; [N, S] is token s of completion n. π is the policy that is trained,
old the one that drew the completions, ref the one it should stay near. Sums and denominators are
returned apart: micro-batches and devices are added up before anyone divides.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from remid_jax.errors import UserError
from remid_jax.settings import check_choice, check_fields, key

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class GrpoConfig:
    """Every choice of the loss; hashable, so it can be a static argument of a compiled program.

    Raises:
      UserError: naming the key, its value and what is allowed.
    """

    clip_low: float = key(0.2, "ratios below 1 − this have no gradient where A < 0", "[0, 1]")
    # Larger than clip_low it is DAPO's clip-higher.
    clip_high: float = key(0.2, "ratios above 1 + this have none where A > 0", "[0, 1e9]")
    dual_clip: float = key(
        0.0, "c > 1 bounds the loss of a negative advantage A at −c·A; 0: off", "[0, 1e9]"
    )
    kl_coefficient: float = key(0.0, "of the KL from the stage's beginning; 0: none", "[0, 1e9]")
    kl_estimator: str = key("k3", "of the KL term, see `kl_terms`", ("k1", "k2", "k3"))
    kl_unbiased: bool = key(True, "weigh the estimate so that its gradient is that of the KL")
    aggregation: str = key("grpo", "of tokens, see `aggregate`", ("grpo", "dapo", "dr_grpo"))
    baseline: str = key("mean", "of rewards, see `group_advantages`", ("mean", "leave_one_out"))
    scale: str = key("group", "over which advantages are normalised", ("group", "batch", "none"))
    mask_truncated: bool = key(False, "leave out completions that the limit cut")
    max_tokens: int = key(0, "of a completion; `dr_grpo` divides by it", configured=False)
    epsilon: float = key(1e-4, "added to the s.d. of rewards", "[0, 1e9]", configured=False)

    def __post_init__(self):
        check_fields(self, "grpo")
        if 0 < self.dual_clip <= 1:
            raise UserError(f"grpo.dual_clip is {self.dual_clip}; it must be above 1, or 0 for off")
        _check_max_tokens(self.aggregation, self.max_tokens)
        if self.kl_coefficient and self.kl_estimator == "k1" and not self.kl_unbiased:
            raise UserError(
                "grpo.kl_estimator is 'k1' with kl_unbiased False, whose gradient is 0 on average: "
                "set kl_unbiased = True, or kl_estimator = 'k2'"
            )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Completions:
    """What is known of N completions of at most S tokens before an update.

    Attributes:
      old_log_probs: [N, S] under the policy that drew them.
      reference_log_probs: [N, S] under the reference; zeros if there is no KL term.
      advantages: [N].
      mask: [N, S] bool, or float that is not 0, at the tokens of the completion.
      truncated: [N] bool, whether the completion was cut off at the limit of tokens.
    """

    old_log_probs: Array
    reference_log_probs: Array
    advantages: Array
    mask: Array
    truncated: Array


def group_advantages(
    rewards: Array, *, baseline: str, scale: str, epsilon: float, where: Array | None = None
) -> tuple[Array, Array]:
    """A_i = (r_i − b_i) / (σ + ε), each completion against the others of its prompt.

    b is the group's mean (Shao et al., 2024, arXiv 2402.03300), or the mean of the other
    completions (leave one out: Kool et al., 2019), which is G/(G−1) times as far from r_i. σ is the
    standard deviation with divisor G − 1, as TRL takes it, of the group or of the whole batch;
    with `none` A_i = r_i − b_i (Liu et al., 2025, arXiv 2503.20783). Equal rewards of a group give
    exactly 0.

    Args:
      rewards: [B, G] floats.
      baseline: `mean` | `leave_one_out`.
      scale: `group` | `batch` | `none`.
      epsilon: ε ≥ 0.
      where: [B, G] bool, completions that count; the others' rewards are not read.

    Returns:
      Advantages [B, G], 0 where a completion does not count; and [B] bool, whether a group has no
      signal: all rewards equal, or fewer than 2.

    Raises:
      UserError: an unknown baseline or scale.
      ValueError: rewards are not [B, G].

    >>> advantages, flat = group_advantages(
    ...     jnp.array([[0.0, 2.0], [1.0, 1.0]]), baseline="mean", scale="none", epsilon=1e-4
    ... )
    >>> advantages.tolist(), flat.tolist()
    ([[-1.0, 1.0], [0.0, 0.0]], [False, True])
    """
    _check_choice("baseline", baseline)
    _check_choice("scale", scale)
    rewards = jnp.asarray(rewards)
    if rewards.ndim != 2 or (where is not None and jnp.shape(where) != rewards.shape):
        shapes = rewards.shape if where is None else (rewards.shape, jnp.shape(where))
        raise ValueError(f"rewards and where must be [prompts, completions], got {shapes}")
    kept = jnp.ones(rewards.shape, bool) if where is None else jnp.asarray(where, bool)
    rewards = jnp.where(kept, rewards, 0)
    top = jnp.max(rewards, axis=1, where=kept, initial=-jnp.inf)
    flat = top <= jnp.min(rewards, axis=1, where=kept, initial=jnp.inf)
    count, mean, std = _statistics(rewards, kept, 1)
    advantages = rewards - mean
    if baseline == "leave_one_out":
        advantages = advantages * (count / jnp.maximum(count - 1, 1))
    signal = kept & ~flat[:, None]
    if scale != "none":
        std = std if scale == "group" else _statistics(rewards, kept, (0, 1))[2]
        advantages = advantages / jnp.where(signal, std + epsilon, 1)
    return jnp.where(signal, advantages, 0), flat


def _statistics(rewards: Array, kept: Array, axis: Any) -> tuple[Array, Array, Array]:
    """Count, mean and standard deviation (divisor n − 1) of kept rewards; axes are kept."""
    count = jnp.sum(kept, axis=axis, dtype=rewards.dtype, keepdims=True)
    mean = jnp.sum(rewards, axis=axis, where=kept, keepdims=True) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.square(rewards - mean), axis=axis, where=kept, keepdims=True)
    variance = squares / jnp.maximum(count - 1, 1)
    none = variance == 0  # where the root has no gradient
    return count, mean, jnp.where(none, 0, jnp.sqrt(jnp.where(none, 1, variance)))


def importance_terms(
    log_probs: Array, old_log_probs: Array, advantages: Array, *, clip_low: float,
    clip_high: float, dual_clip: float = 0.0,
) -> tuple[Array, Array]:  # fmt: skip
    """−min(ρA, clip(ρ, 1 − low, 1 + high)·A) with ρ = π/old (Schulman et al., 2017).

    Written by the sign of A: −A·min(ρ, 1 + high) where A > 0, and −A·max(ρ, 1 − low) where A < 0,
    which dual clip bounds at c·|A| (Ye et al., 2020, arXiv 1912.09729). A clipped ratio is a
    constant: it has no gradient, and a huge ρ does not overflow.

    Args:
      log_probs: [..., S] log π.
      old_log_probs, advantages: log old and A, constants that broadcast to it.
      clip_low, clip_high: how far a ratio may fall below or rise above 1.
      dual_clip: c > 1, or 0 for no bound; static under `jit`.

    Returns:
      Loss terms [..., S], and bool [..., S]: tokens at which a clip is active.

    >>> ratio = jnp.log(jnp.array([1.5, 1.5]))
    >>> terms, clipped = importance_terms(
    ...     ratio, jnp.zeros(2), jnp.array([1.0, -1.0]), clip_low=0.2, clip_high=0.25
    ... )
    >>> terms.tolist(), clipped.tolist()
    ([-1.25, 1.5], [True, False])
    """
    log_ratio = log_probs - old_log_probs
    ratio = jnp.exp(jax.lax.stop_gradient(log_ratio))
    good, bad = advantages > 0, advantages < 0
    clipped = (good & (ratio > 1 + clip_high)) | (bad & (ratio < 1 - clip_low))
    bound = jnp.where(good, 1 + clip_high, 1 - clip_low)
    if dual_clip:
        capped = bad & (ratio > dual_clip)
        clipped, bound = clipped | capped, jnp.where(capped, dual_clip, bound)
    free = (good | bad) & ~clipped
    ratio = jnp.exp(jnp.where(free, log_ratio, 0))
    return -advantages * jnp.where(clipped, bound, ratio), clipped


def kl_terms(
    log_probs: Array, reference_log_probs: Array, *, estimator: str,
    old_log_probs: Array | None = None,
) -> Array:  # fmt: skip
    """Estimates of KL(π‖ref) at single tokens, whose mean over samples is meant (Schulman, 2020).

    With d = log(π/ref): k1 = d, k2 = ½d², k3 = ref/π − 1 + d = e^{−d} − 1 + d.

    Without `old_log_probs` the mean gradient is right for k2 alone, and on policy alone:
    E_π ∇k1 = 0, E_π ∇k2 = E_π[d ∇log π] = ∇KL(π‖ref), E_π ∇k3 = −E_ref ∇log π = ∇KL(ref‖π).

    With them each term is weighted by ρ = π/old (as in DeepSeek-V3.2, arXiv 2512.02556, for k3),
    and its expected gradient under samples of old is ∇KL(π‖ref), given the tokens before:
      k1: E_old[ρ d] = Σ π d = KL(π‖ref) as a function of π, so its gradient is too.
      k3: E_old[ρ k3] = Σ (ref − π + π d) = 0 + KL(π‖ref), likewise, at less variance.
      k2: ρ held constant, E_old[ρ d ∇log π] = Σ π d ∇log π = ∇Σ π d, as Σ π ∇log π = 0.

    Args:
      log_probs: [...] log π of drawn tokens.
      reference_log_probs: [...] log ref.
      estimator: `k1` | `k2` | `k3`.
      old_log_probs: [...] of the policy that drew them, constants; None: unweighted.

    Returns:
      [...] nats.

    Raises:
      UserError: an unknown estimator.

    >>> half, quarter = jnp.log(jnp.array([0.5, 0.25]))
    >>> [round(float(kl_terms(half, quarter, estimator=k)), 4) for k in ("k1", "k2", "k3")]
    [0.6931, 0.2402, 0.1931]
    """
    _check_choice("kl_estimator", estimator)
    d = log_probs - reference_log_probs
    terms = {"k1": d, "k2": jnp.square(d) / 2, "k3": jnp.expm1(-d) + d}[estimator]
    if old_log_probs is None:
        return terms
    ratio = jnp.exp(log_probs - old_log_probs)
    return (jax.lax.stop_gradient(ratio) if estimator == "k2" else ratio) * terms


def aggregate(terms: Array, mask: Array, how: str, max_tokens: int = 0) -> tuple[Array, Array]:
    """One number from many tokens, as a sum and what to divide it by.

    grpo: Σ_n (mean over the tokens of n) over the number of completions (Shao et al., 2024);
    dapo: Σ over tokens over their number (Yu et al., 2025, arXiv 2503.14476);
    dr_grpo: Σ over tokens over completions · max_tokens (Liu et al., 2025, arXiv 2503.20783).
    Completions without a token count nowhere.

    Args:
      terms: [N, S].
      mask: [N, S] bool, or float that is not 0, at tokens that count.
      how: `grpo` | `dapo` | `dr_grpo`.
      max_tokens: of a completion, for `dr_grpo`.

    Returns:
      Two scalars. Add each up over micro-batches and devices, then divide once.

    Raises:
      UserError: an unknown `how`, or `dr_grpo` without max_tokens.

    >>> terms, mask = jnp.array([[1.0, 3.0], [4.0, 9.0]]), jnp.array([[1, 1], [1, 0]])
    >>> [tuple(map(float, aggregate(terms, mask, h, 4))) for h in ("grpo", "dapo", "dr_grpo")]
    [(6.0, 2.0), (8.0, 3.0), (8.0, 8.0)]
    """
    _check_choice("aggregation", how)
    _check_max_tokens(how, max_tokens)
    counted = jnp.asarray(mask, bool)
    lengths = jnp.sum(counted, axis=1, dtype=terms.dtype)
    sums = jnp.sum(terms, axis=1, where=counted)
    completions = jnp.sum(lengths > 0, dtype=terms.dtype)
    if how == "grpo":
        return jnp.sum(sums / jnp.maximum(lengths, 1)), completions
    return jnp.sum(sums), jnp.sum(lengths) if how == "dapo" else completions * max_tokens


def grpo_loss(
    log_probs: Array, completions: Completions, config: GrpoConfig
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
    """The loss of GRPO and its kin: clipped importance terms, plus a KL term.

    Args:
      log_probs: [N, S] of the policy, the only input with a gradient; not read at tokens that do
        not count.
      completions: what is known of them, all constant.
      config: of the loss.

    Returns:
      Sum and denominator of the loss (see `aggregate`), both 0 where nothing counts, and metrics,
      name -> (sum, denominator), over the tokens of the loss: `ratio` ρ = π/old;
      `sampling_logp_difference` |log ρ| in nats; `clip_ratio` the share of tokens with an active
      clip, and of it `clip_ratio_low` (A < 0, ρ small), `clip_ratio_high` (A > 0, ρ large) and
      `clip_ratio_dual` (A < 0, ρ large; with dual clip); `kl` in nats, by k3 weighted by ρ whatever
      the estimator in the loss (with a KL term). And `truncated`, the share of all completions.

    Raises:
      ValueError: shapes do not agree.
    """
    _check_shapes(log_probs, completions)
    given = jax.lax.stop_gradient(completions)
    present, truncated = (jnp.asarray(x, bool) for x in (given.mask, given.truncated))
    counted = present & ~truncated[:, None] if config.mask_truncated else present
    known = (given.old_log_probs, given.reference_log_probs, given.advantages[:, None])
    log_probs, old, reference, advantages = (jnp.where(counted, x, 0) for x in (log_probs, *known))
    terms, clipped = importance_terms(
        log_probs, old, advantages, clip_low=config.clip_low, clip_high=config.clip_high,
        dual_clip=config.dual_clip,
    )  # fmt: skip
    tokens = jnp.sum(counted, dtype=terms.dtype)
    each = _token_metrics(
        jax.lax.stop_gradient(log_probs), old, reference, advantages < 0, clipped, config
    )
    metrics = {name: (jnp.sum(x, where=counted), tokens) for name, x in each.items()}
    exists = jnp.any(present, axis=1)
    shares = exists & truncated, exists
    metrics["truncated"] = tuple(jnp.sum(x, dtype=terms.dtype) for x in shares)
    if config.kl_coefficient:
        weight = old if config.kl_unbiased else None
        kl = kl_terms(log_probs, reference, estimator=config.kl_estimator, old_log_probs=weight)
        terms = terms + config.kl_coefficient * kl
    return *aggregate(terms, counted, config.aggregation, config.max_tokens), metrics


def _token_metrics(
    log_probs: Array, old: Array, reference: Array, bad: Array, clipped: Array, config: GrpoConfig
) -> dict[str, Array]:
    """Metrics before they are summed, [N, S] each; `bad`: where the advantage is negative."""
    log_ratio = log_probs - old
    each = {
        "ratio": jnp.exp(log_ratio),
        "sampling_logp_difference": jnp.abs(log_ratio),
        "clip_ratio": clipped,
        "clip_ratio_low": clipped & bad & (log_ratio < 0),
        "clip_ratio_high": clipped & ~bad,
    }
    if config.dual_clip:
        each["clip_ratio_dual"] = clipped & bad & (log_ratio > 0)
    if config.kl_coefficient:
        each["kl"] = kl_terms(log_probs, reference, estimator="k3", old_log_probs=old)
    return {name: x.astype(log_probs.dtype) for name, x in each.items()}


def _check_shapes(log_probs: Array, completions: Completions) -> None:
    shape = jnp.shape(log_probs)
    if len(shape) != 2:
        raise ValueError(f"log_probs must be [completions, tokens], got shape {shape}")
    for field in dataclasses.fields(completions):
        found = jnp.shape(getattr(completions, field.name))
        expected = shape[:1] if field.name in ("advantages", "truncated") else shape
        if found != expected:
            raise ValueError(f"{field.name} must have shape {expected}, got {found}")


def _check_choice(name: str, value: str) -> None:
    allowed = GrpoConfig.__dataclass_fields__[name].metadata["key"].allowed
    check_choice(f"grpo.{name}", value, allowed)


def _check_max_tokens(how: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < (how == "dr_grpo"):
        raise UserError(
            f"grpo.max_tokens is {value!r}; it must be a whole number, and at least 1 with "
            "aggregation 'dr_grpo': the limit of tokens a completion"
        )
