"""The same step in peft and transformers."""

import tempfile
import warnings
from collections.abc import Callable, Sequence

from benchmarks import torch_side
from remid_jax.errors import UserError
from remid_jax.models.adapters import Adapter
from remid_jax.models.peft import export_peft
from remid_jax.models.pretrained import LanguageModel
from remid_jax.training.groups import Example

try:
    import peft
    import torch
except ImportError as e:
    raise UserError(f"{e.name} is missing; pip install -e '.[parity]'") from None

UNREAD = -100  # label of a token that the loss leaves out


class PeftSteps:
    """Steps of AdamW on our weights and adapter; examples are of one size, so nothing is padded."""

    def __init__(
        self, model: LanguageModel, adapter: Adapter, examples: Sequence[Example], rate: float
    ):
        base = torch_side.TorchModel(model).net
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for authors of libraries
            exported = str(export_peft(f"{folder}/adapter", adapter, "random"))
            self.net = peft.PeftModel.from_pretrained(base, exported, is_trainable=True).train()
        self.trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.trained, lr=rate, weight_decay=0.0)
        self.ids = torch.tensor([[*e.prompt, *e.scored] for e in examples])
        self.labels = self.ids.clone()
        self.scored = len(examples[0].scored)
        self.labels[:, : -self.scored] = UNREAD

    def step(self, parts: int, every_logit: bool) -> Callable[[int], dict[str, float]]:
        """Round -> loss and norm of the gradient, of so many parts one after the other.

        With `every_logit` logits of prompts are computed too, as trainers do.
        """
        kept = 0 if every_logit else self.scored + 1

        def run(r: int) -> dict[str, float]:
            total = 0.0
            for ids, labels in zip(self.ids.chunk(parts), self.labels.chunk(parts), strict=True):
                said = self.net(
                    input_ids=ids, labels=labels[:, -kept:], logits_to_keep=kept, use_cache=False
                )
                loss = said.loss / parts
                loss.backward()
                total += loss.item()
            norm = torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimiser.step()
            self.optimiser.zero_grad()
            return {"loss": total, "norm": float(norm)}

        return run
