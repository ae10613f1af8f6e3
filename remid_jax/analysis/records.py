"""From arrays to the records of results.json."""

from collections.abc import Mapping, Sequence

from remid_jax.analysis.by_shift import estimate_by_shift
from remid_jax.analysis.comparisons import compare_rpms, find_warnings, worst_shifts
from remid_jax.analysis.contrast import Record
from remid_jax.analysis.contributions import contribution_records
from remid_jax.analysis.judges import judge_records
from remid_jax.analysis.measures import Estimates
from remid_jax.analysis.prediction import prediction_records
from remid_jax.analysis.profile import profile_records
from remid_jax.analysis.rows import LogProbs, estimate_by_language, estimate_rows
from remid_jax.information.bound_estimates import PredictionBlocks
from remid_jax.information.judgments import Judgments
from remid_jax.information.pairs import EstimatorSettings, Subset, Swapped


def analyse(
    subsets: Sequence[Subset],
    settings: EstimatorSettings,
    own_log_probs: LogProbs,
    swaps: Mapping[str, Swapped],
    prediction: Mapping[str, Mapping[str, PredictionBlocks]],
    context_cost: float | None = None,
    judged: Sequence[Judgments] = (),
) -> dict[str, list[Record]]:
    """The tables of all that is estimated from scores; see `schema.TABLES`.

    Args:
      subsets: the in-distribution one first, `with_reference_rows`.
      settings: how it is estimated.
      own_log_probs: tag -> RPM -> [N] log p_θ of its answers in nats, NaN where it is not known.
      swaps: tag -> scores under contexts with a swapped factor.
      prediction: shifted tag -> RPM -> what its worst case is predicted from; empty when off.
      context_cost: of one more context, in answers; None where no context has several.
      judged: what each judge said; the tables of judges are there where one did.
    """
    estimates = Estimates(subsets, settings, context_cost)
    profile, flags = profile_records(estimates, swaps)
    rows = estimate_rows(estimates, own_log_probs)
    predicted, rank = prediction_records(prediction, rows, estimates)
    return {
        "profile": profile,
        "flags": flags,
        "rows": rows,
        "by_language": estimate_by_language(estimates),
        "by_shift": estimate_by_shift(rows, estimates),
        "worst": worst_shifts(rows, estimates),
        "prediction": predicted,
        "prediction_rank": rank,
        "comparisons": compare_rpms(estimates),
        "warnings": find_warnings(rows, settings.confidence),
        "contributions": contribution_records(estimates, swaps),
        **(judge_records(judged, estimates, swaps) if judged else {}),
    }
