"""How thoughts enter log q where nobody says so: as the trained pair remembers, or one thought."""

from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.evaluation.config import KEYS, default_config
from remid_jax.models.adapters import saved_scoring
from remid_jax.run_config import check_mixture
from remid_jax.settings import Group, check_value

_GROUP = KEYS["reasoning"]
ASKED = 0  # draws


def with_scoring(config: ConfigDict) -> ConfigDict:
    """The configuration with the number of thoughts that is meant by `config.reasoning.draws = 0`.

    A trained pair says how many thoughts it is scored with, at which weight of the prompt without
    one, and how they are drawn; one that says nothing, and a model as it is, take one thought.

    Raises:
      UserError: the pair cannot be read or says what cannot be, or a key is set that it says too.
    """
    if config.reasoning.draws != ASKED:
        return config
    made, checkpoint = config.copy_and_resolve_references(), config.scorer.checkpoint
    told = saved_scoring(f"{checkpoint}/policy") if checkpoint else None
    with made.unlocked():
        made.reasoning.draws = 1
        for name, value in (told or {}).items():
            _check(name, value, config, checkpoint)
            made.reasoning[name] = value
    check_mixture("config.reasoning", made.reasoning)
    return made


def _check(name: str, value: object, config: ConfigDict, checkpoint: str) -> None:
    """Refuses what no key can be, and a key that was set beside the pair's own."""
    known = _GROUP.keys.get(name)
    if known is None or isinstance(known, Group):
        raise UserError(f"{checkpoint}: its scoring names {name!r}, which no diagnosis has")
    check_value(f"{checkpoint}: its scoring.{name}", value, known)
    given, default = config.reasoning[name], default_config().reasoning[name]
    if given not in (default, value):
        raise UserError(
            f"config.reasoning.{name} is {given}, but with config.reasoning.draws=0 the trained "
            f"pair says {value}: set config.reasoning.draws too, then all of config.reasoning holds"
        )
