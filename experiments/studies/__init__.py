"""Measurements on worlds with known truth: each module is one question, each piece resumable."""
