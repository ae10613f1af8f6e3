"""Estimators and intervals measured on worlds with known truth; `:runlocal` is a small run."""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """The configuration; variant `runlocal` shrinks everything."""
    c = ConfigDict()
    c.experiment = "calibrate"
    c.seed = 0

    c.coverage = ConfigDict()  # do the intervals hold their population values?
    c.coverage.contexts = (64, 256, 1024)  # N a subset
    c.coverage.clusters = (0, 8, 16)  # characters drawn; 0 is iid
    c.coverage.worlds = 20
    c.coverage.draws = 4000  # in all worlds together
    c.coverage.misfit = 0.5  # s.d. of the error of q's logits, nats

    c.negatives = ConfigDict()  # noise from choosing negatives
    c.negatives.contexts = 250  # N
    c.negatives.shifts = 4  # cyclic shifts; N * shifts pairs a side for both procedures
    c.negatives.worlds = 4
    c.negatives.data_sets = 40
    c.negatives.choices = 200  # of negatives a data set
    c.negatives.misfit = 0.5  # nats
    c.negatives.surfaces = (0.0, 10.0)  # s.d. of the responses' surface forms, nats

    c.accuracy = ConfigDict()  # error of each estimator against exact EMID
    c.accuracy.contexts = (16, 64, 256, 1024)  # N a subset
    c.accuracy.misfits = (0.0, 0.5, 1.0)  # nats
    c.accuracy.draws = 500  # worlds, one sample each
    c.accuracy.sets = 32  # context sets a response, for cross-information
    c.accuracy.calibration_contexts = 256  # held-out ID contexts for the scale of q

    c.faults = ConfigDict()  # power of the columns against faulty models
    c.faults.contexts = 64  # N
    c.faults.worlds = 20
    c.faults.draws = 1000  # in all worlds together
    c.faults.misfit = 0.3  # nats

    c.shapley = ConfigDict()  # attribution to factors
    c.shapley.contexts = 128  # a cell
    c.shapley.worlds = 1000
    c.shapley.misfits = (0.0, 0.5, 1.0)  # nats
    if variant == "runlocal":
        c.coverage.update(contexts=(64,), clusters=(0, 8), worlds=2, draws=40)
        c.negatives.update(data_sets=8, choices=20)
        c.accuracy.update(contexts=(16, 64), misfits=(0.5,), draws=40)
        c.faults.update(worlds=2, draws=40)
        c.shapley.update(worlds=40, misfits=(0.5,))
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; there is only 'runlocal'")
    return c
