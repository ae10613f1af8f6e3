"""From a benchmark and responses to an R-EMID report."""
