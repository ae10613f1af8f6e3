"""The models of a run: what is known before their weights are read, and their engines after."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.evaluation.config import AUTO, specs_of
from remid_jax.inference.engine import Engine, JaxEngine, engine_fingerprint
from remid_jax.models.adapters import adapted_fingerprint, load_adapter, with_adapter
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.pretrained import (
    DEFAULT,
    HALF,
    Checkpoint,
    LanguageModel,
    check_mesh,
    in_half_precision,
    load_language_model,
    open_language_model,
)
from remid_jax.models.rpm import ADAPTER, RPM, WEIGHTS, check_other_judge, read_rpm, rpm_folder
from remid_jax.models.sharding import MeshConfig, make_mesh
from remid_jax.models.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """One model of a run.

    Attributes:
      name: for reports.
      fingerprint: of its engine.
      dtype: name of the weights' type.
      config: shape of the decoder; None for an encoder of sentences.
      tokenizer: text to token ids and back; None for an encoder of sentences.
      load: makes the engine.
      can_embed: whether the engine makes feature vectors of texts.
    """

    name: str
    fingerprint: str
    dtype: str
    config: DecoderConfig | None
    tokenizer: Tokenizer | None
    load: Callable[[], Any]
    can_embed: bool = True

    @functools.cached_property
    def engine(self) -> Engine:
        """The engine, whose weights are read when it is first asked for."""
        return self.load()

    @property
    def loaded(self) -> Engine | None:
        """The engine where it was asked for."""
        return vars(self).get("engine")


class Models:
    """All models of a run, each opened and checked once, each loaded once when it is needed.

    Attributes:
      scorer: q.
      scoring: q as likelihoods are asked of it: the scorer, or its `half`.
      reasoner: writes R.
      base: what the adapters of scorer and reasoner belong to, where they have any.
      rpms: the evaluated models by name, of those that run here.
      trained: whether reasoner and scorer were trained: then R has sections, and the scorer reads
        its core features.
      longest: tokens of the longest prompt, known before an engine is made.
    """

    def __init__(self, config: ConfigDict, engine: Engine | None, collected: bool, lockstep: bool):
        """Opens and checks every model.

        Args:
          config: of the diagnosis.
          engine: in place of the model that `config.model` names.
          collected: whether responses come from a file.
          lockstep: whether one mesh lies over all processes.

        Raises:
          UserError: a model or adapter that cannot be used, or a mesh that does not divide it.
        """
        self._config = config
        self._mesh = make_mesh(MeshConfig(**config.mesh), own=not lockstep)
        self._opened: dict[str, Model] = {}
        self._weights: dict[Path, LanguageModel] = {}
        self._dtype = "float32" if config.model.dtype == AUTO else config.model.dtype
        self.longest, self.trained = 1, bool(config.scorer.checkpoint)
        path = config.model.path
        self.base = self._given(engine) if engine else self._described(self._checkpoint(path))
        self._opened[config.model.path] = self.base
        self.scorer = self.reasoner = self.base
        if engine and config.model.dtype == AUTO:
            raise UserError(f"config.model.dtype={AUTO!r} needs the project's own engine")
        if self.trained:
            if engine:
                raise UserError("config.scorer.checkpoint needs the project's own engine")
            opened, pair = self._checkpoint(config.model.path), Path(config.scorer.checkpoint)
            self.scorer, self.reasoner = (
                self._described(opened, pair / role, role) for role in ("policy", "reasoner")
            )
        self.scoring = self.scorer
        specs = {} if collected else specs_of(config)
        self.rpms = {
            name: self._open(spec.path or config.model.path)
            for name, spec in specs.items()
            if not spec.url
        }

    @property
    def all(self) -> list[Model]:
        """Every model whose weights are read, once."""
        halved = [] if self.scoring is self.scorer else [self.scoring]
        distinct = {id(m): m for m in (self.base, *self.rpms.values(), *halved)}
        return list(distinct.values())

    @functools.cached_property
    def half(self) -> Model:
        """The scorer in half precision."""
        opened, pair = self._checkpoint(self._config.model.path), self._config.scorer.checkpoint
        trained = (Path(pair) / "policy", "policy") if pair else ()
        return self._described(opened, *trained, half=True)

    def drop_half(self) -> None:
        """Frees the weights of `half`."""
        vars(self).pop("half", None)

    def _given(self, engine: Engine) -> Model:
        e, embeds = engine, hasattr(engine, "embed")
        return Model(e.name, e.fingerprint, e.dtype, e.config, e.tokenizer, lambda: e, embeds)

    def _open(self, path: str) -> Model:
        if path not in self._opened:
            folder = None if path == DEFAULT else rpm_folder(path)
            self._opened[path] = (
                self._described(self._checkpoint(path))
                if folder is None
                else self._trained_rpm(path, folder)
            )
        return self._opened[path]

    def _trained_rpm(self, path: str, folder: Path) -> Model:
        """An RPM that this project has trained."""
        rpm = read_rpm(folder)
        if self.trained:
            check_other_judge(path, rpm, self.scorer.fingerprint)
        if not rpm.base:
            raise UserError(f"{path}: an RPM of a textual world, whose base no diagnosis reads")
        if rpm.trained == "full":
            return self._described(self._checkpoint(str(folder / WEIGHTS)))
        run = folder.parent if folder.name == RPM else folder
        return self._described(self._checkpoint(rpm.base), folder / ADAPTER, run.name)

    @functools.cache  # noqa: B019
    def _checkpoint(self, path: str) -> Checkpoint:
        """A model's files, opened and checked."""
        model = self._config.model
        template = (model.chat_template or None) if path == model.path else None
        variables = model.template_variables.to_dict()
        opened = open_language_model(path, self._dtype, template, variables)
        check_mesh(opened.config, self._mesh)
        return opened

    def _described(
        self, opened: Checkpoint, folder: Path | None = None, added: str = "", half: bool = False
    ) -> Model:
        """A model as it is, or with the trained adapter of a folder, which adds to its name.

        With `half` both are rounded, whatever they were trained as.
        """
        c, name, fingerprint, adapter = self._config, opened.name, opened.fingerprint, None
        if folder is not None:
            adapter = load_adapter(folder, opened)
            name, fingerprint = f"{name}+{added}", adapted_fingerprint(adapter)

        def load() -> JaxEngine:
            model = self._read(opened)
            if adapter is not None:
                model = dataclasses.replace(with_adapter(model, adapter), name=name)
            if half:
                model = in_half_precision(model)
            memory, rows = c.limits.memory_bytes, c.sampling.batch_rows
            return JaxEngine(model, memory, self.longest, c.model.cache_dtype, rows)

        dtype = HALF if half else opened.dtype
        fingerprint += f"/{HALF}" if half else ""
        fingerprint = engine_fingerprint(fingerprint, dtype, c.model.cache_dtype)
        return Model(name, fingerprint, dtype, opened.config, opened.tokenizer, load)

    def _read(self, opened: Checkpoint) -> LanguageModel:
        """The weights, which a base and its adapters share."""
        path = opened.files.path
        if path not in self._weights:
            self._weights[path] = load_language_model(opened, mesh=self._mesh)
        return self._weights[path]

    def templates(self) -> dict[str, dict[str, Any]]:
        """Model -> variables of its chat template, and what was assumed on its behalf."""
        return {
            m.name: {"variables": t.template_variables, "notes": list(t.template_notes)}
            for m in self.all
            if (t := m.tokenizer)
        }
