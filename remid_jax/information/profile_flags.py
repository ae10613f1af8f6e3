"""Faults that an information profile shows: 95 % limits of linear forms of δ, without a division.

Measured on made-up faults of golden answers and of token worlds; on the answers of real RPMs no
flag of copying, cold or greedy sampling has been validated. See `profile` for what δ cannot tell.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from remid_jax.factor_names import DIALOGUE_PARTS, FACTORS
from remid_jax.information import checks
from remid_jax.information.arguments import floating, real, shown
from remid_jax.information.profile_shares import limits_of_mean

Array = jax.Array
ByFactor = Mapping[str, Array]
NAMES = (*FACTORS, *DIALOGUE_PARTS)


class Flags(NamedTuple):
    """Which faults are shown, bool.

    Attributes:
      ignores: factor -> less than half of golden's information.
      contradicts: factor -> information below 0, that of a wrong value.
      copies_last_turn: its words are repeated.
      echo: the same, with user and character ignored.
      copies_persona: the user's persona is repeated.
      context_free: less than a quarter of golden's information of all factors. The sign of the
        baseline tells a generic answer (likely) from one of another context.
      colder_than_golden: likelier answers with more information, without copying.
    """

    ignores: dict[str, Array]
    contradicts: dict[str, Array]
    copies_last_turn: Array
    echo: Array
    copies_persona: Array
    context_free: Array
    colder_than_golden: Array


def profile_flags(
    own_words: ByFactor,
    golden_own_words: ByFactor,
    all_words: ByFactor,
    golden_all_words: ByFactor,
    *,
    baseline: Array | None = None,
    where: Array | ByFactor | None = None,
) -> Flags:
    """The faults that are shown by limits of two-sided 95 % t intervals of means over contexts.

    d is the model's δ, d* golden's, Σ over user, character and dialogue; "golden shown" is the rule
    of `share`, which is that the lower limit of d* is above 0.
      ignores f: golden shown, upper(d − d*/2) < 0.
      contradicts f: golden shown, upper(d) < 0 and upper(d + .05 d*) < 0.
      copies_last_turn: on all words, lower(d − 3 d*) > 0 of it, and lower(d − Σd*/2) > 0, and
        lower(d) > 0.
      echo: the former, with user and character ignored.
      copies_persona: on all words, lower(d − 2 d*) > 0 of the user, and lower(d) > 0.
      context_free: lower(Σd*) > 0, upper(Σd − Σd*/4) < 0.
      colder_than_golden: lower(baseline) > 0, lower(Σd − Σd*) > 0, and nothing is copied.
    So golden answers raise none of them, whatever their own δ is.

    Args:
      own_words: factor -> [n] nats of `factor_gaps`, of the words that are not copied from the
        context. Factors are user, character, dialogue, and its parts history and last_turn. Leave
        out a factor that no context has a partner for: it raises no flag, and Σ goes without it.
      golden_own_words: of golden's answers to the same contexts, for the same factors.
      all_words: factor -> [n] of whole answers, read by the flags of copying; golden_all_words
        likewise.
      baseline: [n] what `likelihood_baseline` is the mean of, model minus golden, read where any
        factor is; without it `colder_than_golden` is False.
      where: [n] bool, contexts to keep, or factor -> [n] where some have no partner for some.

    Raises:
      ValueError: no mapping, an unknown factor, factors or shapes that do not agree, fewer than 2
        contexts, or a kept value that is not finite.

    >>> low, high = jnp.array([0.1, -0.1, 0.0]), jnp.array([2.0, 3.0, 2.5])
    >>> flags = profile_flags({"user": low}, {"user": high}, {"user": low}, {"user": high})
    >>> bool(flags.ignores["user"]), bool(flags.contradicts["user"])
    (True, False)
    """
    pairs = (
        {"own_words": own_words, "golden_own_words": golden_own_words},
        {"all_words": all_words, "golden_all_words": golden_all_words},
    )
    for pair in pairs:
        _same_factors(pair)
    shape = real(next(iter(own_words.values())), "own_words").shape
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"own_words must be lists [n >= 2] of numbers, got shape {shape}")
    factors = [f for f in NAMES if f in own_words or f in all_words]
    masks = {f: _mask(where, f, shape) for f in factors}
    dtype = floating(next(iter(own_words.values()))).dtype
    read = [_rows(x, name, masks, dtype) for pair in pairs for name, x in pair.items()]
    if baseline is not None:
        kept = {"": functools.reduce(jnp.logical_or, masks.values())}
        baseline = _rows({"": baseline}, "baseline", kept, dtype)[""]
    return _flags(*read, baseline, {f: jnp.asarray(mask) for f, mask in masks.items()})


def _same_factors(pair: Mapping[str, Any]) -> None:
    for name, by_factor in pair.items():
        if not isinstance(by_factor, Mapping) or not by_factor:
            raise ValueError(f"{name} must map factors to lists [n], got {shown(by_factor)}")
        for factor in by_factor:
            checks.look_up(f"factor of {name}", factor, dict.fromkeys(NAMES))
    (one, a), (two, b) = pair.items()
    if set(a) != set(b):
        found = f"{one} has {', '.join(a)}, {two} has {', '.join(b)}"
        raise ValueError(f"{found}: give both the same factors")


def _mask(where: Any, factor: str, shape: tuple[int, ...]) -> Any:
    if not isinstance(where, Mapping):
        return checks.mask_of(where, shape, least=2)
    if factor not in where:
        raise ValueError(f"where has no mask of the factor {factor}: give one a factor, or one [n]")
    return checks.mask_of(where[factor], shape, least=2)


def _rows(by_factor: ByFactor, name: str, masks: Mapping[str, Any], dtype: Any) -> dict[str, Array]:
    """Checked numbers [n] in floating point, 0 where they are not kept."""
    found = {}
    for factor, values in by_factor.items():
        said = f"{name}[{factor!r}]" if factor else name
        values = real(values, said)
        mask = masks[factor]
        if values.shape != mask.shape:
            raise ValueError(f"{said} must have shape {mask.shape}, got {values.shape}")
        checks.entries(values, said, used=mask, on_device=True)
        found[factor] = jnp.where(jnp.asarray(mask), floating(values, dtype), 0)
    return found


@jax.jit
def _flags(
    own: dict[str, Array],
    golden: dict[str, Array],
    whole: dict[str, Array],
    golden_whole: dict[str, Array],
    baseline: Array | None,
    masks: dict[str, Array],
) -> Flags:
    def above(form: Array, *among: str) -> Array:
        return limits_of_mean(form, _common(masks, among))[0] > 0

    def below(form: Array, *among: str) -> Array:
        return limits_of_mean(form, _common(masks, among))[1] < 0

    never = jnp.zeros((), bool)
    known = {f: above(golden[f], f) for f in own}
    ignores = {f: known[f] & below(own[f] - golden[f] / 2, f) for f in own}
    contradicts = {
        f: known[f] & below(own[f], f) & below(own[f] + 0.05 * golden[f], f) for f in own
    }
    last, copies_last, copies_persona = "last_turn", never, never
    among = [f for f in FACTORS if f in whole]
    if last in whole and among:
        copies_last = above(whole[last] - 3 * golden_whole[last], last)
        copies_last &= above(whole[last] - _sum(golden_whole, among) / 2, last, *among)
        copies_last &= above(whole[last], last)
    if "user" in whole:
        copies_persona = above(whole["user"] - 2 * golden_whole["user"], "user")
        copies_persona &= above(whole["user"], "user")
    among = [f for f in FACTORS if f in own]
    context_free = colder = never
    if among:
        sums = _sum(own, among), _sum(golden, among)
        context_free = above(sums[1], *among) & below(sums[0] - sums[1] / 4, *among)
        if baseline is not None:
            any_factor = functools.reduce(jnp.logical_or, masks.values())
            colder = limits_of_mean(baseline, any_factor)[0] > 0
            colder &= above(sums[0] - sums[1], *among)
    echo = copies_last & ignores.get("user", never) & ignores.get("character", never)
    colder &= ~copies_last & ~copies_persona
    return Flags(ignores, contradicts, copies_last, echo, copies_persona, context_free, colder)


def _common(masks: Mapping[str, Array], among: tuple[str, ...]) -> Array:
    return functools.reduce(jnp.logical_and, (masks[f] for f in among))


def _sum(by_factor: Mapping[str, Array], among: list[str]) -> Array:
    return functools.reduce(jnp.add, (by_factor[f] for f in among))
