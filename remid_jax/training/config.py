"""The configuration of CoRL: every key, its default, and checks before any work."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data import shifts
from remid_jax.errors import UserError
from remid_jax.models.lora import LoraConfig
from remid_jax.models.sharding import MeshConfig
from remid_jax.run_config import ModelKeys, RunKeys, check_mixture
from remid_jax.settings import (
    SEEDS,
    check_choice,
    check_keys,
    check_name,
    defaults_of,
    group,
    key,
    keys_of,
    made_from,
    value_of,
)
from remid_jax.training.grpo import GrpoConfig
from remid_jax.training.optimiser import OptimiserConfig
from remid_jax.training.reward_batch import FIELDS
from remid_jax.training.rewards import check_rewards
from remid_jax.worlds.textual import facts, words

ROLES = ("reasoner", "policy")
KINDS = ("reasoner_sft", "policy_sft", "reasoner_grpo", "policy_grpo")
POSITIVE = ("length.words", "sequence_likelihood.scale")  # parameters of rewards
_GROUPS = f"[1, {words.GROUP_LIMIT}]"


@dataclasses.dataclass(frozen=True)
class WorldKeys:
    """A textual world and its samples."""

    personas: int = key(16, "for each culture", _GROUPS)
    characters: int = key(16, "for each category", _GROUPS)
    noise: float = key(0.05, "probability that a slot of a response is not the right one", "(0, 1)")
    seed: int = key(0, "of the facts", SEEDS)
    error: float = key(0.4, "probability that a cold thought has a wrong fact", "[0, 1]")
    train: int = key(1000, "of IDTrain", "[1, inf) samples")
    test: int = key(100, "of each test subset", "[1, inf) samples")


@dataclasses.dataclass(frozen=True)
class BaseShape:
    """The decoder of a world's base."""

    layers: int = key(2, "in all", "[1, inf) layers")
    width: int = key(128, "a multiple of twice the heads", "[1, inf)")
    heads: int = key(4, "also key and value heads", "[1, inf) heads")


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """What a world's base has read."""

    folder: str = key("", "where the base is kept; empty: in the work folder")
    steps: int = key(1500, "updates", "[1, inf)")
    batch: int = key(16, "each with four texts; a multiple of 4", "[4, inf) contexts")
    learning_rate: float = key(2e-3, "at its height", "(0, inf)")
    worlds: int = key(32, "other worlds", "[1, inf) worlds")
    seed: int = key(0, "of weights and batches", SEEDS)


@dataclasses.dataclass(frozen=True)
class Updates:
    """How an update is computed."""

    micro_batches: int = key(1, "parts of a batch that run one after the other", "[1, inf)")
    remat: bool = key(False, "compute layers again for the gradient rather than keep them")


@dataclasses.dataclass(frozen=True)
class _Sft:
    batch: int = key(16, "of a batch", "[1, inf) samples")
    draws: int = key(1, "thoughts a sample that the policy learns from", "[1, inf) thoughts")
    without_notes: float = key(0.0, "share of the policy's rows that show it no thought", "[0, 1)")


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How thoughts enter log q."""

    draws: int = key(
        4, "a sample, whose mean q is scored", "[1, inf) thoughts", formerly="evaluate.thoughts"
    )
    temperature: float = key(
        1.0, "of thoughts; 1: the reasoner's own", "[0, inf)", formerly="evaluate.temperature"
    )
    thought_free: float = key(0.0, "weight in that mean of the prompt without a thought", "[0, 1)")


@dataclasses.dataclass(frozen=True)
class _Role:
    max_tokens: int = key(dataclasses.MISSING, "of a completion, at most", "[1, inf) tokens")
    prompts: int = key(8, "of a batch", "[1, inf) prompts")
    group: int = key(8, "for each prompt", "[2, inf) completions")
    inner_epochs: int = key(1, "updates on the same completions", "[1, inf)")
    temperature: float = key(1.0, "of the draws", "[0, inf)")
    rewards: dict[str, float] = key({}, "name -> weight")
    parameters: dict[str, dict[str, Any]] = key(
        {"length": {"words": 600}}, "reward -> its own parameters"
    )
    negatives: int = key(3, "that `cross_information` compares with", "[1, inf) contexts")


GRPO = (OptimiserConfig, Updates, _Role, GrpoConfig)  # what the group of a role is made of


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """When and on what a run is evaluated."""

    every: int = key(0, "between evaluations; 0: none within a stage", "[0, inf) steps")
    start: bool = key(False, "evaluate before the first step")
    ends: bool = key(True, "evaluate at the end of each stage")
    tags: tuple[str, ...] = key(("IDTest", "german", "Literature", "TurnLevelComposition"), "where")
    samples: int = key(0, "of each subset; 0: all", "[0, inf) samples")
    batch: int = key(32, "that run at once", "[1, inf) samples")


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """When a run is saved."""

    every: int = key(20, "between checkpoints", "[1, inf) steps")


@dataclasses.dataclass(frozen=True)
class CorlConfig(RunKeys):
    """All keys of a training run."""

    task: str = key("benchmark", "what is learnt", ("benchmark", "world"))
    # Prompts of the reasoner that are longer lose their oldest turns.
    max_prompt_tokens: int = key(0, "beyond which turns are dropped; 0: none", "[0, inf) tokens")
    train_on_test: bool = key(
        False, "train on test subsets too, as the reference code does", formerly="leaky"
    )
    world: Any = group("of task `world`", WorldKeys)
    model: Any = group("the base", ModelKeys)
    decoder: Any = group("of task `world`: its base", BaseShape)
    pretraining: Any = group("of task `world`: what the base reads", Pretraining)
    lora: Any = group("shape of both adapters", LoraConfig)
    init_from: str = key(
        "", "folder of a trained pair that is trained on; empty: the base", formerly="start"
    )
    cold_start: tuple[str, ...] = key(
        ("reasoner_sft:100", "policy_sft:100"), "stages KIND:STEPS before the rounds"
    )
    round: tuple[str, ...] = key(
        ("reasoner_grpo:100", "policy_sft:50", "policy_grpo:100"), "stages of a round"
    )
    rounds: int = key(1, "how often `round` runs", "[0, inf)")
    notes: str = key("own", "thoughts the policy reads", ("own", "none", "shuffled", "filler"))
    reward_policy: str = key(
        "current", "whose likelihoods reward thoughts", ("current", "cold"), formerly="opponent"
    )
    sft: Any = group(
        "supervised fine-tuning", OptimiserConfig, Updates, _Sft, learning_rate=2e-4, clip=0.3
    )
    reasoner: Any = group(
        "GRPO of the reasoner", *GRPO, learning_rate=1e-5, max_tokens=256,
        rewards={"likelihood": 1.0, "format": 1.0, "length": 1.0},
    )  # fmt: skip
    policy: Any = group(
        "GRPO of the policy", *GRPO, learning_rate=1e-5, max_tokens=128,
        rewards={"exact_match": 1.0},
    )  # fmt: skip
    # A diagnosis that takes the trained pair scores as is said here.
    scoring: Any = group("how thoughts enter log q, in rewards, evaluations and later", Scoring)
    evaluate: Any = group("on held-out golden responses", Evaluation)
    # Sharded takes less memory than gathered once, and gathers every layer at every token.
    rollout_weights: str = key(
        "gathered", "weights spread over fsdp, while completions are drawn", ("gathered", "sharded")
    )
    compare_with: str = key("", "work folder of a finished run, whose last log q is compared")
    checkpoint: Any = group("of the run", Checkpoints)
    log_samples_every: int = key(
        20, "between samples of thoughts as text; 0: none", "[0, inf) steps", formerly="texts_every"
    )
    tensorboard: bool = key(False, "write metrics for TensorBoard too")


KEYS = keys_of(CorlConfig, experiment="corl")


def default_config() -> ConfigDict:
    """All keys with their defaults; a config file changes some and returns the rest as they are."""
    return defaults_of(KEYS)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A number of updates of one role in one way.

    Attributes:
      kind: one of `KINDS`.
      steps: updates.
      cold: whether it belongs to the cold start, where thoughts are the task's own.
    """

    kind: str
    steps: int
    cold: bool

    @property
    def role(self) -> str:
        """`reasoner` or `policy`."""
        return self.kind.partition("_")[0]


def stages(config: ConfigDict) -> tuple[Stage, ...]:
    """The cold start, then the rounds.

    Raises:
      UserError: an entry is not KIND:STEPS.
    """
    cold = [_stage(entry, True, "cold_start") for entry in config.cold_start]
    each = [_stage(entry, False, "round") for entry in config.round]
    found = (*cold, *each * config.rounds)
    if not found:
        raise UserError("config.cold_start and config.round name no stage")
    return found


def _stage(entry: str, cold: bool, where: str) -> Stage:
    kind, _, steps = str(entry).partition(":")
    check_choice(f"config.{where}", kind, KINDS)
    if not steps.isdigit() or int(steps) < 1:
        raise UserError(f"config.{where}: {entry!r} must be KIND:STEPS with at least 1 step")
    if cold and kind.endswith("grpo"):
        raise UserError(f"config.{where}: {entry!r}: a cold start is supervised")
    return Stage(kind, int(steps), cold)


def check_config(config: ConfigDict) -> None:
    """Checks names, types and ranges, so that nothing fails late.

    Raises:
      UserError: naming key, value and remedy.
    """
    check_keys(config, KEYS)
    check_tags(config)
    check_shapes(config)
    check_mixture("config.scoring", config.scoring)
    updating = {s.role for s in stages(config) if s.kind.endswith("grpo")}
    for role in ROLES:
        check_grpo(role, config[role], role in updating, FIELDS[role])
    check_batches(config, {"sft.batch": config.sft, **{f"{r}.prompts": config[r] for r in ROLES}})


def check_tags(config: ConfigDict) -> None:
    """Names of subsets and shifts, as far as the benchmark need not be read."""
    for tag in config.evaluate.tags:
        if config.task == "world":
            check_choice("config.evaluate.tags", tag, shifts.ALL_TAGS)
        check_name("config.evaluate.tags", tag)
    check_name("config.in_distribution", config.in_distribution)
    shifts.parse_subset_shifts(config.subset_shifts)


def check_shapes(c: ConfigDict) -> None:
    """Of adapters, of a world and of its base."""
    try:
        made_from(LoraConfig, c.lora)
    except UserError as e:
        raise UserError(f"config.{e}") from None
    if c.decoder.width % (2 * c.decoder.heads):
        raise UserError(
            f"config.decoder.width {c.decoder.width} must be a multiple of twice its heads"
        )
    if c.pretraining.batch % 4:
        raise UserError(f"config.pretraining.batch {c.pretraining.batch} must be a multiple of 4")
    contexts = min(c.world.test, c.evaluate.samples or c.world.test)
    if c.task == "world" and c.evaluate.tags and contexts < 2:
        raise UserError(
            "config.world.test and config.evaluate.samples leave one context a subset; R-EMI of a "
            "world needs 2 or more"
        )
    try:
        facts.textual_world(personas=1, characters=1, noise=c.world.noise)
    except ValueError as e:
        raise UserError(f"config.world.noise: {e}") from None


def check_grpo(where: str, c: ConfigDict, drawn: bool, fields: Collection[str]) -> None:
    """Refuses what rewards and loss cannot be computed from.

    Args:
      where: name of the group `c`.
      drawn: whether completions are drawn at all.
      fields: of a `RewardBatch`, those that there will be.
    """
    try:
        made_from(GrpoConfig, c)
    except UserError as e:
        raise UserError(f"config.{where}: {e}") from None
    if not drawn:
        return
    check_rewards(c.rewards, c.parameters, f"config.{where}.", fields)
    for name in POSITIVE:
        reward, _, parameter = name.partition(".")
        value = c.parameters.get(reward, {}).get(parameter, 1)
        if value <= 0:
            raise UserError(f"config.{where}.parameters.{name} is {value}; it must be above 0")
    if not c.temperature:
        raise UserError(
            f"config.{where}.temperature is 0: all completions of a prompt would be equal, and "
            "GRPO would learn nothing; set it above 0"
        )


def check_batches(c: ConfigDict, batches: Mapping[str, ConfigDict]) -> None:
    """Micro-batches and devices must divide every batch; `batches`: key -> its group."""
    devices = MeshConfig(**c.mesh).rows
    for name, part in batches.items():
        size = value_of(c, name)
        if size % (part.micro_batches * devices):
            raise UserError(
                f"config.{name} {size} must be a multiple of micro_batches {part.micro_batches} "
                f"times the {devices} devices of its rows"
            )
    if c.evaluate.batch % devices:
        raise UserError(f"config.evaluate.batch must be a multiple of {devices} devices")
