"""What is asked of models: requests, their cache, what executes them, and the arrays they become."""
