"""Direct preference optimisation (DPO): the sigmoid loss on log-ratios of preferred and other.

    loss = −log σ(β [(log π(y⁺|x) − log ref(y⁺|x)) − (log π(y⁻|x) − log ref(y⁻|x))])

(Rafailov et al., 2023, arXiv 2305.18290). Log-probabilities are in nats.
"""

import dataclasses

import jax
import jax.numpy as jnp

from remid_jax.settings import check_choice, check_fields, key

Array = jax.Array
NORMALISATIONS = ("sequence", "token")


@dataclasses.dataclass(frozen=True)
class DpoConfig:
    """Every choice of the loss; hashable, so it can be a static argument of a compiled program.

    Raises:
      UserError: naming the key, its value and what is allowed.
    """

    beta: float = key(0.1, "β: how near the reference the policy stays", "(0, 1e9]")
    normalisation: str = key(
        "sequence", "log-ratios of whole answers, or their mean a token", NORMALISATIONS
    )

    def __post_init__(self):
        check_fields(self, "dpo")


def dpo_loss(
    log_probs: Array, reference: Array, mask: Array, config: DpoConfig
) -> tuple[Array, Array, dict[str, tuple[Array, Array]]]:
    """The loss of pairs, as a sum and what to divide it by.

    Args:
      log_probs: [N, 2, S] of the policy at the tokens of the preferred and of the other answer,
        the only input with a gradient; not read where nothing is scored.
      reference: [N, 2, S] of the reference, constants.
      mask: [N, 2, S] bool, or float that is not 0, at tokens that count.
      config: `sequence` sums log-ratios over an answer (the paper, TRL's `sigmoid`), `token` takes
        their mean (TRL's `sigmoid_norm`).

    Returns:
      Σ loss, N, and metrics, name -> (sum, denominator): `margin`, β times the difference of
      log-ratios; `accuracy`, the share of pairs where it is positive; `chosen` and `rejected`, the
      two log-ratios as they are normalised, in nats.

    Raises:
      ValueError: shapes do not agree.

    >>> a, b = jnp.array([[[-1.0], [-3.0]]]), jnp.array([[[-2.0], [-2.0]]])
    >>> total, pairs, _ = dpo_loss(a, b, jnp.ones((1, 2, 1)), DpoConfig(beta=0.5))
    >>> round(float(total), 4), float(pairs)  # -log sigmoid(0.5 * (1 + 1))
    (0.3133, 1.0)
    """
    shape = jnp.shape(log_probs)
    if len(shape) != 3 or shape[1] != 2 or {jnp.shape(reference), jnp.shape(mask)} != {shape}:
        shapes = f"{shape}, {jnp.shape(reference)} and {jnp.shape(mask)}"
        raise ValueError(f"log_probs, reference and mask must all be [pairs, 2, S], got {shapes}")
    check_choice("dpo.normalisation", config.normalisation, NORMALISATIONS)
    counted = jnp.asarray(mask, bool)
    ratios = log_probs - jax.lax.stop_gradient(reference)
    ratios = jnp.sum(ratios, axis=-1, where=counted)
    if config.normalisation == "token":
        ratios = ratios / jnp.maximum(jnp.sum(counted, axis=-1, dtype=ratios.dtype), 1)
    margin = config.beta * (ratios[:, 0] - ratios[:, 1])
    pairs = jnp.asarray(shape[0], ratios.dtype)
    each = {
        "margin": margin, "accuracy": margin > 0, "chosen": ratios[:, 0], "rejected": ratios[:, 1]
    }  # fmt: skip
    metrics = {
        name: (jnp.sum(jax.lax.stop_gradient(x), dtype=ratios.dtype), pairs)
        for name, x in each.items()
    }
    return -jnp.sum(jax.nn.log_sigmoid(margin)), pairs, metrics
