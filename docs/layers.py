"""The picture of the layers, drawn from the table in CONTRIBUTING.md.

python -m docs.layers > docs/layers.svg
"""

import html
import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
OTHERS = "remid_jax/*.py"  # modules that have no row of their own
BOX, LINE, PAD = 214, 16, 10  # pixels: width of a box, height of a line, margin within
GAP, RISE = 28, 56  # between boxes of a level, and between levels
CHARACTERS, LINES = 27, 3  # of a line, and lines of a box
STYLE = """\
text{font:13px system-ui,sans-serif;fill:#1d1d1b}.n{font-weight:600}
rect{fill:#f6f5f1;stroke:#8c8a83}path{fill:none;stroke:#8c8a83;stroke-width:1.2}
@media(prefers-color-scheme:dark){text{fill:#ecebe6}rect{fill:#2b2b28}}"""


def stated() -> dict[str, set[str]]:
    """Row of the table -> rows that it may import, as CONTRIBUTING.md says."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.*]+)` \|.*\| ([^|]+) \|$", text, re.MULTILINE)
    assert rows, "CONTRIBUTING.md has no table of imports"
    names = {re.sub(r"^remid_jax/|/$|\.py$", "", row): row for row, _ in rows} | {"root": OTHERS}
    found = {}
    for row, cell in rows:
        words = [] if cell == "nothing" else cell.split(", ")
        unknown = set(words) - set(names)
        assert not unknown, f"CONTRIBUTING.md, row {row}: no row is called {unknown}"
        found[row] = {names[word] for word in words}
    return found


def jobs() -> dict[str, str]:
    """Row of the table -> its one job, without what is said behind a semicolon."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w/.*]+)` \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    return {row: job.split(";")[0].replace("`", "") for row, job in rows}


def levels(imports: Mapping[str, set[str]]) -> dict[str, int]:
    """Row -> the longest way down from it; a row is above all that it imports."""
    found: dict[str, int] = {}
    for row, below in imports.items():  # each row imports only rows above it in the table
        found[row] = 1 + max((found[name] for name in below), default=-1)
    return found


def direct(imports: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """(row, row that it imports), without what follows from others."""
    return {
        (row, below)
        for row, names in imports.items()
        for below in names
        if not any(below in imports[other] for other in names)
    }


def places(imports: Mapping[str, set[str]]) -> tuple[dict[str, tuple[float, int]], int]:
    """Row -> the middle of its box and the level; and the width of the picture."""
    rows = defaultdict(list)
    for row, level in levels(imports).items():
        rows[level].append(row)
    width = max(map(len, rows.values())) * (BOX + GAP) + GAP
    found = {}
    for level, names in rows.items():
        for k, row in enumerate(names):
            found[row] = (width / 2 + (k - (len(names) - 1) / 2) * (BOX + GAP), level)
    return found, width


def picture() -> str:
    """The layers as SVG: what is imported lies below, without lines that follow from others."""
    imports = stated()
    middle, width = places(imports)
    lines = {row: textwrap.wrap(job, CHARACTERS, max_lines=LINES, placeholder=" …")
             for row, job in jobs().items()}  # fmt: skip
    height = 2 * PAD + LINE * (1 + LINES)
    top = {row: (max(v for _, v in middle.values()) - level) * (height + RISE) + GAP
           for row, (_, level) in middle.items()}  # fmt: skip
    whole = max(top.values()) + height + GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" role="img">',
             f"<title>What imports what</title><style>{STYLE}</style>"]  # fmt: skip
    for row, below in sorted(direct(imports)):
        (x, _), (u, _) = middle[row], middle[below]
        y, v = top[row] + height, top[below]
        bend = (y + v) / 2
        parts.append(f'<path d="M{x:g} {y}C{x:g} {bend:g} {u:g} {bend:g} {u:g} {v}"/>')
    for row, (x, _) in middle.items():
        left, y = x - BOX / 2, top[row]
        parts.append(f'<rect x="{left:g}" y="{y}" width="{BOX}" height="{height}" rx="4"/>')
        for k, text in enumerate([row, *lines[row]]):
            kind = ' class="n"' if not k else ""
            at = y + PAD + LINE * k + 12
            parts.append(f'<text x="{left + PAD:g}" y="{at}"{kind}>{html.escape(text)}</text>')
    return "\n".join([*parts, "</svg>"])


if __name__ == "__main__":
    print(picture())
