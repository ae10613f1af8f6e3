"""What the training of an RPM works on: its start, its judge, and the folder it becomes."""

import dataclasses
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from remid_jax.checkpoints import load_tree, read_record, save_tree
from remid_jax.errors import UserError
from remid_jax.models import adapters
from remid_jax.models.decoder import Decoder
from remid_jax.models.export import export_hugging_face
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import LanguageModel, load_language_model
from remid_jax.models.rpm import ADAPTER, WEIGHTS, TrainedRpm, read_rpm, rpm_folder, write_rpm
from remid_jax.models.sharding import MeshConfig, make_mesh, place, to_host
from remid_jax.processes import agree, barrier, is_primary
from remid_jax.settings import made_from, value_of
from remid_jax.training.config import ROLES
from remid_jax.training.experiment import (
    Experiment,
    Setting,
    check_count,
    check_shape,
    identity_of,
    read_setting,
)
from remid_jax.training.rollout_worker import RolloutWorker
from remid_jax.training.rpm_config import METHODS, batches_of, loop_config, needs_golden
from remid_jax.training.rpm_tasks import AnsweringTask, ThinkingTask


class Estimator(NamedTuple):
    """A trained pair that judges answers; the caller gives its worker the parameters."""

    config: ConfigDict
    worker: RolloutWorker
    roles: Mapping[str, Any]


class RpmExperiment(NamedTuple):
    """Everything that the training of an RPM needs beside its configuration.

    Attributes:
      experiment: as of CoRL, whose one role `policy` is the RPM.
      base: the base; of a benchmark a `LanguageModel`.
      estimator: judges answers; None: the start does.
      record: how the RPM comes about.
    """

    experiment: Experiment
    base: adapters.Base
    estimator: Estimator | None
    record: TrainedRpm

    def save(self, folder: Path, params: Any) -> None:
        """Writes the trained RPM, which a diagnosis takes as `config.rpms.NAME.path`.

        Raises:
          UserError: the folder cannot be written.
        """
        e = self.experiment
        if is_primary():
            shutil.rmtree(folder, ignore_errors=True)
        barrier()
        if self.record.trained == "lora":
            adapters.save_adapter(folder / ADAPTER, adapters.Adapter(e.lora, params, e.base))
        elif isinstance(self.base, LanguageModel):
            whole = jax.tree.map(to_host, params)  # each process holds parts, and one writes
            agree(self._export(folder / WEIGHTS, whole) if is_primary() else None)
        else:
            save_tree(folder / WEIGHTS, params, {"kind": "weights", "base": e.base})
        if is_primary():
            write_rpm(folder, self.record)

    def _export(self, folder: Path, params: Any) -> UserError | None:
        """Writes all weights as a Hugging Face directory, or returns why it could not."""
        trained = dataclasses.replace(self.base, params=params)
        try:
            export_hugging_face(trained, folder, self.record.base)
        except UserError as e:
            return e
        return None


class _Start(NamedTuple):
    """Where training begins: trainable parameters, their digest, and what never changes."""

    params: Any
    fingerprint: str
    graphdef: Any
    frozen: Any


def make_rpm_experiment(config: ConfigDict, folder: Path) -> RpmExperiment:
    """Reads start, samples, base and judge.

    Raises:
      UserError: a start that is missing, of another kind than the method needs or trained in
        another way; no golden answers where some are needed; and as of `read_setting`.
    """
    method, mesh = METHODS[config.method], make_mesh(MeshConfig(**config.mesh))
    lora = made_from(LoraConfig, config.lora)
    begun = _read_start(config)
    if begun and folder.resolve().is_relative_to(begun[0].resolve()):
        raise UserError(
            f"--workdir {folder} lies in the RPM that it begins from, which goes where that is "
            "trained again; choose another --workdir"
        )
    reads = ThinkingTask if method.thinks else AnsweringTask
    found = read_setting(loop_config(config), folder, mesh, reads, needs_golden(config))
    check_count(found.train, {name: value_of(config, name) for name in batches_of(config)})
    make = _lora if config.trained == "lora" else _full
    start = make(config, found, mesh, lora, begun and begun[0])
    judge, fingerprint = _estimator(config, found, mesh) if config.estimator else (None, "")
    judges = (*(begun[1].judges if begun else ()), *([fingerprint] if judge else ()))
    parts = found.base.fingerprint, repr(lora), start.fingerprint, fingerprint, found.content
    experiment = Experiment(
        task=found.task, train=found.train, tests=found.tests, shape=found.base.config,
        graphdef=start.graphdef, frozen=start.frozen, initial=start.params,
        start={"policy": start.params}, identity=identity_of(*parts),
        base=found.base.fingerprint, lora=lora, mesh=mesh, shortened=found.shortened,
        excluded=found.excluded, scoring={},
    )  # fmt: skip
    path = config.model.path if config.task == "benchmark" else ""
    record = TrainedRpm(config.method, config.trained, path, judges)
    estimator = judge and _judging(config, experiment, found, *judge)
    return RpmExperiment(experiment, found.base, estimator, record)


def _read_start(config: ConfigDict) -> tuple[Path, TrainedRpm] | None:
    """The folder of the RPM that training begins from, and how that came about."""
    if not config.start:
        return None
    folder, starts = rpm_folder(config.start), METHODS[config.method].starts
    if folder is None:
        raise UserError(
            f"config.start {config.start}: holds no trained RPM; train one first, by "
            f"{' or '.join(starts)}"
        )
    rpm = read_rpm(folder)
    if rpm.method not in starts:
        raise UserError(
            f"config.start {config.start}: was trained by {rpm.method!r}; method "
            f"{config.method!r} begins from {' or '.join(starts)}"
        )
    if rpm.trained != config.trained:
        raise UserError(
            f"config.start {config.start}: was trained with config.trained={rpm.trained!r}; set "
            "it here, too"
        )
    return folder, rpm


def _lora(
    config: ConfigDict, found: Setting, mesh: Mesh | None, lora: LoraConfig, start: Path | None
) -> _Start:
    """A new adapter of the base, or the one that was trained."""
    base = found.base
    graphdef, _ = adapters.adapted_structure(base.config, lora)
    if start is None:
        key = jax.random.key(config.seed)
        adapter = adapters.Adapter(lora, adapters.new_params(base.config, lora, key), "")
    else:
        adapter = adapters.load_adapter(start / ADAPTER, base)
        check_shape(f"config.start {start}: the adapter", adapter, lora)
    fingerprint = adapters.adapted_fingerprint(adapter)
    return _Start(place(adapter.params, mesh), fingerprint, graphdef, place(found.params, mesh))


def _full(
    config: ConfigDict, found: Setting, mesh: Mesh | None, lora: LoraConfig, start: Path | None
) -> _Start:
    """All weights of the base, or those that were trained."""
    base, params, fingerprint = found.base, found.params, ""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Decoder(base.config, nnx.Rngs(0))))
    if start is not None and config.task == "world":
        adapters.check_base(base, read_record(start / WEIGHTS).get("base", ""), str(start))
        params, fingerprint = load_tree(start / WEIGHTS, params), _digest(start)
    elif start is not None:
        model = load_language_model(str(start / WEIGHTS), config.model.dtype, mesh=mesh)
        if model.config != base.config:
            raise UserError(f"config.start {start}: its weights are of another shape than the base")
        if model.tokenizer.backend.get_vocab() != base.tokenizer.backend.get_vocab():
            raise UserError(
                f"config.start {start}: its vocabulary is not that of config.model.path "
                f"{config.model.path}; name the base that it was trained from"
            )
        params, fingerprint = model.params, model.fingerprint
    return _Start(place(params, mesh), fingerprint, graphdef, nnx.State({}))


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS / "digests.json").read_bytes()).hexdigest()


def _estimator(
    config: ConfigDict, found: Setting, mesh: Mesh | None
) -> tuple[tuple[LoraConfig, dict[str, Any]], str]:
    """Shape and parameters of the pair that judges, and the fingerprint of its policy."""
    pair = {r: adapters.load_adapter(f"{config.estimator}/{r}", found.base) for r in ROLES}
    lora = pair["policy"].lora
    check_shape(f"{config.estimator}: the reasoner's adapter", pair["reasoner"], lora)
    params = {role: place(adapter.params, mesh) for role, adapter in pair.items()}
    return (lora, params), adapters.adapted_fingerprint(pair["policy"])


def _judging(
    config: ConfigDict, experiment: Experiment, found: Setting, lora: LoraConfig,
    roles: Mapping[str, Any],
) -> Estimator:  # fmt: skip
    """The pair at work: its reasoner notes, and its policy reads the notes and scores."""
    settings = loop_config(config)
    settings.notes = "own"
    settings.reasoner.update(config.thoughts.to_dict())
    of_pair = dataclasses.replace(
        experiment, task=experiment.task.plain, lora=lora,
        graphdef=adapters.adapted_structure(found.base.config, lora)[0],
        frozen=place(found.params, experiment.mesh),
        initial=adapters.new_params(found.base.config, lora, jax.random.key(0)),
    )  # fmt: skip
    return Estimator(settings, RolloutWorker(settings, of_pair), roles)
