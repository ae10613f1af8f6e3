"""Validity and tightness of every bound on worlds with known truth; `:runlocal` is a small run."""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    c = ConfigDict()
    c.experiment = "bounds"
    c.seed = 0
    c.bounds = (  # names in remid_jax.information.bounds.BOUNDS; the printed formula joins them
        "linear", "linear_tv", "linear_js", "mixture", "mixture_tv", "mixture_js", "factor",
    )  # fmt: skip
    c.worlds = 10_000  # in all families together, rounded up

    c.sampled = ConfigDict()  # the linear bound from samples
    c.sampled.contexts = 256  # N a law
    c.sampled.draws = 1000  # worlds a family, one sample each

    c.prediction = ConfigDict()  # before deployment: no golden OOD responses, q for the channel
    c.prediction.contexts = 256  # N a law
    c.prediction.worlds = 40  # a family
    c.prediction.shifts = 12  # graded shifts a world
    c.prediction.misfit = 0.5  # s.d. of the error of q's logits, nats
    if variant == "runlocal":
        c.worlds = 500
        c.sampled.update(contexts=64, draws=20)
        c.prediction.update(contexts=64, worlds=3, shifts=6)
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    return c
