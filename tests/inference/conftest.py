"""A plain NumPy decoder to check the compiled ones against."""

import numpy as np
import pytest
from flax import nnx
from tiny_model import VOCAB, build_model

from remid_jax.models.pretrained import LanguageModel


def plain_logits(model: LanguageModel, tokens) -> np.ndarray:
    """[T, V] logits of one sequence: the textbook decoder in float64, no cache, no batch."""
    c = model.config
    params = nnx.to_pure_dict(model.params)
    get = lambda x: np.asarray(x, np.float64)  # noqa: E731
    norm = lambda x, s: x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_eps) * get(s)  # noqa: E731
    n, half = len(tokens), c.head_dim // 2
    angle = np.arange(n)[:, None] * c.rope_theta ** (-np.arange(half) / half)
    turn = np.exp(1j * angle)  # rotation of the pair (i, i + half) as a complex number

    def rotate(x):
        z = (x[..., :half] + 1j * x[..., half:]) * turn[:, None]
        return np.concatenate([z.real, z.imag], -1)

    x = get(params["embedding"])[list(tokens)]
    for i in range(c.num_layers):
        w = {name: get(value[i]) for name, value in params["layers"].items()}
        y = norm(x, w["attention_norm"])
        q = rotate((y @ w["query"]).reshape(n, c.num_heads, c.head_dim))
        k = rotate((y @ w["key"]).reshape(n, c.num_kv_heads, c.head_dim))
        v = (y @ w["value"]).reshape(n, c.num_kv_heads, c.head_dim)
        heads = []
        for h in range(c.num_heads):
            g = h * c.num_kv_heads // c.num_heads
            score = q[:, h] @ k[:, g].T / np.sqrt(c.head_dim)
            score[np.triu_indices(n, 1)] = -np.inf
            weight = np.exp(score - score.max(-1, keepdims=True))
            heads.append(weight / weight.sum(-1, keepdims=True) @ v[:, g])
        x = x + np.concatenate(heads, -1) @ w["output"]
        y = norm(x, w["mlp_norm"])
        gate = y @ w["gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["up"])) @ w["down"]
    x = norm(x, params["final_norm"])
    return x @ (get(params["embedding"]).T if c.tie_embeddings else get(params["head"]))


def plain_log_probs(model: LanguageModel, prompt, response) -> np.ndarray:
    """Log-probs of the response's tokens and of the end of turn after the prompt."""
    logits = plain_logits(model, [*prompt, *response])[len(prompt) - 1 :]
    top = logits.max(-1, keepdims=True)
    logs = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
    return logs[np.arange(len(logs)), [*response, model.tokenizer.end_of_turn]]


@pytest.fixture(scope="session")
def tiny() -> LanguageModel:
    return build_model()


@pytest.fixture(scope="session")
def draw():
    """draw(seed, *lengths): random token lists without special ids."""

    def lists(seed: int, *lengths: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        return [rng.integers(3, VOCAB, n).tolist() for n in lengths]

    return lists


@pytest.fixture(scope="session")
def plain():
    """The NumPy reference: (prompt, response) log-probs, and all logits of a sequence."""
    return plain_log_probs, plain_logits
