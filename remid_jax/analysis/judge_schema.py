"""The keys of the tables of judges in results.json."""

JUDGE_TOP = {
    "judges": "table: judges and their calibration; this and the next three only with judges",
    "judge_scores": "table: what each judge says of each row in each subset",
    "judge_agreement": "table: how far calibrated judges of one mode agree",
    "judge_correlations": "table: whether measures order RPMs and shifts as such a judge does",
}


def _mean(name: str, meaning: str) -> dict[str, str]:
    """A mean over contexts, its interval, and what it is made of."""
    return {
        name: f"{meaning}; None below 3 contexts",
        f"{name}_low": "lower end of its interval",
        f"{name}_high": "upper end of its interval",
        f"{name}_n": "values in it",
        f"{name}_contexts": "contexts behind them, counterparts and clusters counted once",
    }


JUDGE_TABLES: dict[str, dict[str, str]] = {
    "judges": {
        "judge": "its name",
        "mode": "`pairwise`: two answers in both orders; `pointwise`: one with a score",
        "source": "its model and server, or the file of its judgments",
        "calls": "judgments that were asked for",
        "unscored": "those whose reply holds no judgment; they count nowhere else",
        "stopped": "whether it was asked about no RPM, since it failed its calibration",
        "calibrated": "whether `accuracy` is at least .75; else it enters no other table",
        "reason": "why it is not calibrated, or None",
        **_mean(
            "accuracy",
            "share of reference rows that golden is put above, in both orders where pairs are "
            "judged (a coin: .25); a tie is wrong",
        ),
        **_mean("accuracy_shuffled", "the same, of shuffled golden alone"),
        **_mean("accuracy_unshifted", "the same, of unshifted alone"),
        **_mean("accuracy_echo", "the same, of echo alone"),
        **_mean("flips", "share of pairs whose verdict changes with the order"),
        **_mean(
            "retest_variance",
            "of repeated calls about one answer, or a pair in one order (win 1, tie .5, loss 0)",
        ),
    },
    "judge_scores": {
        "judge": "its name",
        "calibrated": "whether it is",
        "subset": "its tag",
        "rpm": "name of the evaluated model or reference row",
        "against": "what is compared with it; None of scores",
        "n": "contexts with a judgment, in both orders where pairs are judged",
        "value": "win rate, a tie (or a flip) counting half; or mean score; None below 3 contexts",
        "value_low": "lower end of its interval",
        "value_high": "upper end of its interval",
        "flips": "share of pairs whose verdict changes with the order; None of scores",
        "flips_low": "lower end of its interval",
        "flips_high": "upper end of its interval",
    },
    "judge_agreement": {
        "mode": "of the judges",
        "judges": "names of those that are calibrated",
        "n": "judgments of RPMs that two of them share; reference rows stay out",
        "contexts": "behind them",
        "alpha": "Krippendorff's α at interval level: 1 perfect, 0 chance",
        "alpha_low": "lower end of its interval (jackknife over contexts)",
        "alpha_high": "upper end of its interval",
        "reason": "why there is none, or None",
    },
    "judge_correlations": {
        "judge": "its name",
        "measure": "`r_emi`, `baseline`, `lost` (mean over user, character, dialogue), beside its "
        "win rate against golden or mean score; `r_emid`, beside the drop of that",
        "cells": "RPM × subset with both",
        "rpms": "among them",
        "subsets": "among them",
        "contexts": "that are deleted in turn, each from all RPMs and with its counterparts",
        "pearson": "correlation over the cells; noise within them pulls it to 0; None below 4",
        "pearson_low": "lower end of its interval: these RPMs and shifts, other contexts",
        "pearson_high": "upper end of its interval",
        "spearman": "rank correlation",
        "spearman_low": "lower end of its interval; rough, as ranks jump",
        "spearman_high": "upper end of its interval",
        "reason": "why there is none, or None",
    },
}
