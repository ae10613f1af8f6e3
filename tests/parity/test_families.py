"""Each family against transformers: logits, scores, greedy ids, chats, tokens, and the way back."""

import warnings

import numpy as np
import pytest
import tokenizers
from parity import golden_reference
from parity.tiny_transformers import assert_same_logits, save, torch, transformers
from tiny_checkpoint import MERGES, TOKENS, tiny_tensors, write_gguf

from remid_jax.inference.likelihood import score_responses
from remid_jax.inference.prefix import prefill
from remid_jax.inference.sampling import SamplingConfig, sample
from remid_jax.models.export import export_hugging_face
from remid_jax.models.pretrained import load_language_model

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
CASES = {
    "llama 2": {"family": "llama", "num_key_value_heads": 4},
    "llama 3.1": {"family": "llama", "rope_parameters": LLAMA3},
    "llama 3.2": {"family": "llama", "rope_parameters": {**LLAMA3, "factor": 32.0},
                  "head_dim": 24, "tie_word_embeddings": True},
    "qwen 2.5": {"family": "qwen2"},
    "qwen 2.5, tied": {"family": "qwen2", "tie_word_embeddings": True, "rms_norm_eps": 1e-6},
    "qwen 3": {"family": "qwen3", "head_dim": 24},
    "qwen 3, tied": {"family": "qwen3", "head_dim": 16, "tie_word_embeddings": True},
    "qwen 3, default width of heads": {"family": "qwen3"},
}  # fmt: skip
LLAMA_TEMPLATE = (
    "{{- bos_token }}\n{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n"
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set first = messages[0]['content'] | trim %}\n"
    "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set first = '' %}\n{%- endif %}\n"
    "{{- '<system>\\n' }}\n{%- if tools is not none %}\n    {{- 'with tools' }}\n{%- endif %}\n"
    "{{- first + '<end>' }}\n{%- for message in messages %}\n"
    "    {{- '<' + message.role + '>\\n' + message['content'] | trim + '<end>' }}\n"
    "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<assistant>\\n' }}\n{%- endif %}\n"
)
QWEN_TEMPLATE = (
    "{%- set ns = namespace(last=messages|length - 1, seek=true) %}\n"
    "{%- for message in messages[::-1] %}\n"
    "    {%- set index = (messages|length - 1) - loop.index0 %}\n"
    "    {%- if ns.seek and message.role == 'user' and message.content is string %}\n"
    "        {%- set ns.seek = false %}\n        {%- set ns.last = index %}\n    {%- endif %}\n"
    "{%- endfor %}\n{%- if tools %}\n    {{- tools | tojson }}\n{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- set text = message.content %}\n"
    "    {%- if message.role == 'assistant' and '</think>' in text and loop.index0 < ns.last %}\n"
    "        {%- set text = text.split('</think>')[-1].lstrip('\\n') %}\n    {%- endif %}\n"
    "    {{- '[' + message.role + ']' + text + '[end]\\n' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '[assistant]\\n' }}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
    "        {{- '<think></think>' }}\n    {%- endif %}\n{%- endif %}\n"
)
CHATS = [
    [{"role": "user", "content": " Grüße, \n <b> "}],
    [{"role": "system", "content": "Be\tbrief. "}, {"role": "user", "content": "{{ 1 }}"}],
    [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>x</think>\n\nb"},
     {"role": "user", "content": "役"}],
]  # fmt: skip


@pytest.fixture(params=CASES)
def pair(request, tmp_path):
    """(folder, transformers' model in float32, its tokenizer, ours) of a tiny random model."""
    folder = tmp_path / "hf"
    reference, tokenizer = save(folder, **CASES[request.param])
    return folder, reference, tokenizer, load_language_model(str(folder))


def test_logits_scores_and_greedy_ids(pair):
    _, reference, _, model = pair
    assert_same_logits(model, reference)
    rng = np.random.default_rng(2)
    prompt, y = rng.integers(3, 90, 140).tolist(), rng.integers(3, 90, 20).tolist()
    prefix = prefill(model, prompt)
    (got,) = score_responses(model, prefix, [y])
    with torch.no_grad():
        logits = reference(torch.tensor([prompt + y])).logits[0, len(prompt) - 1 :]
    logs = torch.log_softmax(logits.double(), -1).numpy()
    assert np.abs(got - logs[np.arange(21), [*y, 2]]).max() <= 1e-4
    prompts = [prompt, prompt[:9], y]
    drawn = sample(model, prompts, SamplingConfig(max_tokens=24, repetition_penalty=1.05), 8)
    for ids, answer in zip(prompts, drawn, strict=True):
        expected = golden_reference.greedy(reference, ids, 1.05, 24)
        close = [i for i, gap in enumerate(expected["gaps"]) if gap < 1e-4]
        sure = close[0] if close else 24
        assert sure > 12 or expected["stopped"]
        assert list(answer.tokens[:sure]) == expected["tokens"][:sure]


def test_the_way_back(pair, tmp_path):
    folder, reference, tokenizer, model = pair
    out = export_hugging_face(model, tmp_path / "out", folder, max_shard_bytes=100_000)
    assert len(list(out.glob("*.safetensors"))) > 1
    again, info = type(reference).from_pretrained(out, output_loading_info=True)
    assert not any(info.values()), info
    assert again.dtype == torch.float32
    tokens = torch.tensor(np.random.default_rng(1).integers(3, 90, (2, 150)))
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens).logits, reference(tokens).logits)
    text = "w4 w5 w80"
    exported = transformers.PreTrainedTokenizerFast.from_pretrained(out)
    assert exported(text) == tokenizer(text) and exported.get_vocab() == tokenizer.get_vocab()
    assert exported.chat_template == tokenizer.chat_template


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gguf_becomes_a_directory_of_transformers(tmp_path, family, dtype):
    tensors = tiny_tensors(0, family)
    file = write_gguf(tmp_path / "a.gguf", tensors, family=family, fields=[("pre", "qwen2")])
    model = load_language_model(str(file), dtype)
    out = export_hugging_face(model, tmp_path / "out", file)
    stored = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert stored.dtype == getattr(torch, dtype)
    full = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    assert_same_logits(load_language_model(str(out)), full, spread=0.3)
    if dtype == "float32":
        assert_same_logits(model, full, spread=0.3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    for messages in CHATS:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        assert model.tokenizer.render(messages) == text
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert model.tokenizer.encode_chat(messages) == ids


@pytest.mark.parametrize("template", [LLAMA_TEMPLATE, QWEN_TEMPLATE], ids=["llama", "qwen"])
@pytest.mark.parametrize("prompt", [True, False])
def test_chat_templates(tmp_path, template, prompt):
    _, tokenizer = save(tmp_path)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    ours = load_language_model(str(tmp_path)).tokenizer
    for messages in CHATS:
        expected = tokenizer.apply_chat_template(
            messages, add_generation_prompt=prompt, tokenize=False
        )
        assert ours.render(messages, prompt) == expected


def test_tokens_in_the_manner_of_llama_2(tmp_path):
    save(tmp_path, vocab_size=300)
    words = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *"▁abcdefINST[]/ "]
    model = tokenizers.models.BPE(
        {w: i for i, w in enumerate([*words, "▁a", "ab"])}, [("▁", "a"), ("a", "b")],
        byte_fallback=True, fuse_unk=True, unk_token="<unk>",
    )  # fmt: skip
    backend, parts = tokenizers.Tokenizer(model), tokenizers.normalizers
    backend.normalizer = parts.Sequence([parts.Prepend("▁"), parts.Replace(" ", "▁")])
    reference = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    reference.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content }}"
        " [/INST]{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
    )
    reference.save_pretrained(tmp_path)
    ours = load_language_model(str(tmp_path)).tokenizer
    for messages in CHATS:
        ids = reference.apply_chat_template(messages, tokenize=True, return_dict=False)
        assert ours.encode_chat(messages) == list(ids)
    for text in ("ab", " a b ", "役", "abc\nf"):
        assert ours.encode(text) == reference(text, add_special_tokens=False).input_ids


def test_tokens_of_qwen_in_a_gguf_file(tmp_path):
    file = write_gguf(
        tmp_path / "a.gguf", tiny_tensors(0, "qwen2"), family="qwen2", fields=[("pre", "qwen2")]
    )
    ours = load_language_model(str(file)).tokenizer
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=MERGES)
    for text in [*golden_reference.TEXTS.values(), "ab 12 1234ab'S e\u0301 \u1100\u1161 \r\n\n x"]:
        if "<" not in text:  # the special tokens of the reference are others
            assert ours.encode(text) == reference(text, add_special_tokens=False).input_ids
