"""Programs: one module an experiment, run by `experiments.main`."""
