"""GRPO: a round of the reasoner beside TRL's GRPOTrainer, with LoRA on all linear layers.

A round draws a group of completions of each prompt, all of prescribed length, rewards each by the
mean log q of a golden response under a frozen policy that reads prompt and completion, and takes
one optimiser step over all of them. Both sides begin with the same weights and adapters; their
draws differ. TRL runs as on any CPU (`generate` of transformers, no vLLM); the fastest of its batch
sizes, and of our ways, is timed.
"""

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import gemm, program
from benchmarks.grpo_work import (
    Tokens,
    Work,
    available_bytes,
    shared_flops,
    trl_batches,
    unshared_flops,
)
from benchmarks.harness import Contestant, Timed, contest, medians
from benchmarks.model import NO_TOKEN, random_tokens
from benchmarks.program import Report
from remid_jax.errors import UserError
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.adapters import Adapter, adapted_structure, merged, new_params
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import LanguageModel
from remid_jax.report.tables import new_table
from remid_jax.training.groups import Example, group_examples
from remid_jax.training.grpo import Completions, GrpoConfig, group_advantages
from remid_jax.training.optimiser import OptimiserConfig, init_state
from remid_jax.training.rollout import Rollout, completion_examples, completions, padded, rollout
from remid_jax.training.updates import grpo_update, score

SIZES = {
    "prompts": (4, 2, "prompts of a round"),
    "prompt-tokens": (256, 24, "tokens of a prompt"),
    "new-tokens": (64, 8, "tokens of a completion"),
    "group": (8, 4, "completions of a prompt"),
    "reward-tokens": (32, 6, "tokens of the golden response that the policy scores"),
}
LORA = LoraConfig(rank=16, alpha=32.0, dropout=0.0)
OPTIMISER = OptimiserConfig(1e-5, steps=10**6, warmup=0.0, schedule="constant", clip=1.0)
LOSS = GrpoConfig()
TOLERANCE = 1e-3  # nats of a whole completion or response
OURS, THEIRS = "ours", "trl"
PARTS = ("rollout", "reward", "update")
MEANING = {
    "ratio": "seconds of TRL / ours, a round",
    **{f"ratio_{part}": f"the same of the {part}" for part in PARTS},
    "flops_ratio": "operations of TRL's way / ours",
    "tokens_per_s_rollout": "our completions' tokens / seconds in which they are drawn",
    "tokens_per_s_update": "the same tokens / seconds of the optimiser step over them",
    "gemm_share": "our FLOP/s / those of plain JAX products of these shapes",
}
Found = dict[str, Any]  # see `OurRounds.round`


def filled_adapter(model: LanguageModel, seed: int) -> Adapter:
    """An adapter that changes what the model says: B is not zero, so scale and place matter."""
    params = new_params(model.config, LORA, jax.random.key(seed))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1000), len(leaves))
    drawn = (
        0.02 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
    )
    moved = [x + d for x, d in zip(leaves, drawn, strict=True)]
    return Adapter(LORA, jax.tree.unflatten(structure, moved), model.identity)


class OurRounds:
    """Rounds made of the programs of `remid_jax.training`, as CoRL runs them."""

    def __init__(self, model: LanguageModel, trained: Adapter, policy: Adapter, work: Work):
        self.model, self.work = model, work
        self.graphdef, _ = adapted_structure(model.config, LORA)
        self.policy = nnx.merge_state(model.params, policy.params)
        self.state = init_state(
            jax.tree.map(jnp.copy, trained.params), OPTIMISER
        )  # uses up its own

    def _scored(self, params: Any, prompt: Tokens, scored: Tokens) -> float:
        groups = self._laid([[Example(prompt, scored)]])
        return float(np.asarray(score(params, groups, graphdef=self.graphdef), np.float64).sum())

    def _laid(self, rows: list[list[Example]]) -> Any:
        return group_examples(rows, self.model.config.max_positions, (self.work.length, 0, 0))

    def log_prob(self, prompt: Tokens, completion: Tokens) -> float:
        """log q of a completion under the model that is trained, in nats."""
        return self._scored(
            nnx.merge_state(self.model.params, self.state.params), prompt, completion
        )

    def golden_log_prob(self, prompt: Tokens, completion: Tokens) -> float:
        """log q of the golden response under the policy that rewards, in nats."""
        return self._scored(self.policy, [*prompt, *completion], self.work.golden)

    def _draw(self, r: int, merge: bool) -> Rollout:
        params, graphdef = nnx.merge_state(self.model.params, self.state.params), self.graphdef
        if merge:
            plain = merged(self.model, Adapter(LORA, self.state.params, self.model.identity))
            params, graphdef = plain.params, plain.graphdef
        return rollout(
            params, *padded(self.work.prompts), jax.random.key(r), graphdef=graphdef,
            sampling=SamplingConfig(max_tokens=self.work.new, temperature=1.0),
            draws=self.work.group, end=NO_TOKEN, split=jax.default_backend() == "cpu",
        )  # fmt: skip

    def _rewards(self, drawn: list[list[tuple[int, ...]]]) -> tuple[np.ndarray, int]:
        """Mean log q of the golden response [B, G] in nats, and how many tokens were scored."""
        pairs = zip(self.work.prompts, drawn, strict=True)
        groups = self._laid(
            [[Example([*p, *c], self.work.golden) for c in members] for p, members in pairs]
        )
        values = np.asarray(score(self.policy, groups, graphdef=self.graphdef))
        return values.sum(-1) / len(self.work.golden), int(np.count_nonzero(groups.weights))

    def _update(
        self, drawn: Rollout, tokens: list[list[tuple[int, ...]]], rewards: np.ndarray, parts: int
    ) -> int:
        """Takes the optimiser step; returns the tokens of the loss."""
        groups = self._laid(completion_examples(self.work.prompts, tokens))
        mask = np.asarray(groups.weights) > 0
        old = np.zeros(mask.shape, np.float32)
        old[..., : self.work.new] = np.asarray(drawn.log_probs)
        advantages, _ = group_advantages(
            jnp.asarray(rewards), baseline=LOSS.baseline, scale=LOSS.scale, epsilon=LOSS.epsilon
        )
        known = Completions(
            old_log_probs=old, reference_log_probs=np.zeros_like(old),
            advantages=np.asarray(advantages), mask=mask, truncated=~np.asarray(drawn.stopped),
        )  # fmt: skip
        self.state, said = grpo_update(
            self.model.params, self.state, groups, known, graphdef=self.graphdef,
            optimiser=OPTIMISER, micro_batches=parts, grpo=LOSS, on_policy=True,
        )  # fmt: skip
        jax.block_until_ready(self.state)
        if not float(said["finite"]):
            raise RuntimeError("a gradient is not finite")
        return int(mask.sum())

    def round(self, merge: bool, parts: int) -> Callable[[int], Found]:
        """Round -> what was found.

        Args:
          merge: whether rollouts run on weights into which the adapter was merged, in the round.
          parts: parts of the prompts whose gradients are computed one after the other.

        Returns:
          "seconds": part of `PARTS` -> seconds; "completions": token ids, those of a prompt
          together; "rewards": of each, in nats a token; "rewarded" and "trained": tokens that
          rewards and loss were computed from.
        """

        def run(r: int) -> Found:
            clock = [time.perf_counter()]
            drawn = self._draw(r, merge)
            tokens = completions(drawn, NO_TOKEN)
            clock.append(time.perf_counter())
            rewards, rewarded = self._rewards(tokens)
            clock.append(time.perf_counter())
            trained = self._update(drawn, tokens, rewards, parts)
            clock.append(time.perf_counter())
            return {
                "seconds": dict(zip(PARTS, np.diff(clock).tolist(), strict=True)),
                "completions": [list(c) for members in tokens for c in members],
                "rewards": rewards.ravel().tolist(), "rewarded": rewarded, "trained": trained,
            }  # fmt: skip

        return run


def check_same_numbers(ours: Any, theirs: Any, prompt: Tokens, completion: Tokens, n: int) -> None:
    """Refuses sides that do not hold the same model and policy.

    Args:
      ours, theirs: the sides, before any round.
      prompt, completion: of which both are asked.
      n: tokens of the golden response.

    Raises:
      UserError: log-probabilities of the completion, or of the golden response after it, differ.
    """
    (reward,) = theirs.rewards([prompt], [completion])
    for what, a, b in (
        ("a completion", ours.log_prob(prompt, completion), theirs.log_prob(prompt, completion)),
        ("the golden response", ours.golden_log_prob(prompt, completion), n * reward),
    ):
        _check_close(what, a, b)


def _check_close(what: str, ours: float, theirs: float) -> None:
    if not abs(ours - theirs) <= TOLERANCE:
        raise UserError(
            f"log q of {what} is {ours:.6g} in ours and {theirs:.6g} in TRL (at most {TOLERANCE:g} "
            "is rounding); no time is reported"
        )


def agreement(w: Work, golden_log_prob: Callable[[Tokens, Tokens], float]):
    """A check of each round: as many tokens on both sides, and TRL's reward is ours.

    `golden_log_prob` takes prompt and completion, see `OurRounds`.
    """
    expected = {"trained": w.rows * w.new, "rewarded": w.rows * len(w.golden)}

    def agree(r: int, found: Mapping[str, Found]) -> None:
        for name, f in found.items():
            if [len(c) for c in f["completions"]] != [w.new] * w.rows:
                raise UserError(f"{name} drew other than {w.rows} completions of {w.new} tokens")
            for what, count in expected.items():
                if f[what] != count:
                    raise UserError(f"{name} {what} {f[what]} tokens instead of {count}")
        i, f = r % w.rows, found[THEIRS]
        ours = golden_log_prob(w.prompts[i // w.group], f["completions"][i])
        _check_close("the golden response", ours, f["rewards"][i] * len(w.golden))

    return agree


def _noted(run: Callable[[int], Found], seconds: dict[int, dict[str, float]]):
    """The same, noting the seconds of the last run of each round, which is the timed one."""

    def noted(r: int) -> Found:
        found = run(r)
        seconds[r] = found["seconds"]
        return found

    return noted


def shares(seconds: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Part -> its share of each round.

    >>> shares([{"rollout": 1.0, "reward": 2.0, "update": 5.0}])
    {'rollout': [0.125], 'reward': [0.25], 'update': [0.625]}
    """
    return {p: [s[p] / sum(s.values()) for s in seconds] for p in PARTS}


def _figures(
    w: Work, timed: Timed, seconds: Mapping[str, list[dict[str, float]]], flops_ratio: float
) -> Found:
    ours, theirs = seconds[OURS], seconds[THEIRS]
    tokens = w.rows * w.new
    return medians({
        "ratio": timed.ratio(THEIRS, OURS),
        **{f"ratio_{p}": [b[p] / a[p] for a, b in zip(ours, theirs, strict=True)] for p in PARTS},
        "flops_ratio": [flops_ratio] * len(ours),
        "tokens_per_s_rollout": [tokens / s["rollout"] for s in ours],
        "tokens_per_s_update": [tokens / s["update"] for s in ours],
        "gemm_share": timed.share(OURS),
        **{f"share_{p}": v for p, v in shares(ours).items()},
        **{f"share_{p}_trl": v for p, v in shares(theirs).items()},
    })  # fmt: skip


def _parts_table(seconds: Mapping[str, list[dict[str, float]]]) -> Any:
    rows = []
    for name, rounds in seconds.items():
        cells = []
        for part, share in shares(rounds).items():
            took = statistics.median(s[part] for s in rounds)
            cells += [f"{took:.4g}", f"{100 * statistics.median(share):.0f}%"]
        rows.append((name, *cells))
    columns = [c for part in PARTS for c in (f"{part}, s", "of the round")]
    return new_table("where a round's time goes", ("contestant", *columns), rows)


def _check(args: argparse.Namespace) -> None:
    for flag in ("group", "new-tokens", "reward-tokens"):
        if getattr(args, flag.replace("-", "_")) < 2:
            raise UserError(f"--{flag} is 1; it must be at least 2")


def _contestants(
    ours: OurRounds, theirs: Any, batches: Sequence[int], work: Mapping[str, tuple[float, float]],
    seconds: Mapping[str, dict[int, dict[str, float]]],
) -> dict[str, Contestant]:  # fmt: skip
    settings = {
        OURS: {
            f"{how}, {n} part{'s' * (n > 1)}": ours.round(how == "merged", n)
            for n in sorted({1, len(ours.work.prompts)})
            for how in ("adapter", "merged")
        },
        THEIRS: {f"batch {b}": theirs.round(b) for b in batches},
    }
    return {
        name: Contestant(
            {label: _noted(do, seconds[name]) for label, do in ways.items()},
            lambda r, name=name: work[name],
        )
        for name, ways in settings.items()
    }


def run(args: argparse.Namespace) -> Report:
    """Checks that both sides hold the same model, then lets them take turns."""
    _check(args)
    from benchmarks import trl_side

    model = program.load_model(args)
    c = model.config
    prompts = random_tokens(model, [args.prompt_tokens] * args.prompts, seed=5)
    golden, other = random_tokens(model, [args.reward_tokens, args.new_tokens], seed=6)
    w = Work(prompts, golden, args.new_tokens, args.group)
    trained, policy = (filled_adapter(model, seed) for seed in (1, 2))
    adapter = sum(x.size for x in jax.tree.leaves(trained.params))
    work = {OURS: shared_flops(c, w, adapter), THEIRS: unshared_flops(c, w, adapter)}
    ours = OurRounds(model, trained, policy, w)
    seconds: dict[str, dict[int, dict[str, float]]] = {OURS: {}, THEIRS: {}}
    with tempfile.TemporaryDirectory() as folder:
        theirs = trl_side.TrlRounds(model, trained, policy, prompts, golden, w.group, w.new, folder)
        check_same_numbers(ours, theirs, prompts[0], other, len(golden))
        reward_seconds = theirs.choose_reward_batch(sorted({w.group, w.rows}))
        batches = trl_batches(c, w, available_bytes())
        timed = contest(
            "GRPO", _contestants(ours, theirs, batches, work, seconds), args.rounds,
            agreement(w, ours.golden_log_prob), gemm.ModelProducts(c, keys=w.length),
        )  # fmt: skip
    noted = {name: [found[r] for r in range(args.rounds)] for name, found in seconds.items()}
    figures = _figures(w, timed, noted, sum(work[THEIRS]) / sum(work[OURS]))
    lines = list(program.ratio_lines(figures, MEANING))
    lines.append(f"TRL's rewards run in batches of {theirs.reward_batch}, the fastest")
    if w.rows not in batches:
        lines.append(f"TRL's step over all {w.rows} completions at once needs too much memory here")
    figures |= {
        "contestants": program.contest_json(timed), "seconds_of_parts": noted,
        "trl_reward_batch_seconds": {str(b): s for b, s in reward_seconds.items()},
        "trl_versions": {p: importlib.metadata.version(p) for p in trl_side.PACKAGES},
    }  # fmt: skip
    title = (
        f"seconds for {w.rows} completions of {w.new} tokens to {len(prompts)} prompts of "
        f"{w.length}, rewards of {len(golden)} tokens, one step"
    )
    return Report(figures, [program.contest_table(title, timed), _parts_table(noted)], lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `benchmarks.program.command`."""
    return program.command("grpo", __doc__, run, SIZES, argv)


if __name__ == "__main__":
    sys.exit(main())
