"""GRPO: a round of the reasoner beside TRL's GRPOTrainer, with LoRA on all linear layers.

A round draws a group of completions of each prompt, all of prescribed length, rewards each by the
mean log q of a golden response under a frozen policy that reads prompt and completion, and takes
one optimiser step over all of them. Both sides begin with the same weights and adapters; their
draws differ. TRL runs as on any CPU (`generate` of transformers, no vLLM); the fastest of its batch
sizes is timed, and of our step in one part or in one for each prompt.
"""

import argparse
import dataclasses
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks import cli
from benchmarks import harness as h
from benchmarks.model import NO_TOKEN, model_of, random_tokens
from remid_jax.errors import UserError
from remid_jax.inference.cost import extend_flops, head_flops, layer_parameters
from remid_jax.inference.token_sampling import SamplingConfig
from remid_jax.models.adapters import Adapter, adapted_structure, new_params
from remid_jax.models.decoder import DecoderConfig
from remid_jax.models.lora import LoraConfig
from remid_jax.models.pretrained import LanguageModel
from remid_jax.training.groups import Example, GroupedBatch, group_examples
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
    "trl-batch": (8, 8, "completions that TRL's step may take at once: what memory holds"),
}
LORA = LoraConfig(rank=16, alpha=32.0, dropout=0.0)
OPTIMISER = OptimiserConfig(1e-5, steps=10**6, warmup=0.0, schedule="constant", clip=1.0)
LOSS = GrpoConfig()
TOLERANCE = 1e-3  # nats of a whole completion or response
OURS, THEIRS = "ours", "trl"
PARTS = ("rollout", "reward", "update")
Tokens = Sequence[int]
Found = dict[str, Any]  # see `OurRounds.round`


@dataclasses.dataclass(frozen=True)
class Work:
    """What a round works on: prompts of one length, and a golden response that gives rewards.

    Attributes:
      new: tokens of a completion.
      group: completions of a prompt.
    """

    prompts: Sequence[Tokens]
    golden: Tokens
    new: int
    group: int

    @property
    def rows(self) -> int:
        """Completions of a round."""
        return len(self.prompts) * self.group

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return len(self.prompts[0])


class OurRounds:
    """Rounds made of the programs of `remid_jax.training`, as CoRL runs them."""

    def __init__(self, model: LanguageModel, trained: Adapter, policy: Adapter, work: Work):
        self.model, self.work = model, work
        self.graphdef, _ = adapted_structure(model.config, LORA)
        self.policy = nnx.merge_state(model.params, policy.params)
        own = jax.tree.map(jnp.copy, trained.params)  # an update uses up what it is given
        self.state = init_state(own, OPTIMISER)

    def _params(self) -> Any:
        return nnx.merge_state(self.model.params, self.state.params)

    def _laid(self, rows: list[list[Example]]) -> GroupedBatch:
        return group_examples(rows, self.model.config.max_positions, (self.work.length, 0, 0))

    def _scores(self, params: Any, groups: GroupedBatch) -> np.ndarray:
        return np.asarray(score(params, groups, graphdef=self.graphdef), np.float64).sum(-1)

    def log_prob(self, prompt: Tokens, completion: Tokens) -> float:
        """log q of a completion under the model that is trained, in nats."""
        return self._scores(self._params(), self._laid([[Example(prompt, completion)]])).item()

    def golden_log_prob(self, prompt: Tokens, completion: Tokens) -> float:
        """log q of the golden response under the policy that rewards, in nats."""
        groups = self._laid([[Example([*prompt, *completion], self.work.golden)]])
        return self._scores(self.policy, groups).item()

    def _draw(self, r: int) -> Rollout:
        return rollout(
            self._params(), *padded(self.work.prompts), jax.random.key(r), graphdef=self.graphdef,
            sampling=SamplingConfig(max_tokens=self.work.new, temperature=1.0),
            draws=self.work.group, end=NO_TOKEN, split=jax.default_backend() == "cpu",
        )  # fmt: skip

    def _rewards(self, drawn: list[list[tuple[int, ...]]]) -> tuple[np.ndarray, int]:
        """Mean log q of the golden response [B, G] in nats, and how many tokens were scored."""
        pairs = zip(self.work.prompts, drawn, strict=True)
        groups = self._laid(
            [[Example([*p, *c], self.work.golden) for c in members] for p, members in pairs]
        )
        sums = self._scores(self.policy, groups)
        return sums / len(self.work.golden), int(np.count_nonzero(groups.weights))

    def _update(self, drawn: Rollout, tokens: list, rewards: np.ndarray, parts: int) -> int:
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
            optimiser=OPTIMISER, micro_batches=parts, remat=False, grpo=LOSS, on_policy=True,
        )  # fmt: skip
        jax.block_until_ready(self.state)
        if not float(said["finite"]):
            raise RuntimeError("a gradient is not finite")
        return int(mask.sum())

    def round(self, parts: int) -> Callable[[int], Found]:
        """Round -> what was found; gradients of `parts` of the prompts come one after the other.

        Returns:
          "seconds": part of `PARTS` -> seconds; "completions": token ids, those of a prompt
          together; "rewards": of each, in nats a token; "rewarded" and "trained": tokens that
          rewards and loss were computed from.
        """

        def run(r: int) -> Found:
            clock = [time.perf_counter()]
            drawn = self._draw(r)
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


def filled_adapter(model: LanguageModel, seed: int) -> Adapter:
    """An adapter that changes what the model says: B is not zero, so scale and place matter."""
    leaves, structure = jax.tree.flatten(new_params(model.config, LORA, jax.random.key(seed)))
    keys = jax.random.split(jax.random.key(seed + 1000), len(leaves))
    moved = [
        x + 0.02 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)
    ]
    return Adapter(LORA, jax.tree.unflatten(structure, moved), model.fingerprint)


def check_same_numbers(ours: Any, theirs: Any, prompt: Tokens, completion: Tokens, n: int) -> None:
    """Refuses sides that do not hold the same model and policy, before any round.

    Both are asked for log q of a completion, and of the golden response of `n` tokens after it.
    """
    (reward,) = theirs.rewards([prompt], [completion])
    given = (prompt, completion)
    _check_close("a completion", ours.log_prob(*given), theirs.log_prob(*given))
    _check_close("the golden response", ours.golden_log_prob(*given), n * reward)


def _check_close(what: str, ours: float, theirs: float) -> None:
    if not abs(ours - theirs) <= TOLERANCE:
        raise UserError(
            f"log q of {what} is {ours:.6g} in ours and {theirs:.6g} in TRL (at most {TOLERANCE:g} "
            "is rounding); no time is reported"
        )


def agreement(w: Work, golden_log_prob: Callable[[Tokens, Tokens], float]):
    """A check of each round: as many tokens on both sides, and TRL's reward is ours."""
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


# Operations: a forward pass is that of `remid_jax.inference.cost`, and 2 for each number of an
# adapter and token. A step through frozen weights needs products for the activations' gradients but
# none for the weights': twice the forward pass for kernels, three times for the products of
# attention (both of whose sides have a gradient) and of adapters, and three times for the head,
# whose logits both sides compute again rather than keep.


def step_flops(c: DecoderConfig, adapter: int, new: int, before: int = 0) -> float:
    """Operations of `new` tokens after `before` others, forward and back, without the head."""
    kernels = 2.0 * layer_parameters(c) * new
    attention = extend_flops(c, new, before) - kernels
    return 2 * kernels + 3 * (attention + 2.0 * adapter * new)


def shared_flops(c: DecoderConfig, w: Work, adapter: int) -> h.Flops:
    """Operations of a round where a group's prompt is run once each time.

    Rollouts are counted without the adapter, which could be merged into the weights. The last token
    of a row is never run: nothing follows it.
    """
    prompts, rows, p = len(w.prompts), w.rows, w.length
    drawn = prompts * extend_flops(c, p) + rows * extend_flops(c, w.new - 1, p)
    read = w.new + len(w.golden) - 1
    rewarded = prompts * extend_flops(c, p) + rows * extend_flops(c, read, p)
    rewarded += 2.0 * adapter * (prompts * p + rows * read)
    updated = prompts * step_flops(c, adapter, p) + rows * step_flops(c, adapter, w.new - 1, p)
    return drawn + rewarded + updated, head_flops(c, rows * (4 * w.new + len(w.golden)))


def unshared_flops(c: DecoderConfig, w: Work, adapter: int) -> h.Flops:
    """Operations of TRL's round, where each completion has a prompt of its own.

    On a CPU its loss computes the logits of prompts too (`add_fused_lm_head` of TRL 1.16).
    """
    rows, p = w.rows, w.length
    drawn = extend_flops(c, p + w.new - 1) + 2.0 * adapter * (p + w.new - 1)
    rewarded = extend_flops(c, p + w.new + len(w.golden))
    updated = step_flops(c, adapter, p + w.new)
    logits = w.new + len(w.golden) + 1 + 3 * (p + w.new - 1)
    return rows * (drawn + rewarded + updated), head_flops(c, rows * logits)


def run(args: argparse.Namespace) -> h.Report:
    """Checks that both sides hold the same model, then lets them take turns."""
    for flag in ("group", "new-tokens", "reward-tokens"):
        if getattr(args, flag.replace("-", "_")) < 2:
            raise UserError(f"--{flag} is 1; it must be at least 2")
    rows = args.prompts * args.group
    if rows % args.trl_batch or args.trl_batch % args.group:
        raise UserError(f"--trl-batch must hold whole groups of {args.group} and divide {rows}")
    from benchmarks import trl_side

    model = model_of(args)
    c = model.config
    prompts = random_tokens(model, [args.prompt_tokens] * args.prompts, seed=5)
    golden, other = random_tokens(model, [args.reward_tokens, args.new_tokens], seed=6)
    w = Work(prompts, golden, args.new_tokens, args.group)
    trained, policy = (filled_adapter(model, seed) for seed in (1, 2))
    adapter = sum(x.size for x in jax.tree.leaves(trained.params))
    flops = {OURS: shared_flops(c, w, adapter), THEIRS: unshared_flops(c, w, adapter)}
    ours = OurRounds(model, trained, policy, w)
    same = agreement(w, ours.golden_log_prob)
    seconds: dict[str, list[dict[str, float]]] = {OURS: [], THEIRS: []}

    def agree(r: int, found: Mapping[str, Found]) -> None:
        same(r, found)
        for name, f in found.items():
            seconds[name].append(f["seconds"])

    with tempfile.TemporaryDirectory() as folder:
        theirs = trl_side.TrlRounds(model, trained, policy, w, folder)
        check_same_numbers(ours, theirs, prompts[0], other, len(golden))
        theirs.choose_reward_batch(sorted({w.group, w.rows}))
        batches = sorted({w.group, args.trl_batch})
        ways = {
            OURS: {f"{n} part{'s' * (n > 1)}": ours.round(n) for n in sorted({1, len(prompts)})},
            THEIRS: {f"batch {b}": theirs.round(b) for b in batches},
        }
        contestants = {n: h.Contestant(way, lambda r, n=n: flops[n]) for n, way in ways.items()}
        products = h.ModelProducts(c, keys=w.length)
        timed = h.contest("GRPO", contestants, args.rounds, products, agree)

    report = h.Report()
    title = (
        f"seconds for {w.rows} completions of {w.new} tokens to {len(prompts)} prompts of "
        f"{w.length}, rewards of {len(golden)} tokens, one step"
    )
    report.contest("contestants", title, timed)
    over, under = timed[THEIRS].seconds, timed[OURS].seconds
    report.ratio("ratio", over, under, "seconds of TRL / ours, a round")
    _add_parts(report, {n: s[-args.rounds :] for n, s in seconds.items()}, w.rows * w.new)
    ratio = sum(flops[THEIRS]) / sum(flops[OURS])
    report.figure("flops_ratio", [ratio], "operations of TRL's way / ours")
    report.figure("gemm_share", timed[OURS].gemm_share, h.GEMM_SHARE)
    report.lines.append(f"TRL's rewards run in batches of {theirs.reward_batch}, the fastest")
    if w.rows not in batches:
        report.lines.append(f"TRL's step takes at most {max(batches)} of {w.rows} completions")
    return report


def _add_parts(report: h.Report, rounds: Mapping[str, list[dict[str, float]]], tokens: int) -> None:
    """Adds where a round's time goes; `rounds` are the seconds of its parts for each side."""
    rows = [{"contestant": name} for name in rounds]
    for row, some in zip(rows, rounds.values(), strict=True):
        for part in PARTS:
            row[f"{part}, s"] = statistics.median(s[part] for s in some)
            row[f"{part}, share"] = statistics.median(s[part] / sum(s.values()) for s in some)
    report.table("parts", "where a round's time goes", rows)
    report.json["seconds_of_parts"] = rounds
    for part in PARTS:
        ours, theirs = ([s[part] for s in rounds[side]] for side in (OURS, THEIRS))
        report.ratio(f"ratio_{part}", theirs, ours, f"seconds of TRL's {part} / ours")
        if part != "reward":
            meaning = f"our completions' tokens / seconds of the {part}"
            report.figure(f"tokens_per_s_{part}", [tokens / s for s in ours], meaning)


main = functools.partial(cli.command, "grpo", __doc__, run, SIZES)

if __name__ == "__main__":
    raise SystemExit(main())
