"""What is asked of models: requests, their cache, and what executes them."""
