"""The page: its parts in order, and a policy that lets it load and run nothing but itself."""

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from remid_jax.report.html.ending_part import command_of, configuration, notes_section, origins
from remid_jax.report.html.judges_part import judges_section
from remid_jax.report.html.measures_part import (
    measures_section,
    needs_section,
    prediction_section,
    risk_section,
)
from remid_jax.report.html.profile_part import profile_section
from remid_jax.report.html.samples_part import (
    EVERY,
    LEVELS,
    contributions_table,
    ordered,
    sample_of,
)
from remid_jax.report.html.terms import TERMS
from remid_jax.report.html.verdict_part import compared, verdicts
from remid_jax.report.inert import LAYOUT, plain
from remid_jax.report.svg import picture_style
from remid_jax.report.text import Figures, Row, rpms_of, short, span

LARGEST = 292_000  # bytes of a page, if its tables leave room for
LEAST = 60_000  # bytes of samples


def page(
    results: Mapping[str, Any],
    contributions: Iterable[Row],
    examples: Mapping[str, Any] | None,
    gate: Sequence[Row] = (),
) -> str:
    """The report of a run as one HTML file.

    Args:
      results: the content of results.json.
      contributions: records of contributions.jsonl; none where nothing was compared.
      examples: the content of examples.json, or None where the run has none.
      gate: what was decided, records with `limit`, `answer` (passes, fails, cannot be told) and
        `why`.

    Returns:
      HTML that loads nothing; texts of samples and answers are inert. Samples are left out, the
      last of `ordered` first, where the page would be larger than 300 kB.
    """
    figures = Figures(results["provenance"]["config"]["estimator"])
    before = [
        profile_section(results, figures),
        measures_section(results, figures),
        risk_section(results, figures),
        needs_section(results, figures),
        prediction_section(results, figures),
        judges_section(results, figures),
    ]
    values = {
        **_heading(results),
        "gate": [_answer(record) for record in gate],
        "verdicts": verdicts(results, figures),
        "compared": compared(results, figures),
        "sections": [section for section in before if section is not None],
        "contributions": contributions_table(contributions, figures),
        "notes": notes_section(results, figures),
        "command": command_of(results["provenance"]),
        "origins": list(origins(results["provenance"])),
        "configuration": configuration(results["provenance"]),
        "terms": TERMS,
        "factors": [factor.replace("_", " ") for factor in EVERY],
        "levels": LEVELS,
        "has_examples": examples is not None,
    }
    known = ordered(examples["examples"]) if examples else []
    bare = _render("page.html", **values, **_code(), samples=[], left_out=0)
    shifts = {r["subset"]: r["shift"] for r in results["rows"]}
    fitting = _fitting(known, max(LARGEST - len(bare.encode()), LEAST), shifts, figures)
    left_out = len(known) - len(fitting)
    return _render("page.html", **values, **_code(), samples=fitting, left_out=left_out)


def _fitting(
    examples: Sequence[Row], room: int, shifts: Mapping[str, str | None], figures: Figures
) -> list[str]:
    """The first samples, as HTML, of which so many bytes hold."""
    found = []
    for k, example in enumerate(examples):
        sample = sample_of(example, shifts, figures)
        html = _render("sample.html", sample=sample, is_open=not k)
        room -= len(html.encode())
        if room < 0:
            break
        found.append(html)
    return found


def _heading(results: Mapping[str, Any]) -> dict[str, str]:
    rows = results["rows"]
    rpms, tags = rpms_of(rows), list(dict.fromkeys(r["subset"] for r in rows))
    names = [short(rpm, 40) for rpm in rpms]
    who = names[0] if len(names) == 1 else f"{len(names)} role-playing models"
    shifted = {r["subset"]: r["shift"] for r in rows if r["shift"]}
    where = f"in distribution ({short(tags[0], 30)})"
    if shifted:
        kinds = ", ".join(short(s, 20) for s in dict.fromkeys(shifted.values()))
        plural = "s" * (len(shifted) > 1)
        where += f" and under {len(shifted)} shifted subset{plural} ({kinds})"
    n = span([r["n"] for r in rows if r["rpm"] in rpms])
    q = short(results["provenance"]["model"]["name"], 60)
    verb = "Does" if len(names) == 1 else "Do"
    about = f"{', '.join(names[:4])}{f' and {len(names) - 4} more' * (len(names) > 4)}: "
    about += f"what their answers carry of the context, {where}, on {n} contexts of each, in "
    about += f"likelihoods of {q}."
    return {"title": f"{verb} {who} hold under shift?", "about": about}


def _answer(record: Row) -> dict[str, str]:
    tones = {"passes": "good", "fails": "bad"}
    said = {key: record[key] for key in ("limit", "answer", "why")}
    return {**said, "tone": tones.get(record["answer"], "unsure")}


@functools.cache
def _code() -> dict[str, str]:
    """Style, script and the policy that names both by their hashes."""
    static = resources.files(__package__) / "static"
    style = (static / "page.css").read_text(encoding="utf-8") + picture_style()
    script = (static / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return {"style": style, "script": script, "policy": policy}


def _hash(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """Every text that a template writes passes here: none holds a hidden character."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return plain(value, LAYOUT) if is_text else value


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
