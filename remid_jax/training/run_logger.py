"""The files of a run: checkpoints, metrics, evaluations, texts. A resumed run repeats nothing."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from remid_jax.checkpoints import latest_checkpoint, read_record, save_latest
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.files import read_text, write_atomically
from remid_jax.json_files import parse_json, read_json_object
from remid_jax.models.fields import is_number, is_whole
from remid_jax.processes import is_primary
from remid_jax.training.held_out import Predicted

METRICS, EVALUATIONS, CHECKPOINTS = "metrics.jsonl", "evaluations.jsonl", "checkpoints"
WAYS = ("log_q", "log_q_mixture")  # to score, in files of predictions
SHOWN = 2  # samples of a step whose texts are written, and completions of each sample
# Keys that may change between a run and its continuation.
_FREE = (
    "evaluate", "checkpoint", "log_samples_every", "tensorboard", "mesh", "rollout_weights",
    "processes", "compare_with",
)  # fmt: skip


class ResumePoint(NamedTuple):
    """A checkpoint: so many steps of this stage are done."""

    stage: int
    step: int
    path: Path


class RunLogger:
    """The folder of one run. Of several processes the primary writes; all of them read.

    Attributes:
      folder: of the run.
      identity: digest of what the run is.
    """

    def __init__(self, folder: Path, identity: str, config: ConfigDict):
        """Opens a folder, new or of the same run; a `UserError` refuses one of another run."""
        self.folder = folder
        fixed = {k: v for k, v in config.to_dict().items() if k not in _FREE}
        content = f"{identity}/{json.dumps(fixed, sort_keys=True)}"
        self.identity = hashlib.sha256(content.encode()).hexdigest()
        self._writes = is_primary()
        self._writer, self._count = None, 0
        found = self.latest()
        if found is not None and read_record(found.path).get("run") != self.identity:
            raise UserError(
                f"{folder} holds a run of another configuration, base or file of samples; choose "
                "another --workdir"
            )
        if not self._writes:
            return
        # Lines after the checkpoint will be written again.
        at = (-1, 0) if found is None else (found.stage, found.step)
        _keep(folder / METRICS, lambda line: (line["stage"], line["step"]) < at)  # steps from 0
        _keep(folder / EVALUATIONS, lambda line: (line["stage"], line["step"]) <= at)  # steps done
        self._count = len(read_lines(folder / METRICS))
        if config.tensorboard:
            self._writer = _tensorboard(folder, self._count)

    def latest(self) -> ResumePoint | None:
        """The last complete checkpoint, or None; a `UserError` where no run has written it."""
        path = latest_checkpoint(self.folder / CHECKPOINTS)
        if path is None:
            return None
        name = re.fullmatch(r"(\d{3,9})-(\d{6,9})", path.name)
        if name is None:
            raise UserError(f"{path}: no checkpoint of a run; move it elsewhere")
        return ResumePoint(int(name[1]), int(name[2]), path)

    def save(self, stage: int, step: int, state: Any) -> None:
        """Writes a checkpoint, then deletes older ones."""
        record = {"kind": "corl", "run": self.identity}
        save_latest(self.folder / CHECKPOINTS, f"{stage:03}-{step:06}", state, record)

    def add_metrics(
        self, stage: int, step: int, kind: str, metrics: Mapping[str, float], seconds: float
    ) -> None:
        """One line of a step; what depends on its `seconds` is in a group of its own."""
        if not self._writes:
            return
        tokens = metrics.get("completions/tokens", metrics.get("tokens", 0.0))
        time = {"seconds": seconds, "tokens_per_second": tokens / seconds}
        line = {"stage": stage, "step": step, "kind": kind, **metrics, "time": time}
        _append(self.folder / METRICS, line)
        for name, value in metrics.items() if self._writer is not None else ():
            self._writer.add_scalar(f"{kind}/{name}", float(value), self._count)
        self._count += 1

    def close(self) -> None:
        """Writes what TensorBoard has not written yet."""
        if self._writer is not None:
            self._writer.close()

    def add_evaluation(self, stage: int, step: int, tag: str, predicted: Predicted) -> None:
        """One line for a subset, and its samples in a file of their own."""
        if not self._writes:
            return
        line = {"stage": stage, "step": step, "tag": tag, **predicted.summary()}
        _append(self.folder / EVALUATIONS, line)
        sums, tokens = predicted.sums.tolist(), predicted.tokens.tolist()
        content = {"ids": list(predicted.ids), "log_q": sums, "tokens": tokens,
                   "log_q_mixture": predicted.mixture.tolist()}  # fmt: skip
        file = _predictions(self.folder, stage, step, tag)
        write_atomically(file, [json.dumps(content).encode()])

    def add_texts(
        self, stage: int, step: int, samples: Sequence[Sample], texts: list[list[str]],
        rewards: np.ndarray,
    ) -> None:  # fmt: skip
        """Some completions of a step with their rewards, to read."""
        if not self._writes:
            return
        lines = []
        for s, group, values in zip(samples[:SHOWN], texts, rewards, strict=False):
            lines += [f"== {s.sample_id}", f"user: {s.dialogue[-1][1]}", f"golden: {s.golden}"]
            for text, value in zip(group[:SHOWN], values, strict=False):
                lines += [f"-- reward {value:.4f}", text]
        file = self.folder / "texts" / f"{stage:03}-{step:06}.txt"
        write_atomically(file, ["\n".join([*lines, ""]).encode()])


def _append(file: Path, line: Mapping[str, Any]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
    except OSError as e:
        raise UserError(f"cannot write {file}: {e.strerror or e}") from None


def _keep(file: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> None:
    """Keeps the wanted lines of a file; a half-written last one is dropped."""
    if file.exists():
        kept = [json.dumps(line) + "\n" for line in read_lines(file) if wanted(line)]
        write_atomically(file, [text.encode() for text in kept])


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The complete records of a JSONL file of a run; none where nothing was written.

    Raises:
      UserError: a line that no run has written.
    """
    if not file.exists():
        return []
    *complete, last = read_text(file, "run").split("\n")
    found = []
    for n, text in enumerate([*complete, last], 1):
        try:
            line = parse_json(text, f"{file}: line {n}", finite=False)
        except UserError:
            if n > len(complete):  # nothing, or half written when the process was killed
                break
            raise
        if not isinstance(line, dict) or not all(is_whole(line.get(k)) for k in ("stage", "step")):
            raise UserError(f"{file}: line {n} is no record of a step; delete it, or the file")
        found.append(line)
    return found


def _predictions(folder: Path, stage: int, step: int, tag: str) -> Path:
    return folder / "predictions" / f"{stage:03}-{step:06}-{tag.replace(' ', '_')}.json"


def read_predictions(folder: Path, stage: int, step: int, tag: str) -> dict[str, dict[str, float]]:
    """Way to score -> sample id -> log q of its golden response in nats, at one evaluation.

    The ways are `log_q`, one thought trusted, and `log_q_mixture`.

    Raises:
      UserError: the file is missing or damaged.
    """
    file = _predictions(folder, stage, step, tag)
    content = read_json_object(file, "prediction", finite=False)
    ids, found = content.get("ids"), {way: content.get(way) for way in WAYS}
    good = isinstance(ids, list) and all(isinstance(i, str) for i in ids)
    for way, sums in found.items():
        whole = good and isinstance(sums, list) and len(ids) == len(sums)
        if not whole or not all(map(is_number, sums)):
            raise UserError(f"{file}: must hold as many numbers {way} as ids; evaluate again")
    return {way: dict(zip(ids, sums, strict=True)) for way, sums in found.items()}


def _tensorboard(folder: Path, count: int) -> Any:
    """A writer whose next step is `count`; TensorBoard forgets what was written from there on."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        needed = "config.tensorboard needs the package tensorboardX: pip install tensorboardX"
        raise UserError(needed) from None
    events = folder / "tensorboard"
    # Names end in the second of their creation: two of one second must not be the same.
    suffix = f".{len(list(events.glob('*')))}"
    return SummaryWriter(str(events), purge_step=count, filename_suffix=suffix)
