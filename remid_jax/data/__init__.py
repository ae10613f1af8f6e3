"""Samples, RPGBench files, the bundled benchmark, shifts and prompts."""
