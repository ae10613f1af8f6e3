"""Every key of every experiment, for `--help EXPERIMENT` and as a page of the documentation.

python -m experiments.reference > docs/configuration.md
"""

from collections.abc import Iterator

from remid_jax.settings import Group, Key, Keys, fault_of, walk

from .configurations import packaged_module

SHOWN = {
    "diagnose": "a diagnosis",
    "monitor": "watching logs, beside most of those of a diagnosis",
    "corl": "training",
    "rpm": "the training of an RPM",
    "corl_world": "the study of training on worlds",
    "calibrate": "the study of estimators and intervals",
    "bounds": "the study of bounds",
    "study_faults": "the study of known faults on real prose",
    "study_methods_world": "the study of training methods on worlds",
    "study_methods_smollm2": "the study of training methods on the bundled benchmark",
}
OWN = {"monitor": ("before", "after"), "corl_world": ("study",)}  # keys that no other page part has
_HEAD = """\
# Configuration

A configuration is a file whose `get_config()` returns a `ConfigDict`; on the command line a key is
set as `--config.KEY=VALUE`. Written by `python -m experiments.reference > docs/configuration.md`.
"""
COLUMNS = ("key", "default", "may be", "meaning")


def keys_for(experiment: str) -> Keys:
    """The keys that an experiment reads."""
    if experiment == "diagnose":
        from remid_jax.evaluation.config import KEYS
    elif experiment == "corl":
        from remid_jax.training.config import KEYS
    elif experiment == "rpm":
        from remid_jax.training.rpm_config import KEYS
    else:
        KEYS = packaged_module(experiment.removesuffix("_thoughts")).KEYS
    return KEYS


def print_keys(experiment: str) -> None:
    """The keys as a table for the terminal."""
    from remid_jax.report.tables import new_table, print_whole

    title = f"keys of {experiment}, set as --config.KEY=VALUE"
    rows = [
        (n, d if len(d) < 40 else "{...}", *rest) for n, d, *rest in _rows(keys_for(experiment))
    ]
    print_whole(new_table(title, COLUMNS, rows, left=COLUMNS))


def _rows(keys: Keys) -> Iterator[tuple[str, str, str, str]]:
    for name, one in walk(keys):
        if isinstance(one, Group):
            yield name, "", "", one.meaning
        else:
            yield name, repr(one.default), _allowed(one), one.meaning


def _allowed(one: Key) -> str:
    if one.allowed and not one.interval:
        return ", ".join(choice or "''" for choice in one.allowed)
    return one.allowed or fault_of(None, one.kind) or "a group of keys"


def page() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for experiment, title in SHOWN.items():
        keys = keys_for(experiment)
        if experiment in OWN:
            keys = {name: keys[name] for name in OWN[experiment]}
        rows = [COLUMNS, ["---"] * len(COLUMNS)]
        rows += [(f"`{n}`", f"`{d}`" if d else "", *rest) for n, d, *rest in _rows(keys)]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        parts.append("\n".join([f"## Keys of {title}\n", *lines, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
