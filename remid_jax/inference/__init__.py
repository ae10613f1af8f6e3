"""Prefix caches, pair log-likelihoods and sampling."""
