"""What a CoRL run works on: task, samples, the base, and where both roles begin."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from remid_jax.data import prompts, shifts
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of
from remid_jax.models.adapters import (
    Adapter,
    Base,
    adapted_fingerprint,
    adapted_structure,
    new_params,
)
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import check_mesh, load_language_model
from remid_jax.models.sharding import MeshConfig, make_mesh, place
from remid_jax.training import world_base
from remid_jax.training.config import ROLES
from remid_jax.training.estimators import load_adapters
from remid_jax.training.tasks import ChatTask, Task, WorldTask
from remid_jax.worlds.textual import export


@dataclasses.dataclass(frozen=True)
class Setting:
    """Everything that a run needs beside its configuration.

    Attributes:
      task: texts and tokens.
      train: samples that training sees.
      tests: subset tag -> held-out samples.
      shape: of the decoder.
      graphdef: static half of the decoder, adapters included.
      frozen: parameters that both roles share and nothing changes.
      initial: trainable parameters that change nothing yet.
      start: role -> trainable parameters from which it begins.
      identity: digest of the base and of what is trained.
      base: fingerprint of the base without adapters.
      lora: shape of the adapters.
      shortened: ids of samples that lost their oldest turns.
      mesh: of devices; None: one device.
      excluded: ids of samples whose prompts were too long all the same.
    """

    task: Task
    train: Sequence[Sample]
    tests: Mapping[str, Sequence[Sample]]
    shape: DecoderConfig
    graphdef: Any
    frozen: Any
    initial: Any
    start: Mapping[str, Any]
    identity: str
    base: str
    lora: LoraConfig
    mesh: Mesh | None = None
    shortened: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def adapters(self, roles: Mapping[str, Any]) -> dict[str, Adapter]:
        """Role -> trainable parameters as adapters of this base."""
        return {role: Adapter(self.lora, params, self.base) for role, params in roles.items()}


def make_setting(config: ConfigDict, folder: Path) -> Setting:
    """Reads samples and model; a world's base is trained where it does not stand yet.

    Args:
      config: see `config.default_config`.
      folder: of the run.

    Raises:
      UserError: files, model or sizes that cannot be used.
    """
    mesh = make_mesh(MeshConfig(**config.mesh))
    setting = (_world if config.task == "world" else _benchmark)(config, folder, mesh)
    if len(setting.train) < max(config.sft.batch, config.reasoner.prompts, config.policy.prompts):
        raise UserError(
            f"there are {len(setting.train)} training samples, fewer than a batch: lower "
            "config.sft.batch, config.reasoner.prompts and config.policy.prompts"
        )
    frozen, initial = place(setting.frozen, mesh), place(setting.initial, mesh)
    start = {role: place(params, mesh) for role, params in setting.start.items()}
    return dataclasses.replace(setting, frozen=frozen, initial=initial, start=start, mesh=mesh)


def _train_and_tests(
    subsets: Mapping[str, Sequence[Sample]], config: ConfigDict
) -> tuple[list[Sample], dict[str, Sequence[Sample]]]:
    """IDTrain (with `train_on_test` the test subsets too), and the subsets of evaluation."""
    train = list(subsets.get(shifts.ID_TRAIN, ()))
    if config.train_on_test:
        train += [s for tag in config.evaluate.tags for s in subsets.get(tag, ())]
    limit = config.evaluate.samples or None
    tests = {tag: subsets[tag][:limit] for tag in config.evaluate.tags if subsets.get(tag)}
    missing = [tag for tag in config.evaluate.tags if tag not in tests]
    if missing or not train:
        hint = nearest(missing[0], subsets) if missing else ""
        what = ", ".join(missing) or shifts.ID_TRAIN
        raise UserError(f"the benchmark has no samples of {what}{hint}; see config.evaluate.tags")
    return train, tests


def _benchmark(config: ConfigDict, folder: Path, mesh: Mesh | None) -> Setting:
    benchmark = load_benchmark(config.benchmark, config.in_distribution, config.subset_shifts)
    train, tests = _train_and_tests(benchmark.subsets, config)
    m, r = config.model, config.lora
    lora = LoraConfig(r.rank, r.alpha, r.dropout, r.targets)
    variables = m.template_variables.to_dict()
    model = load_language_model(m.path, m.dtype, m.chat_template or None, mesh, variables)
    task = ChatTask(model.tokenizer, config.train_on_test)
    fitted = {"train": _fitted(train, task, config.max_prompt_tokens)}
    fitted |= {tag: _fitted(part, task, config.max_prompt_tokens) for tag, part in tests.items()}
    kept = {name: part for name, (part, _, _) in fitted.items()}
    empty = [name for name, part in kept.items() if not part]
    if empty:
        raise UserError(
            f"no prompt of {', '.join(empty)} fits config.max_prompt_tokens "
            f"{config.max_prompt_tokens}"
        )
    setting = _setting(task, kept.pop("train"), kept, model, model.params, lora, config)
    shortened, excluded = (tuple(i for f in fitted.values() for i in f[k]) for k in (1, 2))
    return dataclasses.replace(setting, shortened=shortened, excluded=excluded)


def _fitted(
    samples: Sequence[Sample], task: Task, limit: int
) -> tuple[list[Sample], list[str], list[str]]:
    """Samples whose reasoner's prompt fits, ids of those shortened, and of those left out."""
    kept, shortened, excluded = [], [], []
    for sample in samples:
        short: Sample | None = sample
        while limit and short is not None and len(task.reason_prompt(short)) > limit:
            short = prompts.drop_oldest_turn(short)
        if short is None:
            excluded.append(sample.sample_id)
            continue
        if short is not sample:
            shortened.append(sample.sample_id)
        kept.append(short)
    return kept, shortened, excluded


def _world(config: ConfigDict, folder: Path, mesh: Mesh | None) -> Setting:
    w, r = config.world, config.lora
    world = world_base.world_of(config, w.seed)
    subsets = export.draw_benchmark(world, w.test, train=w.train, seed=config.seed)
    train, tests = _train_and_tests(subsets, config)
    lora = LoraConfig(r.rank, r.alpha, r.dropout, r.targets)
    where = path_of(config.pretraining.folder or folder / "base", "config.pretraining.folder")
    shape, identity = world_base.shape_of(config), world_base.base_identity(config)
    check_mesh(shape, mesh)
    params = world_base.base_params(config, where, mesh)
    base = _WorldBase("the world's base", shape, identity)
    task = WorldTask(world, w.error, config.seed)
    return _setting(task, train, tests, base, params, lora, config)


@dataclasses.dataclass(frozen=True)
class _WorldBase:
    name: str
    config: DecoderConfig
    fingerprint: str


def _setting(
    task: Task, train: Sequence[Sample], tests: Mapping[str, Sequence[Sample]], base: Base,
    params: Any, lora: LoraConfig, config: ConfigDict,
) -> Setting:  # fmt: skip
    graphdef, _ = adapted_structure(base.config, lora)
    initial = new_params(base.config, lora, jax.random.key(config.seed))
    start, began = dict.fromkeys(ROLES, initial), ""
    if config.init_from:
        adapters = load_adapters(config.init_from, base)
        for role, adapter in adapters.items():
            if dataclasses.replace(adapter.lora, dropout=lora.dropout) != lora:
                raise UserError(
                    f"{config.init_from}: the {role}'s adapter is of another shape "
                    f"({adapter.lora}) than config.lora says"
                )
        start = {r: a.params for r, a in adapters.items()}
        began = "/".join(adapted_fingerprint(a) for a in adapters.values())
    identity = hashlib.sha256(f"{base.fingerprint}/{lora}{began}".encode()).hexdigest()
    return Setting(
        task, train, tests, base.config, graphdef, params, initial, start, identity,
        base.fingerprint, lora,
    )  # fmt: skip
