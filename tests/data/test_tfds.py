import dataclasses
import json
import pickle
import subprocess
import sys
import textwrap

import pytest

from remid_jax.data import shifts, tfds_builder
from remid_jax.data.reading import load_benchmark
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds_builder.build(folder)
    return folder


def write_benchmark(file, samples):
    data = {}
    for sample in samples:
        data.setdefault(shifts.split_of(sample.tag), []).append(sample.to_record())
    file.write_text(json.dumps(data), encoding="utf-8")
    return file


ODD = [
    Sample(
        sample_id="IDTest_a",
        persona="  spaces kept \u2028 \x00 안녕 ",
        character='A text, with "quotes" and ä.',
        dialogue=(("user", "Only one turn. \U0001f600"),),
        golden="\n\n.",
        tag="IDTest",
        extra={},
    ),
    Sample(
        sample_id="OOD2Test_b",
        persona="x" * 100_000,
        character={"name": "Ä", "list": [1, 2.5, True, {"k": "v"}]},
        dialogue=tuple((("user", "character")[i % 2], f"turn {i}") for i in range(41)),
        golden="y",
        tag="Film & Television",
        extra={"pair_id": "7", "language": None, "more": {"a": [1, "ü"]}, "pairs": "IDTest_a"},
    ),
]


def test_split_names_are_valid_and_distinct():
    names = [tfds_builder.split_name(tag) for tag in shifts.ALL_TAGS]
    assert len(set(names)) == len(shifts.ALL_TAGS)
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in names)
    assert "Film_and_Television" in names


@pytest.mark.parametrize("tag", shifts.ALL_TAGS)
def test_the_bundled_samples_come_back(data_dir, tag):
    assert list(tfds_builder.grain_dataset(data_dir, tag)) == list(load_benchmark().subsets[tag])


def test_a_file_by_its_path_comes_back(tmp_path):
    file = write_benchmark(tmp_path / "mine.json", ODD)
    assert list(load_benchmark(file)) == ODD
    builder = tfds_builder.build(tmp_path / "data", file)
    assert set(builder.info.splits) == {"IDTest", "Film_and_Television"}
    for sample in ODD:
        assert list(tfds_builder.grain_dataset(tmp_path / "data", sample.tag)) == [sample]


def test_features_and_format(data_dir):
    builder = tfds_builder.build(data_dir)
    assert builder.info.file_format.value == "array_record"
    assert {n: s.num_examples for n, s in builder.info.splits.items()} == {
        tfds_builder.split_name(t): len(s) for t, s in load_benchmark().subsets.items()
    }
    example = builder.as_data_source(split="german")[2]
    sample = load_benchmark().subsets["german"][2]
    assert example["pair_id"].decode() == sample.pair_id
    assert example["language"] == b"de"
    assert json.loads(example["agent_character"]) == sample.character
    assert json.loads(example["extra"]) == sample.extra
    assert [r.decode() for r in example["dialogue"]["role"]] == [r for r, _ in sample.dialogue]
    assert [t.decode() for t in example["dialogue"]["text"]] == [t for _, t in sample.dialogue]
    assert set(example) == {
        "sample_ID", "user_persona", "agent_character", "dialogue", "agent_golden_response",
        "subset_tag", "pair_id", "language", "extra",
    }  # fmt: skip
    unpaired = builder.as_data_source(split="IDTest")[0]
    assert unpaired["pair_id"] == b""


def test_only_text_is_put_into_the_text_columns():
    example = tfds_builder.to_example(ODD[1])
    assert (example["pair_id"], example["language"]) == ("7", "")
    assert tfds_builder.to_example(ODD[0])["pair_id"] == ""


def test_an_existing_build_is_used_again(data_dir):
    folder = data_dir / "role_play_benchmark" / "1.0.0"
    before = {f.name: f.stat().st_mtime_ns for f in folder.iterdir()}
    tfds_builder.build(data_dir)
    assert {f.name: f.stat().st_mtime_ns for f in folder.iterdir()} == before


def test_one_folder_holds_one_benchmark(data_dir, tmp_path):
    file = write_benchmark(tmp_path / "mine.json", ODD)
    with pytest.raises(UserError, match=r"holds another benchmark.*\(from bundled\)"):
        tfds_builder.build(data_dir, file)
    tfds_builder.build(tmp_path / "data", file)
    write_benchmark(file, [dataclasses.replace(ODD[0], golden="changed")])
    with pytest.raises(UserError, match="holds another benchmark or an older version"):
        tfds_builder.build(tmp_path / "data", file)


def test_what_a_user_can_get_wrong(data_dir, tmp_path):
    with pytest.raises(UserError, match=r"benchmark file not found: .*none\.json"):
        tfds_builder.build(tmp_path, tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        tfds_builder.build(tmp_path, tmp_path)
    with pytest.raises(UserError, match="holds no built benchmark"):
        list(tfds_builder.grain_dataset(tmp_path, "IDTest"))
    with pytest.raises(UserError, match=r"no subset 'germn' \(did you mean 'german'\?\)"):
        list(tfds_builder.grain_dataset(data_dir, "germn"))
    with pytest.raises(UserError, match="no subset 'IDTest\\[:3\\]'"):
        list(tfds_builder.grain_dataset(data_dir, "IDTest[:3]"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the benchmark"):
        tfds_builder.build(tmp_path / "file")
    with pytest.raises(UserError, match="holds no built benchmark"):
        tfds_builder.grain_dataset(tmp_path, "IDTest")


def test_a_broken_benchmark_leaves_nothing_built(tmp_path):
    file = tmp_path / "b.json"
    file.write_text('{"IDTest": [{"sample_ID": "x"}]}')
    with pytest.raises(UserError, match="'user_persona' is missing"):
        tfds_builder.build(tmp_path / "data", file)
    with pytest.raises(UserError, match="holds no built benchmark"):
        list(tfds_builder.grain_dataset(tmp_path / "data", "IDTest"))
    write_benchmark(file, ODD)
    tfds_builder.build(tmp_path / "data", file)
    assert list(tfds_builder.grain_dataset(tmp_path / "data", "IDTest")) == ODD[:1]


def test_a_builder_survives_pickling(tmp_path):
    file = write_benchmark(tmp_path / "mine.json", ODD)
    builder = pickle.loads(pickle.dumps(tfds_builder.build(tmp_path / "data", file)))
    assert builder.info.metadata["path"] == str(file)
    assert len(builder.as_data_source(split="IDTest")) == 1


def test_grain_keeps_the_order_without_a_seed(data_dir):
    dataset = tfds_builder.grain_dataset(data_dir, "Film & Television")
    samples = load_benchmark().subsets["Film & Television"]
    assert len(dataset) == 16
    assert list(dataset) == list(samples)
    assert dataset[5] == samples[5]


def test_grain_shuffles_by_the_seed(data_dir):
    def ids(seed, epochs=1):
        return [
            s.sample_id
            for s in tfds_builder.grain_dataset(data_dir, "IDTrain", seed).repeat(epochs)
        ]

    in_order = [s.sample_id for s in load_benchmark().subsets["IDTrain"]]
    assert ids(None) == in_order
    assert ids(0) == ids(0)
    assert sorted(ids(0)) == sorted(in_order)
    assert len({tuple(ids(seed)) for seed in (None, 0, 1)}) == 3
    epochs = ids(0, epochs=2)
    assert sorted(epochs[48:]) == sorted(in_order)
    assert epochs[:48] == ids(0) != epochs[48:]


def test_grain_batches_and_resumes(data_dir):
    dataset = tfds_builder.grain_dataset(data_dir, "IDTrain", seed=3).to_iter_dataset()
    dataset = dataset.batch(10, batch_fn=lambda samples: [s.sample_id for s in samples])
    whole = list(dataset)
    assert [len(b) for b in whole] == [10, 10, 10, 10, 8]
    iterator = iter(dataset)
    next(iterator), next(iterator)
    state = iterator.get_state()
    again = iter(dataset)
    again.set_state(state)
    assert list(again) == whole[2:]


OFFLINE = """
    import socket, sys

    def refuse(*_):
        raise AssertionError("the network was used")

    socket.socket.connect = socket.getaddrinfo = refuse
    import remid_jax.data.reading, remid_jax.data.export
    assert "tensorflow_datasets" not in sys.modules
    from remid_jax.data import tfds_builder
    assert "grain" not in sys.modules
    tfds_builder.build(sys.argv[1])
    assert len(list(tfds_builder.grain_dataset(sys.argv[1], "german", seed=1))) == 16
    assert "tensorflow" not in sys.modules
"""


def test_no_tensorflow_no_network_and_late_imports(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(OFFLINE), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
