"""The configuration of CoRL: every key, its default, and checks before any work."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from remid_jax.config_checks import (
    SEEDS,
    check_choice,
    check_each,
    check_form,
    check_least,
    check_name,
    check_plain,
    check_within,
    value_of,
)
from remid_jax.data import shifts
from remid_jax.data.reading import BUNDLED
from remid_jax.errors import UserError
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import DEFAULT, DTYPES
from remid_jax.models.sharding import AXES, MeshConfig
from remid_jax.processes import process_config
from remid_jax.training import grpo
from remid_jax.training.optimiser import SCHEDULES
from remid_jax.training.rewards import check_rewards
from remid_jax.worlds.textual import facts, words

ROLES = ("reasoner", "policy")
KINDS = ("reasoner_sft", "policy_sft", "reasoner_grpo", "policy_grpo")
TASKS = ("benchmark", "world")
NOTES = ("own", "none", "shuffled", "filler")
OPPONENTS = ("current", "cold")
ROLLOUT_WEIGHTS = ("gathered", "sharded")
# Groups of names of rewards.
FREE = (
    "config.model.template_variables",
    *(f"config.{r}.{g}" for r in ROLES for g in ("rewards", "parameters")),
)
POSITIVE = ("length.words", "sequence_likelihood.scale")  # parameters of rewards
_OPTIMISED = ("sft", *ROLES)  # groups that hold an optimiser


def _of_each(groups: Iterable[str], table: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{group}.{key}": value for group in groups for key, value in table.items()}


CHOICES = {
    "task": TASKS, "notes": NOTES, "opponent": OPPONENTS, "model.dtype": tuple(DTYPES),
    "rollout_weights": ROLLOUT_WEIGHTS, **_of_each(_OPTIMISED, {"schedule": SCHEDULES}),
    **_of_each(ROLES, grpo.CHOICES),
}  # fmt: skip
LEAST = {
    "rounds": 0, "max_prompt_tokens": 0, "sft.batch": 1, "sft.draws": 1, "evaluate.every": 0,
    "evaluate.samples": 0, "evaluate.batch": 1, "evaluate.thoughts": 1, "checkpoint.every": 1,
    "texts_every": 0, "lora.rank": 1, "world.train": 1, "world.test": 1, "pretraining.steps": 1,
    "pretraining.batch": 4, "pretraining.worlds": 1, "decoder.layers": 1, "decoder.width": 1,
    "decoder.heads": 1, "processes.count": 1, "processes.index": 0,
    **_of_each(_OPTIMISED, {"micro_batches": 1}),
    **_of_each(ROLES, {"prompts": 1, "group": 2, "inner_epochs": 1, "negatives": 1,
                       "max_tokens": 1}),
    **_of_each(["mesh"], dict.fromkeys(AXES, 1)),
}  # fmt: skip
WITHIN = {
    "seed": SEEDS, "world.seed": SEEDS, "pretraining.seed": SEEDS, "world.noise": "(0, 1)",
    "world.error": "[0, 1]", "lora.alpha": "(0, inf)", "lora.dropout": "[0, 1)",
    "evaluate.temperature": "[0, inf)", "pretraining.learning_rate": "(0, inf)",
    "world.personas": f"[1, {words.GROUP_LIMIT}]", "world.characters": f"[1, {words.GROUP_LIMIT}]",
    **_of_each(_OPTIMISED, {"learning_rate": "(0, inf)", "warmup": "[0, 1)", "clip": "[0, inf)",
                            "weight_decay": "[0, inf)"}),
    **_of_each(ROLES, {"temperature": "[0, inf)", "clip_low": "[0, 1]", "clip_high": "[0, 1e9]",
                       "dual_clip": "[0, 1e9]", "kl_coefficient": "[0, 1e9]"}),
}  # fmt: skip


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
    check_choice(where, kind, KINDS)
    if not steps.isdigit() or int(steps) < 1:
        raise UserError(f"config.{where}: {entry!r} must be KIND:STEPS with at least 1 step")
    if cold and kind.endswith("grpo"):
        raise UserError(f"config.{where}: {entry!r}: a cold start is supervised")
    return Stage(kind, int(steps), cold)


def _optimiser(learning_rate: float, clip: float) -> dict[str, object]:
    return {
        "learning_rate": learning_rate,  # at its height
        "schedule": "cosine",  # cosine | linear | constant
        "warmup": 0.03,  # share of a stage's steps
        "clip": clip,  # largest norm of the gradient; 0: none
        "weight_decay": 0.0,
        "micro_batches": 1,  # parts of a batch that run one after the other
        "remat": False,  # compute layers again for the gradient rather than keep them
    }


def _grpo(max_tokens: int, rewards: dict[str, float]) -> ConfigDict:
    c = ConfigDict(_optimiser(1e-5, 1.0))
    c.prompts = 8  # prompts of a batch
    c.group = 8  # completions a prompt
    c.inner_epochs = 1  # updates on the same completions
    c.max_tokens = max_tokens  # tokens of a completion, at most
    c.temperature = 1.0  # of the draws
    c.rewards = ConfigDict(rewards)  # name -> weight
    c.parameters = ConfigDict({"length": {"words": 600}})  # reward -> its own parameters
    c.negatives = 3  # other contexts that cross_information compares with
    c.clip_low = 0.2  # ratios below 1 - this have no gradient
    c.clip_high = 0.2  # ratios above 1 + this have none
    c.dual_clip = 0.0  # bound of what a bad completion may cost; 0: none
    c.kl_coefficient = 0.0  # of the KL divergence from the stage's beginning
    c.kl_estimator = "k3"  # k1 | k2 | k3
    c.kl_unbiased = True  # weigh the estimate so that its gradient is that of the divergence
    c.aggregation = "grpo"  # grpo | dapo | dr_grpo
    c.baseline = "mean"  # mean | leave_one_out
    c.scale = "group"  # group | batch | none: what advantages are divided by
    c.mask_truncated = False  # leave out completions that the limit cut
    return c


def default_config() -> ConfigDict:
    """All keys with their defaults; a config file changes some and returns the rest as they are."""
    c = ConfigDict()
    c.experiment = "corl"  # module of `experiments/` that runs
    c.task = "benchmark"  # benchmark | world
    c.benchmark = BUNDLED  # `bundled`, or the path of a file of samples
    c.in_distribution = "IDTest"  # tag of the subset that is not shifted
    c.subset_shifts = ()  # shifts of one's own tags, as ("french=user", "noir=genre")
    c.max_prompt_tokens = 0  # of a reasoner's prompt: longer ones lose their oldest turns; 0: none
    c.leaky = False  # train on test subsets too, as the reference code does

    c.world = ConfigDict()  # of task `world`
    c.world.personas = 16  # for each culture
    c.world.characters = 16  # for each category
    c.world.noise = 0.05  # probability that a slot of a response is not the right one
    c.world.seed = 0  # of the facts
    c.world.error = 0.4  # probability that a cold thought has a wrong fact
    c.world.train = 1000  # samples of IDTrain
    c.world.test = 100  # samples of each test subset

    c.model = ConfigDict()  # the base
    c.model.path = DEFAULT  # the embedded default, a GGUF file or a Hugging Face directory
    c.model.dtype = "float32"  # float32 | bfloat16
    c.model.chat_template = ""  # jinja file that replaces the model's own template
    c.model.template_variables = ConfigDict()  # of the template, as {"enable_thinking": False}
    c.decoder = ConfigDict()  # of task `world`: its base
    c.decoder.layers = 2
    c.decoder.width = 128
    c.decoder.heads = 4  # also key and value heads
    c.pretraining = ConfigDict()  # of task `world`: what the base reads
    c.pretraining.folder = ""  # where the base is kept; "": in the work folder
    c.pretraining.steps = 1500
    c.pretraining.batch = 16  # contexts, each with four texts; a multiple of 4
    c.pretraining.learning_rate = 2e-3
    c.pretraining.worlds = 32  # other worlds
    c.pretraining.seed = 0

    c.lora = ConfigDict()
    c.lora.rank = 16
    c.lora.alpha = 32.0  # A B is multiplied by alpha / rank
    c.lora.dropout = 0.05  # probability
    c.lora.targets = ".*"  # regular expression over the kernels of a layer

    c.start = ""  # folder of a trained estimator from which both roles go on; "": from the base
    c.cold_start = ("reasoner_sft:100", "policy_sft:100")  # KIND:STEPS, in order
    c.round = ("reasoner_grpo:100", "policy_sft:50", "policy_grpo:100")
    c.rounds = 1  # how often `round` runs
    c.notes = "own"  # own | none | shuffled | filler: what the policy reads of thoughts
    c.opponent = "current"  # current | cold: which policy rewards the reasoner

    c.sft = ConfigDict(_optimiser(2e-4, 0.3))
    c.sft.batch = 16  # samples of a batch
    c.sft.draws = 1  # thoughts a sample that the policy learns from
    c.reasoner = _grpo(256, {"likelihood": 1.0, "format": 1.0, "length": 1.0})
    c.policy = _grpo(128, {"exact_match": 1.0})

    c.evaluate = ConfigDict()
    c.evaluate.every = 0  # steps; 0: not within a stage
    c.evaluate.ends = True  # at the end of each stage
    c.evaluate.tags = ("IDTest", "german", "Literature", "TurnLevelComposition")
    c.evaluate.samples = 0  # of each subset; 0: all
    c.evaluate.batch = 32  # samples that run at once
    c.evaluate.thoughts = 4  # a sample; log q is averaged over them
    c.evaluate.temperature = 1.0  # of these thoughts; 1: the reasoner's own law

    c.mesh = ConfigDict(dataclasses.asdict(MeshConfig()))  # devices of each axis
    # How weights that are spread over fsdp are used while completions are drawn: gathered once for
    # all tokens, or sharded, which takes less memory and gathers every layer at every token.
    c.rollout_weights = "gathered"
    c.processes = process_config()  # that train together
    c.checkpoint = ConfigDict()
    c.checkpoint.every = 20  # steps
    c.texts_every = 20  # steps between samples of thoughts as text; 0: none
    c.tensorboard = False  # write metrics for TensorBoard too
    c.seed = 0
    return c


def check_config(config: ConfigDict) -> None:
    """Checks names, types and ranges, so that nothing fails late.

    Raises:
      UserError: naming key, value and remedy.
    """
    check_form(config.to_dict(), default_config().to_dict(), FREE)
    for key, allowed in CHOICES.items():
        check_choice(key, value_of(config, key), allowed)
    check_least(config, LEAST)
    check_within(config, WITHIN)
    for tag in config.evaluate.tags:
        if config.task == "world":
            check_choice("evaluate.tags", tag, shifts.ALL_TAGS)
        check_name("evaluate.tags", tag)
    check_name("in_distribution", config.in_distribution)
    shifts.parse_subset_shifts(config.subset_shifts)
    check_plain("model.template_variables", config.model.template_variables.to_dict())
    _check_shapes(config)
    updating = {s.role for s in stages(config) if s.kind.endswith("grpo")}
    for role in ROLES:
        check_each(config, f"{role}.rewards", 0.0)
        check_each(config, f"{role}.parameters", {})
        _check_grpo(role, config[role], role in updating)
    _check_batches(config)


def _check_shapes(c: ConfigDict) -> None:
    """Of adapters, of a world and of its base."""
    try:
        LoraConfig(c.lora.rank, c.lora.alpha, c.lora.dropout, c.lora.targets)
    except UserError as e:
        raise UserError(f"config.lora.{e}") from None
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


def _check_grpo(role: str, c: ConfigDict, updated: bool) -> None:
    """What a role's rewards and loss are computed from; `updated`: whether GRPO runs at all."""
    fields = {f.name for f in dataclasses.fields(grpo.GrpoConfig)}
    try:
        grpo.GrpoConfig(**{key: value for key, value in c.items() if key in fields})
    except UserError as e:
        raise UserError(f"config.{role}: {e}") from None
    if not updated:
        return
    check_rewards(c.rewards, c.parameters, f"config.{role}.")
    for key in POSITIVE:
        reward, _, parameter = key.partition(".")
        value = c.parameters.get(reward, {}).get(parameter, 1)
        if value <= 0:
            raise UserError(f"config.{role}.parameters.{key} is {value}; it must be above 0")
    if not c.temperature:
        raise UserError(
            f"config.{role}.temperature is 0: all completions of a prompt would be equal, and GRPO "
            "would learn nothing; set it above 0"
        )


def _check_batches(c: ConfigDict) -> None:
    """Micro-batches and devices must divide every batch."""
    devices = MeshConfig(**c.mesh).rows
    batches = {"sft.batch": c.sft, **{f"{role}.prompts": c[role] for role in ROLES}}
    for key, part in batches.items():
        size = value_of(c, key)
        if size % (part.micro_batches * devices):
            raise UserError(
                f"config.{key} {size} must be a multiple of micro_batches {part.micro_batches} "
                f"times the {devices} devices of its rows"
            )
    if c.evaluate.batch % devices:
        raise UserError(f"config.evaluate.batch must be a multiple of {devices} devices")
