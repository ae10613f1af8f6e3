"""The engine: prefix caches, packed log-likelihoods, sampling, and what they cost."""
