"""How information is estimated from pair matrices."""

import dataclasses
from typing import Any

MIN_CONTEXTS = 3  # a jackknife of a pair statistic needs them


@dataclasses.dataclass(frozen=True)
class EstimatorSettings:
    """What the analysis takes from a configuration; see `config.estimator`.

    Attributes:
      name: club, infonce or leave_one_out.
      normalisation: `sequence` gives nats per response, `token` nats per token.
      negatives: all, cyclic or random.
      num_negatives: shifts of cyclic negatives, or random draws in all.
      emi_shifts: cyclic shifts of EMI without reasoning; 0 takes the pairs of R-EMI.
      confidence: level of all intervals and tests, in (0, 1).
      seed: of random negatives, context sets and permutations.
    """

    name: str
    normalisation: str
    negatives: str
    num_negatives: int
    emi_shifts: int
    confidence: float
    seed: int

    @classmethod
    def from_config(cls, config: Any) -> "EstimatorSettings":
        """Reads `config.estimator` and `config.seed`."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "seed"]
        return cls(**{name: config.estimator[name] for name in names}, seed=config.seed)

    @property
    def by_token(self) -> bool:
        """Whether values are nats per token."""
        return self.normalisation == "token"
