"""Does a model find the golden response less likely with one factor of another sample?

python -m remid_jax.evaluation.factor_check [FILE] [--model PATH] [--limit N]
"""

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from remid_jax.arguments import Parser
from remid_jax.cli import run_command
from remid_jax.data import prompts, shifts
from remid_jax.data.factors import FACTORS, Factor, differing, swapped
from remid_jax.data.options import add_file, load_with_options
from remid_jax.data.reading import Benchmark
from remid_jax.data.rules import Violation, language_of
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.inference.likelihood import pair_log_likelihoods
from remid_jax.models.pretrained import DEFAULT, LanguageModel, load_language_model
from remid_jax.progress import progress

LEAST_SHARE = 0.8  # of the samples, for each factor


@dataclasses.dataclass(frozen=True)
class Effect:
    """What replacing one factor did to one sample's golden response.

    Attributes:
      sample_id: the sample.
      tag: its subset.
      factor: the factor.
      drop: log q(golden | x) - log q(golden | x with the factor replaced), in nats.
    """

    sample_id: str
    tag: str
    factor: Factor
    drop: float

    @property
    def matters(self) -> bool:
        """Whether the replacement lowers the log-likelihood."""
        return self.drop > 0


def english_subsets(benchmark: Benchmark) -> dict[str, list[Sample]]:
    """The English samples with a golden response, of each subset beside IDTrain that has any."""
    chosen = {
        tag: [s for s in samples if language_of(s) == "en" and s.golden]
        for tag, samples in benchmark.subsets.items()
        if tag != shifts.ID_TRAIN
    }
    return {tag: samples for tag, samples in chosen.items() if samples}


def replaced(samples: Sequence[Sample], i: int, factor: Factor) -> Sample | None:
    """Sample i with a factor of the next sample (cyclic) that has another one, or None."""
    j = next(differing(samples, i, factor), None)
    return None if j is None else swapped(samples[i], samples[j], factor)


def _sample_effects(model: LanguageModel, samples: Sequence[Sample], i: int) -> list[Effect]:
    sample = samples[i]
    changed = {f: r for f in FACTORS if (r := replaced(samples, i, f)) is not None}
    contexts = [
        model.tokenizer.encode_chat(prompts.reply_messages(s)) for s in (sample, *changed.values())
    ]
    golden = model.tokenizer.encode(sample.golden)
    own, *others = pair_log_likelihoods(model, contexts, [golden]).sums[:, 0]
    return [
        Effect(sample.sample_id, sample.tag, factor, float(own - other))
        for factor, other in zip(changed, others, strict=True)
    ]


def factor_effects(
    model: LanguageModel, subsets: Mapping[str, Sequence[Sample]], limit: int | None = None
) -> Iterator[list[Effect]]:
    """Yields the effects in one subset after another, with progress on standard error.

    Args:
      model: q.
      subsets: tag -> samples.
      limit: so many samples of each subset; substitutes may come from all of it.
    """
    total = sum(len(samples[:limit]) for samples in subsets.values())
    with progress("factors that matter", total) as advance:
        for samples in subsets.values():
            effects = []
            for i in range(len(samples[:limit])):
                effects += _sample_effects(model, samples, i)
                advance(1)
            yield effects


def row(name: str, effects: Sequence[Effect]) -> str:
    """A table's line: the share of samples in which each factor matters."""
    cells = []
    for factor in FACTORS:
        found = [e.matters for e in effects if e.factor == factor]
        yes, n = sum(found), len(found)
        cells.append(f"{yes}/{n} = {yes / n:.0%}" if n else "none")
    return _line(name, cells)


def _line(name: str, cells: Iterable[str]) -> str:
    return f"{name:<22}{''.join(f'{cell:>18}' for cell in cells)}"


def summary(effects: Sequence[Effect]) -> list[str]:
    """Lines with the overall shares, and with the median drop of each factor."""
    lines = [row("all", effects)]
    for factor in FACTORS:
        if drops := [e.drop for e in effects if e.factor == factor]:
            lines.append(f"{factor}: median drop {np.median(drops):.1f} nats per response")
    return lines


def weak_factors(effects: Sequence[Effect]) -> Iterator[Violation]:
    """Yields a violation for each factor that matters in too small a share of the samples."""
    for factor in FACTORS:
        chosen = [e for e in effects if e.factor == factor]
        against = [e.sample_id for e in chosen if not e.matters]
        yes, n = len(chosen) - len(against), len(chosen)
        if yes < LEAST_SHARE * n:
            problem = f"matters in {yes} of {n} ({yes / n:.0%}), want {LEAST_SHARE:.0%}; not in "
            yield Violation("all English test samples", factor, problem + ", ".join(against))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the check; returns the exit code, 1 where a factor matters too rarely."""
    return run_command(lambda: _run(argv), program=argv is None)


def _run(argv: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m remid_jax.evaluation.factor_check",
        description="Checks with a model that user, character and dialogue matter to the golden "
        "responses of a benchmark; minutes to a quarter of an hour.",
    )
    add_file(parser)
    parser.add_argument("--model", default=DEFAULT, metavar="PATH", help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="N samples of each subset")
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit is {args.limit}; it must be at least 1")
    benchmark = load_with_options(args.file, args)
    if not any(s.golden for s in benchmark):
        raise UserError(f"{benchmark.name}: no sample has a golden response, which would be scored")
    model = load_language_model(args.model)
    effects: list[Effect] = []
    print(_line("factor matters in", FACTORS), flush=True)
    for part in factor_effects(model, english_subsets(benchmark), args.limit):
        if part:
            print(row(part[0].tag, part), flush=True)
        effects += part
    found = list(weak_factors(effects))
    for line in (*summary(effects), *found):
        print(line)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
