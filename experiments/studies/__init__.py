"""Measurements on worlds with known truth: each module answers one question, in resumable pieces."""
