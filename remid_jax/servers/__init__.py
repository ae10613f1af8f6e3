"""Chat models behind OpenAI-compatible servers."""
