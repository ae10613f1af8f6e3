"""What is asked of models: requests, their cache, what executes them, and the resulting arrays."""
