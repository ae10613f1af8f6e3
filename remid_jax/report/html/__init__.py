"""The report as one HTML page: no network, no computation, no trust in the texts that it shows."""

from remid_jax.report.html.document import page

__all__ = ["page"]
