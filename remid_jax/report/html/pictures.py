"""Pictures within the page, whose style sheet they share."""

from markupsafe import Markup, escape

from remid_jax.report.strips import WIDTH, Panel, draw


def inline(panel: Panel) -> Markup:
    """A panel as an element of the page; the tables hold its figures."""
    name = escape(f"{panel.title}, {panel.unit}; the table below holds the figures")
    return Markup(
        f'<svg class="pic" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {panel.height}" '
        f'width="{WIDTH}" height="{panel.height}">{draw(panel)}</svg>'
    )
