"""The same round in TRL: the only module that imports trl and peft."""

import contextlib
import functools
import os
import time
import timeit
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from benchmarks import torch_side
from benchmarks.grpo import Work
from remid_jax.errors import UserError
from remid_jax.models.adapters import Adapter, merged
from remid_jax.models.peft import export_peft
from remid_jax.models.pretrained import LanguageModel

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
try:
    import accelerate  # noqa: F401  trl would report its absence less clearly
    import datasets
    import peft
    import torch
    import transformers
    from trl import GRPOConfig, GRPOTrainer
except ImportError as e:
    needed = "trl==1.16.0 peft==0.21.2 accelerate datasets"
    raise UserError(f"{e.name} is missing; pip install {needed}") from None

PACKAGES = ("trl", "peft", "accelerate", "datasets")
# What a step does; the rest of TRL's defaults stand (Adam's decays, clipping of ratios, AdamW).
SAME = {
    "num_iterations": 1, "beta": 0.0, "temperature": 1.0, "top_p": 1.0, "top_k": 0,
    "loss_type": "grpo", "scale_rewards": "group", "learning_rate": 1e-5,
    "lr_scheduler_type": "constant", "weight_decay": 0.0, "max_grad_norm": 1.0,
}  # fmt: skip
# What would cost time and is no part of a round.
OFF = {
    "use_cpu": True, "bf16": False, "fp16": False, "gradient_checkpointing": False,
    "use_vllm": False, "logging_strategy": "no", "save_strategy": "no", "report_to": "none",
    "disable_tqdm": True, "dataloader_pin_memory": False, "shuffle_dataset": False,
}  # fmt: skip


class _Trainer(GRPOTrainer):
    """Counts the tokens of the loss."""

    counted = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        """TRL's loss."""
        self.counted += int(inputs["completion_mask"].sum())
        return super().compute_loss(model, inputs, *args, **more)


class TrlRounds:
    """Rounds of `GRPOTrainer` on our weights and adapter, rewarded by a frozen policy.

    The policy's adapter is merged into its weights, which is the fastest that it can be. What the
    trainer writes goes to `folder`.
    """

    def __init__(
        self, model: LanguageModel, trained: Adapter, policy: Adapter, work: Work, folder: str
    ):
        transformers.logging.set_verbosity_error()
        self.work, self.reward_batch = work, work.rows
        self.folder = Path(folder)
        self.policy = torch_side.TorchModel(merged(model, policy))
        base = torch_side.TorchModel(model).net
        exported = export_peft(self.folder / "adapter", trained, "random")
        with _silence():
            self.trained = peft.PeftModel.from_pretrained(base, str(exported), is_trainable=True)
        self.tokenizer = _tokenizer(model.config.vocab_size)
        self.texts = [" ".join(f"w{i}" for i in p) for p in work.prompts]
        if self.tokenizer(self.texts)["input_ids"] != [list(p) for p in work.prompts]:
            raise RuntimeError("the tokenizer of the benchmark does not give the prompts back")
        self._seen: dict[str, Any] = {}
        plain = self.trained.generate

        def generate(*args: Any, **more: Any) -> Any:
            with self._added("rollout"):
                return plain(*args, **more)

        self.trained.generate = generate

    @contextlib.contextmanager
    def _added(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds = self._seen["seconds"]
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start

    @torch.inference_mode()
    def log_prob(self, prompt: Sequence[int], completion: Sequence[int]) -> float:
        """log q of a completion under the model that is trained, in nats."""
        logits = self.trained(input_ids=torch.tensor([[*prompt, *completion]])).logits[0]
        logs = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), dim=-1)
        return logs.gather(-1, torch.tensor(completion)[:, None]).double().sum().item()

    def rewards(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[float]:
        """Mean log q of the golden response's tokens after prompt and completion, in nats."""
        golden = self.work.golden
        pairs = [([*p, *c], golden) for p, c in zip(prompts, completions, strict=True)]
        sums = self.policy.full_pairs(pairs, self.reward_batch, every_logit=False)
        return (sums / len(golden)).tolist()

    def choose_reward_batch(self, batches: Sequence[int]) -> None:
        """Takes the fastest batch of the reward's forward passes."""
        prompts = [p for p in self.work.prompts for _ in range(self.work.group)]
        completions, took = [p[: self.work.new] for p in prompts], {}
        for self.reward_batch in batches:
            rewards = functools.partial(self.rewards, prompts, completions)
            took[self.reward_batch] = min(timeit.repeat(rewards, number=1, repeat=2))
        self.reward_batch = min(took, key=took.__getitem__)

    def _reward(
        self, completion_ids: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        """The reward function; the trainer gives its arguments by name."""
        with self._added("reward"):
            values = self.rewards(tokens, completion_ids)
        self._seen |= {
            "completions": [list(c) for c in completion_ids], "rewards": values,
            "rewarded": len(values) * len(self.work.golden),
        }  # fmt: skip
        return values

    def round(self, batch: int) -> Callable[[int], dict[str, Any]]:
        """Round -> what was found, see `OurRounds.round`; `batch` completions a gradient."""
        trainer = self._trainer(batch)

        def run(r: int) -> dict[str, Any]:
            self._seen = {"seconds": {}}
            before, start = trainer.counted, time.perf_counter()
            with _silence():
                trainer.train()
            seconds = self._seen["seconds"]
            seconds["update"] = time.perf_counter() - start - sum(seconds.values())
            if trainer.state.global_step != 1:
                raise RuntimeError(f"TRL took {trainer.state.global_step} steps in a round")
            return {**self._seen, "trained": trainer.counted - before}

        return run

    def _trainer(self, batch: int) -> _Trainer:
        w = self.work
        with _silence():
            args = GRPOConfig(
                output_dir=str(self.folder / "trainer"), per_device_train_batch_size=batch,
                gradient_accumulation_steps=w.rows // batch, num_generations=w.group,
                max_completion_length=w.new, max_steps=1, **SAME, **OFF,
            )  # fmt: skip
            data = {"prompt": self.texts, "tokens": [list(p) for p in w.prompts]}
            trainer = _Trainer(
                self.trained, [self._reward], args, datasets.Dataset.from_dict(data),
                processing_class=self.tokenizer,
            )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the warnings that are for authors of libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _tokenizer(size: int) -> transformers.PreTrainedTokenizerFast:
    """Words `w0`, `w1`, ... for the ids of the model, and an end of text that it cannot draw."""
    words = {f"w{i}": i for i in range(size)} | {"<end>": size}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "w0"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", pad_token="w0", padding_side="left"
    )
