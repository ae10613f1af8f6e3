"""Decoders, weights, tokenizers and chat templates."""
