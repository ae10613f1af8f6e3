"""One module for each experiment, run by `main`."""
