"""The configuration of a diagnosis: every key, its default, and checks before any work."""

import dataclasses

from ml_collections import ConfigDict

from remid_jax.analysis.settings import MIN_CONTEXTS
from remid_jax.config_checks import (
    SEEDS,
    check_choice,
    check_form,
    check_least,
    check_name,
    check_plain,
    check_within,
    value_of,
)
from remid_jax.data.prompts import VIEWS
from remid_jax.data.reading import BUNDLED
from remid_jax.data.shifts import parse_subset_shifts
from remid_jax.errors import UserError
from remid_jax.inference.likelihood import MEMORY
from remid_jax.information.mutual_information import ESTIMATORS
from remid_jax.models.pretrained import DEFAULT, DTYPES
from remid_jax.models.sharding import AXES, MeshConfig
from remid_jax.processes import process_config

CHOICES = {
    "model.dtype": tuple(DTYPES),
    "model.cache_dtype": ("", *DTYPES),
    "estimator.name": tuple(ESTIMATORS),
    "estimator.normalisation": ("sequence", "token"),
    "estimator.span": ("response", "reference"),
    "estimator.negatives": ("all", "cyclic", "random"),
    "estimator.clusters": ("none", "character", "persona", "dialogue"),
    "limits.too_long": ("error", "drop_oldest_turns"),
    "divergences.features": ("none", "hidden", "sentence"),
}

LEAST = {
    "sampling.max_tokens": 1, "sampling.batch_rows": 1, "reasoning.max_tokens": 1,
    "estimator.num_negatives": 1, "estimator.emi_shifts": 0, "limits.contexts": 0,
    "limits.memory_bytes": 1, "divergences.permutations": 1, "factors.swaps": 0,
    **{f"mesh.{axis}": 1 for axis in AXES},
}  # fmt: skip

WITHIN = {
    "sampling.temperature": "[0, inf)", "sampling.top_p": "(0, 1]",
    "sampling.repetition_penalty": "(0, inf)", "reasoning.temperature": "[0, inf)",
    "reasoning.repetition_penalty": "(0, inf)", "estimator.confidence": "(0, 1)",
    "limits.excluded_share": "[0, 1]", "seed": SEEDS,
}  # fmt: skip

FREE = ("config.rpms", "config.model.template_variables")  # groups whose keys are anybody's


def rpm(view: str = "full", path: str = "") -> ConfigDict:
    """An evaluated model: what it sees (`full`, `last_turn`), its weights (default: `model`'s)."""
    return ConfigDict({"view": view, "path": path})


def default_config() -> ConfigDict:
    """All keys with their defaults; a config file changes some and returns the rest as they are."""
    c = ConfigDict()
    c.experiment = "diagnose"  # module of `experiments/` that runs
    c.benchmark = BUNDLED  # `bundled`, or the path of a file of samples (JSON, JSONL)
    c.shifts = ("user", "character", "dialogue")  # shifts or subset tags
    c.in_distribution = "IDTest"  # tag of the subset that all others are compared with
    c.subset_shifts = ()  # shifts of one's own tags, as ("french=user", "noir=genre")
    c.responses = ""  # file of collected responses (JSON, JSONL); then no RPM is run

    c.model = ConfigDict()  # the reasoner and the policy q
    c.model.path = DEFAULT  # the embedded default, a GGUF file or a Hugging Face directory
    c.model.dtype = "float32"  # float32 | bfloat16
    c.model.cache_dtype = ""  # of cached keys and values: float32 | bfloat16; "": as dtype
    c.model.chat_template = ""  # jinja file that replaces the model's own template
    c.model.template_variables = ConfigDict()  # of the template, as {"enable_thinking": False}

    c.rpms = ConfigDict()  # name -> rpm(...): the evaluated models
    c.rpms.full_context = rpm("full")
    c.rpms.last_turn_only = rpm("last_turn")

    c.sampling = ConfigDict()  # how the evaluated models answer
    c.sampling.max_tokens = 256  # tokens, at most
    c.sampling.temperature = 0.0  # 0 is greedy
    c.sampling.top_p = 1.0  # in (0, 1]
    c.sampling.repetition_penalty = 1.05  # 1 is off
    c.sampling.batch_rows = 16  # rows decoded together
    c.sampling.stop_strings = ()  # texts that end an answer, for example ("\nUser:",)

    c.reasoning = ConfigDict()  # how the reasoner writes R; greedy when temperature is 0
    c.reasoning.max_tokens = 48  # tokens, at most
    c.reasoning.temperature = 0.0  # 0 is greedy
    c.reasoning.repetition_penalty = 1.05  # 1 is off

    c.estimator = ConfigDict()
    c.estimator.checkpoint = ""  # folder of a trained reasoner and policy; "": the model as it is
    c.estimator.name = "club"  # club | infonce | leave_one_out
    c.estimator.normalisation = "sequence"  # sequence: nats a response; token: nats a token
    c.estimator.span = "response"  # response: its tokens; reference: the reference code's span
    c.estimator.negatives = "all"  # all | cyclic | random
    c.estimator.num_negatives = 4  # cyclic: shifts; random: draws in all
    c.estimator.emi_shifts = 0  # EMI without R on so many cyclic shifts; 0: as R-EMI
    c.estimator.clusters = (
        "none"  # what dependent contexts share: none | character | persona | dialogue
    )
    c.estimator.confidence = 0.95  # of the intervals

    c.factors = ConfigDict()  # factor-wise information: which factor do answers ignore?
    c.factors.swaps = 0  # contexts with one factor swapped, a factor (K - 1); 0: off

    c.divergences = ConfigDict()  # of the contexts of each subset from IDTest
    c.divergences.features = "none"  # none | hidden (states of the policy) | sentence (encoder)
    c.divergences.permutations = 200  # relabellings for floor and p-value, at least 1

    c.limits = ConfigDict()
    c.limits.contexts = 0  # per subset; 0: all
    c.limits.too_long = "error"  # error | drop_oldest_turns
    c.limits.excluded_share = 0.1  # of an RPM's answers in a subset that may fail, in [0, 1]
    c.limits.memory_bytes = MEMORY  # bytes of a device beside its weights

    c.mesh = ConfigDict(dataclasses.asdict(MeshConfig()))  # devices of each axis

    c.shard = ""  # "i/n": executes the i-th of n parts of the work, for job arrays; "": all of it
    c.processes = process_config()  # that share the work
    c.dry_run = False  # print what the run would cost, and do none of it
    c.seed = 0  # of sampling and of random negatives
    return c


def check_config(config: ConfigDict) -> None:
    """Checks names, types and values.

    Raises:
      UserError: an unknown key (with the nearest one), a missing key, or a value of another type or
        out of range, naming the key.
    """
    check_form(config.to_dict(), default_config().to_dict(), FREE)
    for key, allowed in CHOICES.items():
        check_choice(key, value_of(config, key), allowed)
    check_least(config, LEAST)
    check_within(config, WITHIN)
    check_plain("model.template_variables", config.model.template_variables.to_dict())
    _check_rpms(config)
    _check_subsets(config)
    if not all(config.sampling.stop_strings):
        raise UserError("config.sampling.stop_strings holds an empty text, which ends every answer")
    if 0 < config.limits.contexts < MIN_CONTEXTS:
        raise UserError(
            f"config.limits.contexts must be at least {MIN_CONTEXTS}: a standard error needs them"
        )
    for key, needed in (("negatives", "all"), ("clusters", "none")):  # only club leaves pairs out
        if config.estimator.name != "club" and config.estimator[key] != needed:
            raise UserError(
                f"estimator {config.estimator.name!r} needs config.estimator.{key}={needed!r}"
            )


def _check_rpms(config: ConfigDict) -> None:
    if not config.rpms and not config.responses:
        raise UserError("config.rpms is empty: name an evaluated model, or give config.responses")
    for name, spec in config.rpms.items():
        check_name("rpms: the name of a model", name)
        if not isinstance(spec, ConfigDict):
            raise UserError(f"config.rpms.{name} must be made by rpm(view, path)")
        check_form(spec.to_dict(), rpm().to_dict(), where=f"config.rpms.{name}")
        check_choice(f"rpms.{name}.view", spec.view, VIEWS)


def _check_subsets(config: ConfigDict) -> None:
    """Names of subsets and shifts, as far as the benchmark need not be read."""
    if not config.shifts:
        raise UserError("no shift was chosen: name at least one in config.shifts")
    check_name("in_distribution", config.in_distribution)
    for name in (*config.shifts, *config.subset_shifts):
        check_name("shifts and config.subset_shifts", name)
    parse_subset_shifts(config.subset_shifts)
