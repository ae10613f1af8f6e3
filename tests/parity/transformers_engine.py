"""transformers behind the two-method protocol of `remid_jax.inference.engine.Engine`."""

from collections.abc import Sequence

import numpy as np
from parity.tiny_transformers import torch

from remid_jax.inference.sampling import Sampled
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.pretrained import open_language_model


class TransformersEngine:
    """A causal model of transformers, one sequence at a time: an adapter, not a fast one."""

    def __init__(self, folder: str, model):
        card = open_language_model(folder)
        self.name, self.fingerprint, self.dtype = (
            "transformers",
            f"transformers/{folder}",
            card.dtype,
        )
        self.config, self.tokenizer = card.config, card.tokenizer
        self._model = model

    def _log_probs(self, prompt: Sequence[int], response: Sequence[int]) -> np.ndarray:
        """[len(response)] log-probabilities in nats."""
        with torch.inference_mode():
            logits = self._model(torch.tensor([[*prompt, *response]])).logits[0]
        logs = torch.log_softmax(logits[len(prompt) - 1 : -1].double(), -1)
        return logs[range(len(response)), list(response)].numpy()

    def score(self, prompt, responses, prefix_lengths=()) -> list[np.ndarray]:
        """See `Engine.score`."""
        return [self._log_probs(prompt, y) for y in responses]

    def generate(
        self, prompts, config: SamplingConfig, draws: int = 1, prefix_lengths=None
    ) -> list[Sampled]:
        """See `Engine.generate`; greedy only."""
        assert config.temperature == 0 and draws == 1 and not config.stop_strings
        end = self.tokenizer.end_of_turn
        drawn = []
        for prompt in prompts:
            with torch.inference_mode():
                ids = self._model.generate(
                    torch.tensor([list(prompt)]), attention_mask=torch.ones(1, len(prompt)),
                    max_new_tokens=config.max_tokens, do_sample=False,
                    repetition_penalty=config.repetition_penalty,
                    eos_token_id=end, pad_token_id=end,
                )[0, len(prompt) :].tolist()  # fmt: skip
            stopped = end in ids
            tokens = tuple(ids[: ids.index(end)] if stopped else ids)
            log_probs = self._log_probs(prompt, tokens) if tokens else np.empty(0)
            drawn.append(Sampled(tokens, log_probs, stopped))
        return drawn
