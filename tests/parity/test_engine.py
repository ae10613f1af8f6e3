"""Another library behind the protocol: both methods agree, and so does a whole diagnosis."""

import numpy as np
import pytest
from parity.tiny_transformers import save, torch, transformers
from parity.transformers_engine import TransformersEngine
from tiny_checkpoint import tiny_tensors, write_hugging_face

from remid_jax.diagnosis import diagnose
from remid_jax.errors import UserError
from remid_jax.evaluation.config import default_config
from remid_jax.inference.engine import JaxEngine
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.pretrained import load_language_model

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]


def theirs(folder, model):
    return TransformersEngine(str(folder), model)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_both_methods_agree(tmp_path, family):
    reference, _ = save(tmp_path, family=family)
    ours, other = JaxEngine(load_language_model(str(tmp_path))), theirs(tmp_path, reference)
    rng = np.random.default_rng(3)
    common, *ends = (rng.integers(3, 90, n).tolist() for n in (60, 9, 70, 20))
    prompts, responses = [common + e for e in ends], [common[:n] for n in (1, 7, 40)]
    for prompt in prompts:
        for a, b in zip(ours.score(prompt, responses), other.score(prompt, responses), strict=True):
            np.testing.assert_allclose(a, b, atol=5e-5)
    config = SamplingConfig(max_tokens=20, repetition_penalty=1.05)
    for a, b in zip(ours.generate(prompts, config), other.generate(prompts, config), strict=True):
        same = next(
            (k for k, (x, y) in enumerate(zip(a.tokens, b.tokens, strict=False)) if x != y), 20
        )
        assert same > 10 and a.stopped == b.stopped
        np.testing.assert_allclose(a.log_probs[:same], b.log_probs[:same], atol=1e-4)


def test_a_diagnosis_on_another_engine(tmp_path):
    folder = write_hugging_face(
        tmp_path / "model", tiny_tensors(), {"max_position_embeddings": 8192}
    )
    next(folder.glob("*.safetensors")).rename(folder / "model.safetensors")
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = default_config()
    config.model.path = str(folder)
    config.shifts = ("german",)
    config.limits.contexts = 3
    config.sampling.max_tokens = config.reasoning.max_tokens = 4
    del config.rpms.last_turn_only
    expected = diagnose(config, tmp_path / "ours")
    found = diagnose(config, tmp_path / "theirs", engine=theirs(folder, reference.eval()))
    assert found["provenance"]["model"]["name"] == "transformers"
    for a, b in zip(expected["rows"], found["rows"], strict=True):
        assert b["r_emi"] == pytest.approx(a["r_emi"], abs=2e-3)
        assert b["emi"] == pytest.approx(a["emi"], abs=2e-3)
    config.divergences.features = "hidden"
    with pytest.raises(UserError, match="transformers has no hidden states"):
        diagnose(config, tmp_path / "hidden", engine=theirs(folder, reference))
