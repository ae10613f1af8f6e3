"""How fast the engine is beside PyTorch, on a random model of SmolLM2-135M's shape in float32.

    python -m benchmarks.likelihood   pair log-likelihoods of R-EMID
    python -m benchmarks.forward      plain forward passes
    python -m benchmarks.sampling     greedy decoding, and groups of samples of one prompt
    python -m benchmarks.profile      where the time of one scoring call goes
    python -m benchmarks.precision    likelihoods in bfloat16 beside float32
    python -m benchmarks.sft          a step of SFT, beside peft and transformers
    python -m benchmarks.grpo         a round of GRPO, beside TRL's trainer
    python -m benchmarks.growth       time against number and lengths of what is scored, and devices
    python -m benchmarks.workers      real processes that diagnose or train together
    python -m benchmarks.report       size of the HTML report, and how fast Chromium opens it
    python -m benchmarks.tpu_compile  what each program needs on TPU, compiled without one

All take `--json PATH`; all but the last `--rounds N`, `--small` (a tiny shape, to see that it runs)
and sizes. Both sides hold the same weights, and nothing is timed unless both give the same numbers.
They take turns in one process; a ratio is the median over rounds of the ratio within a round, with
the smallest and the largest. A *round* is one turn of every contestant; *GFLOP* are the operations
of the matrix products that a contestant's own way needs (`remid_jax.inference.cost`); *of GEMM*
compares with JAX's rate on plain products of the model's shapes in the same round.

Exit codes: 0, 2 after one line of error, 3 where the machine was not quiet: other processes slow
the two sides unevenly, so ratios are not quotable then.
"""
