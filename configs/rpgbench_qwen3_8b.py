"""RPGBench, all twelve subsets, with Qwen3-8B as reasoner and scorer on eight chips.

`model.path` must name a local Hugging Face directory of Qwen3-8B, `benchmark` an RPGBench file;
`responses` may name a file of collected responses, and then no RPM is run.
"""

from ml_collections import ConfigDict

from remid_jax.evaluation.config import default_config


def get_config() -> ConfigDict:
    """The configuration."""
    c = default_config()
    c.benchmark = "data/rpgbench.json"
    c.model.path, c.model.dtype = "models/Qwen3-8B", "bfloat16"
    c.mesh.tensor = 8  # of 8 key-value heads
    c.sampling.max_tokens, c.sampling.batch_rows = 256, 32
    c.reasoning.max_tokens = 512
    c.estimator.negatives, c.estimator.num_negatives = "cyclic", 32
    c.limits.too_long = "drop_oldest_turns"
    c.limits.memory_bytes = 12 * 2**30  # of a chip of 16 GB that holds an eighth of the weights
    return c
