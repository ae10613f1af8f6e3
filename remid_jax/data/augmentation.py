"""Data augmentation: words exchanged between dialogues, and personas told in other styles.

Pure functions of samples and a random generator. They widen what training sees of users and
dialogues, at the risk of prose that nobody would write.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from remid_jax.data.rules import language_of
from remid_jax.data.samples import Sample
from remid_jax.data.thoughts import is_content_word, split_words

TEXTS = ("persona", "character", "dialogue", "golden")  # attributes of a sample that hold texts
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_CLAUSE = re.compile(r",\s+")


def recombined(sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
    """The sample with a content word of a user turn and one of another sample's exchanged.

    Both words stand in turns that are equally far from the end of their dialogues, and in one of
    these turns alone. They are exchanged in all texts of the sample, the golden response included:
    who wants what stays consistent, and words meet that the data has only apart. Without such words
    the sample is returned as it is.

    Args:
      sample: the sample.
      other: lends a word.
      rng: chooses turn and words.
    """
    turns = [[t for role, t in s.dialogue if role == "user"][::-1] for s in (sample, other)]
    found = []
    for mine, theirs in zip(*turns, strict=False):
        own, given = _distinctive(mine, theirs), _distinctive(theirs, mine)
        if own and given:
            found.append((own, given))
    if not found:
        return sample
    own, given = found[rng.integers(len(found))]
    a, b = (words[rng.integers(len(words))] for words in (own, given))
    return dataclasses.replace(
        sample,
        **{t: _mapped(getattr(sample, t), lambda text: exchanged(text, a, b)) for t in TEXTS},
    )


def _distinctive(text: str, other: str) -> list[str]:
    """Content words of a text that the other lacks, in lower case, each once."""
    known = {word.casefold() for word in split_words(other)}
    words = (w.casefold() for w in split_words(text) if is_content_word(w))
    return [w for w in dict.fromkeys(words) if w not in known]


def exchanged(text: str, a: str, b: str) -> str:
    """The text with every `a` in the place of `b` and the other way round; capitals stay.

    >>> exchanged("Tea? I like tea, not the kettles of the kettle.", "tea", "kettle")
    'Kettle? I like kettle, not the kettles of the tea.'
    """
    to = {a.casefold(): b, b.casefold(): a}

    def replaced(match: re.Match[str]) -> str:
        new = to[match[0].casefold()]
        return new[:1].upper() + new[1:] if match[0][:1].isupper() else new

    pattern = rf"(?<!\w)(?:{re.escape(a)}|{re.escape(b)})(?!\w)"
    return re.sub(pattern, replaced, text, flags=re.IGNORECASE)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """A text, a profile or a dialogue with its texts changed; roles and keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {k: _mapped(v, change) for k, v in value.items()}
    if isinstance(value, tuple):  # the messages of a dialogue
        return tuple((role, change(text)) for role, text in value)
    return [_mapped(v, change) for v in value] if isinstance(value, list) else value


def _parts(persona: str) -> tuple[list[str], str]:
    """Sentences of a persona, or the clauses of its only one; and what joins them."""
    sentences = [s for s in _SENTENCE.split(persona.strip()) if s]
    if len(sentences) > 1:
        return sentences, " "
    return _CLAUSE.split(persona.strip().rstrip(".")), ", "


def _reordered(persona: str, rng: np.random.Generator) -> str:
    parts, joint = _parts(persona)
    order = rng.permutation(len(parts))
    if (order == np.arange(len(parts))).all():
        order = np.roll(order, 1)
    text = joint.join(parts[i] for i in order)
    return text if joint == " " else f"{text}."


def _listed(persona: str, rng: np.random.Generator) -> str:
    return "\n".join(f"- {part}" for part in _parts(persona)[0])


def _terse(persona: str, rng: np.random.Generator) -> str:
    parts = ([w for w in split_words(part) if is_content_word(w)] for part in _parts(persona)[0])
    return "; ".join(" ".join(words) for words in parts if words) or persona


_STYLES: dict[str, Callable[[str, np.random.Generator], str]] = {
    "reordered": _reordered, "listed": _listed, "terse": _terse
}  # fmt: skip
STYLES = tuple(_STYLES)
WORLD_STYLES = ("reordered",)  # those that need no sign which a textual world lacks


def restyled(sample: Sample, style: str, rng: np.random.Generator) -> Sample:
    """The sample with the same facts of its user persona, told in another style.

    `reordered` tells the sentences (of a single one the clauses) in another order, `listed` one a
    line, and `terse` keeps their content words.
    """
    return dataclasses.replace(sample, persona=_STYLES[style](sample.persona, rng))


def augmented(
    samples: Sequence[Sample], pool: Sequence[Sample], share: float, styles: Sequence[str],
    rng: np.random.Generator,
) -> list[Sample]:  # fmt: skip
    """The samples, each with probability `share` recombined, and as often told in another style.

    Args:
      samples: to be augmented; their names stay.
      pool: lends words, those of its samples that have the same language.
      share: of each kind, in [0, 1].
      styles: of `STYLES`; empty: personas stay.
      rng: of all choices.
    """
    found = []
    for sample in samples:
        alike = [s for s in pool if language_of(s) == language_of(sample)]
        if rng.random() < share and alike:
            sample = recombined(sample, alike[rng.integers(len(alike))], rng)
        if rng.random() < share and styles:
            sample = restyled(sample, styles[rng.integers(len(styles))], rng)
        found.append(sample)
    return found
