"""Writes a textual world for the main job: `python -m remid_jax.worlds.textual --out FOLDER`.

FOLDER gets `world.json`, an RPGBench file for `config.benchmark`, and `responses.json`, the answers
of model channels with known faults, for `config.responses`.
"""

import argparse
import sys
from collections.abc import Sequence

from remid_jax.cli import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Writes both files and prints where; returns the exit code."""
    return run_command(lambda: _run(_parser().parse_args(argv)), program=argv is None)


def _parser() -> argparse.ArgumentParser:
    from remid_jax.arguments import Parser
    from remid_jax.worlds.channels import FAULTS

    parser = Parser("python -m remid_jax.worlds.textual", "Writes a textual world.")
    parser.add_argument("--out", required=True, help="folder of world.json and responses.json")
    parser.add_argument("--contexts", type=int, default=16, help="samples a test subset")
    parser.add_argument("--train", type=int, default=48, help="samples of IDTrain")
    parser.add_argument("--strength", type=float, default=1.0, help="of the shifts, 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--rpms",
        default="truth,ignores user",
        help=f"model channels, separated by commas: {', '.join(FAULTS)}",
    )
    parser.add_argument("--policies", help=argparse.SUPPRESS)
    return parser


def _run(args: argparse.Namespace) -> None:
    import jax.numpy as jnp
    import numpy as np

    from remid_jax.errors import UserError
    from remid_jax.files import path_of
    from remid_jax.information.checks import look_up
    from remid_jax.worlds.channels import FAULTS
    from remid_jax.worlds.textual import export, facts, truth

    if args.policies is not None:
        raise UserError("--policies is now --rpms")
    for name, least in (("contexts", 1), ("train", 1), ("seed", 0)):
        if (value := getattr(args, name)) < least:
            raise UserError(f"--{name} is {value}; it must be at least {least}")
    names = [name.strip() for name in args.rpms.split(",")]
    world = facts.textual_world(seed=args.seed)
    folder = path_of(args.out, "--out")
    try:
        faults = {name: look_up("RPM", name, FAULTS) for name in names}
        subsets = export.write_benchmark(
            folder / "world.json", world, args.contexts, train=args.train, seed=args.seed,
            strength=args.strength,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(str(error)) from None
    joint = jnp.asarray(truth.joint_of(truth.mechanisms_of(world, "IDTrain")))
    rows = jnp.asarray(truth.channel(world, dtype=np.float32))
    samples = [s for tag, part in subsets.items() if tag != "IDTrain" for s in part]
    channels = {name: np.asarray(make(rows, joint), np.float64) for name, make in faults.items()}
    channels = {name: c / c.sum(-1, keepdims=True) for name, c in channels.items()}
    export.write_responses(folder / "responses.json", world, samples, channels, seed=args.seed)
    print(f"{sum(map(len, subsets.values()))} samples: {folder / 'world.json'}")
    print(f"answers of {', '.join(names)}: {folder / 'responses.json'}")


if __name__ == "__main__":
    sys.exit(main())
