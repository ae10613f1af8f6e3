"""The configuration of an RPM's training: every method, every key, and checks before any work."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.augmentation import STYLES, WORLD_STYLES
from remid_jax.errors import UserError
from remid_jax.models.lora import LoraConfig
from remid_jax.models.rpm import TRAINED
from remid_jax.run_config import ModelKeys, RunKeys, check_mixture
from remid_jax.settings import check_keys, defaults_of, group, key, keys_of
from remid_jax.training.config import (
    GRPO,
    BaseShape,
    Checkpoints,
    Evaluation,
    Pretraining,
    Scoring,
    Stage,
    Updates,
    WorldKeys,
    check_batches,
    check_grpo,
    check_shapes,
    check_tags,
)
from remid_jax.training.dpo import DpoConfig
from remid_jax.training.optimiser import OptimiserConfig
from remid_jax.training.reward_batch import FIELDS, REWARDS

BASE = ""  # the start of methods that begin with the base


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train an RPM.

    Attributes:
      learns: `sft`, `dpo` or `grpo`, the loss.
      starts: methods that may have trained what it begins from; empty: it begins from the base.
      golden: whether it learns from golden answers.
      thinks: whether the RPM writes a thought before its answer.
      estimator: whether it needs an estimator as its judge.
    """

    learns: str
    starts: tuple[str, ...] = ()
    golden: bool = True
    thinks: bool = False
    estimator: bool = False

    @property
    def draws(self) -> bool:
        """Whether answers are drawn and rewarded."""
        return not self.golden


_SFT = ("sft", "sft_augmented", "rejection_sft")
METHODS = {
    "sft": Method("sft"),
    "sft_augmented": Method("sft"),
    "thinking_sft": Method("sft", thinks=True),
    "dpo": Method("dpo", _SFT),
    "rejection_sft": Method("sft", _SFT, golden=False),
    "grpo": Method("grpo", _SFT, golden=False),
    "migrpo": Method("grpo", _SFT, golden=False, estimator=True),
    "thinking_grpo": Method("grpo", ("thinking_sft",), golden=False, thinks=True),
}
INFORMATION = ("cross_information", "profile")  # rewards of `migrpo`, one of them at least


@dataclasses.dataclass(frozen=True)
class _Batch:
    batch: int = key(16, "of a batch", "[1, inf) samples")


@dataclasses.dataclass(frozen=True)
class _Augmentation:
    share: float = key(0.5, "of a batch that is augmented, each kind by itself", "[0, 1]")
    styles: tuple[str, ...] = key(WORLD_STYLES, "in which personas are told", STYLES)


@dataclasses.dataclass(frozen=True)
class _Thoughts:
    max_tokens: int = key(64, "of a thought, at most", "[1, inf) tokens")
    temperature: float = key(1.0, "of those that are learnt", "[0, inf)")


@dataclasses.dataclass(frozen=True)
class RpmConfig(RunKeys):
    """All keys of the training of an RPM."""

    method: str = key("sft", "how it learns", tuple(METHODS))
    start: str = key(BASE, "run or folder of the RPM it begins from; empty: the base")
    estimator: str = key(
        "", "folder of a trained pair that judges answers; empty: the start judges"
    )
    trained: str = key("lora", "adapters, or all weights", TRAINED)
    steps: int = key(30, "updates", "[1, inf)")
    task: str = key("benchmark", "what is learnt", ("benchmark", "world"))
    # Longer prompts lose their oldest turns.
    max_prompt_tokens: int = key(448, "beyond which turns are dropped; 0: none", "[0, inf) tokens")
    world: Any = group("of task `world`", WorldKeys, without=("error",))
    model: Any = group("the base", ModelKeys)
    decoder: Any = group("of task `world`: its base", BaseShape)
    pretraining: Any = group("of task `world`: what the base reads", Pretraining)
    lora: Any = group("shape of the adapter, where `trained` is lora", LoraConfig)
    sft: Any = group(
        "supervised fine-tuning",
        OptimiserConfig,
        Updates,
        _Batch,
        learning_rate=2e-4,
        clip=0.3,
        batch=4,
    )
    augmentation: Any = group("of `sft_augmented`", _Augmentation)
    thoughts: Any = group("of methods that think", _Thoughts)
    dpo: Any = group(
        "preferences", OptimiserConfig, Updates, _Batch, DpoConfig, learning_rate=5e-5, batch=4
    )
    answers: Any = group(
        "answers that are drawn, their rewards, and GRPO; of methods that think, the thought "
        "counts as a part of them",
        *GRPO, learning_rate=5e-5, max_tokens=96, rewards={"likelihood": 1.0},
        kl_coefficient=0.05, prompts=4, group=4,
    )  # fmt: skip
    scoring: Any = group(
        "of methods that think: how thoughts enter log p", Scoring, without=("thought_free",)
    )
    evaluate: Any = group("on held-out golden responses", Evaluation, batch=4, start=True)
    rollout_weights: str = key(
        "gathered", "weights spread over fsdp, while answers are drawn", ("gathered", "sharded")
    )
    checkpoint: Any = group("of the run", Checkpoints, every=5)
    log_samples_every: int = key(
        20, "between samples of answers as text; 0: none", "[0, inf) steps"
    )
    tensorboard: bool = key(False, "write metrics for TensorBoard too")


KEYS = keys_of(RpmConfig, experiment="rpm")


def default_config() -> ConfigDict:
    """All keys with their defaults; a config file changes some and returns the rest as they are."""
    return defaults_of(KEYS)


def check_config(config: ConfigDict) -> None:
    """Checks names, types, ranges and what the method needs, so that nothing fails late.

    Raises:
      UserError: naming key, value and remedy.
    """
    check_keys(config, KEYS)
    method = METHODS[config.method]
    check_tags(config)
    check_shapes(config)
    check_batches(config, batches_of(config))
    _check_start(config, method)
    check_grpo("answers", config.answers, method.draws or method.learns == "dpo", fields(config))
    check_mixture("config.scoring", config.scoring)
    if method.estimator and not set(INFORMATION) & set(config.answers.rewards):
        raise UserError(
            f"config.answers.rewards: method {config.method!r} rewards information; name "
            f"{' or '.join(INFORMATION)}"
        )
    bad = set(config.augmentation.styles) - set(WORLD_STYLES)
    if config.task == "world" and config.method == "sft_augmented" and bad:
        raise UserError(
            f"config.augmentation.styles: a world has no words for {sorted(bad)[0]!r}; choose "
            f"among {', '.join(WORLD_STYLES)}"
        )


def batches_of(config: ConfigDict) -> dict[str, ConfigDict]:
    """Key of each batch that the method takes -> its group."""
    method = METHODS[config.method]
    sizes = {"sft": "sft.batch", "dpo": "dpo.batch", "grpo": "answers.prompts"}
    names = [sizes[method.learns], *([sizes["grpo"]] if method.starts else [])]
    return {name: config[name.partition(".")[0]] for name in names}


def _check_start(config: ConfigDict, method: Method) -> None:
    if method.starts and not config.start:
        raise UserError(
            f"config.start is empty: method {config.method!r} begins from an RPM that "
            f"{' or '.join(method.starts)} has trained; name the folder of such a run"
        )
    if config.start and not method.starts:
        raise UserError(
            f"config.start is {config.start!r}: method {config.method!r} begins from the base; "
            "leave it empty, or choose another config.method"
        )
    if method.estimator and not config.estimator:
        raise UserError(
            f"config.estimator is empty: method {config.method!r} is rewarded by a trained pair; "
            "name its folder, and not that of the pair which is to evaluate"
        )


def judges_thoughts(config: ConfigDict) -> bool:
    """Whether thoughts are rewarded for golden answers, rather than answers for themselves."""
    return METHODS[config.method].thinks and not config.estimator


def fields(config: ConfigDict) -> set[str]:
    """Fields of a `RewardBatch` that there are for the method's rewards."""
    return FIELDS["reasoner" if judges_thoughts(config) else "policy"]


def needs_golden(config: ConfigDict) -> str:
    """What needs the golden answers of the training samples, for a message; empty: nothing does."""
    method = METHODS[config.method]
    if method.golden:
        return f"method {config.method!r}"
    of_golden = {"golden", "golden_match"}
    if judges_thoughts(config):  # their likelihoods are those of golden answers
        of_golden |= FIELDS["reasoner"] - {"texts", "truncated"}
    wants = (n for n in config.answers.rewards if of_golden & set(REWARDS[n].needs))
    return next((f"reward {name!r}" for name in wants), "")


def loop_config(config: ConfigDict) -> ConfigDict:
    """The configuration as the parts read it that training shares with CoRL.

    Their `policy` answers and their `reasoner` thinks: here they are one RPM.
    """
    made, method = config.to_dict(), METHODS[config.method]
    spoken = made["thoughts"] if method.thinks else {}
    made |= {
        "notes": "whole" if method.thinks else "none",
        "policy": made["answers"],
        "reasoner": {**made["answers"], **spoken},
        "scoring": {**made["scoring"], "thought_free": 0.0},
        "world": {**made["world"], "error": 0.0},  # of thoughts that no RPM learns from
        "train_on_test": False,
    }
    return ConfigDict(made)


def stage_of(config: ConfigDict) -> tuple[Stage, ConfigDict]:
    """The updates of the run, and the group that says how they are made."""
    learns = METHODS[config.method].learns
    group_name = "answers" if learns == "grpo" else learns
    return Stage(f"policy_{learns}", config.steps, cold=False), config[group_name]
