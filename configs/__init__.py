"""Configurations, found by their names: `--config NAME[:VARIANT]`."""
