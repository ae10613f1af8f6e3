"""The configuration of CoRL: every key, its default, and checks before any work."""

import dataclasses

from ml_collections import ConfigDict

from remid_jax.benchmark import shifts
from remid_jax.benchmark.reading import BUNDLED
from remid_jax.config_checks import check_choice, check_keys, check_least, value_of
from remid_jax.errors import UserError
from remid_jax.models.pretrained import DEFAULT, DTYPES
from remid_jax.models.sharding import AXES, MeshConfig
from remid_jax.processes import process_config

ROLES = ("reasoner", "policy")
KINDS = ("reasoner_sft", "policy_sft", "reasoner_grpo", "policy_grpo")
TASKS = ("benchmark", "world")
NOTES = ("own", "none", "shuffled", "filler")
OPPONENTS = ("current", "cold")
ROLLOUT_WEIGHTS = ("gathered", "sharded")
CHOICES = {
    "task": TASKS, "notes": NOTES, "opponent": OPPONENTS, "model.dtype": tuple(DTYPES),
    "rollout_weights": ROLLOUT_WEIGHTS,
}  # fmt: skip
# Groups of names of rewards.
FREE = tuple(f"config.{r}.{g}" for r in ROLES for g in ("rewards", "parameters"))
LEAST = {
    "rounds": 0, "max_prompt_tokens": 0, "sft.batch": 1, "sft.draws": 1, "evaluate.every": 0,
    "evaluate.samples": 0, "evaluate.batch": 1, "evaluate.thoughts": 1, "checkpoint.every": 1,
    "texts_every": 0, "lora.rank": 1, "world.train": 1, "world.test": 1, "pretraining.steps": 1,
    "pretraining.batch": 4, "pretraining.worlds": 1, "sft.micro_batches": 1, **{
        f"{role}.{key}": low for role in ROLES for key, low in (
            ("prompts", 1), ("group", 2), ("inner_epochs", 1), ("negatives", 1),
            ("micro_batches", 1))
    }, **{f"mesh.{axis}": 1 for axis in AXES},
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
    c.benchmark = BUNDLED  # `bundled`, or the path of an RPGBench JSON file
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
    """Checks names and ranges, so that nothing fails late.

    Raises:
      UserError: naming key, value and remedy.
    """
    check_keys(config.to_dict(), default_config().to_dict(), FREE)
    for key, allowed in CHOICES.items():
        check_choice(key, value_of(config, key), allowed)
    check_least(config, LEAST)
    for tag in config.evaluate.tags:
        check_choice("evaluate.tags", tag, shifts.ALL_TAGS)
    stages(config)
    _check_batches(config)


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
