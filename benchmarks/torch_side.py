"""The same work in PyTorch with transformers: the only module that imports them."""

import copy
import inspect
import os
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx

from remid_jax.errors import UserError
from remid_jax.models.families import HUGGING_FACE, LAYER_TENSORS, TENSORS
from remid_jax.models.pretrained import LanguageModel

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import torch
    from transformers import DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM
except ImportError as e:
    raise UserError(f"{e.name} is missing; pip install -e '.[parity]'") from None

Pair = tuple[Sequence[int], Sequence[int]]
# The argument's name in transformers 4 and 5.
_KNOWN = inspect.signature(LlamaForCausalLM.forward).parameters
_CACHE = "cache" if "cache" in _KNOWN else "past_key_values"


class TorchModel:
    """A transformers model with our weights, in float32, with PyTorch's own attention (sdpa)."""

    def __init__(self, model: LanguageModel):
        """Copies the weights of our model."""
        c = model.config
        rope = {"rope_theta": c.rope_theta}
        config = LlamaConfig(
            vocab_size=c.vocab_size, hidden_size=c.width, intermediate_size=c.mlp_width,
            num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads,
            num_key_value_heads=c.num_kv_heads, head_dim=c.head_dim,
            max_position_embeddings=c.max_positions, rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tie_embeddings, bos_token_id=None, eos_token_id=None,
            rope_parameters={"rope_type": "default", **rope}, **rope, attn_implementation="sdpa",
        )  # fmt: skip
        self.net = LlamaForCausalLM(config).eval()
        # Not strict: a tied head is no tensor of its own.
        self.net.load_state_dict(_tensors(model), strict=False)

    @torch.inference_mode()
    def full_pairs(self, pairs: Sequence[Pair], batch: int, every_logit: bool) -> np.ndarray:
        """log q(y | x) of pairs, each by a forward pass over context and response, in nats.

        Args:
          pairs: (context, response); a batch is padded at the end, and masked.
          batch: pairs of one forward pass.
          every_logit: whether logits of the contexts are computed too, which nobody reads: that is
            how the published reference does it.
        """
        sums = []
        for a in range(0, len(pairs), batch):
            part = pairs[a : a + batch]
            ids, mask = _padded([[*x, *y] for x, y in part])
            first = 0 if every_logit else min(len(x) for x, _ in part) - 1
            kept = ids.shape[1] - first
            out = self.net(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept)
            logs = torch.log_softmax(out.logits.float(), dim=-1)
            for row, (x, y) in zip(logs, part, strict=True):
                sums.append(_picked(row[len(x) - 1 - first :], y))
        return np.array(sums)

    @torch.inference_mode()
    def cached_pairs(
        self, context: Sequence[int], responses: Sequence[Sequence[int]], batch: int
    ) -> np.ndarray:
        """log q(y | x) of the responses to one context that is computed once, in nats.

        Args:
          context: x.
          responses: every y, of at least 2 tokens; shorter ones are padded at the end, where no
            earlier token sees it.
          batch: responses of one forward pass, for which the cache is expanded.
        """
        cache = DynamicCache()
        given = {"input_ids": torch.tensor([context]), "logits_to_keep": 1, _CACHE: cache}
        first = torch.log_softmax(self.net(use_cache=True, **given).logits[0, -1].float(), dim=-1)
        sums = []
        for a in range(0, len(responses), batch):
            part = responses[a : a + batch]
            ids, _ = _padded(part)
            given = {"input_ids": ids[:, :-1], _CACHE: _expanded(cache, len(part))}
            logs = torch.log_softmax(self.net(use_cache=True, **given).logits.float(), dim=-1)
            for row, y in zip(logs, part, strict=True):
                sums.append(first[y[0]].item() + _picked(row, y[1:]))
        return np.array(sums)

    @torch.inference_mode()
    def full_forward(self, tokens: np.ndarray) -> np.ndarray:
        """Normalised hidden states [R, S, width] of whole sequences [R, S], without logits."""
        ids = torch.from_numpy(np.asarray(tokens, np.int64))
        return self.net.model(input_ids=ids, use_cache=False).last_hidden_state.numpy()

    @torch.inference_mode()
    def logits_of(self, hidden: np.ndarray) -> np.ndarray:
        """Logits of normalised hidden states."""
        return self.net.lm_head(torch.from_numpy(hidden)).numpy()

    @torch.inference_mode()
    def next_logits(self, tokens: Sequence[int]) -> np.ndarray:
        """Logits [V] of the token that follows."""
        return self.net(input_ids=torch.tensor([tokens]), logits_to_keep=1).logits[0, -1].numpy()

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, limits: Sequence[int] = ()
    ) -> list[list[int]]:
        """New tokens of `model.generate`; no token ends a row.

        Args:
          prompts: token ids, padded at the left.
          new_tokens: so many are made.
          limits: by default one greedy row a prompt; given, as many rows a prompt are drawn at
            temperature 1, and each ends after its own number of tokens (at most `new_tokens`).
        """
        ids, mask = _padded(prompts, left=True)
        lengths = list(limits or [new_tokens]) * len(prompts)
        ends = torch.tensor(lengths) + ids.shape[1]
        drawn = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}
        config = GenerationConfig(
            max_new_tokens=new_tokens, pad_token_id=0, num_return_sequences=max(1, len(limits)),
            **(drawn if limits else {"do_sample": False}),
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            out = self.net.generate(
                ids, attention_mask=mask, generation_config=config,
                stopping_criteria=[lambda ids, *_, **__: ids.shape[1] >= ends] if limits else [],
            )  # fmt: skip
        new = out[:, ids.shape[1] :].tolist()
        return [row[:n] for row, n in zip(new, lengths, strict=True)]


def _tensors(model: LanguageModel) -> dict[str, torch.Tensor]:
    """Our weights by their Hugging Face names; kernels are [out, in] there."""
    arrays = nnx.to_pure_dict(model.params)
    layers = arrays.pop("layers")
    found = {TENSORS[name][HUGGING_FACE]: np.array(x) for name, x in arrays.items()}
    for name, stacked in layers.items():
        for i, x in enumerate(np.array(stacked)):
            found[LAYER_TENSORS[name][HUGGING_FACE].format(i)] = np.ascontiguousarray(x.T)
    return {name: torch.from_numpy(x) for name, x in found.items()}


def _padded(rows: Sequence[Sequence[int]], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, [R, S], of lists that are padded at the end or at the left."""
    longest = max(map(len, rows))
    ids, mask = (torch.zeros((len(rows), longest), dtype=torch.long) for _ in range(2))
    for i, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[i, place], mask[i, place] = torch.tensor(row), 1
    return ids, mask


def _picked(logs: torch.Tensor, targets: Sequence[int]) -> float:
    """Sum of what the first rows of `logs` [S, V] say of the targets."""
    chosen = torch.tensor(targets)[:, None]
    return logs[: len(targets)].gather(-1, chosen).double().sum().item()


def _expanded(cache: DynamicCache, rows: int) -> DynamicCache:
    """Views of one row's cache as `rows` rows; appending makes new tensors, the row stays."""
    made = copy.copy(cache)
    made.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in made.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return made


def product(a: np.ndarray, b: np.ndarray) -> Callable[[], object]:
    """Prepares a float32 product for `harness`; the right side lies as layers hold it."""
    x, y = torch.from_numpy(a), torch.from_numpy(b.T.copy())
    return torch.inference_mode()(lambda: torch.nn.functional.linear(x, y))
