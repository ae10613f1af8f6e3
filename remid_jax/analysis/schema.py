"""The keys of results.json: `python -m remid_jax.analysis.schema` prints docs/results_schema.md."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remid_jax.analysis.judge_schema import JUDGE_TABLES, JUDGE_TOP

VERSION = 4
TOP = {
    "schema": f"version of these keys, {VERSION}",
    "provenance": "configuration, command, revision, versions, devices, counts and costs; "
    "`servers`: of each RPM behind one `rpm`, `model`, `url`, `calls`, `retries`, `failures`, "
    "`input_tokens`, `output_tokens` and `cost`, None without a price; "
    "`judges`: the same of each `judge` behind one; `precision`: with `config.model.dtype='auto'` "
    "the `dtype` of likelihoods, `why`, and what it changes in `r_emi`, `info` and `lost`",
    "excluded": "table: answers that could not be scored",
    "answers": "RPM -> what was cut from its answers, and why servers ended them",
    "cut_at_max_tokens": "subset -> RPM -> number of answers that did not end by themselves",
    "profile": "table: what of each factor the answers carry; empty without `profile.swaps`",
    "flags": "table: faults that the profile shows with 95 % confidence",
    "rows": "table: each RPM and reference row in each subset",
    "by_language": "table: `rows` by language, for paired subsets that hold several",
    "by_shift": "table: mean R-EMID of each RPM under each shift",
    "worst": "table: the subset of largest R-EMID of each RPM",
    "prediction": "table: how large R-EMID may get; empty without `prediction.enabled`",
    "prediction_rank": "table: whether that orders RPMs and shifts as R-EMID does; one record",
    "comparisons": "table: every two RPMs on the same contexts of each subset",
    "warnings": "table: answers more predictable than the golden ones",
    "divergences": "table: of the contexts' features; empty without `config.divergences.features`",
    "contributions": "name of the file of what each sample adds and carries, or None",
    "examples": "name of the file of the samples that lose most, or None without a profile",
    **JUDGE_TOP,
}
OPTIONAL = frozenset(JUDGE_TOP)  # written where there is something in them


def _estimate(name: str, meaning: str, unit: str = "nats", error: str = "") -> dict[str, str]:
    """A value, its standard error and its interval."""
    return {
        name: f"{meaning}, {unit}",
        f"{name}_se": f"its standard error, {unit}{error}",
        f"{name}_low": f"lower end of its interval, {unit}",
        f"{name}_high": f"upper end of its interval, {unit}",
    }


_FACTORS = {
    "user": "another user",
    "character": "another character",
    "dialogue": "another dialogue",
    "history": "another dialogue before the last user turn",
    "last_turn": "another last user turn",
}
_RPM = {"rpm": "name of the evaluated model"}
_PLACE = {"rpm": "name of the evaluated model or reference row", "subset": "its tag"}
_TEST = {
    "within_noise": "whether the interval holds 0",
    "p_value": "two-sided, of a true value of 0 (Student)",
    "detectable": "smallest true size found with power .8, nats; None at a confidence up to .2",
}
_R_EMID = {
    "r_emid": "R-EMI in distribution − R-EMI here, nats, larger is worse; None in distribution",
    "r_emid_se": "its standard error, nats",
    "r_emid_low": "lower end of its interval, nats",
    "r_emid_high": "upper end of its interval, nats",
    **_TEST,
}
_LEVEL = {
    **_PLACE,
    "shift": "what is shifted; None in distribution",
    "n": "contexts whose answer and golden response can be used",
    "clusters": "groups that the jackknife deletes; below 3 there are no values",
    **_estimate(
        "r_emi", "information of the answers about context and reasoning minus the golden ones'"
    ),
    **_estimate("r_emi_token", "R-EMI", "nats per token"),
    **_estimate("emi", "R-EMI without reasoning"),
    **_estimate(
        "retained", "share of the golden responses' information that the answers keep", "no unit"
    ),
    **_estimate(
        "baseline", "mean log q of a token minus golden's; holds no information", "nats per token"
    ),
    "p_independence": "of answers that ignore their contexts; None if clustered or pairs lack",
    **_R_EMID,
    "paired": "whether samples are compared with their counterparts; None without R-EMID",
    "n_paired": "contexts used in both subsets; None unless paired",
    "p_holm": "`p_value` adjusted over the subsets of the RPM",
}
_DIFFERENCE = {
    "difference": "nats",
    "se": "its standard error, nats",
    "low": "lower end of its interval, nats",
    "high": "upper end of its interval, nats",
}


def _draws(name: str) -> dict[str, str]:
    """Columns about several answers a context, of a value."""
    return {
        "draws_share": f"of the variance of `{name}`, what the sampling of several answers a "
        "context adds, at most 1, no unit; None with one answer a context or clusters",
        "draws_share_se": "its standard error over contexts, no unit",
        "draws_worth_it": f"answers a context that make the variance of `{name}` times cost "
        "smallest, at the costs of this run; None: not known, or no number is enough",
    }


_WORST = ("rpm", "subset", "shift", "r_emid", "r_emid_low", "r_emid_high", "within_noise")
TABLES: dict[str, dict[str, str]] = {
    "excluded": {
        "rpm": "name of the evaluated model, or `golden`: its context is left out for all",
        "sample_ID": "of the context",
        "reason": "why there is nothing to score",
    },
    "profile": {
        **_PLACE,
        "factor": "user, character, dialogue, or its parts history and last_turn; or name, what of "
        "the character goes with a made-up name in its place, if `config.profile.name` is set",
        "n": "contexts with an answer and a partner whose factor differs, or a name to replace",
        "left_out": "contexts with an answer but without such a partner or name",
        "reason": "why there is no share, or None",
        **_estimate(
            "info",
            "mean δ: what own words of the answers lose with the factor of a partner",
            error="; contexts are deleted as rows and as partners",
        ),
        "info_golden": "the same of the golden responses, nats",
        "info_golden_se": "its standard error, nats",
        "share": "`info` / `info_golden`, no unit; None unless shown",
        "share_low": "lower end of its interval (Fieller), no unit",
        "share_high": "upper end of its interval, no unit",
        "shown": "whether golden's information is known well enough to divide by it",
        "n_to_show": "contexts that would show golden's information with power .8; None: too many",
        "n_to_tell_half": "contexts that would show a loss of half of it; None: too many",
        **_estimate("lost", "`info_golden` − `info`", error=", over contexts"),
        "p_value": "two-sided, of no loss (paired t)",
        "p_holm": "`p_value` adjusted over user, character, dialogue; or over the two parts; the "
        "name's as it is",
        **_estimate(
            "copied", "share of the answers' tokens that are copied from the context", "no unit"
        ),
        "info_copied": "mean δ of copied words, nats; `info` goes without it",
        "info_copied_golden": "the same of the golden responses, nats",
        "share_drop": "`share` in distribution − `share` here, no unit; None unless both are shown",
        "share_drop_low": "lower end of its interval (MOVER), no unit",
        "share_drop_high": "upper end of its interval, no unit",
        "u": "Σ δ / Σ −log q of own words under another sample's context, no unit; needs no golden",
        "u_low": "lower end of its interval, no unit",
        "u_high": "upper end of its interval, no unit",
        "collapsed": "whether `u` is shown to be below .3 of that in distribution; None if unknown",
        **_draws("info"),
    },
    "flags": {
        **_PLACE,
        "flag": "ignores, contradicts, copies_last_turn, echo, copies_persona, context_free or "
        "colder_than_golden",
        "factor": "of ignores and contradicts; None of others",
    },
    "rows": {
        **_LEVEL,
        "reason": "why nothing is compared with golden responses, or None",
        "cross_information": "minus golden's, nats; None if pairs or contexts lack",
        "cross_information_se": "its standard error, nats",
        "cross_information_K": "contexts that it tells apart, the same in all rows",
        "saturation": "share of log K that the answers reach",
        "saturation_golden": "share of log K that the golden responses reach",
        "saturated": "whether one of them is above .9, where the difference tells nothing",
        **_estimate(
            "expected_kl", "mean of log p(answer) under its RPM − log q; None if p is not known"
        ),
        "draws": "mean number of answers a context",
        **_draws("r_emi"),
    },
    "by_language": {"language": "of the samples, and of their negatives", **_LEVEL},
    "by_shift": {
        **_RPM,
        "method": "`one at a time`: shifts do not add up to a joint one",
        "named": "the largest shift where it is above 0 and distinguished from all others, or None",
        "not_distinguished_from": "shifts that the largest is not distinguished from",
        "shifts": "table `by_shift.shifts`",
    },
    "by_shift.shifts": {
        "shift": "its name",
        "subsets": "tags of its subsets with an R-EMID",
        "other_languages": "of these subsets but not in distribution: nats are not comparable",
        **_R_EMID,
        "r_emid": "mean R-EMID over the subsets, nats, larger is worse; None without an error",
        "p_holm": "`p_value` adjusted over the shifts of the RPM",
    },
    "worst": {
        **{key: _LEVEL[key] for key in _WORST},
        "not_distinguished_from": "other subsets that may be the worst",
    },
    "prediction": {
        **_RPM,
        "subset": "tag of a shifted one; its golden responses enter `bound` and `measured` alone",
        "shift": "what is shifted",
        "n": "its contexts with an answer of the RPM and one of q",
        "n_id": "contexts in distribution with an answer of the RPM and a golden one",
        "predicted": "`predict_worst_case`, nats: q's answers stand in for golden ones; it neither "
        "bounds R-EMID nor ranks quality; None below 3 contexts of either",
        "predicted_se": "its standard error over contexts, all taken as independent, nats; None "
        "where they are clustered",
        "predicted_low": "lower end of its interval, nats",
        "predicted_high": "upper end of its interval, nats",
        "bound": "`linear_bound_estimate` with golden responses, nats; with q in place of the true "
        "law it bounds nothing; None without them",
        "bound_se": "its standard error, as above, nats",
        "bound_low": "lower end of its interval, nats",
        "bound_high": "upper end of its interval, nats",
        "measured": "`r_emid` of the same RPM and subset, from all their contexts, nats",
        "measured_low": "lower end of its interval, nats",
        "measured_high": "upper end of its interval, nats",
    },
    "prediction_rank": {
        "n": "pairs of RPM and subset with a prediction and an R-EMID",
        "spearman": "rank correlation of both, no unit; None below 4 pairs",
        "p_value": "two-sided, of pairs in random order; those of one RPM or subset depend",
    },
    "comparisons": {
        "first": "name of an evaluated model",
        "second": "name of another",
        "subset": "its tag",
        "n": "contexts whose answers of both can be used",
        **_DIFFERENCE,
        "difference": "R-EMI of the first minus that of the second, nats, paired",
        **_TEST,
        "p_sign_flip": "of answers that are exchangeable between the two; None unless club",
        "p_holm": "`p_sign_flip` adjusted over the subsets for these two",
    },
    "warnings": {
        **_PLACE,
        "kind": "`r_emi_above_golden` or `baseline_above_golden`",
        "p_holm": "of a true value of 0, adjusted over the subsets of the RPM",
        "text": "the same in words",
    },
    "divergences": {
        "subset": "its tag",
        "factor": "user, character, dialogue, or context for all of them",
        "n": "contexts of the subset",
        "n_id": "contexts in distribution",
        "n_rjsd": "contexts of each in the representation divergence",
        "rjsd": "representation Jensen-Shannon divergence of the features, nats",
        "rjsd_floor": "its mean over relabellings, nats",
        "rjsd_corrected": "`rjsd` − `rjsd_floor`, nats",
        "rjsd_p": "share of relabellings as far apart; None where contexts are clustered",
        "classifier_js": "Jensen-Shannon divergence by a classifier, nats; may be below 0",
        "classifier_js_error": "its standard error, nats",
        "shift": "what is shifted",
        "features": "`hidden` states of the scorer, or `sentence` features",
        "paired": "whether labels are exchanged within pairs",
    },
    **JUDGE_TABLES,
    "contributions.jsonl": {
        **_PLACE,
        "sample_ID": "of the context",
        "nats": "what it adds to R-EMI, which is the mean over the samples; None without R-EMI",
        "of_mean": "its part of that mean, nats: `nats` / n",
        "tokens": "scored tokens of the answer, or of all answers to the context",
        **{f: f"δ: what the answer's own words lose with {x}, nats" for f, x in _FACTORS.items()},
        **{f"{f}_golden": "the same of the golden response, nats" for f in _FACTORS},
    },
    "examples.json": {
        "schema": f"version of these keys, {VERSION}",
        "examples": "table `examples.json: examples`",
    },
    "examples.json: examples": {
        "rpm": "name of the evaluated model",
        "subset": "its tag; of each RPM and subset the 3 samples that lose most",
        "sample_ID": "of the context",
        "lost": "Σ of golden's δ − the answer's over user, character and dialogue, nats; None "
        "without a golden response: the samples of lowest Σ δ then",
        "factors": "factor -> `info` and `info_golden`, the δ of `contributions.jsonl`",
        "user": "the user's persona",
        "character": "the character's profile, as prompts have it",
        "character_name": "its name, as far as it is known",
        "dialogue": "list of `speaker` (user or character) and `text`",
        "golden": "the golden response, or None",
        "answer": "the RPM's answer; of several, the first",
        "words": "table `examples.json: words` of the answer",
        "words_golden": "the same of the golden response",
    },
    "examples.json: words": {
        "text": "a word with the space before it, or a part of one that is copied in part",
        "copied": "whether it is copied from the context, and counts for nothing in δ",
        "nats": "factor -> log q of its tokens under the own context − the mean over swapped ones; "
        "None without a partner. With one answer its sum over own words is δ / the sample's weight",
    },
}


def check_results(results: Mapping[str, Any]) -> None:
    """Checks the keys of all records.

    Raises:
      ValueError: naming the first record whose keys are others than those of this schema.
    """
    top = TOP.keys() - (OPTIONAL - results.keys())
    _check_keys(results, {key: TOP[key] for key in top}, "results.json")
    if results["schema"] != VERSION:
        raise ValueError(f"results.json: schema is {results['schema']!r}, not {VERSION}")
    for table in (name for name in TABLES if name in top):
        for i, record in enumerate(results[table]):
            _check_keys(record, TABLES[table], f"results.json: {table}[{i}]")
            for k, shift in enumerate(record["shifts"] if table == "by_shift" else ()):
                where = f"results.json: {table}[{i}].shifts[{k}]"
                _check_keys(shift, TABLES["by_shift.shifts"], where)


def check_run(
    results: Mapping[str, Any],
    contributions: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
) -> None:
    """Checks the keys of all records of results.json, contributions.jsonl and examples.json.

    Raises:
      ValueError: as `check_results`.
    """
    check_results(results)
    for name, records in (
        ("contributions.jsonl", contributions),
        ("examples.json: examples", examples),
    ):
        for i, record in enumerate(records):
            _check_keys(record, TABLES[name], f"{name}[{i}]")


def _check_keys(record: Mapping[str, Any], expected: Mapping[str, str], where: str) -> None:
    missing, unknown = sorted(expected.keys() - record), sorted(record.keys() - expected)
    if missing or unknown:
        raise ValueError(f"{where}: missing keys {missing}, unknown keys {unknown}")


def markdown() -> Iterator[str]:
    """The lines of docs/results_schema.md."""
    yield "# The keys of results.json\n"
    yield "Written by `python -m remid_jax.analysis.schema`. Values in nats are per response, or"
    yield "per token where `config.estimator.normalisation` is `token`; a value is None (`null`)"
    yield "where there is none, as with fewer than 3 usable contexts or clusters."
    for title, keys in {"top level": TOP, **TABLES}.items():
        yield f"\n## {title}\n\n| key | meaning |\n|---|---|"
        yield from (f"| `{key}` | {meaning} |" for key, meaning in keys.items())


if __name__ == "__main__":
    print("\n".join(markdown()))
