"""The samples that lose most: their texts, and what each word of an answer owes to the context."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from remid_jax.factor_names import DIALOGUE_PARTS, FACTORS
from remid_jax.report.html.grid import NONE, RPM, SUBSET, Cell, Column, Table, name, without_empty
from remid_jax.report.inert import inert
from remid_jax.report.text import REFERENCES, Figures, Row

EVERY = (*FACTORS, *DIALOGUE_PARTS)  # in the order of a word's figures
LEVELS = (0.1, 0.5, 1.5, 4.0)  # nats from which a word is shaded, four times deeper
WIDEST = 999.0  # nats beyond which a word's figure is cut
LISTED = 40  # samples of the table


class Text(NamedTuple):
    """A text with its heading and, of answers, with shaded words."""

    heading: str
    content: Markup
    is_shaded: bool = False


class Sample(NamedTuple):
    """A sample as the page shows it."""

    rpm: str
    subset: str
    shift: str
    sample: str
    lost: str
    factors: list[tuple[str, str, str]]
    context: list[Text]
    answers: list[Text]


def ordered(examples: Sequence[Row]) -> list[Row]:
    """The worst example of each RPM and subset, the second worst of each, and so on.

    Within a rank those that lose most come first; without golden answers the given order stays.
    """
    places: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for example in examples:
        places[example["rpm"], example["subset"]].append(example)
    ranked = []
    for group in places.values():
        group.sort(key=_loss)
        ranked += [(rank, _loss(e), e) for rank, e in enumerate(group)]
    return [e for _, _, e in sorted(ranked, key=lambda r: r[:2])]


def _loss(example: Row) -> float:
    return 0.0 if example["lost"] is None else -example["lost"]


def sample_of(example: Row, shifts: Mapping[str, str | None], figures: Figures) -> Sample:
    """A sample for the page; `shifts` says what each subset shifts."""
    lost = "no golden answer to compare with"
    if example["lost"] is not None:
        lost = f"loses {figures.value(example['lost'], 1)} nats"
    dialogue = Markup("").join(_turns(example))
    answers = [Text("Answer", _answer(example["answer"], example["words"]), True)]
    if example["golden"] is not None:
        words = example["words_golden"]
        answers.append(Text("Golden answer", _answer(example["golden"], words), True))
    return Sample(
        name(example["rpm"]).text,
        name(example["subset"]).text,
        name(shifts.get(example["subset"])).text,
        name(example["sample_ID"]).text,
        lost,
        list(_factors(example["factors"], figures)),
        [
            Text("User", inert(example["user"])),
            Text(_character(example), inert(example["character"])),
            Text("Dialogue", dialogue),
        ],
        answers,
    )


def _factors(found: Mapping[str, Row], figures: Figures) -> Iterator[tuple[str, str, str]]:
    for factor in EVERY:
        own = found.get(factor) or {}
        both = (own.get(key) for key in ("info", "info_golden"))
        answer, golden = (NONE if x is None else figures.value(x, 2) for x in both)
        yield factor.replace("_", " "), answer, golden


def _character(example: Row) -> str:
    return example["character_name"] or "Character"


def _turns(example: Row) -> Iterator[Markup]:
    for turn in example["dialogue"]:
        who = "User" if turn["speaker"] == "user" else _character(example)
        yield Markup("<p><span class=who>{}</span> {}</p>").format(inert(who), inert(turn["text"]))


def _answer(answer: str, words: Sequence[Row]) -> Markup:
    """Words with their figures in hundredths of a nat, shaded for the first factor."""
    if not words:
        return inert(answer)
    return Markup("").join(map(_word, words))


def _word(word: Row) -> Markup:
    bare = word["text"].lstrip()
    space = word["text"][: len(word["text"]) - len(bare)]
    if not bare:
        return inert(space)
    values = [word["nats"].get(factor) for factor in EVERY]
    classes = " ".join(filter(None, (level_of(values[0]), "c" * bool(word["copied"]))))
    figures = ",".join(map(_hundredths, values))
    kind = Markup(' class="{}"').format(classes) if classes else ""
    return Markup("{}<b{} data-n={}>{}</b>").format(inert(space), kind, figures, inert(bare))


def _hundredths(value: float | None) -> str:
    if value is None:
        return ""
    return str(round(100 * min(max(value, -WIDEST), WIDEST)))


def level_of(value: float | None) -> str:
    """The class of a word's shade: p1 to p4, n1 to n4, or none.

    >>> level_of(0.7), level_of(-9.0), level_of(0.05), level_of(None)
    ('p2', 'n4', '', '')
    """
    size = 0.0 if value is None else abs(value)
    depth = sum(size >= level for level in LEVELS)
    if value is None or not depth:
        return ""
    return f"{'p' if value > 0 else 'n'}{depth}"


def contributions_table(contributions: Iterable[Row], figures: Figures) -> Table | None:
    """The samples of RPMs that take most from R-EMI."""
    own = [r for r in contributions if r["rpm"] not in REFERENCES and r["nats"] is not None]
    if not own:
        return None
    lowest = heapq.nsmallest(LISTED, own, key=lambda r: r["nats"])
    names = [what for factor in FACTORS for what in (factor, f"golden’s {factor}")]
    columns = [RPM, SUBSET, Column("sample", is_text=True), Column("R-EMI"), Column("tokens")]
    rows = [_contribution(r, figures) for r in lowest]
    kept, cells = without_empty([*columns, *map(Column, names)], rows, ("sample", "R-EMI"))
    note = f"{len(lowest)} of {len(own)} samples of RPMs; contributions.jsonl holds all."
    title = "Samples that take most from R-EMI, nats"
    return Table("contributions", title, kept, cells, note)


def _contribution(row: Row, figures: Figures) -> list[Cell]:
    keys = [key for factor in FACTORS for key in (factor, f"{factor}_golden")]
    values = (row.get(key) for key in keys)
    return [
        name(row["rpm"]), name(row["subset"]), name(row["sample_ID"]),
        Cell(figures.value(row["nats"])), Cell(str(row["tokens"])),
        *(Cell(NONE if x is None else figures.value(x, 2)) for x in values),
    ]  # fmt: skip
