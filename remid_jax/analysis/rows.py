"""The main table: each RPM in each subset, and the same by language."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from remid_jax.analysis.contrast import (
    R_EMID,
    Contrast,
    Record,
    count_groups,
    number,
    replicates,
    with_holm,
)
from remid_jax.analysis.cross_information import cross_columns
from remid_jax.analysis.draws import r_emi_draws
from remid_jax.analysis.measures import COLUMNS, Estimates
from remid_jax.information.pairs import MIN_CONTEXTS, Block, Subset, groups_of, is_paired
from remid_jax.information.repeated import expected_kl
from remid_jax.information.significance import independence_test
from remid_jax.information.uncertainty import replicate_error

LogProbs = Mapping[str, Mapping[str, np.ndarray]]


def estimate_rows(estimates: Estimates, own_log_probs: LogProbs) -> list[Record]:
    """One record for each row and subset; `p_holm` adjusts over the subsets of an RPM.

    Args:
      estimates: of all subsets.
      own_log_probs: tag -> RPM -> [N] log p_θ of its answers in nats, NaN where it is not known.
    """
    cross = cross_columns(estimates)
    records = []
    for rpm in estimates.names:
        subsets = [s for s in estimates.subsets if s.has_row(rpm)]
        block = [{**_row(estimates, s, rpm), "reason": s.lack_of_golden} for s in subsets]
        for subset, row in zip(subsets, with_holm(block), strict=True):
            log_p = own_log_probs.get(subset.tag, {}).get(rpm)
            kl = _expected_kl(subset, rpm, log_p, estimates.settings.confidence)
            drawn = r_emi_draws(estimates, subset, rpm)
            records.append({**row, **cross[rpm, subset.tag], **kl, **drawn})
    return records


def estimate_by_language(estimates: Estimates) -> list[Record]:
    """Records of the paired subsets that hold several languages, for each language by itself.

    Negatives and in-distribution counterparts are of the language alone, so a culture's shift can
    be told from its language's. No reference rows, as shuffled golden mixes languages.
    """
    home, records = estimates.home, []
    for rpm in estimates.rpms:
        block = []
        for subset in estimates.subsets[1:]:
            languages = np.array([str(x) for x in subset.languages])
            if len(set(languages)) < 2 or not is_paired(subset, home):
                continue
            for language in sorted(set(languages)):
                chosen = languages == language
                both = chosen & subset.used(rpm) & home.used(rpm)
                if count_groups(groups_of(both, subset, home)) < MIN_CONTEXTS:
                    continue
                level = _level(estimates, subset, rpm, chosen)
                if level["r_emi"] is not None:
                    drop = _drop(estimates, subset, rpm, chosen)
                    block.append({"language": language, **level, **drop})
        records += with_holm(block)
    return records


def _row(estimates: Estimates, subset: Subset, rpm: str) -> Record:
    level, home = _level(estimates, subset, rpm), estimates.home
    at_home = estimates.replicates(home, rpm).value[0]
    if subset is not home and level["r_emi"] is not None and np.isfinite(at_home):
        return {**level, **_drop(estimates, subset, rpm)}
    unknown = Contrast(np.nan, np.nan, 0).record(estimates.settings.confidence, R_EMID)
    return {**level, **unknown, "paired": None, "n_paired": None}


def _level(
    estimates: Estimates, subset: Subset, rpm: str, chosen: np.ndarray | bool = True
) -> Record:
    """The values of `COLUMNS` in a subset, or on its chosen contexts [N] alone."""
    used = subset.used(rpm) & chosen
    groups = groups_of(used, subset)
    value, without = estimates.replicates(subset, rpm, groups)
    errors, _ = replicate_error(without)
    record: Record = {"rpm": rpm, "subset": subset.tag, "shift": subset.shift}
    record |= {"n": int(used.sum()), "clusters": count_groups(groups)}
    for k, name in enumerate(COLUMNS):
        found = Contrast(float(value[k]), float(errors[k]), record["clusters"] - 1)
        record |= _estimate(name, found, estimates.settings.confidence)
    return {**record, "p_independence": _p_independence(estimates, subset.rpms[rpm], groups)}


def _p_independence(estimates: Estimates, block: Block, groups: np.ndarray) -> float | None:
    """Only where all pairs are scored and no contexts depend: others cannot be permuted."""
    used, settings = groups >= 0, estimates.settings
    scored = np.isfinite(block.scores[np.ix_(used, used)]).all()
    if used.sum() < MIN_CONTEXTS or not scored or count_groups(groups) < used.sum():
        return None
    lengths = block.lengths if settings.by_token else None
    return independence_test(block.scores, lengths=lengths, where=used, seed=settings.seed)


def _drop(
    estimates: Estimates, subset: Subset, rpm: str, chosen: np.ndarray | bool = True
) -> Record:
    """R-EMID; of a paired subset on the contexts whose answer can be used in both."""
    home, groups, n = estimates.home, None, None
    if paired := is_paired(subset, home):
        both = subset.used(rpm) & home.used(rpm) & chosen
        groups, n = groups_of(both, subset, home), int(both.sum())
    found = estimates.r_emi(rpm, {home.tag: 1.0, subset.tag: -1.0}, groups)
    parts = found.record(estimates.settings.confidence, R_EMID)
    return {**parts, "paired": paired, "n_paired": n}


def _estimate(name: str, found: Contrast, confidence: float) -> Record:
    """A value with its standard error and interval."""
    low, high = found.limits(confidence)
    keys = (name, f"{name}_se", f"{name}_low", f"{name}_high")
    return dict(zip(keys, (number(found.value), number(found.se), low, high), strict=True))


def _expected_kl(subset: Subset, rpm: str, log_p: np.ndarray | None, confidence: float) -> Record:
    """The mean over contexts of log p_θ(y|x) − log q(y|x, r) of the RPM's own answers y."""
    groups = groups_of(subset.answered(rpm), subset)
    kept, found = groups >= 0, Contrast(np.nan, np.nan, 0)
    if log_p is not None and kept.any() and np.isfinite(log_p[kept]).all():
        gaps = log_p - np.diagonal(subset.rpms[rpm].scores)  # in float64: large, little apart
        _, each = expected_kl(gaps[:, None], np.zeros((len(gaps), 1)), kept[:, None])
        value, without = replicates(lambda mask: jnp.mean(each, where=mask), groups)
        found = Contrast(float(value), *map(float, replicate_error(without)))
    return _estimate("expected_kl", found, confidence)
