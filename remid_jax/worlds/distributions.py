"""Joint distributions of (user, character, dialogue) and the mechanisms they are made of.

What is no distribution or of another shape is a ValueError.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

from remid_jax.factor_names import FACTORS
from remid_jax.information import checks
from remid_jax.information.arguments import on_device, real, shown

Array = jax.Array

Mechanisms = tuple[Array, Array, Array]
"""p(u) [U], p(c|u) [U, C], p(d|u,c) [U, C, D]."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class World:
    """A pair of distributions with a shared true channel and the channel of an evaluated model.

    Attributes:
      mechanisms_P, mechanisms_Q: in and out of distribution.
      channel, model: [X, Y] rows p(y|x) and p_θ(y|x), x = (u, c, d) in C order.
    """

    mechanisms_P: Mechanisms
    mechanisms_Q: Mechanisms
    channel: Array
    model: Array

    @property
    def P(self) -> Array:
        """[U, C, D] in distribution."""
        return joint_distribution(self.mechanisms_P)

    @property
    def Q(self) -> Array:
        """[U, C, D] out of distribution."""
        return joint_distribution(self.mechanisms_Q)


def joint_distribution(mechanisms: Mechanisms, name: str = "mechanisms") -> Array:
    """p(u) p(c|u) p(d|u,c): [U, C, D]."""
    user, character, dialogue = (on_device(m) for m in checked_mechanisms(mechanisms, name))
    sizes = dialogue.shape
    if len(sizes) != 3 or user.shape != sizes[:1] or character.shape != sizes[:2]:
        shapes = [user.shape, character.shape, dialogue.shape]
        raise ValueError(f"{name} must have shapes [U], [U, C], [U, C, D], got {shapes}")
    for factor, mechanism in zip(FACTORS, (user, character, dialogue), strict=True):
        checks.distribution(mechanism, -1, f"mechanism of the {factor}")
    return user[:, None, None] * character[:, :, None] * dialogue


def checked_mechanisms(mechanisms: Any, name: str = "mechanisms") -> list[Array]:
    """Three arrays of real numbers."""
    if not isinstance(mechanisms, tuple | list) or len(mechanisms) != len(FACTORS):
        raise ValueError(f"{name} must be those of the 3 factors, got {shown(mechanisms)}")
    return [real(m, f"{name} of the {z}") for m, z in zip(mechanisms, FACTORS, strict=True)]


def mechanisms_of(joint: Array) -> Mechanisms:
    """The mechanisms of a joint [U, C, D]; conditionals of events without mass are uniform."""
    joint = on_device(real(joint, "joint distribution"))
    if joint.ndim != 3:
        raise ValueError(f"a joint distribution has axes [U, C, D], got shape {joint.shape}")
    checks.distribution(joint, (0, 1, 2), "joint distribution")
    pair = joint.sum(2)
    return pair.sum(1), _conditional(pair), _conditional(joint)


def _conditional(joint: Array) -> Array:
    total = joint.sum(-1, keepdims=True)
    return jnp.where(total > 0, joint / jnp.where(total > 0, total, 1), 1 / joint.shape[-1])


def mixed_distributions(mechanisms_P: Mechanisms, mechanisms_Q: Mechanisms) -> Array:
    """[2, 2, 2, U, C, D], the joints of the cells that take each mechanism from P (0) or Q (1)."""
    P = checked_mechanisms(mechanisms_P, "mechanisms_P")
    Q = checked_mechanisms(mechanisms_Q, "mechanisms_Q")
    cells = itertools.product(*zip(P, Q, strict=True))
    joints = jnp.stack([joint_distribution(cell) for cell in cells])
    return joints.reshape(2, 2, 2, *joints.shape[1:])


def check_channel(channel: Array, contexts: int, name: str) -> None:
    """Checks that rows p(y|x) are distributions, one for each of `contexts`."""
    shape = real(channel, name).shape
    if len(shape) != 2 or shape[0] != contexts:
        raise ValueError(f"{name} must have shape [{contexts} contexts, responses], got {shape}")
    checks.distribution(channel, -1, name)
