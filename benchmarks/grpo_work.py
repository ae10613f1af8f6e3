"""What a round of GRPO works on, and what it takes of operations and memory, ours and TRL's.

Operations: a forward pass is that of `remid_jax.inference.cost`, and 2 for each number of an
adapter and token. A step through frozen weights needs products for the activations' gradients but
none for the weights': twice the forward pass for kernels, three times for the products of
attention (both of whose sides have a gradient) and of adapters, and three times for the head, whose
logits both sides compute again rather than keep.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from remid_jax.inference.cost import extend_flops, head_flops, layer_parameters
from remid_jax.models.decoder import DecoderConfig

Tokens = Sequence[int]


@dataclasses.dataclass(frozen=True)
class Work:
    """What a round works on.

    Attributes:
      prompts: token ids, all of one length.
      golden: token ids of the response that rewards are computed from.
      new: tokens of a completion.
      group: completions of a prompt.
    """

    prompts: Sequence[Tokens]
    golden: Tokens
    new: int
    group: int

    @property
    def rows(self) -> int:
        """Completions of a round."""
        return len(self.prompts) * self.group

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return len(self.prompts[0])


def step_flops(c: DecoderConfig, adapter: int, new: int, before: int = 0) -> float:
    """Operations of `new` tokens after `before` others, forward and back, without the head.

    Args:
      c: shape of the decoder.
      adapter: numbers that an adapter has.
      new: tokens that run; before: those whose keys they see.
    """
    kernels = 2.0 * layer_parameters(c) * new
    attention = extend_flops(c, new, before) - kernels
    return 2 * kernels + 3 * (attention + 2.0 * adapter * new)


def shared_flops(c: DecoderConfig, w: Work, adapter: int) -> tuple[float, float]:
    """(layers, head): operations of a round where a group's prompt is run once each time.

    Rollouts are counted without the adapter: they need none where it is merged. The last token of a
    row is never run: nothing follows it.
    """
    prompts, rows, p = len(w.prompts), w.rows, w.length
    drawn = prompts * extend_flops(c, p) + rows * extend_flops(c, w.new - 1, p)
    read = w.new + len(w.golden) - 1
    rewarded = prompts * extend_flops(c, p) + rows * extend_flops(c, read, p)
    rewarded += 2.0 * adapter * (prompts * p + rows * read)
    updated = prompts * step_flops(c, adapter, p) + rows * step_flops(c, adapter, w.new - 1, p)
    return drawn + rewarded + updated, head_flops(c, rows * (4 * w.new + len(w.golden)))


def unshared_flops(c: DecoderConfig, w: Work, adapter: int) -> tuple[float, float]:
    """(layers, head): operations of TRL's round, where each completion has a prompt of its own.

    On a CPU its loss computes the logits of prompts too (`add_fused_lm_head` of TRL 1.16).
    """
    rows, p = w.rows, w.length
    drawn = extend_flops(c, p + w.new - 1) + 2.0 * adapter * (p + w.new - 1)
    rewarded = extend_flops(c, p + w.new + len(w.golden))
    updated = step_flops(c, adapter, p + w.new)
    logits = w.new + len(w.golden) + 1 + 3 * (p + w.new - 1)
    return rows * (drawn + rewarded + updated), head_flops(c, rows * logits)


def kept_bytes(c: DecoderConfig, tokens: int) -> float:
    """Bytes that PyTorch keeps of so many tokens until the gradient is computed, at most.

    In a layer: inputs and outputs of norms, queries, keys, values and what attention gives, and the
    four products of the SwiGLU (1.2 MB a token at SmolLM2's shape, by hooks; this says 1.5).
    """
    floats = 6 * c.width + 5 * c.num_heads * c.head_dim + 4 * c.mlp_width
    return 4.0 * c.num_layers * floats * tokens


def available_bytes(path: str = "/proc/meminfo") -> float:
    """Memory that is at hand; infinite where the system does not say."""
    try:
        return 1024.0 * int(Path(path).read_text().split("MemAvailable:")[1].split()[0])
    except (OSError, IndexError):
        return float("inf")


def trl_batches(c: DecoderConfig, w: Work, memory: float) -> list[int]:
    """Completions that TRL's step takes at once: one group, and the most that memory allows."""
    sizes = [w.rows // n for n in range(1, len(w.prompts) + 1) if not len(w.prompts) % n]
    length = w.length + w.new
    fit = [size for size in sizes if kept_bytes(c, size * length) < 0.7 * memory]
    return sorted({w.group, max(fit, default=w.group)})
