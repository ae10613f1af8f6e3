"""What MkDocs adds to the pages of this folder: those of the root, and the reference of the API."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OF_ROOT = {  # file of the root -> its page
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
API_PAGE = "api.md"
_LINK = re.compile(r"(\]\()([^)\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Adds pages that are written elsewhere."""
    pages = {page: from_root((ROOT / name).read_text("utf-8")) for name, page in OF_ROOT.items()}
    for page, text in {**pages, API_PAGE: api_page()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads links from pages of this folder to files of the root to their pages."""
    up = page.file.src_uri.count("/") * "../"
    return _LINK.sub(lambda link: link[1] + _page_of(link[2], f"{up}../", up), markdown)


def from_root(text: str) -> str:
    """A page of the root, with links as they are from this folder."""
    inside = _LINK.sub(lambda link: link[1] + link[2].removeprefix("docs/"), text)
    return _LINK.sub(lambda link: link[1] + _page_of(link[2], "", ""), inside)


def _page_of(target: str, before: str, after: str) -> str:
    path, mark, anchor = target.partition("#")
    page = OF_ROOT.get(path.removeprefix(before)) if path.startswith(before) else None
    return f"{after}{page}{mark}{anchor}" if page else target


def api_page() -> str:
    """All names that `remid_jax` exports, module by module, from their docstrings."""
    from remid_jax import _NAMES

    parts = ["# Python API\n\nAll of these are names of `remid_jax`, too: `remid_jax.club`.\n"]
    for module, names in _NAMES.items():
        members = "".join(f"\n        - {name}" for name in names)
        parts.append(f"::: remid_jax.{module}\n    options:\n      members:{members}\n")
    return "\n".join(parts)
