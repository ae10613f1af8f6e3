"""Token ids, chats, log-probs and greedy continuations equal those of transformers."""

import json
import os
import warnings

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

from parity import golden_reference

from remid_jax.inference.likelihood import score_responses
from remid_jax.inference.prefix import prefill
from remid_jax.inference.sampling import SamplingConfig, sample

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]
GOLDEN = json.loads(golden_reference.GOLDEN.read_text(encoding="utf-8"))
MORE_TEXTS = [
    "The quick brown fox -- isn't it? -- jumps over 12,345 dogs.",
    "Fußgängerübergänge im Großraum Zürich, §5 Abs. 2",
    "El pingüino Wenceslao hizo kilómetros: 50% más rápido",
    "天地玄黃，宇宙洪荒。ＡＢＣ　１２３",
    "いろはにほへと ちりぬるを ー々〆",
    "다람쥐 헌 쳇바퀴에 타고파 ㅋㅋㅋ",
    "🏳️‍🌈🤷🏾‍♀️ :-) \U0001f9ff",
    "\n\n \t\r\n x  \v\f y\u2028z",
    "<|im_start|><|im_end|>\n<|im_start|>system<|endoftext|>",
    "<|im_end|>  <|im_end|>\u00ad <jupyter_start><empty_output>",
]


@pytest.fixture(scope="module")
def reference():
    return golden_reference.reference_model()


def log_probs(model, prompt, response):
    """Log-probs of the response's tokens and of <|im_end|>, by one forward pass."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 :]
    logs = torch.log_softmax(logits.double(), -1).numpy()
    return logs[np.arange(len(logs)), [*response, 2]]


@pytest.mark.parametrize("text", [*golden_reference.TEXTS.values(), *MORE_TEXTS])
def test_token_ids(smollm2, reference, text):
    expected = reference[0](text, add_special_tokens=False)["input_ids"]
    assert smollm2.tokenizer.backend.encode(text).ids == expected
    if not set(expected) & set(reference[0].all_special_ids):  # which are words to `encode`
        assert smollm2.tokenizer.encode(text) == expected
    assert smollm2.tokenizer.decode(expected) == reference[0].decode(
        expected, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


@pytest.mark.parametrize("name", golden_reference.CHATS)
@pytest.mark.parametrize("prompt", [True, False])
def test_chats(smollm2, reference, name, prompt):
    messages = golden_reference.CHATS[name]
    expected = reference[0].apply_chat_template(
        messages, add_generation_prompt=prompt, tokenize=False
    )
    assert smollm2.tokenizer.render(messages, prompt) == expected
    ids = reference[0](expected, add_special_tokens=False)["input_ids"]
    assert smollm2.tokenizer.encode_chat(messages, prompt) == ids


def test_token_log_probs(smollm2, reference):
    texts = [t for t in [*golden_reference.TEXTS.values(), *MORE_TEXTS] if t]
    chats = list(golden_reference.CHATS.values())
    for i, chat in enumerate(chats):
        prompt = smollm2.tokenizer.encode_chat(chat)
        responses = [smollm2.tokenizer.encode(t) for t in texts[i :: len(chats)]]
        prefix = prefill(smollm2, prompt)
        scored = score_responses(smollm2, prefix, responses)
        for y, got in zip(responses, scored, strict=True):
            expected = log_probs(reference[1], prompt, y)
            assert np.abs(got - expected).max() <= 1e-4


def test_a_prompt_of_several_chunks(smollm2, reference):
    text = " ".join(c["ids"] and c["text"] for c in GOLDEN["texts"].values() if c["text"])
    prompt = smollm2.tokenizer.encode_chat([{"role": "user", "content": text}])
    assert len(prompt) > 512 and len(prompt) % 64
    y = smollm2.tokenizer.encode("I would rather walk to Köln.")
    prefix = prefill(smollm2, prompt)
    (got,) = score_responses(smollm2, prefix, [y])
    assert np.abs(got - log_probs(reference[1], prompt, y)).max() <= 1e-4


@pytest.mark.parametrize("penalty", golden_reference.PENALTIES)
def test_greedy_continuations(smollm2, reference, penalty):
    prompts = [smollm2.tokenizer.encode_chat(c) for c in golden_reference.CHATS.values()]
    config = SamplingConfig(max_tokens=24, repetition_penalty=penalty)
    for prompt, drawn in zip(prompts, sample(smollm2, prompts, config, 8), strict=True):
        expected = golden_reference.greedy(reference[1], prompt, penalty)
        close = [i for i, gap in enumerate(expected["gaps"]) if gap < 1e-4]
        sure = close[0] if close else 24
        assert list(drawn.tokens[:sure]) == expected["tokens"][:sure]
        assert close or drawn.stopped == expected["stopped"]


def test_the_golden_file_is_what_transformers_gives(reference):
    tokenizer, model = reference
    for name, text in golden_reference.TEXTS.items():
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert GOLDEN["texts"][name] == {"text": text, "ids": ids}
    for name, chat in GOLDEN["chats"].items():
        assert chat["messages"] == golden_reference.CHATS[name]
    chat = GOLDEN["chats"]["turns"]
    again = golden_reference.greedy(model, chat["ids"], 1.05)
    assert again["tokens"] == chat["greedy"]["1.05"]["tokens"]
    club = GOLDEN["club"]
    expected = log_probs(model, club["prompt_ids"][5], club["response_ids"][5])
    assert abs(expected[:-1].sum() - club["exact"][5][5]) < 1e-6 * abs(club["exact"][5][5])
    assert abs(expected[-1] - club["end_of_turn"][5][5]) < 2e-4
