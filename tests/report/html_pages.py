"""Pages of made-up runs, and what stands in them."""

import base64
import hashlib
import re
from html.parser import HTMLParser

from benchmarks.made_up_run import (
    SUBSETS,
    made_up_contributions,
    made_up_examples,
    made_up_results,
)
from remid_jax.report.html import page

TWO = ["reader", "echoing-8b"]
HOSTILE = (
    '"><script>alert(1)</script><img src=x onerror=alert(2)>',
    "<a href=javascript:alert(3)>here</a> javascript:alert(4)",
    "</b></style></title>{{ 7 * 7 }}<svg onload=alert(5)>",
    "abc\u202egnp.exe\u2066 zero\u200bwidth\ufeff \x1b[31m\u00ad",
)
ESCAPES = ("\\u202e", "\\u2066", "\\u200b", "\\ufeff", "\\u001b", "\\u00ad")


def run_of(rpms=TWO, subsets=tuple(SUBSETS), n=16, each=3, words=60):
    """Results, contributions and examples."""
    results = made_up_results(list(rpms), list(subsets), n)
    contributions = list(made_up_contributions(results, 4))
    return results, contributions, made_up_examples(results, each, words)


def hostile_run():
    """A run in which every text that others write is hostile."""
    names = [f"{text}{k}" for k, text in enumerate(HOSTILE)]
    results, contributions, examples = run_of(names, list(SUBSETS)[:2], each=1, words=8)
    evil = " ".join(HOSTILE)
    results["excluded"][0] |= {"sample_ID": evil, "reason": evil}
    results["warnings"][0]["text"] = evil
    results["provenance"]["command"] += [evil]
    results["provenance"]["config"]["benchmark"] = evil
    results["provenance"]["model"]["name"] = evil
    for cell in results["profile"]:
        cell["reason"] = evil
    for k, example in enumerate(examples["examples"]):
        text = HOSTILE[k % len(HOSTILE)]
        keys = ("sample_ID", "user", "character", "character_name", "golden", "answer")
        example.update(dict.fromkeys(keys, text))
        example["dialogue"] = [{"speaker": "user", "text": text}]
        example["words"] = [{"text": f" {w}", "copied": False, "nats": {}} for w in text.split(" ")]
    gate = [{"limit": evil, "answer": "fails", "why": evil}]
    return results, contributions, examples, gate


def nulled(value, kept=("n", "clusters", "left_out", "confidence", "max_tokens")):
    """Results in which every figure is null, and nothing is shown."""
    if isinstance(value, dict):
        numbers = {k: None for k, v in value.items() if isinstance(v, float) and k not in kept}
        more = {"n_to_show": None, "n_to_tell_half": None, "n_paired": None, "shown": False}
        numbers |= {k: v for k, v in more.items() if k in value}
        return {k: numbers.get(k, nulled(v, kept)) for k, v in value.items()}
    return [nulled(v, kept) for v in value] if isinstance(value, list) else value


def without_golden(results):
    """The results as of a run without golden answers."""
    for row in results["rows"]:
        kept = {"rpm", "subset", "shift", "n", "clusters"}
        row.update({key: None for key in row if key not in kept})
        row["reason"] = "no golden response"
    for cell in results["profile"]:
        lacking = [k for k in cell if "golden" in k or k.startswith(("share", "lost"))]
        cell.update(dict.fromkeys([*lacking, "p_value", "p_holm"]))
        cell.update(shown=False, reason="no golden response", n_to_show=None, n_to_tell_half=None)
    own = {"flags", "by_shift", "worst", "prediction", "prediction_rank", "warnings"}
    results.update({key: [] for key in own})
    results["rows"] = [r for r in results["rows"] if "golden" not in r["rpm"]]
    results["profile"] = [c for c in results["profile"] if "golden" not in c["rpm"]]
    return results


class Document(HTMLParser):
    """The elements of a page, its visible text, and its tables by their ids.

    Attributes:
      elements: (name, attributes) in order.
      text: what stands outside of scripts and styles.
      tables: id -> (headings, rows of cells).
    """

    def __init__(self, html):
        super().__init__()
        self.elements, self.tables = [], {}
        self._texts, self._raw, self._table, self._cell = [], False, None, None
        self.feed(html)
        self.text = "".join(self._texts)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        self._raw = tag in ("script", "style")
        if tag == "table":
            self._table = self.tables.setdefault(found.get("id"), ([], []))
        elif tag == "tr" and self._table is not None:
            self._table[1].append([])
        elif tag in ("td", "th") and self._table is not None:
            self._cell = self._table[1][-1]
            self._cell.append("")

    def handle_endtag(self, tag):
        self._raw = False
        if tag in ("table", "thead", "tbody"):
            self._cell = None
        if tag == "thead" and self._table is not None:
            self._table[0].extend(self._table[1].pop())

    def handle_data(self, data):
        if not self._raw:
            self._texts.append(data)
        if self._cell is not None:
            self._cell[-1] += data.strip("\n")

    def rows(self, name):
        """The rows of a table as heading -> cell."""
        heads, rows = self.tables[name]
        return [dict(zip(heads, row, strict=True)) for row in rows]

    def ids(self):
        return [found["id"] for _, found in self.elements if "id" in found]


def numbers(text):
    """All numbers of a cell."""
    return [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", text)]


def digest(text):
    """As a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def write_pages(folder):
    """The pages that browsers open: name -> path."""
    results, contributions, examples = run_of()
    gate = [
        {"limit": "share.user < 0.8", "answer": "fails", "why": "reader under german: 0.1"},
        {"limit": "r_emid > 5", "answer": "cannot be told", "why": "intervals hold 5"},
        {"limit": "r_emi > -90", "answer": "passes", "why": "all of them, n = 16"},
    ]
    bare = without_golden(run_of()[0])
    made = {
        "two": page(results, contributions, examples, gate),
        "hostile": page(*hostile_run()),
        "bare": page(bare, [], None),
    }
    paths = {name: folder / f"{name}.html" for name in made}
    for name, path in paths.items():
        path.write_text(made[name], encoding="utf-8")
    return paths
