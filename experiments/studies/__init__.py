"""Measurements on worlds with known truth: one question a module, in resumable pieces."""
