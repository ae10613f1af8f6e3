"""Answers that cannot be scored, and how many of them a run bears."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from remid_jax.data.responses import Answers
from remid_jax.data.samples import Sample
from remid_jax.errors import UserError

ALWAYS_BORNE = 1  # of a few contexts, a single one is any share


def find_excluded(samples: Sequence[Sample], answers: Answers) -> list[dict[str, str]]:
    """Answers without text, as `{rpm, sample_ID, reason}`."""
    return [
        {"rpm": rpm, "sample_ID": s.sample_id, "reason": by_id[s.sample_id].failure}
        for rpm, by_id in answers.items()
        for s in samples
        if not by_id[s.sample_id].text
    ]


def check_excluded(
    tag: str, samples: Sequence[Sample], answers: Answers, config: ConfigDict
) -> None:
    """Refuses an evaluated model of whose answers in a subset too many cannot be scored.

    One answer is borne whatever the share, unless that is 0.

    Raises:
      UserError: naming model, subset, count, limit, and the first of them.
    """
    allowed = config.limits.excluded_share
    most = max(allowed * len(samples), ALWAYS_BORNE if allowed else 0)
    for rpm in answers:
        found = find_excluded(samples, {rpm: answers[rpm]})
        if len(found) > most:
            raise UserError(
                f"{len(found)} of {len(samples)} answers of {rpm!r} in {tag!r} cannot be scored, "
                f"more than config.limits.excluded_share ({allowed:g}) of them; first "
                f"{found[0]['sample_ID']!r}: {found[0]['reason']}"
            )
