"""Judges behind servers: what they are asked, calibration first, and what their replies say."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

from remid_jax.data.judging import pair_messages, rating_messages
from remid_jax.data.judgments import (
    RATING,
    VERDICT,
    Judgment,
    Rating,
    Verdict,
    read_rating,
    read_verdict,
)
from remid_jax.data.responses import Answers
from remid_jax.data.samples import Sample
from remid_jax.evaluation.cache import Cache
from remid_jax.evaluation.config import specs_of
from remid_jax.evaluation.judgments import mode_of, reference_texts, tells, to_arrays
from remid_jax.evaluation.requests import CHARACTERS, About, Ask, seed_of
from remid_jax.evaluation.task import Task
from remid_jax.information.judgments import PAIRWISE, Judgments, is_calibrated
from remid_jax.information.pairs import GOLDEN, REFERENCE_ROWS
from remid_jax.messages import log
from remid_jax.servers.chat import ChatRequest

CALIBRATION, JUDGMENTS = "calibration of", "judgments of"  # begin stages; the judge ends them
DRAWN = 1.0  # temperature of repeated calls, and of a second try
REFUSED = ("HTTP 400", "HTTP 422")  # begin the error of a server that takes no schema
Run = Callable[[str, Sequence[Ask]], None]  # name of the work, what to ask


@dataclasses.dataclass(frozen=True)
class Call:
    """One judgment that is asked for.

    Attributes:
      sample_id: of the context.
      first: row that is shown first, or alone.
      second: row that is shown second; None where one is scored.
      ask: the request.
      again: the one after a reply without a judgment.
    """

    sample_id: str
    first: str
    second: str | None
    ask: Ask
    again: Ask

    def needs_again(self, cache: Cache) -> bool:
        """Whether there was a reply, and nothing was judged in it."""
        if self.ask not in cache or cache.replied(self.ask).error:
            return False
        return self._said(self.ask, cache) is None

    def is_done(self, cache: Cache) -> bool:
        """Whether nothing is left to ask."""
        return self.ask in cache and (self.again in cache or not self.needs_again(cache))

    def judgment(self, cache: Cache) -> Judgment:
        """What was judged, or that nothing was."""
        said = self._said(self.ask, cache)
        if said is None and self.again in cache:
            said = self._said(self.again, cache)
        if self.second is None:
            return Rating(self.sample_id, self.first, said)
        return Verdict(self.sample_id, self.first, self.second, said)

    def _said(self, ask: Ask, cache: Cache) -> str | int | None:
        read = read_rating if self.second is None else read_verdict
        return read(cache.replied(ask).text)


@dataclasses.dataclass(frozen=True)
class Judging:
    """What a judge is asked.

    Attributes:
      name: of the judge.
      calibration: on golden and reference rows.
      rpms: on answers; none where the judge failed its calibration.
      is_known: whether all these answers are there; else they are upper estimates.
      stopped: whether it failed.
      asked: the requests, second tries among them as far as they are known to be needed.
    """

    name: str
    calibration: Sequence[Call]
    rpms: Sequence[Call]
    is_known: bool
    stopped: bool
    asked: Sequence[Ask]


def plan_judging(task: Task, answers: Mapping[str, Answers], cache: Cache) -> list[Judging]:
    """What each judge behind a server is asked.

    Args:
      task: what is evaluated.
      answers: tag -> RPM -> its answers, without those RPMs that have not answered yet.
      cache: of results.
    """
    if not task.judges:
        return []
    texts = reference_texts(task.selection.subsets, task.golden, task.references)
    return [_of_judge(name, task, answers, texts, cache) for name in task.judges]


def _of_judge(
    name: str, task: Task, answers: Mapping[str, Answers],
    texts: Mapping[str, Mapping[str, Sequence[str]]], cache: Cache,
) -> Judging:  # fmt: skip
    subsets, rpms = task.selection.subsets, rpms_of(task)
    asking = _Asking(name, task, cache)
    calibration = list(asking.calibration(subsets, texts))
    stopped = False
    if calibration and all(call.is_done(cache) for call in calibration):
        said = [call.judgment(cache) for call in calibration]
        found = to_arrays(name, asking.mode, "", said, subsets, rpms, texts)
        stopped = not is_calibrated(found)
    judged = [] if stopped or not calibration else list(asking.answers(subsets, answers, rpms))
    is_known = all(rpm in answers[tag] for tag in subsets for rpm in rpms)
    calls = [*calibration, *judged]
    asked = [ask for c in calls for ask in (c.ask, *((c.again,) * c.needs_again(cache)))]
    return Judging(name, calibration, judged, is_known, stopped, asked)


def rpms_of(task: Task) -> list[str]:
    """Names of the evaluated models."""
    return list(task.given if task.given is not None else specs_of(task.config))


class _Asking:
    """How one judge is asked."""

    def __init__(self, name: str, task: Task, cache: Cache):
        self.name, self._task, self._cache = name, task, cache
        self._keys, self._server = task.config.judges[name], task.judges[name]
        self.mode = self._keys.mode
        self._schema: dict | None = VERDICT if self.mode == PAIRWISE else RATING

    def calibration(
        self, subsets: Mapping[str, Sequence[Sample]],
        texts: Mapping[str, Mapping[str, Sequence[str]]],
    ) -> Iterator[Call]:  # fmt: skip
        """Golden and each reference row that differs from it, one call each.

        The first shows whether the server forces replies into a schema; where it refused to in this
        run, none is asked for.
        """
        is_first = True
        for tag, samples in subsets.items():
            rows = {ref: tells(texts[tag], ref) for ref in REFERENCE_ROWS if ref != GOLDEN}
            for i, sample in enumerate(samples):
                shown = {ref: texts[tag][ref][i] for ref, there in rows.items() if there[i]}
                if not shown:
                    continue
                own = {GOLDEN: texts[tag][GOLDEN][i], **shown}
                calls = list(self._calls(CALIBRATION, tag, sample, own, 1))
                if is_first and refuses_schema(calls[0].ask, self._cache):
                    self._schema = None
                    calls = self._calls(CALIBRATION, tag, sample, own, 1)
                is_first = False
                yield from calls

    def answers(
        self, subsets: Mapping[str, Sequence[Sample]], answers: Mapping[str, Answers],
        rpms: Sequence[str],
    ) -> Iterator[Call]:  # fmt: skip
        """Each RPM's first answer, beside golden or alone; unknown ones at full length."""
        unknown = "x" * (CHARACTERS * self._task.config.sampling.max_tokens)
        for (tag, samples), rpm in itertools.product(subsets.items(), rpms):
            for sample in samples:
                golden = self._task.golden[sample.sample_id].text
                known = answers[tag].get(rpm)
                text = known[sample.sample_id].text if known else unknown
                if text and (golden or self.mode != PAIRWISE):
                    own = {GOLDEN: golden, rpm: text} if self.mode == PAIRWISE else {rpm: text}
                    yield from self._calls(JUDGMENTS, tag, sample, own, self._keys.repeats)

    def _calls(
        self, stage: str, tag: str, sample: Sample, texts: Mapping[str, str], repeats: int
    ) -> Iterator[Call]:
        """Golden beside each other text in both orders, or each text alone."""
        about = About(f"{stage} {self.name}", tag, sample.sample_id)
        rows: list[tuple[str, str | None]] = [(name, None) for name in texts]
        if self.mode == PAIRWISE:
            others = [name for name in texts if name != GOLDEN]
            rows = [pair for x in others for pair in ((GOLDEN, x), (x, GOLDEN))]
        for (first, second), k in itertools.product(rows, range(repeats)):
            if second is None:
                messages = rating_messages(sample, texts[first])
            else:
                messages = pair_messages(sample, texts[first], texts[second])
            request = ChatRequest(tuple(messages), self._keys.max_tokens, schema=self._schema)
            tries = (
                dataclasses.replace(
                    request, temperature=DRAWN if draw else 0.0,
                    seed=seed_of(self._task.config.seed, messages, draw),
                )
                for draw in (2 * k, 2 * k + 1)
            )  # fmt: skip
            asks = (Ask(self._server, x, about, 2 * k + j) for j, x in enumerate(tries))
            yield Call(sample.sample_id, first, second, *asks)


def refuses_schema(ask: Ask, cache: Cache) -> bool:
    """Whether a server refused a request in this run for the schema that it asks for.

    Not where it refuses the same without a schema, as it does what is too long.
    """
    return bool(ask.asked.schema) and _refused(ask, cache) and not _refused(_plain(ask), cache)


def _refused(ask: Ask, cache: Cache) -> bool:
    failed = cache.failures.get(ask.key)
    return failed is not None and failed.error.startswith(REFUSED)


def _plain(ask: Ask) -> Ask:
    """The same without a schema."""
    return dataclasses.replace(ask, asked=dataclasses.replace(ask.asked, schema=None))


def calibrate_judges(
    task: Task, answers: Mapping[str, Answers], cache: Cache, run: Run, probe: Run
) -> list[Judging]:
    """Asks judges about golden and reference rows; the plan of what is left to ask them.

    The first request is asked alone: it shows what the server takes.

    Args:
      task: what is evaluated.
      answers: as in `plan_judging`.
      cache: of results.
      run: asks, or this process's part of it.
      probe: asks in every part of a job array: none hears what another was refused.
    """
    for judging in plan_judging(task, answers, cache):
        if judging.calibration:
            what, first = f"{CALIBRATION} {judging.name}", judging.calibration[0].ask
            probe(what, [first])
            if refuses_schema(first, cache):
                probe(what, [_plain(first)])
            if refuses_schema(first, cache):
                why = cache.replied(first).error
                said = "note: judge %s refuses a schema for its replies, which go without: %s"
                log.warning(said, judging.name, why)
    for judging in plan_judging(task, answers, cache):
        _ask(f"{CALIBRATION} {judging.name}", judging.calibration, cache, run)
    found = plan_judging(task, answers, cache)
    for judging in found:
        if judging.stopped:
            log.warning("note: judge %s is not calibrated, and is not asked about RPMs",
                        judging.name)  # fmt: skip
    return found


def ask_judges(task: Task, answers: Mapping[str, Answers], cache: Cache, run: Run) -> list[Judging]:
    """Asks calibrated judges about answers, where all of these are there; what was asked."""
    for judging in plan_judging(task, answers, cache):
        if judging.is_known and all(call.is_done(cache) for call in judging.calibration):
            _ask(f"{JUDGMENTS} {judging.name}", judging.rpms, cache, run)
    return plan_judging(task, answers, cache)


def _ask(what: str, calls: Sequence[Call], cache: Cache, run: Run) -> None:
    """Asks, and once more where nothing was judged in a reply."""
    run(what, [call.ask for call in calls])
    if again := [call.again for call in calls if call.needs_again(cache)]:
        run(f"{what}, second try", again)


def judgments_of(task: Task, judging: Sequence[Judging], cache: Cache) -> list[Judgments]:
    """What each judge said, behind a server or in a file, in the order of the configuration."""
    subsets, rpms = task.selection.subsets, rpms_of(task)
    texts = reference_texts(subsets, task.golden, task.references)
    live = {one.name: one for one in judging}
    found = []
    for name, keys in task.config.judges.items():
        if name in live:
            calls = [*live[name].calibration, *live[name].rpms]
            said = [call.judgment(cache) for call in calls]
            source, stopped = f"{keys.model} at {task.judges[name].api}", live[name].stopped
            mode = keys.mode
        else:
            said, source, stopped = task.judgments[name], keys.precomputed, False
            mode = mode_of(said)
        found.append(to_arrays(name, mode, source, said, subsets, rpms, texts, stopped))
    return found
