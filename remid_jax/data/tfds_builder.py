"""The benchmark as a TensorFlow Datasets dataset in array_record files, without TensorFlow.

tfds is the format on disk, grain the loader; importing this module imports tensorflow_datasets.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow_datasets as tfds

from remid_jax.data import shifts
from remid_jax.data.reading import BUNDLED, bundled_path, load_benchmark
from remid_jax.data.samples import FIELDS, Sample
from remid_jax.errors import UserError, nearest
from remid_jax.files import read_text
from remid_jax.json_files import part_of

if TYPE_CHECKING:
    import grain

_TEXTS = {k: a for k, a in FIELDS.items() if a not in ("character", "dialogue")}


def split_name(tag: str) -> str:
    """The tfds split of a subset tag: letters, digits and underscores only.

    >>> split_name("Film & Television")
    'Film_and_Television'
    """
    return re.sub(r"\W", "_", tag.replace("&", "and"), flags=re.ASCII)


class RolePlayBenchmark(tfds.core.GeneratorBasedBuilder):
    """Role-play samples of any RPGBench JSON file, one split for each subset tag.

    One data_dir holds one benchmark: its content is identified by a SHA-256 in the metadata.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, path: str | os.PathLike = BUNDLED, **kwargs: Any):
        """As other builders, with the file to read: an RPGBench JSON file, or `bundled`.

        Raises:
          UserError: no such file, or data_dir holds another benchmark already.
        """
        self._path = os.fspath(path)
        text = read_text(bundled_path() if self._path == BUNDLED else self._path, "benchmark")
        self._sha256 = hashlib.sha256(text.encode()).hexdigest()
        super().__init__(**{"file_format": "array_record", **kwargs})
        self._original_state["path"] = self._path  # so that a pickled builder keeps it
        recorded = self.info.metadata
        if recorded["sha256"] != self._sha256:
            raise UserError(
                f"{self.data_dir} holds another benchmark or an older version of it (from "
                f"{recorded['path']}); delete that folder or choose another data_dir"
            )

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        features = {
            **{key: text() for key in _TEXTS},
            "agent_character": text(doc="JSON: an object or a string"),
            "dialogue": tfds.features.Sequence({"role": text(), "text": text()}),
            "pair_id": text(doc="the IDTest sample that this one varies, or empty"),
            "language": text(doc="language code, or empty"),
            "extra": text(doc="JSON: all further keys, these two included"),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,  # file order is kept
            metadata=tfds.core.MetadataDict(path=self._path, sha256=self._sha256),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing is downloaded
        tags: dict[str, str] = {}
        subsets = load_benchmark(self._path).subsets
        for tag in subsets:
            other = tags.setdefault(split_name(tag), tag)
            if other != tag:
                raise UserError(
                    f"the subsets {tag!r} and {other!r} would share the tfds split "
                    f"{split_name(tag)!r}; rename one"
                )
        return {name: self._generate_examples(subsets[tag]) for name, tag in tags.items()}

    def _generate_examples(self, samples: tuple[Sample, ...]) -> Iterator[tuple[int, dict]]:
        return enumerate(map(to_example, samples))


def to_example(sample: Sample) -> dict[str, Any]:
    """The sample as a tfds example; profile and extra keys become JSON text."""
    return {
        **{key: getattr(sample, attribute) for key, attribute in _TEXTS.items()},
        "agent_character": json.dumps(sample.character, ensure_ascii=False),
        "dialogue": [{"role": role, "text": text} for role, text in sample.dialogue],
        **{key: part_of(sample.extra, key, str) for key in ("pair_id", "language")},
        "extra": json.dumps(sample.extra, ensure_ascii=False),
    }


def from_example(example: Mapping[str, Any]) -> Sample:
    """The sample that `to_example` was given, from what an array_record data source yields."""
    turns = zip(example["dialogue"]["role"], example["dialogue"]["text"], strict=True)
    return Sample(
        character=json.loads(example["agent_character"]),
        dialogue=tuple((role.decode(), text.decode()) for role, text in turns),
        extra=json.loads(example["extra"]),
        **{attribute: example[key].decode() for key, attribute in _TEXTS.items()},
    )


def build(data_dir: str | os.PathLike, path: str | os.PathLike = BUNDLED) -> RolePlayBenchmark:
    """Writes a benchmark into data_dir, or finds it there already.

    Args:
      data_dir: root folder of tfds datasets.
      path: an RPGBench JSON file, or `bundled`.

    Raises:
      UserError: a broken benchmark, an unwritable folder, or one that holds another benchmark.
    """
    try:
        builder = RolePlayBenchmark(data_dir=Path(data_dir), path=path)
        builder.download_and_prepare()
    except OSError as e:
        raise UserError(f"cannot write the benchmark to {data_dir}: {e}") from None
    return builder


def grain_dataset(
    data_dir: str | os.PathLike, tag: str, seed: int | None = None
) -> "grain.MapDataset[Sample]":
    """One subset as a random-access grain dataset of samples.

    Args:
      data_dir: the folder given to `build`.
      tag: subset tag, such as `IDTest` or `Film & Television`.
      seed: of the shuffle, another order in each epoch of `repeat()`; None keeps the file's order.

    Raises:
      UserError: nothing was built there, or the benchmark has no such subset.
    """
    import grain

    folder = Path(data_dir) / RolePlayBenchmark.name / str(RolePlayBenchmark.VERSION)
    if not (folder / "dataset_info.json").is_file():
        raise UserError(f"{data_dir} holds no built benchmark; call build({str(data_dir)!r}) first")
    builder = tfds.builder_from_directory(folder)
    if split_name(tag) not in builder.info.splits:
        paper = {split_name(t): t for t in shifts.ALL_TAGS}
        known = [paper.get(name, name) for name in builder.info.splits]
        raise UserError(f"{folder} has no subset {tag!r}{nearest(tag, known)}: {', '.join(known)}")
    dataset = grain.MapDataset.source(builder.as_data_source(split=split_name(tag)))
    if seed is not None:
        dataset = dataset.shuffle(seed=seed)
    return dataset.map(from_example)
