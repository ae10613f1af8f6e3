"""From arrays to the records of results.json."""

from collections.abc import Mapping, Sequence

from remid_jax.analysis.by_shift import estimate_by_shift
from remid_jax.analysis.comparisons import compare_rpms, find_warnings, worst_shifts
from remid_jax.analysis.contrast import Record
from remid_jax.analysis.contributions import contribution_records
from remid_jax.analysis.factor_information import Swaps, factor_records
from remid_jax.analysis.measures import Estimates
from remid_jax.analysis.rows import LogProbs, estimate_by_language, estimate_rows
from remid_jax.information.pairs import EstimatorSettings, Subset


def analyse(
    subsets: Sequence[Subset],
    settings: EstimatorSettings,
    own_log_probs: LogProbs,
    swaps: Mapping[str, Swaps],
) -> dict[str, list[Record]]:
    """Everything that is estimated from scores.

    Args:
      subsets: the in-distribution one first, `with_reference_rows`.
      settings: how it is estimated.
      own_log_probs: tag -> RPM -> [N] log p_θ of its answers in nats, NaN where it is not known.
      swaps: tag -> (sources, scores) of contexts with a swapped factor, see `factor_records`;
        empty where none were scored.

    Returns:
      The tables `rows`, `by_language`, `by_shift`, `worst`, `comparisons`, `warnings`, `factors`
      and `contributions`; see `schema.TABLES`.
    """
    estimates = Estimates(subsets, settings)
    rows = estimate_rows(estimates, own_log_probs)
    return {
        "rows": rows,
        "by_language": estimate_by_language(estimates),
        "by_shift": estimate_by_shift(rows, estimates),
        "worst": worst_shifts(rows, estimates),
        "comparisons": compare_rpms(estimates),
        "warnings": find_warnings(rows, settings.confidence),
        "factors": factor_records(estimates, swaps),
        "contributions": contribution_records(estimates),
    }
