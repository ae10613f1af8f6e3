"""What the words of the page mean, a sentence each."""

TERMS = {
    "n": "The number of contexts behind a figure; a range where figures of one row differ in it.",
    "interval": "Brackets hold the confidence interval, ± a standard error; both come from "
    "resampling the contexts, not from the model.",
    "golden": "Answers written for the benchmark: the measure of all shares, always 100 %.",
    "q": "The one language model that judges all likelihoods; it decides what counts as "
    "information.",
    "information": "How much less likely the own words of an answer become, in nats, when one "
    "factor of the context is swapped for another sample's.",
    "share": "Information in the RPM's answers divided by that in golden answers; 0 is nothing, "
    "and above 100 % is no merit.",
    "own words": "Words that are not copied from the context, names aside; copied words are "
    "counted apart.",
    "loss": "A star marks answers that carry less than golden ones, p below 0.05 after Holm's "
    "correction.",
    "ignores": "Flagged where the answers are shown, at 95 %, to carry less than half of golden's "
    "information about the factor.",
    "reference rows": "Rulers: unshifted answers as if the shift had never happened, echo repeats "
    "the last user turn, shuffled golden are golden answers to other contexts.",
    "u": "Information as a share of the uncertainty of the own words under another sample's "
    "context; it needs no golden answers.",
    "collapsed": "u is shown to be below 0.3 of what it is in distribution.",
    "R-EMI": "Information that the answers carry about context and reasoning, minus that of the "
    "golden answers, in nats.",
    "R-EMID": "R-EMI in distribution minus R-EMI under the shift: positive means that the shift "
    "hurts.",
    "baseline": "Mean log-likelihood of a token minus golden's; it holds no information about the "
    "context, and is high for bland or greedy text.",
    "retained": "The part of golden's information that the answers keep.",
    "EMI": "R-EMI without the reasoning.",
    "E KL": "Mean log-likelihood of an answer under its own RPM minus under q.",
    "p (Holm)": "Two-sided p-value, corrected by Holm for the number of comparisons of the RPM.",
    "seen with power 0.8": "The smallest true R-EMID that so many contexts would show four times "
    "out of five.",
    "not distinguished": "Shifts or subsets whose difference from the largest has an interval that "
    "holds 0: any of them may be the worst.",
    "to show": "Contexts at which golden's information would be shown with power 0.8, so that a "
    "share can be given.",
    "to tell half": "Contexts at which a loss of half of golden's information would be shown with "
    "power 0.8.",
    "predicted": "The worst case estimated without golden answers to shifted contexts; it neither "
    "bounds R-EMID nor ranks quality.",
    "bound": "The sampled linear bound with golden answers; with q in place of the true law it "
    "bounds nothing.",
    "calibrated": "A judge that puts golden answers above shuffled golden, unshifted and echo in "
    "at least 75 % of the cases; a tie, or a verdict that changes with the order, is wrong.",
    "flip": "A verdict that changes when the two answers are shown in the other order; it counts "
    "as a tie.",
    "agreement": "Krippendorff’s α over what judges say of RPMs: 1 is perfect, 0 what chance "
    "gives.",
    "judge correlation": "Over RPM × subset, of means over contexts: noise within them pulls it "
    "to 0, and few cells leave it open.",
    "lost": "Golden's information minus the answer's on one sample, over user, character and "
    "dialogue.",
    "shade": "log q of a word under its own context minus under contexts with the factor swapped: "
    "blue words depend on the factor, orange ones speak against it.",
}
