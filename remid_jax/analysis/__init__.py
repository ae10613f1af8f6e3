"""Arrays in, records out: measures, contrasts, and what may be said of them."""
