"""Programs: one module an experiment, run by `main`."""
