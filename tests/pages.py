"""The pages of the documentation: their blocks of code, and the commands in these."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "remid_jax.ipynb"
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), NOTEBOOK,
]  # fmt: skip
# A line of a block that is nothing but keys belongs to this command.
OPTIONS = "python -m experiments.main --config benchmark --workdir runs/options"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELLS = ("bash", "sh")


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """(page, code) of each fenced block in one of the languages."""
    for page in PAGES:
        for language, code in _BLOCK.findall(text_of(page)):
            if language in languages:
                yield str(page.relative_to(ROOT)), code


def text_of(page: Path) -> str:
    """The text of a page; of a notebook, that of its cells of text."""
    text = page.read_text(encoding="utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
    return "\n".join("".join(cell["source"]) + "\n" for cell in cells)


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """(page, words) of each command in a shell's block, without comments and redirections."""
    for page, code in blocks(*_SHELLS):
        variables: dict[str, str] = {}
        for line in code.replace("\\\n", " ").split("\n"):
            if line.startswith("--config."):
                line = f"{OPTIONS} {line}"
            line = re.sub(r"\$(\w+)", lambda m, known=variables: known.get(m[1], "0"), line)
            for words in _commands(shlex.split(line, comments=True)):
                if assigned := re.fullmatch(r"(\w+)=(.*)", words[0]):
                    variables[assigned[1]] = assigned[2]
                else:
                    yield page, words


def _commands(words: list[str]) -> Iterator[tuple[str, ...]]:
    """What stands between `&&`, up to a redirection."""
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        command, words = words[:end], words[end + 1 :]
        yield tuple(command[: command.index(">")] if ">" in command else command)
