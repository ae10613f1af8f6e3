"""The configuration of a diagnosis: every key, its default, and checks before any work."""

import dataclasses
import re
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.prompts import VIEWS
from remid_jax.data.shifts import parse_subset_shifts
from remid_jax.errors import UserError
from remid_jax.inference.likelihood import MEMORY
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.information.judgments import MODES, PAIRWISE
from remid_jax.information.mutual_information import ESTIMATORS
from remid_jax.information.pairs import MIN_CONTEXTS
from remid_jax.models.pretrained import DTYPES
from remid_jax.run_config import ModelKeys, RunKeys, check_mixture
from remid_jax.servers.chat import KEY_ENV
from remid_jax.settings import check_keys, check_name, defaults_of, group, key, keys_of

MEAN_OF_DRAWS = "club"  # the estimator that is linear in scores
AUTO = "auto"  # a type of likelihoods that a run chooses itself
REPETITION_PENALTY = 1.05  # small models that decode greedily fall into loops without one


@dataclasses.dataclass(frozen=True)
class RpmKeys:
    """An evaluated model; see `rpm` and `server`."""

    view: str = key("full", "what it sees of a context", VIEWS)
    path: str = key("", "its weights; empty: those of `model.path`")
    url: str = key("", "of the server that answers for it; empty: it runs here", optional=True)
    model: str = key("", "its name on that server", optional=True)
    key_env: str = key("", "as `server.key_env`; empty: that one", optional=True)


def rpm(view: str = "full", path: str = "") -> ConfigDict:
    """An evaluated model: what it sees (`full`, `last_turn`), its weights (default: `model`'s)."""
    return ConfigDict({"view": view, "path": path})


def server(url: str, model: str, view: str = "full", key_env: str = "") -> ConfigDict:
    """An evaluated model behind an OpenAI-compatible server.

    Args:
      url: of the API, as "http://127.0.0.1:8000/v1".
      model: its name there.
      view: what it sees of a context, `full` or `last_turn`.
      key_env: environment variable that holds the key; by default `config.server.key_env`.
    """
    return ConfigDict(dataclasses.asdict(RpmKeys(view=view, url=url, model=model, key_env=key_env)))


@dataclasses.dataclass(frozen=True)
class _Server:
    url: str = key("", "of an OpenAI-compatible API, as 'http://127.0.0.1:8000/v1'; empty: none")
    model: str = key("", "name of a model there, which is evaluated")
    view: str = key("full", "what it sees of a context", VIEWS)
    key_env: str = key(KEY_ENV, "environment variable that holds the key; not set: none is sent")
    concurrency: int = key(8, "asked at a time", "[1, 1024] requests")
    timeout_s: float = key(120.0, "without a sign of life", "(0, inf) seconds")
    retries: int = key(5, "of a request that failed", "[0, 100]")
    prices: str = key("", "JSON file, model -> price of a million `input` and `output` tokens")
    max_tokens_key: str = key(
        "max_tokens", "the server's name for it", ("max_tokens", "max_completion_tokens")
    )
    listed: bool = key(True, "refuse a model that the server's list of models does not hold")


@dataclasses.dataclass(frozen=True)
class JudgeKeys:
    """A judge of answers; see `judge`."""

    url: str = key("", "of the OpenAI-compatible server that has it")
    model: str = key("", "its name there")
    mode: str = key(PAIRWISE, "two answers in both orders, or one with a score", MODES)
    repeats: int = key(1, "calls for each judgment; those after the first are drawn", "[1, 100]")
    key_env: str = key("", "as `server.key_env`; empty: that one")
    max_tokens: int = key(256, "of a reply, a reasoning model's thoughts included", "[8, inf)")
    precomputed: str = key("", "file of its judgments (JSON, JSONL); then nobody is asked")


def judge(
    url: str = "", model: str = "", mode: str = PAIRWISE, repeats: int = 1, key_env: str = "",
    max_tokens: int = JudgeKeys.max_tokens, precomputed: str = "",
) -> ConfigDict:  # fmt: skip
    """A judge of answers: a model behind an OpenAI-compatible server, or a file of judgments.

    Args:
      url: of the API; model: its name there.
      mode: `pairwise` compares answers with golden in both orders, `pointwise` scores each.
      repeats: calls for each judgment: the first greedy, others drawn, for the retest variance.
      key_env: environment variable that holds the key; by default `config.server.key_env`.
      max_tokens: of a reply.
      precomputed: a file of judgments made elsewhere, in place of all of these.
    """
    keys = JudgeKeys(url, model, mode, repeats, key_env, max_tokens, precomputed)
    return ConfigDict(dataclasses.asdict(keys))


@dataclasses.dataclass(frozen=True)
class _Model(ModelKeys):
    dtype: str = key(
        "float32",
        f"of weights and products; {AUTO}: float32, but likelihoods in bfloat16 where that is "
        "faster and changes R-EMI and δ by less than a twentieth of their standard errors, as "
        "measured on a few contexts in distribution",
        (*DTYPES, AUTO),
    )
    cache_dtype: str = key("", "of cached keys and values; empty: as dtype", ("", *DTYPES))


@dataclasses.dataclass(frozen=True)
class _Batch:
    batch_rows: int = key(16, "decoded together", "[1, inf) rows")
    draws: int = key(1, "of each RPM to a context; several: temperature > 0", "[1, inf) answers")


@dataclasses.dataclass(frozen=True)
class _Thoughts:
    # A pair that was trained without `config.scoring`, and a model as it is, take 1.
    draws: int = key(
        0,
        "a context, whose mean q is scored; several: at temperature 1; 0: as the scorer remembers",
        "[0, inf) thoughts",
    )
    thought_free: float = key(0.0, "weight in that mean of the prompt without thoughts", "[0, 1)")


@dataclasses.dataclass(frozen=True)
class _Scorer:
    checkpoint: str = key(
        "", "folder of a trained pair; empty: the model as it is", formerly="estimator.checkpoint"
    )


@dataclasses.dataclass(frozen=True)
class _Estimator:
    name: str = key("club", "of the estimator", tuple(ESTIMATORS))
    normalisation: str = key("sequence", "nats a response, or a token", ("sequence", "token"))
    span: str = key("response", "its tokens, or the reference code's", ("response", "reference"))
    negatives: str = key("all", "other contexts of a response", ("all", "cyclic", "random"))
    num_negatives: int = key(4, "cyclic: shifts; random: draws in all", "[1, inf)")
    emi_shifts: int = key(
        0, "EMI without R on so many cyclic shifts at most; 0: as R-EMI; -1: no EMI", "[-1, inf)"
    )
    clusters: str = key(
        "none", "what dependent contexts share", ("none", "character", "persona", "dialogue")
    )
    confidence: float = key(0.95, "of the intervals", "(0, 1)")


@dataclasses.dataclass(frozen=True)
class _Profile:
    swaps: int = key(
        1,
        "contexts with one factor swapped, a factor; 0: off",
        "[0, inf)",
        formerly="factors.swaps",
    )
    name: bool = key(False, "whether made-up names take the place of characters' names as well")


@dataclasses.dataclass(frozen=True)
class _Prediction:
    enabled: bool = key(False, "predict it, without golden responses to shifted contexts")
    contexts: int = key(0, f"of each subset, {MIN_CONTEXTS} or more; 0: all", "[0, inf) contexts")


@dataclasses.dataclass(frozen=True)
class _Divergences:
    features: str = key(
        "none", "hidden: states of the scorer; sentence: encoder", ("none", "hidden", "sentence")
    )
    permutations: int = key(200, "relabellings for floor and p-value", "[1, inf)")


@dataclasses.dataclass(frozen=True)
class _Limits:
    contexts: int = key(0, f"a subset, {MIN_CONTEXTS} or more; 0: all", "[0, inf) contexts")
    in_distribution_contexts: int = key(
        0,
        "of the subset that all shifts share, if more than `contexts`; pairs are lost then",
        "[0, inf) contexts",
    )
    too_long: str = key(
        "error", "what becomes of prompts beyond the window", ("error", "drop_oldest_turns")
    )
    excluded_share: float = key(
        0.1, "of an RPM's answers in a subset that may fail; above 0 one always may", "[0, 1]"
    )
    memory_bytes: int = key(MEMORY, "of a device beside its weights", "[1, inf) bytes")


@dataclasses.dataclass(frozen=True)
class DiagnosisConfig(RunKeys):
    """All keys of a diagnosis."""

    shifts: tuple[str, ...] = key(("user", "character", "dialogue"), "shifts or subset tags")
    responses: str = key("", "file of collected responses (JSON, JSONL); then no RPM is run")
    model: Any = group("the reasoner and the scorer q", _Model)
    rpms: dict[str, RpmKeys] = key(
        {"full_context": {"view": "full", "path": ""},
         "last_turn_only": {"view": "last_turn", "path": ""}},
        "the evaluated models: name -> rpm(view, path), or server(url, model)",
    )  # fmt: skip
    server: Any = group("a model behind a server, and how servers are asked", _Server)
    judges: dict[str, JudgeKeys] = key({}, "judges of answers: name -> judge(...)")
    sampling: Any = group(
        "how evaluated models answer", SamplingConfig, _Batch, repetition_penalty=REPETITION_PENALTY
    )
    reasoning: Any = group(
        "how the reasoner writes R, and how R enters q", SamplingConfig, _Thoughts,
        without=("top_p", "stop_strings"), max_tokens=48, repetition_penalty=REPETITION_PENALTY,
    )  # fmt: skip
    scorer: Any = group("the scorer q, where it was trained", _Scorer)
    estimator: Any = group("how information is estimated", _Estimator)
    profile: Any = group("the profile: which factors do answers carry?", _Profile)
    prediction: Any = group("how large R-EMID may get under each shift", _Prediction)
    divergences: Any = group("of contexts from those that are not shifted", _Divergences)
    limits: Any = group("how much is taken", _Limits)
    shard: str = key("", "part of the work that is done, as '0/4' to '3/4'; empty: all")
    dry_run: bool = key(False, "print what the run would cost, and do none of it")


KEYS = keys_of(DiagnosisConfig)


def default_config() -> ConfigDict:
    """All keys with their defaults; a config file changes some and returns the rest as they are."""
    return defaults_of(KEYS)


def check_config(config: ConfigDict) -> None:
    """Checks names, types and values.

    Raises:
      UserError: an unknown key (with the nearest one), a missing key, or a value of another type or
        out of range, naming the key.
    """
    check_keys(config, KEYS)
    _check_rpms(config)
    _check_subsets(config)
    _check_shard(config.shard)
    if config.shard and config.processes.coordinator:
        raise UserError(
            "config.shard and config.processes both spread the work; a part of a job array is one "
            "process"
        )
    if config.model.dtype == AUTO and (config.shard or config.processes.coordinator):
        raise UserError(
            f"config.model.dtype={AUTO!r} measures one machine, and several must agree; name "
            "float32 or bfloat16"
        )
    if not all(config.sampling.stop_strings):
        raise UserError("config.sampling.stop_strings holds an empty text, which ends every answer")
    if config.profile.name and not config.profile.swaps:
        raise UserError(
            "config.profile.name needs config.profile.swaps of at least 1: without swaps there is "
            "no profile"
        )
    _check_draws(config)
    check_mixture("config.reasoning", config.reasoning)
    if 0 < config.limits.contexts < MIN_CONTEXTS:
        raise UserError(
            f"config.limits.contexts must be at least {MIN_CONTEXTS}: a standard error needs them"
        )
    _check_prediction(config)
    _check_judges(config)
    for name, needed in (("negatives", "all"), ("clusters", "none")):  # only club leaves pairs out
        if config.estimator.name != "club" and config.estimator[name] != needed:
            raise UserError(
                f"estimator {config.estimator.name!r} needs config.estimator.{name}={needed!r}"
            )


def specs_of(config: ConfigDict) -> dict[str, ConfigDict]:
    """Name -> keys of each evaluated model: those of `config.rpms`, and `config.server`'s own."""
    defaults, one = dataclasses.asdict(RpmKeys()), config.server
    found = {name: ConfigDict({**defaults, **spec}) for name, spec in config.rpms.items()}
    if one.url:
        found[one.model] = server(one.url, one.model, one.view)
    return found


def _check_rpms(config: ConfigDict) -> None:
    one = config.server
    if not specs_of(config) and not config.responses:
        raise UserError(
            "config.rpms is empty: name an evaluated model, or give config.server.url or "
            "config.responses"
        )
    if bool(one.url) != bool(one.model):
        given, lacking = ("url", "model") if one.url else ("model", "url")
        raise UserError(f"config.server.{given} needs config.server.{lacking}, which is empty")
    if one.url:
        check_name("config.server.model", one.model)
        if one.model in config.rpms:
            raise UserError(f"config.server.model and config.rpms both name {one.model!r}")
    if config.responses and any(spec.url for spec in specs_of(config).values()):
        raise UserError(
            "config.responses holds the answers, and a server would give them anew; leave out "
            "config.responses, or the server"
        )


def _check_judges(config: ConfigDict) -> None:
    asked: dict[tuple[str, ...], str] = {}  # what is asked -> the judge that asks it
    for name, one in config.judges.items():
        if bool(one.precomputed) == bool(one.url):
            raise UserError(
                f"config.judges.{name} needs either precomputed, a file of judgments, or url and "
                "model of a server"
            )
        if one.url and not one.model.strip():
            raise UserError(f"config.judges.{name}.url needs config.judges.{name}.model")
        same = (one.url.strip().rstrip("/"), one.model, one.mode, one.precomputed)
        if (other := asked.setdefault(same, name)) != name:
            raise UserError(
                f"config.judges.{name} is config.judges.{other} again, with which it would agree "
                "in everything; leave one out, and give the other more repeats"
            )


def _check_subsets(config: ConfigDict) -> None:
    """Names of subsets and shifts, as far as the benchmark need not be read."""
    if not config.shifts:
        raise UserError("no shift was chosen: name at least one in config.shifts")
    check_name("config.in_distribution", config.in_distribution)
    for name in (*config.shifts, *config.subset_shifts):
        check_name("config.shifts and config.subset_shifts", name)
    parse_subset_shifts(config.subset_shifts)


def _check_draws(config: ConfigDict) -> None:
    if config.sampling.draws == 1:
        return
    several = f"config.sampling.draws is {config.sampling.draws}"
    if config.sampling.temperature == 0:
        raise UserError(
            f"{several} and config.sampling.temperature 0: greedy answers to a context are all "
            "alike; set config.sampling.temperature=1.0, or draws=1"
        )
    refuse_draws(config, several, "draws=1")


def refuse_draws(config: ConfigDict, several: str, instead: str) -> None:
    """Refuses several answers to a context where no mean over them can be taken.

    Args:
      config: of the diagnosis.
      several: what there are several of, as the message begins.
      instead: what else can be done than to take the estimator that takes the mean.

    Raises:
      UserError: the estimator takes no mean.
    """
    if config.estimator.name != MEAN_OF_DRAWS:
        raise UserError(
            f"{several}, of which only estimator {MEAN_OF_DRAWS!r} takes the mean; set "
            f"config.estimator.name={MEAN_OF_DRAWS!r}, or {instead}"
        )


def _check_prediction(config: ConfigDict) -> None:
    if 0 < config.prediction.contexts < MIN_CONTEXTS:
        raise UserError(
            f"config.prediction.contexts must be at least {MIN_CONTEXTS}, or 0 for all: a standard "
            "error needs them"
        )
    for name, needed in (("normalisation", "sequence"), ("span", "response")):
        if config.prediction.enabled and config.estimator[name] != needed:
            raise UserError(
                f"config.prediction.enabled needs config.estimator.{name}={needed!r}: the linear "
                "bound is a sum of divergences of whole responses"
            )


def _check_shard(shard: str) -> None:
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", shard)
    if shard and not (found and int(found[1]) < int(found[2])):
        raise UserError(
            f"config.shard is {shard!r}; it must be I/N with 0 <= I < N, as '0/4', or empty"
        )
