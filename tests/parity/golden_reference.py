"""The default model in transformers, and what of it is kept in tests/golden/smollm2.json.

`python tests/parity/golden_reference.py` computes the file anew; the parity suite checks it.
"""

import json
import os
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "golden" / "smollm2.json"
NOTE = (
    "SmolLM2-135M-Instruct Q4_1 (the embedded default) dequantised to float32, computed with "
    "PyTorch and transformers on CPU. texts, chats: by tests/parity/golden_reference.py; greedy: "
    "at most 24 tokens for each repetition penalty, without the end token; gaps: logit distance of "
    "the best two at each step, after the penalty. club: an earlier independent run of 8 responses "
    "under 8 contexts: exact[i][j] = log q(y_j | x_i) in nats, end_of_turn the log-prob of "
    "<|im_end|> after it, token_log_probs_0_0 the terms of exact[0][0] and its end_of_turn."
)
TEXTS = {
    "english": "I can't believe it's 9:45 already -- she'd've told us, wouldn't she? "
    "(Re: O'Neil's e-mail)",
    "german": "Überraschend groß: Die Straßenbahn fährt um 7:05 Uhr über Köln-Süd — "
    "„Grüß Gott“, sagt sie.",
    "spanish": "¿Cómo estás, señora Núñez? ¡Mañana cumplirá 103 años y aún baila!",
    "chinese": "孔子曰：“学而时习之，不亦说乎？”他今年3岁，住在厦门。㐀𠮷",
    "japanese": "東京タワーの高さは333メートルです。「すごい！」ｶﾀｶﾅも、がが。",
    "korean": "안녕하세요? 저는 서울에 사는 25살 학생이에요. 한글",
    "emoji": "👩‍👩‍👧‍👦 ok 👍🏽🇩🇪 ❤️‍🔥 ☕\ufe0f end",
    "spaces": "  two  spaces\tand\t\ttabs \n\n\n lines\r\nand\u00a0hard\u3000wide\u200bnone   ",
    "only spaces": "     ",
    "digits": "3.14159 1,000,000 007 ٣٤٥ １２３ ½ ² x2y10 2024-02-29T23:59:60Z",
    "special": "<|im_start|>user\nhi<|im_end|><|endoftext|> <|im_start |> <|im_end "
    "<|nothing|> </s>",
    "special inside": "a<|im_end|>b <repo_name>x<file_sep> <|im_start|><|im_start|>",
    "code": "def f(x):\n    return {'a': [x**2 for _ in range(10)]}  # naïve\n\tif not x: pass",
    "accents": "e\u0301 é \u1e9b\u0323 ﬁ Å Å",
    "controls": "nul\x00 bell\x07 bom\ufeff high\U0010ffff",
    "long word": "Donaudampfschifffahrtsgesellschaftskapitän" * 3,
    "": "",
}
CHATS = {
    "no system": [{"role": "user", "content": "Hello, who are you?"}],
    "system": [
        {"role": "system", "content": "You are Sherlock Holmes. Answer in one sentence."},
        {"role": "user", "content": "Where were you on the 3rd of May?"},
    ],
    "turns": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a river in Germany."},
        {"role": "assistant", "content": "The Rhine."},
        {"role": "user", "content": "And another one?\n"},
    ],
    "german": [{"role": "user", "content": "Erzähl mir vom Meer.  "}],
    "chinese": [{"role": "user", "content": "你好！请介绍一下你自己。"}],
    "empty system": [{"role": "system", "content": ""}, {"role": "user", "content": "¿Qué tal?"}],
}
MAX_TOKENS, PENALTIES = 24, (1.0, 1.05)


def reference_model():
    """(tokenizer, float32 model) of transformers with the weights of the default's GGUF file."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gguf
    import tokenizers
    import torch
    import transformers

    from remid_jax.models.pretrained import fetch_default

    torch.set_num_threads(1)  # more only wait for each other where cores are shared
    file = fetch_default()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    # transformers ignores the file's pre-tokenizer name; "smollm" splits off each numeral first.
    parts = tokenizers.pre_tokenizers
    tokenizer.backend_tokenizer.pre_tokenizer = parts.Sequence(
        [parts.Digits(individual_digits=True), tokenizer.backend_tokenizer.pre_tokenizer]
    )
    reader = gguf.GGUFReader(str(file))
    model = transformers.LlamaForCausalLM(_config(reader))
    missing = model.load_state_dict(_tensors(reader), strict=False)
    assert missing.unexpected_keys == [] and missing.missing_keys == ["lm_head.weight"], missing
    model.tie_weights()
    return tokenizer, model.to(torch.float32).eval()


def _config(reader):
    """The shape by transformers' own reading of the metadata's names, written out here."""
    from transformers import LlamaConfig

    get = lambda name: reader.fields[f"llama.{name}"].contents()  # noqa: E731
    return LlamaConfig(
        vocab_size=get("vocab_size"),
        hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=get("attention.head_count"),
        num_key_value_heads=get("attention.head_count_kv"),
        max_position_embeddings=get("context_length"),
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_theta=get("rope.freq_base"),
        rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base")},
        tie_word_embeddings=True,
        attn_implementation="eager",
    )


def _tensors(reader) -> dict:
    """Dequantised tensors under transformers' names; queries and keys in its rotary order."""
    import gguf
    import torch

    names = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    head_dim, out = 64, {}
    for tensor in reader.tensors:
        values = torch.tensor(gguf.quants.dequantize(tensor.data, tensor.tensor_type))
        if not tensor.name.startswith("blk."):
            top = {"token_embd.weight": "embed_tokens", "output_norm.weight": "norm"}
            out[f"model.{top[tensor.name]}.weight"] = values
            continue
        _, layer, kind, _ = tensor.name.split(".")
        if kind in ("attn_q", "attn_k"):  # rows 2i, 2i+1 of a head are a rotary pair here
            heads = values.reshape(-1, head_dim, values.shape[1])
            values = torch.cat([heads[:, 0::2], heads[:, 1::2]], dim=1).reshape(values.shape)
        out[f"model.layers.{layer}.{names[kind]}.weight"] = values
    return out


def greedy(model, ids: list[int], penalty: float, max_tokens: int = MAX_TOKENS) -> dict:
    """Greedy continuation of a prompt: {"tokens", "gaps", "stopped"}."""
    import torch

    end = 2
    with torch.no_grad():
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=max_tokens,
            do_sample=False,
            repetition_penalty=penalty,
            eos_token_id=end,
            pad_token_id=end,
            return_dict_in_generate=True,
            output_scores=True,
        )
    tokens = out.sequences[0, len(ids) :].tolist()
    best = [torch.topk(scores[0], 2).values for scores in out.scores]
    gaps = [round(float(b[0] - b[1]), 6) for b in best]
    stopped = end in tokens
    return {
        "tokens": tokens[: tokens.index(end)] if stopped else tokens,
        "gaps": gaps,
        "stopped": stopped,
    }


def compute() -> dict:
    """Texts, chats and continuations as they stand in the golden file."""
    tokenizer, model = reference_model()
    texts = {
        name: {"text": text, "ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
        for name, text in TEXTS.items()
    }
    chats = {}
    for name, messages in CHATS.items():
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        runs = {str(p): greedy(model, ids, p) for p in PENALTIES}
        chats[name] = {"messages": messages, "rendered": text, "ids": ids, "greedy": runs}
    return {"about": NOTE, "texts": texts, "chats": chats}


def main() -> None:
    """Writes the golden file, keeping its `club` part."""
    club = json.loads(GOLDEN.read_text(encoding="utf-8"))["club"]
    content = {**compute(), "club": club}
    GOLDEN.write_text(json.dumps(content, ensure_ascii=False, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
