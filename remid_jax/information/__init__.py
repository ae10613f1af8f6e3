"""Estimators and uncertainty: pure functions on arrays."""
