"""Keys that a diagnosis and a training run share."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from remid_jax.data.reading import BUNDLED
from remid_jax.errors import UserError
from remid_jax.models.pretrained import DEFAULT, DTYPES
from remid_jax.models.sharding import MeshConfig
from remid_jax.processes import ProcessConfig
from remid_jax.settings import ExperimentKeys, group, key


@dataclasses.dataclass(frozen=True)
class ModelKeys:
    """A language model: its weights and how it reads messages."""

    path: str = key(DEFAULT, "the embedded default, a GGUF file or a Hugging Face directory")
    dtype: str = key("float32", "of weights and products", tuple(DTYPES))
    chat_template: str = key("", "jinja file that replaces the model's own template")
    template_variables: dict[str, Any] = key({}, "of the template, as {'enable_thinking': False}")


@dataclasses.dataclass(frozen=True)
class RunKeys(ExperimentKeys):
    """What a run reads, and where it happens."""

    benchmark: str = key(BUNDLED, f"`{BUNDLED}`, or the path of a file of samples (JSON, JSONL)")
    in_distribution: str = key("IDTest", "tag of the subset that is not shifted")
    subset_shifts: tuple[str, ...] = key((), "shifts of one's own tags, as ('french=user',)")
    mesh: Any = group("how many devices each axis has", MeshConfig)
    processes: Any = group("processes that run together", ProcessConfig)


def check_mixture(where: str, group: ConfigDict) -> None:
    """Refuses several thoughts a context that are no draws of the reasoner's distribution.

    Args:
      where: the group's name, as "config.reasoning".
      group: has `draws` and `temperature`.

    Raises:
      UserError: at temperature 0 they would be alike, at another one a mixture of something else.
    """
    if group.draws > 1 and group.temperature != 1:
        raise UserError(
            f"{where}.draws is {group.draws} and {where}.temperature {group.temperature:g}: a "
            f"mixture is of thoughts drawn at temperature 1; set {where}.temperature=1.0, or "
            "draws=1"
        )
