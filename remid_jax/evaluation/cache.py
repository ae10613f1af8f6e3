"""A folder of results, one immutable file a request, each with a checksum of its content.

A run that was killed finds what was finished; results of other machines are used as soon as their
files lie in the folder.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from remid_jax.errors import UserError
from remid_jax.evaluation.requests import Ask, Embed, Generate, Request, Score, key_of
from remid_jax.files import write_atomically
from remid_jax.inference.sampling import Sampled
from remid_jax.messages import log
from remid_jax.servers.chat import Reply

MAGIC = b"remid_jax result 1"
KINDS = {Generate: "generate", Score: "score", Embed: "embed", Ask: "ask"}
Arrays = dict[str, np.ndarray]


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Content of an .npz archive."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def to_bytes(key: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Content of a file: a line with its key and the SHA-256 of what follows, an .npz archive."""
    content = npz_bytes(arrays)
    return _head(key, content) + content


def from_bytes(key: str, data: bytes) -> Arrays | None:
    """The arrays, or None where the content was cut or altered, or belongs to another key."""
    head, newline, content = data.partition(b"\n")
    if head + newline != _head(key, content):
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _head(key: str, content: bytes) -> bytes:
    return b"%s %s %s\n" % (MAGIC, key.encode(), hashlib.sha256(content).hexdigest().encode())


class Cache:
    """Results by request."""

    def __init__(self, folder: Path | None = None):
        """Looks at what is there.

        Args:
          folder: of the files, made when the first is written; None: nothing is ever there.
        """
        self._folder = folder
        self.failures: dict[str, Reply] = {}  # key -> what this run got in place of a reply
        self.refresh()

    def refresh(self) -> None:
        """Looks again, after other processes have written."""
        self._files: dict[str, list[Path]] = {}  # key -> its files
        self._known: dict[str, dict[str, Path]] = {}  # key -> digest of a response -> its file
        self._damaged: dict[str, list[Path]] = {}
        for kind in KINDS.values() if self._folder else ():
            for path in self._listed(self._folder / kind):
                self._files.setdefault(path.name.partition(".")[0], []).append(path)

    def _listed(self, folder: Path) -> list[Path]:
        try:
            return sorted(p for p in folder.iterdir() if p.suffix == ".result")
        except FileNotFoundError:
            return []
        except OSError as e:
            raise UserError(f"the cache cannot be read: {folder}: {e.strerror or e}") from None

    def __contains__(self, request: Request) -> bool:
        """Whether the whole result is there, or in this run failed for good."""
        if isinstance(request, Score):
            return not self.missing(request)
        return request.key in self.failures or bool(self._found(request.key))

    def missing(self, request: Score) -> list[int]:
        """Indices of the responses that are still to be scored."""
        found = self._found(request.key)
        return [j for j, digest in enumerate(request.digests) if digest not in found]

    def _found(self, key: str) -> dict[str, Path]:
        """Digest of a response (of a request of another kind: nothing) -> a file that is whole."""
        if key not in self._known:
            found: dict[str, Path] = {}
            for path in self._files.get(key, ()):
                arrays = self._read(path, key)
                if arrays is not None:
                    names = arrays["digests"].tolist() if "digests" in arrays else [""]
                    found |= dict.fromkeys(names, path)
            self._known[key] = found
        return self._known[key]

    def _read(self, path: Path, key: str) -> Arrays | None:
        why = "was cut or altered"
        try:
            arrays = from_bytes(key, path.read_bytes())
        except OSError as e:
            arrays, why = None, f"cannot be read ({e.strerror})"
        if arrays is None:
            said = "note: %s %s and is not used; what is missing is made again"
            log.warning(said, path, why)
            self._damaged.setdefault(key, []).append(path)
        return arrays

    def generated(self, request: Generate) -> list[Sampled]:
        """The responses that were drawn."""
        arrays = self._arrays(request)
        ends = np.cumsum(arrays["lengths"])[:-1]
        parts = (np.split(arrays[name], ends) for name in ("tokens", "log_probs"))
        return [
            Sampled(tuple(tokens.tolist()), log_probs.astype(np.float64), bool(stopped))
            for tokens, log_probs, stopped in zip(*parts, arrays["stopped"], strict=True)
        ]

    def scored(self, request: Score) -> list[np.ndarray]:
        """For each response the float32 log-probabilities of its tokens, in nats."""
        found, values = self._found(request.key), {}
        for path in {found[digest] for digest in request.digests}:
            arrays = self._whole(path, request.key)
            parts = np.split(arrays["log_probs"], np.cumsum(arrays["lengths"])[:-1])
            values |= dict(zip(arrays["digests"].tolist(), parts, strict=True))
        return [values[digest] for digest in request.digests]

    def embedded(self, request: Embed) -> np.ndarray:
        """The feature vector [d]."""
        return self._arrays(request)["vector"]

    def replied(self, request: Ask) -> Reply:
        """What a server said, or why it said nothing."""
        if request.key in self.failures:
            return self.failures[request.key]
        return Reply(**json.loads(self._arrays(request)["reply"].item()))

    def _arrays(self, request: Generate | Embed | Ask) -> Arrays:
        return self._whole(self._found(request.key)[""], request.key)

    def _whole(self, path: Path, key: str) -> Arrays:
        arrays = self._read(path, key)
        if arrays is None:
            raise UserError(f"{path} was altered while the run was reading it; run again")
        return arrays

    def put_generated(self, request: Generate, drawn: Sequence[Sampled]) -> None:
        """Stores the responses to a prompt."""
        self._put(request, "", [""], {
            "lengths": np.array([len(d.tokens) for d in drawn]),
            "tokens": np.array([t for d in drawn for t in d.tokens], np.int32),
            "log_probs": np.concatenate([d.log_probs for d in drawn]).astype(np.float32),
            "stopped": np.array([d.stopped for d in drawn]),
        })  # fmt: skip

    def put_scored(
        self, request: Score, chosen: Sequence[int], values: Sequence[np.ndarray]
    ) -> None:
        """Stores the log-probabilities of some of a prompt's responses, by their indices."""
        digests = [request.digests[j] for j in chosen]
        self._put(request, f".{key_of(*digests)}", digests, {
            "digests": np.array(digests),
            "lengths": np.array([len(v) for v in values]),
            "log_probs": np.concatenate(values).astype(np.float32),
        })  # fmt: skip

    def put_embedded(self, request: Embed, vector: np.ndarray) -> None:
        """Stores the feature vector of a text."""
        self._put(request, "", [""], {"vector": np.asarray(vector)})

    def put_reply(self, request: Ask, reply: Reply) -> None:
        """Stores what a server said; a failure is known to this run alone."""
        if reply.error:
            self.failures[request.key] = reply
            return
        self.failures.pop(request.key, None)
        text = json.dumps(dataclasses.asdict(reply))
        self._put(request, "", [""], {"reply": np.array(text)})

    def _put(self, request: Request, part: str, names: Sequence[str], arrays: Arrays) -> None:
        path = self._folder / KINDS[type(request)] / f"{request.key}{part}.result"
        write_atomically(path, [to_bytes(request.key, arrays)])
        self._files.setdefault(request.key, []).append(path)
        self._found(request.key).update(dict.fromkeys(names, path))
        for damaged in self._damaged.pop(request.key, ()):
            if damaged != path:
                damaged.unlink(missing_ok=True)
