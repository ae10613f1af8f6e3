"""What a CoRL run works on: task, samples, the base, and where both roles begin."""

import dataclasses
import hashlib
import json
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from remid_jax.data import prompts, shifts
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError, nearest
from remid_jax.files import path_of
from remid_jax.models import adapters
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import check_mesh, load_language_model
from remid_jax.models.sharding import MeshConfig, make_mesh, place
from remid_jax.settings import made_from
from remid_jax.training import world_base
from remid_jax.training.config import ROLES
from remid_jax.training.tasks import ChatTask, Task, WorldTask
from remid_jax.worlds.textual import export


@dataclasses.dataclass(frozen=True)
class Experiment:
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
      identity: digest of the base, of what is trained, and of the samples.
      base: fingerprint of the base without adapters.
      lora: shape of the adapters.
      mesh: of devices; None: one device.
      shortened: ids of samples that lost their oldest turns.
      excluded: ids of samples whose prompts were too long all the same.
      scoring: how thoughts enter log q, as a diagnosis is told that takes the trained pair.
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
    mesh: Mesh | None
    shortened: tuple[str, ...]
    excluded: tuple[str, ...]
    scoring: Mapping[str, Any]

    def save_adapters(self, folder: Path, roles: Mapping[str, Any]) -> None:
        """Writes the trained parameters of each role as an adapter of this base."""
        for role, params in roles.items():
            adapter = adapters.Adapter(self.lora, params, self.base)
            adapters.save_adapter(folder / role, adapter, self.scoring)


class Setting(NamedTuple):
    """What a run is about, before anything is trained.

    Attributes:
      task: texts and tokens.
      base: what adapters belong to; of a benchmark the model itself.
      params: the base's parameters.
      train: samples that training sees.
      tests: subset tag -> held-out samples.
      content: digest of all samples that there are, those of no subset here among them.
      shortened: ids of samples that lost their oldest turns.
      excluded: ids of samples whose prompts were too long all the same.
    """

    task: Task
    base: adapters.Base
    params: Any
    train: Sequence[Sample]
    tests: Mapping[str, Sequence[Sample]]
    content: str
    shortened: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


def read_setting(
    config: ConfigDict, folder: Path, mesh: Mesh | None, reads: Callable[[Task], Task],
    golden: str,
) -> Setting:  # fmt: skip
    """Reads samples and model; a world's base is trained where it does not exist yet.

    Args:
      config: of the run.
      folder: of the run.
      mesh: of devices.
      reads: makes of the task of all contexts that of the run.
      golden: what needs the golden answers of training samples, for a message; empty: nothing.

    Raises:
      UserError: files, model or sizes that cannot be used.
    """
    load = _world if config.task == "world" else _benchmark
    return load(config, folder, mesh, reads, golden)


def check_count(train: Sequence[Sample], batches: Mapping[str, int]) -> None:
    """Refuses batches (key -> samples) that are larger than the training set."""
    if len(train) < max(batches.values()):
        *others, last = (f"config.{name}" for name in batches)
        raise UserError(
            f"there are {len(train)} training samples, fewer than a batch: lower "
            f"{', '.join(others)}{' and ' if others else ''}{last}"
        )


def digest_of(samples: Iterable[Sample]) -> str:
    """Digest of samples: other ones, though they have the same ids, are another run."""
    records = json.dumps([s.to_record() for s in samples], sort_keys=True)
    return hashlib.sha256(records.encode()).hexdigest()


def identity_of(*parts: str) -> str:
    """Digest of what a run trains, from what, and of its samples."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def make_experiment(config: ConfigDict, folder: Path) -> Experiment:
    """What a run of CoRL works on.

    Raises:
      UserError: as of `read_setting`; or a trained pair that cannot be gone on from.
    """
    mesh = make_mesh(MeshConfig(**config.mesh))
    lora = made_from(LoraConfig, config.lora)
    found = read_setting(config, folder, mesh, lambda task: task, "CoRL")
    base = found.base
    batches = {"sft.batch": config.sft.batch, **{f"{r}.prompts": config[r].prompts for r in ROLES}}
    check_count(found.train, batches)
    initial = place(adapters.new_params(base.config, lora, jax.random.key(config.seed)), mesh)
    start, parts = dict.fromkeys(ROLES, initial), [base.fingerprint, repr(lora), found.content]
    if config.init_from:
        trained = _trained(config.init_from, base, lora)
        start = {role: place(a.params, mesh) for role, a in trained.items()}
        parts += [adapters.adapted_fingerprint(a) for a in trained.values()]
    return Experiment(
        task=found.task, train=found.train, tests=found.tests, shape=base.config,
        graphdef=adapters.adapted_structure(base.config, lora)[0],
        frozen=place(found.params, mesh), initial=initial, start=start,
        identity=identity_of(*parts), base=base.fingerprint, lora=lora,
        mesh=mesh, shortened=found.shortened, excluded=found.excluded, scoring=_scoring(config),
    )  # fmt: skip


def _scoring(config: ConfigDict) -> dict[str, Any]:
    """Keys of a diagnosis' `reasoning` -> what they are here, where repetition costs nothing."""
    return {**config.scoring.to_dict(), "repetition_penalty": 1.0}


def _trained(folder: str, base: adapters.Base, lora: LoraConfig) -> dict[str, adapters.Adapter]:
    """Role -> the trained adapter from which it goes on; refuses one of another shape."""
    trained = {role: adapters.load_adapter(f"{folder}/{role}", base) for role in ROLES}
    for role, adapter in trained.items():
        check_shape(f"{folder}: the {role}'s adapter", adapter, lora)
    return trained


def check_shape(what: str, adapter: adapters.Adapter, lora: LoraConfig) -> None:
    """Refuses an adapter (`what`) that `config.lora` does not describe; dropout may differ."""
    if dataclasses.replace(adapter.lora, dropout=lora.dropout) != lora:
        raise UserError(f"{what} is of another shape ({adapter.lora}) than config.lora says")


def _train_and_tests(
    subsets: Mapping[str, Sequence[Sample]], config: ConfigDict, learner: str
) -> tuple[list[Sample], dict[str, Sequence[Sample]]]:
    """IDTrain (with `train_on_test` the test subsets too), and the subsets of evaluation.

    Evaluations need golden answers, training only where a `learner` is named.
    """
    train = list(subsets.get(shifts.ID_TRAIN, ()))
    if config.train_on_test:
        train += [s for tag in config.evaluate.tags for s in subsets.get(tag, ())]
    limit = config.evaluate.samples or None
    tests = {tag: subsets[tag][:limit] for tag in config.evaluate.tags if subsets.get(tag)}
    held_out = [s for part in tests.values() for s in part]
    needing = {learner: train if learner else (), "an evaluation": held_out}
    for who, sample in ((w, s) for w, part in needing.items() for s in part if not s.golden):
        raise UserError(
            f"sample {sample.sample_id!r} has no golden response, which {who} needs; leave it out, "
            "or name other subsets in config.evaluate.tags"
        )
    missing = [tag for tag in config.evaluate.tags if tag not in tests]
    if missing or not train:
        hint = nearest(missing[0], subsets) if missing else ""
        what = ", ".join(missing) or shifts.ID_TRAIN
        raise UserError(f"the benchmark has no samples of {what}{hint}; see config.evaluate.tags")
    return train, tests


def _benchmark(
    config: ConfigDict, folder: Path, mesh: Mesh | None, reads: Callable[[Task], Task],
    golden: str,
) -> Setting:  # fmt: skip
    """As `read_setting`."""
    m, limit = config.model, config.max_prompt_tokens
    benchmark = load_benchmark(config.benchmark, config.in_distribution, config.subset_shifts)
    train, tests = _train_and_tests(benchmark.subsets, config, golden)
    variables = m.template_variables.to_dict()
    model = load_language_model(m.path, m.dtype, m.chat_template or None, mesh, variables)
    task = reads(ChatTask(model.tokenizer, config.train_on_test))
    fitted = [[(s, _fitted(s, task, limit)) for s in part] for part in (train, *tests.values())]
    kept = [[short for _, short in part if short is not None] for part in fitted]
    empty = [name for name, part in zip(("train", *tests), kept, strict=True) if not part]
    if empty:
        raise UserError(f"no prompt of {', '.join(empty)} fits config.max_prompt_tokens {limit}")
    pairs = [pair for part in fitted for pair in part]
    shortened = tuple(s.sample_id for s, short in pairs if short is not None and short is not s)
    excluded = tuple(s.sample_id for s, short in pairs if short is None)
    tests = dict(zip(tests, kept[1:], strict=True))
    content = digest_of(benchmark)
    return Setting(task, model, model.params, kept[0], tests, content, shortened, excluded)


def _fitted(sample: Sample, task: Task, limit: int) -> Sample | None:
    """The sample less as many oldest turns as its reasoner's prompt is too long by; None: all."""
    short: Sample | None = sample
    while limit and short is not None and len(task.reason_prompt(short)) > limit:
        short = prompts.drop_oldest_turn(short)
    return short


def _world(
    config: ConfigDict, folder: Path, mesh: Mesh | None, reads: Callable[[Task], Task],
    golden: str,
) -> Setting:  # fmt: skip
    """As `read_setting`."""
    w = config.world
    world = world_base.world_of(config, w.seed)
    subsets = export.draw_benchmark(world, w.test, train=w.train, seed=config.seed)
    train, tests = _train_and_tests(subsets, config, golden)
    where = path_of(config.pretraining.folder or folder / "base", "config.pretraining.folder")
    shape, identity = world_base.shape_of(config), world_base.base_identity(config)
    base = types.SimpleNamespace(name="the world's base", config=shape, fingerprint=identity)
    check_mesh(base.config, mesh)
    params = world_base.base_params(config, where, mesh)
    task = reads(WorldTask(world, w.error, config.seed))
    return Setting(task, base, params, train, tests, digest_of(train))
