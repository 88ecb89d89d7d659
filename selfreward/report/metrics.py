"""Each figure of a report: its name, how it is written, what it means and where it comes from."""

from dataclasses import dataclass
from enum import StrEnum

from selfreward.types import Metric, Suite

PAPER = "Self-Rewarding Language Models (arXiv 2401.10020)"
WILSON = "Wilson's score interval, for a share of independent items"
BOOTSTRAP = "bootstrap that resamples whole prompts, whose items hang together"
JACKKNIFE = "jackknife that leaves out one prompt at a time"
ITSELF, INDEPENDENT = "%, judged by itself", "%, independent judge"


class Scale(StrEnum):
    """How a figure is written."""

    PERCENT = "percent"
    COEFFICIENT = "coefficient"
    """From −1 or 0 to 1, with two digits."""
    COUNT = "count"


@dataclass(frozen=True, kw_only=True)
class Description:
    """One line of a report: which figure it is and how to read it."""

    metric: Metric
    label: str
    """At most 20 characters, as `unit`: they are the first column of a table of 80."""
    unit: str
    items: str
    """What n counts."""
    about: str
    source: str = PAPER
    interval: str = WILSON
    scale: Scale = Scale.PERCENT
    directed: bool = True
    """Whether higher is better, or lower: a figure that is neither gets no arrow."""
    chance: float | None = None
    """What a coin would reach."""
    suite: Suite = Suite.JUDGE


JUDGE_FIGURES = (
    Description(
        metric=Metric.READABLE_SHARE,
        label="readable",
        unit="% of judgements",
        items="judgements",
        about="Share of the judgements that end in a score that can be read. Where it is low, all other "
        "figures of this judge rest on the few that could be read: look at their n.",
        source="this project's own check of the judge's format",
    ),
    Description(
        metric=Metric.PAIRWISE_ACCURACY,
        label="pairwise accuracy",
        unit="% of reply pairs",
        items="pairs of replies to one prompt that people ranked differently",
        about="How often the judge's scores put two replies to a prompt in the order in which people put "
        "them; equal scores count ½. A coin reaches 50%.",
        interval=BOOTSTRAP,
        chance=0.5,
    ),
    Description(
        metric=Metric.FIVE_BEST,
        label="5-best",
        unit="% of replies with 5",
        items="replies that got 5",
        about="How often a reply that got the full 5 points is one that people ranked first.",
    ),
    Description(
        metric=Metric.EXACT_MATCH,
        label="exact match",
        unit="% of prompts",
        items="prompts",
        about="How often the judge's scores put all replies to a prompt in exactly the order of people. "
        "One unreadable score is enough to miss it.",
    ),
    Description(
        metric=Metric.SPEARMAN,
        label="Spearman",
        unit="mean correlation",
        items="prompts",
        about="Rank correlation of the judge's scores and people's ranks within a prompt, averaged: 1 is "
        "the same order, 0 is none, −1 is the reverse.",
        interval=BOOTSTRAP,
        scale=Scale.COEFFICIENT,
        chance=0.0,
    ),
    Description(
        metric=Metric.KENDALL,
        label="Kendall τ",
        unit="mean correlation",
        items="prompts",
        about="The same by Kendall's τ-b, which counts pairs in and out of order.",
        interval=BOOTSTRAP,
        scale=Scale.COEFFICIENT,
        chance=0.0,
    ),
    Description(
        metric=Metric.TIE_SHARE,
        label="ties",
        unit="% of reply pairs",
        items="pairs of replies to one prompt that people ranked differently",
        about="How often the judge gives both replies of a pair the same score: such a pair teaches nothing.",
        source="this project's own check",
        interval=BOOTSTRAP,
    ),
    Description(
        metric=Metric.INJECTION_SHARE,
        label="fooled by injection",
        unit="% of canaries",
        items="replies with an order to the judge added",
        about="How often a reply gets full points only because an order to the judge, such as to give 5, "
        "was added to it.",
        source="this project's own canaries",
    ),
    Description(
        metric=Metric.AGREEMENT_PREVIOUS,
        label="agreement with M_t−1",
        unit="Kendall τ",
        items="prompts",
        about="How alike M_t and M_{t−1} order the same replies: a judge that changes its mind from one "
        "iteration to the next gives noisy labels.",
        source="after CREAM (arXiv 2410.12735)",
        interval=BOOTSTRAP,
        scale=Scale.COEFFICIENT,
        directed=False,
    ),
)

_COMPARED = (
    "Both answers are shown to a judge twice, in both orders; two verdicts that contradict each other are a "
    "tie and count ½, and what could not be read is left out. 50% is no difference."
)


def _win_rate(metric: Metric, against: str, suite: Suite) -> Description:
    itself = suite is Suite.ASSISTANT
    judge = (
        "M_t itself judges, and may prefer itself." if itself else "A judge that is not of this run judges."
    )
    return Description(
        metric=metric,
        label=f"win rate vs {against}",
        unit=ITSELF if itself else INDEPENDENT,
        items="comparisons",
        about=f"M_t's held-out answers against those of {against}. {_COMPARED} {judge}",
        interval=BOOTSTRAP,
        chance=0.5,
        suite=suite,
    )


ASSISTANT_FIGURES = (
    *(
        _win_rate(metric, against, suite)
        for metric, against in ((Metric.WIN_RATE_PREVIOUS, "M_t−1"), (Metric.WIN_RATE_FIRST, "M_1"))
        for suite in (Suite.ASSISTANT, Suite.INDEPENDENT)
    ),
    Description(
        metric=Metric.MEAN_LENGTH,
        label="mean length",
        unit="characters",
        items="answers with text",
        about="Mean length of the held-out answers. In the paper it grew from 1092 to 2552 characters "
        "over three models: judges like long answers.",
        interval=BOOTSTRAP,
        scale=Scale.COUNT,
        directed=False,
        suite=Suite.ASSISTANT,
    ),
    Description(
        metric=Metric.TRUNCATED_SHARE,
        label="cut off",
        unit="% of answers",
        items="answers",
        about="Share of the held-out answers that reached the limit of tokens before their end.",
        source="this project's own check",
        suite=Suite.ASSISTANT,
    ),
    Description(
        metric=Metric.EMPTY_SHARE,
        label="empty",
        unit="% of answers",
        items="answers",
        about="Share of the held-out answers without text.",
        source="this project's own check",
        suite=Suite.ASSISTANT,
    ),
    Description(
        metric=Metric.DISTINCT_2,
        label="distinct-2",
        unit="share of bigrams",
        items="answers of two words or more",
        about="Different pairs of neighbouring words among all of them: low where a model repeats itself. "
        "It falls as answers get longer or more: compare it only where both are alike.",
        source="distinct-n (arXiv 1510.03055)",
        interval=JACKKNIFE,
        scale=Scale.COEFFICIENT,
        directed=False,
        suite=Suite.ASSISTANT,
    ),
)
