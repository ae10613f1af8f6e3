"""What a run writes: checkpoints, metrics, evaluations, texts. A resumed run repeats none twice."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from remid_jax.checkpoints import load_tree, newest, read_record, save_newest
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.files import read_text, write_atomically
from remid_jax.json_files import parse_json, read_json_object
from remid_jax.models.fields import is_number, is_whole
from remid_jax.processes import is_primary
from remid_jax.training.evaluation import Predicted

METRICS, EVALUATIONS, CHECKPOINTS = "metrics.jsonl", "evaluations.jsonl", "checkpoints"
_PLACE = ("stage", "step")
SHOWN = 2  # samples of a step whose texts are written, and completions of each
# Keys that may change between a run and its continuation.
_FREE = (
    "evaluate", "checkpoint", "log_samples_every", "tensorboard", "mesh", "rollout_weights",
    "processes",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Reached:
    """How far a run came: so many steps of this stage are done."""

    stage: int
    step: int
    path: Path


class Records:
    """The folder of one run. Of several processes the first writes; all of them read."""

    def __init__(self, folder: Path, identity: str, config: ConfigDict):
        """Opens a folder, new or of the same run.

        Raises:
          UserError: the folder belongs to a run of another configuration or base.
        """
        self.folder = folder
        self._identity = hashlib.sha256(f"{identity}/{_fixed(config)}".encode()).hexdigest()
        self._writes = is_primary()
        found = self.reached()
        if found is not None and read_record(found.path).get("run") != self._identity:
            raise UserError(
                f"{folder} holds a run of another configuration or base; choose another --workdir"
            )
        # What was written after the checkpoint will be written again.
        at = (-1, 0) if found is None else (found.stage, found.step)
        self._writer, self._count = None, 0
        if not self._writes:
            return
        _keep(folder / METRICS, lambda line: (line["stage"], line["step"]) < at)  # steps from 0
        _keep(folder / EVALUATIONS, lambda line: (line["stage"], line["step"]) <= at)  # steps done
        self._count = len(read_lines(folder / METRICS))
        if config.tensorboard:
            self._writer = _tensorboard(folder, self._count)

    def reached(self) -> Reached | None:
        """The last whole checkpoint, or None.

        Raises:
          UserError: a checkpoint that no run has written.
        """
        path = newest(self.folder / CHECKPOINTS)
        if path is None:
            return None
        name = re.fullmatch(r"(\d{3,9})-(\d{6,9})", path.name)
        if name is None:
            raise UserError(f"{path}: no checkpoint of a run; move it elsewhere")
        return Reached(int(name[1]), int(name[2]), path)

    def save(self, stage: int, step: int, state: Any) -> None:
        """Writes a checkpoint, then lets older ones go."""
        record = {"kind": "corl", "run": self._identity}
        save_newest(self.folder / CHECKPOINTS, f"{stage:03}-{step:06}", state, record)

    def load(self, reached: Reached, like: Any) -> Any:
        """Reads a checkpoint into the structure of `like`."""
        return load_tree(reached.path, like)

    def add_metrics(
        self, stage: int, step: int, kind: str, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """One line of a step; `seconds` and what depends on it stand apart."""
        if not self._writes:
            return
        tokens = metrics.get("completions/tokens", metrics.get("tokens", 0.0))
        time = {"seconds": seconds, "tokens_per_second": tokens / seconds}
        line = {"stage": stage, "step": step, "kind": kind, **metrics, "time": time}
        _append(self.folder / METRICS, line)
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(f"{kind}/{name}", float(value), self._count)
        self._count += 1

    def close(self) -> None:
        """Hands over what is not written yet."""
        if self._writer is not None:
            self._writer.close()

    def add_evaluation(self, stage: int, step: int, tag: str, predicted: Predicted) -> None:
        """One line of a subset, and its samples in a file of their own."""
        if not self._writes:
            return
        line = {"stage": stage, "step": step, "tag": tag, **predicted.summary()}
        _append(self.folder / EVALUATIONS, line)
        file = _predictions(self.folder, stage, step, tag)
        content = {
            "ids": list(predicted.ids),
            "log_q": predicted.sums.tolist(),
            "tokens": predicted.tokens.tolist(),
        }
        write_atomically(file, [json.dumps(content).encode()])

    def add_texts(
        self, stage: int, step: int, samples: Sequence[Sample], texts: list[list[str]],
        rewards: np.ndarray,
    ) -> None:  # fmt: skip
        """Some completions of a step with their rewards, to read."""
        if not self._writes:
            return
        lines = []
        for s, group, values in list(zip(samples, texts, rewards, strict=True))[:SHOWN]:
            lines += [f"== {s.sample_id}", f"user: {s.dialogue[-1][1]}", f"golden: {s.golden}"]
            for text, value in list(zip(group, values, strict=True))[:SHOWN]:
                lines += [f"-- reward {value:.4f}", text]
        file = self.folder / "texts" / f"{stage:03}-{step:06}.txt"
        write_atomically(file, ["\n".join([*lines, ""]).encode()])


def _fixed(config: ConfigDict) -> str:
    kept = {k: v for k, v in config.to_dict().items() if k not in _FREE}
    return json.dumps(kept, sort_keys=True)


def _append(file: Path, line: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
    except OSError as e:
        raise UserError(f"cannot write {file}: {e.strerror or e}") from None


def _keep(file: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
    """Keeps the whole lines of a file that are wanted; a half-written last one is dropped."""
    if file.exists():
        kept = [text + "\n" for line, text in _lines(file) if wanted(line)]
        write_atomically(file, [t.encode() for t in kept])


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The records of a JSONL file of this module; none where nothing was written.

    Raises:
      UserError: a line that this module has not written.
    """
    return [line for line, _ in _lines(file)] if file.exists() else []


def _lines(file: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each whole line, decoded and as it stands."""
    *whole, last = read_text(file, "run").split("\n")
    for n, text in enumerate([*whole, last], 1):
        try:
            line = parse_json(text, f"{file}: line {n}", finite=False)
        except UserError:
            if n > len(whole):  # nothing, or half written when the process was killed
                return
            raise
        if not isinstance(line, dict) or not all(is_whole(line.get(k)) for k in _PLACE):
            raise UserError(f"{file}: line {n} is no record of a step; delete it, or the file")
        yield line, text


def _predictions(folder: Path, stage: int, step: int, tag: str) -> Path:
    return folder / "predictions" / f"{stage:03}-{step:06}-{tag.replace(' ', '_')}.json"


def read_predictions(folder: Path, stage: int, step: int, tag: str) -> dict[str, float]:
    """log q in nats of a subset's golden responses at one evaluation, by the id of their sample.

    Raises:
      UserError: the file is missing or damaged.
    """
    file = _predictions(folder, stage, step, tag)
    content = read_json_object(file, "prediction", finite=False)
    ids, sums = (content.get(key) for key in ("ids", "log_q"))
    lists = isinstance(ids, list) and isinstance(sums, list) and len(ids) == len(sums)
    texts = lists and all(isinstance(i, str) for i in ids)
    if not texts or not all(is_number(value) for value in sums):
        raise UserError(f"{file}: must hold as many numbers log_q as ids; evaluate again")
    return dict(zip(ids, sums, strict=True))


def _tensorboard(folder: Path, count: int) -> Any:
    """A writer whose next step is `count`; what was written of it and later ones is void."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise UserError(
            "config.tensorboard needs the package tensorboardX: pip install tensorboardX"
        ) from None
    events = folder / "tensorboard"
    # Names end in the second of their making: two of one second must not overwrite each other.
    suffix = f".{len(list(events.glob('*')))}"
    return SummaryWriter(str(events), purge_step=count, filename_suffix=suffix)
