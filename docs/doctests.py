"""Shows doctests as examples: Griffe takes them for text unless a title says so."""

import re
import textwrap
from typing import Any

from griffe import Extension, Object

_DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Doctests(Extension):
    """Sets each doctest at the left edge of a docstring under the title of examples."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Changes the docstring of what Griffe has just read."""
        if obj.docstring:
            obj.docstring.value = as_examples(obj.docstring.value)


def as_examples(docstring: str) -> str:
    """The docstring with a title above each doctest."""
    return _DOCTEST.sub(lambda m: f"Examples:\n{textwrap.indent(m[0], '    ')}", docstring)
