"""Requests to a model that is not there."""

from tiny_model import build_model

from remid_jax.evaluation.models import Model
from remid_jax.evaluation.requests import About, Generate, Score
from remid_jax.inference.token_sampling import SamplingConfig

SHAPE = build_model().config
MODEL = Model("m", "weights-1", "float32", SHAPE, None, None)
DRAW = SamplingConfig(max_tokens=5)


def score(prompt, responses=((1, 2), (3,)), lengths=(), tag="t", model=MODEL):
    return Score(model, tuple(prompt), tuple(lengths), responses, About("scores", tag, "s"))


def generate(prompt, expected=0, tag="t", sample="s", sampling=DRAW, model=MODEL, draws=1):
    about = About("answers", tag, sample)
    return Generate(model, tuple(prompt), (), sampling, about, expected, draws)
