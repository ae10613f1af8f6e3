"""Mutated files and configurations: each is refused in one line, or read. Seeded."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from short_benchmark import records
from tiny_checkpoint import tiny_tensors, write_hugging_face

from remid_jax.data import prompts, rules
from remid_jax.data.contexts import choose_contexts
from remid_jax.data.export import collect_responses
from remid_jax.data.reading import load_benchmark
from remid_jax.data.responses import read_responses
from remid_jax.errors import UserError
from remid_jax.evaluation import config as diagnosis_config
from remid_jax.json_files import read_json_lines
from remid_jax.models.pretrained import load_language_model
from remid_jax.training import config as training_config

pytestmark = pytest.mark.slow

TEXTS = st.sampled_from(
    ["", " ", "\u200b", "a\x00b", "\x1b[2J", "<|im_end|>", "{{char}}", "<think>", "é" * 300,
     "IDTest", "german", "IDTest_0", "../x", "a/b", "<u>", "1", "NaN", "linear", "x" * 5000]
)  # fmt: skip
NUMBERS = st.sampled_from([0, -1, 1, 3, 7, 2**31, 2**63, 10**30, -0.5, 1.5, 1e308])
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.one_of(
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(TEXTS, LEAVES, max_size=2),
    st.lists(st.dictionaries(TEXTS, LEAVES, max_size=2), max_size=2),
)
SETTINGS = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
}


def places(value, path=()):
    """Every place of a decoded JSON value."""
    kinds = {dict: lambda x: x.items(), list: enumerate}
    for key, part in kinds.get(type(value), lambda x: ())(value):
        yield (*path, key)
        yield from places(part, (*path, key))


def mutated(data, value, count=2):
    """A copy with some places taken out, doubled or replaced."""
    value = copy.deepcopy(value)
    for _ in range(data.draw(st.integers(1, count))):
        known = list(places(value))
        if not known:
            break
        *path, last = data.draw(st.sampled_from(known))
        where = value
        for key in path:
            where = where[key]
        how = data.draw(st.sampled_from(("replace", "replace", "take", "double")))
        if how == "take":
            del where[last]
        elif how == "double" and isinstance(where, list):
            where.append(copy.deepcopy(where[last]))
        else:
            where[last] = data.draw(VALUES)
    return value


def as_bytes(data, value, lines=False):
    """The value as a file, of which some bytes may be others."""
    rows = value if lines and isinstance(value, list) else [value]
    content = bytearray("\n".join(map(json.dumps, rows)).encode())
    for _ in range(data.draw(st.sampled_from((0, 0, 0, 1, 3)))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content)


def refused_or(read):
    """What was read, or None where it was refused in one harmless line."""
    try:
        return read()
    except UserError as e:
        assert "\n" not in str(e) and "\x1b" not in str(e)
        return None


SPLITS = {"IDTest": "IDTest", "OOD1Test": "german", "OOD2Test": "Literature"}
BENCHMARK = {split: records(tag, split, count=3) for split, tag in SPLITS.items()}
FLAT = [r for part in BENCHMARK.values() for r in part]


@settings(max_examples=1000, **SETTINGS)
@given(st.data())
def test_benchmarks(tmp_path_factory, data):
    flat = data.draw(st.booleans())
    lines = flat and data.draw(st.booleans())
    file = tmp_path_factory.getbasetemp() / ("b.jsonl" if lines else "b.json")
    file.write_bytes(as_bytes(data, mutated(data, FLAT if flat else BENCHMARK), lines))
    benchmark = refused_or(lambda: load_benchmark(file))
    if benchmark is None:
        return
    for violation in rules.violations(benchmark, strict=data.draw(st.booleans())):
        assert "\x1b" not in str(violation)
    for sample in benchmark:
        assert sample.golden == "" or sample.golden.strip()
        assert sample.persona.strip() and sample.sample_id.strip()
        prompts.scorer_messages(sample, "x")
        json.dumps(sample.to_record())
    refused_or(lambda: choose_contexts(benchmark, ["user", "character"], 3))


@settings(max_examples=300, **SETTINGS)
@given(st.data())
def test_responses(tmp_path_factory, data):
    samples = list(load_benchmark())[:3]
    whole = [
        {
            "sample_ID": s.sample_id,
            "model_response": {"a": "Aye.", "b": ["No.", "Yes."]},
            "response_details": {
                "a": {"tokens": [1, 2], "tokenizer": "x", "finish_reason": "stop"}
            },
        }
        for s in samples
    ]
    lines = data.draw(st.booleans())
    file = tmp_path_factory.getbasetemp() / ("r.ndjson" if lines else "r.json")
    value = mutated(data, whole)
    if not lines:
        value = {str(r.get("sample_ID")): r for r in value if isinstance(r, dict)}
    file.write_bytes(as_bytes(data, value, lines))
    for column in (refused_or(lambda: read_responses(file, samples)) or {}).values():
        assert list(column) == [s.sample_id for s in samples]
        assert all(bool(a.text) != bool(a.failure) for a in column.values())


@settings(max_examples=600, **SETTINGS)
@given(st.data())
def test_batch_outputs(tmp_path_factory, data):
    message = {"role": "assistant", "content": "Aye.", "refusal": None}
    body = {"choices": [{"message": message, "finish_reason": "stop"}]}
    rows = [
        {"custom_id": f"IDTest_{i}", "response": {"status_code": 200, "body": body}, "error": None}
        for i in range(3)
    ]
    file = tmp_path_factory.getbasetemp() / "o.jsonl"
    file.write_bytes(as_bytes(data, mutated(data, rows), lines=True))
    numbered = ((f"line {n}", row) for n, row in read_json_lines(file, "batch output"))
    found = refused_or(lambda: collect_responses(numbered, {}))
    assert all(bool(a.text) != bool(a.failure) for a in (found or {}).values())


@settings(max_examples=600, **SETTINGS)
@given(st.data())
def test_model_directories(tmp_path_factory, data):
    folder = write_hugging_face(tmp_path_factory.getbasetemp() / "m", tiny_tensors())
    name = data.draw(st.sampled_from(("config.json", "tokenizer_config.json", "tokenizer.json")))
    content = json.loads((folder / name).read_text())
    if data.draw(st.booleans()):  # a key that real files have and this one does not
        key = data.draw(st.sampled_from(("rope_scaling", "eos_token_id", "head_dim", "bos_token",
                                         "added_tokens_decoder", "hidden_act", "chat_template",
                                         "quantization_config", "sliding_window")))  # fmt: skip
        content[key] = data.draw(VALUES)
    else:
        content = mutated(data, content, count=1)
    (folder / name).write_bytes(as_bytes(data, content))
    model = refused_or(lambda: load_language_model(str(folder)))
    if model is not None:
        ids = model.tokenizer.encode_chat([{"role": "user", "content": "The keeper, ab 12 <e>"}])
        assert ids and max(ids) < model.config.vocab_size
        assert max(model.tokenizer.stop_ids) < model.config.vocab_size


TEMPLATE_PARTS = st.sampled_from(
    ["{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "{{ m.role }}", "<u>", "<e>",
     "{% if add_generation_prompt %}", "{% endif %}", "{{ messages }}", "{{ 'a' * 10**9 }}",
     "{{ range(9)|random }}", "{% generation %}", "{% endgeneration %}", "{{ strftime_now('%Y') }}",
     "{{ raise_exception('no') }}", "{{ m.content|center(10**9) }}", "{{ cycler }}", "{{ x.y.z }}",
     "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ '\ud800' }}", "{{ 1 // 0 }}", "\x00",
     "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "{#", "{{",
     "{{ messages[0].__class__.__mro__ }}", "{{ messages.append }}", "{% include 'x' %}"]
)  # fmt: skip


@settings(max_examples=200, **SETTINGS)
@given(st.lists(TEMPLATE_PARTS, max_size=7).map("".join))
def test_chat_templates(tmp_path_factory, template):
    folder = write_hugging_face(tmp_path_factory.getbasetemp() / "t", tiny_tensors())
    settings_file = folder / "tokenizer_config.json"
    content = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps({**content, "chat_template": template}))
    model = refused_or(lambda: load_language_model(str(folder)))
    if model is not None:
        chat = [{"role": "user", "content": "The keeper"}]
        ids = refused_or(lambda: model.tokenizer.encode_chat(chat))
        assert ids == refused_or(lambda: model.tokenizer.encode_chat(chat))
        assert "The keeper" in model.tokenizer.render(chat)


def with_key(config, data, value):
    """One key of a configuration, or of its groups, is replaced as a configuration file can."""
    leaves = [p for p in places(config.to_dict()) if p]
    *path, last = data.draw(st.sampled_from(leaves))
    where = config
    for key in path:
        where = where[key]
    with where.unlocked(), where.ignore_type():
        try:
            where[last] = value
        except ValueError:  # no ConfigDict can hold it: a name with a dot
            reject()
    return config


CONFIG_VALUES = st.one_of(VALUES, st.sampled_from([float("nan"), float("inf"), (), ("x",), b"x"]))


@settings(max_examples=800, **SETTINGS)
@given(st.data())
def test_configurations(data):
    which = data.draw(st.sampled_from((diagnosis_config, training_config)))
    config = with_key(which.default_config(), data, data.draw(CONFIG_VALUES))
    refused_or(lambda: which.check_config(config))
