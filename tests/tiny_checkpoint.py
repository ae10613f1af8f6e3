"""A tiny model of each family written as a GGUF file and as a Hugging Face directory."""

import json

import gguf
import numpy as np
import safetensors.numpy
import tokenizers

from remid_jax.data.reading import bundled_path

TEMPLATE = "{% for m in messages %}<u>{{ m.content }}<e>{% endfor %}"
HEADS, KV_HEADS, HEAD_DIM, WIDTH, MLP, LAYERS = 4, 2, 16, 64, 96, 2
ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
SPECIAL = ["<pad>", "<u>", "<e>"]
MERGES = [("a", "b"), ("Ġ", "ab"), ("1", "2")]
WORDS = 2000  # tokens of `write_reader`
TOKENS = [*SPECIAL, *ALPHABET, *("".join(m) for m in MERGES)]
GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
HEAD_DIMS = {"llama": HEAD_DIM, "qwen2": HEAD_DIM, "qwen3": 24}  # qwen3: not width / heads
CONFIG = {
    "model_type": "llama",
    "vocab_size": len(TOKENS),
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": MLP,
    "max_position_embeddings": 128,
    "rope_theta": 5000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "eos_token_id": 2,
}


def family_config(family: str) -> dict:
    """What config.json says of a family's tiny model beside `CONFIG`."""
    named = {"head_dim": HEAD_DIMS["qwen3"]} if family == "qwen3" else {}
    return {"model_type": family, **named}


def family_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer's tensors that Llama does not have."""
    d = HEAD_DIMS[family]
    if family == "qwen2":
        rows = {"q": HEADS * d, "k": KV_HEADS * d, "v": KV_HEADS * d}
        return {f"self_attn.{k}_proj.bias": (n,) for k, n in rows.items()}
    if family == "qwen3":
        return {f"self_attn.{k}_norm.weight": (d,) for k in "qk"}
    return {}


def tiny_tensors(
    seed: int = 0, family: str = "llama", vocab: int = len(TOKENS)
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    query, kv = HEADS * HEAD_DIMS[family], KV_HEADS * HEAD_DIMS[family]
    shapes = {"model.embed_tokens.weight": (vocab, WIDTH), "model.norm.weight": (WIDTH,)}
    shapes["lm_head.weight"] = (vocab, WIDTH)
    for i in range(LAYERS):
        for name, shape in {
            "input_layernorm": (WIDTH,),
            "self_attn.q_proj": (query, WIDTH),
            "self_attn.k_proj": (kv, WIDTH),
            "self_attn.v_proj": (kv, WIDTH),
            "self_attn.o_proj": (WIDTH, query),
            "post_attention_layernorm": (WIDTH,),
            "mlp.gate_proj": (MLP, WIDTH),
            "mlp.up_proj": (MLP, WIDTH),
            "mlp.down_proj": (WIDTH, MLP),
        }.items():
            shapes[f"model.layers.{i}.{name}.weight"] = shape
        for name, shape in family_shapes(family).items():
            shapes[f"model.layers.{i}.{name}"] = shape
    return {k: rng.standard_normal(s).astype(np.float32) / 4 for k, s in shapes.items()}


def gguf_name(name: str) -> str:
    if not name.startswith("model.layers."):
        return GGUF_NAMES[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[part]}.{kind}"


def as_llama_cpp_stores(name: str, w: np.ndarray) -> np.ndarray:
    """The permutation of llama.cpp's convert_hf_to_gguf.py for query and key rows."""
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if heads is None:
        return w
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def quantised(w: np.ndarray, kind: str) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
    kind = gguf.GGMLQuantizationType[kind if w.ndim == 2 else "F32"]
    return gguf.quants.quantize(w, kind), kind


def write_gguf(path, tensors, kind="F32", fields=(), drop=(), family="llama", raw=(), stored_as=()):
    """Writes tensors (Hugging Face names) as GGUF; `fields` adds or replaces, `drop` leaves out.

    `raw` adds or replaces keys by their whole name, with values of any type; `stored_as` gives
    NumPy types of tensors.
    """
    raw = dict(raw)
    writer = gguf.GGUFWriter(str(path), dict(fields).get("arch", family))
    numbers = {
        "block_count": LAYERS, "embedding_length": WIDTH, "feed_forward_length": MLP,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "context_length": 128,
    }  # fmt: skip
    if family == "qwen3":
        numbers["attention.key_length"] = numbers["attention.value_length"] = HEAD_DIMS[family]
    numbers |= {k: v for k, v in dict(fields).items() if isinstance(v, int)}
    for name, value in numbers.items():
        if name not in drop and f"{family}.{name}" not in raw:
            writer.add_uint32(f"{family}.{name}", value)
    floats = {"rope.freq_base": 5000.0, "attention.layer_norm_rms_epsilon": 1e-5}
    for name, value in floats.items():
        if f"{family}.{name}" not in raw:
            writer.add_float32(f"{family}.{name}", value)
    for key, value in raw.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, gguf.GGUFValueType.get_type(value))
    if "tokens" not in drop:
        writer.add_tokenizer_model(dict(fields).get("tokenizer", "gpt2"))
        writer.add_tokenizer_pre(dict(fields).get("pre", "smollm"))
        writer.add_token_list(TOKENS)
        writer.add_token_types([3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)))
        writer.add_token_merges([" ".join(m) for m in MERGES])
    if "eos" not in drop:
        writer.add_eos_token_id(2)
    if "template" not in drop:
        writer.add_chat_template(TEMPLATE)
    if "scaling" in dict(fields):
        writer.add_string(f"{family}.rope.scaling.type", dict(fields)["scaling"])
    for name, w in tensors.items():
        stored = as_llama_cpp_stores(name, w) if family == "llama" else w
        data, number = quantised(stored, kind)
        known = gguf_name(name) if name in tiny_tensors(0, family) else name
        if name in dict(stored_as):
            data, number = stored.astype(dict(stored_as)[name]), None
        writer.add_tensor(known, data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _byte_pairs(vocab, merges):
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    parts = tokenizers.pre_tokenizers
    backend.pre_tokenizer = parts.Sequence(
        [parts.Digits(individual_digits=True), parts.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens(SPECIAL)
    return backend


def write_reader(folder, seed=0, window=2048):
    """A tiny Llama that reads the bundled prompts in some hundred tokens each.

    Its tokenizer has learnt pairs of bytes from the bundled benchmark; by single bytes a prompt has
    thousands of tokens, and tests of the whole line take minutes.
    """
    backend = _byte_pairs({t: i for i, t in enumerate([*SPECIAL, *ALPHABET])}, [])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=SPECIAL, initial_alphabet=ALPHABET, show_progress=False
    )
    backend.train_from_iterator([bundled_path().read_text(encoding="utf-8")], trainer)
    tensors = tiny_tensors(seed, vocab=WORDS)
    config = {"vocab_size": WORDS, "max_position_embeddings": window}
    return write_hugging_face(folder, tensors, config, backend=backend)


def write_hugging_face(folder, tensors, config=None, shards=1, backend=None):
    """Writes tensors as a Hugging Face directory, in one or several safetensors files."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
    backend = backend or _byte_pairs({t: i for i, t in enumerate(TOKENS)}, MERGES)
    backend.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": {"content": "<e>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    names = sorted(tensors)
    for i in range(shards):
        part = {n: np.ascontiguousarray(tensors[n]) for n in names[i::shards]}
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        safetensors.numpy.save_file(part, folder / file)
    return folder
