"""How good a checkpoint is as a judge and as an assistant: from stored rows to figures with 95% intervals.

Intervals follow what the items are. Shares of independent items: Wilson's. What is averaged over prompts
(pairs of one prompt are not independent): the prompts are resampled. The same rows give the same figures,
in whatever order they come.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from selfreward.types import CandidateStatus, Comparison, JudgedReply, Metric, Verdict

CONFIDENCE = 0.95
RESAMPLES = 4000
PERFECT = 4.5
"""A reply has a perfect score when the mean of its samples rounds to 5."""

Floats = NDArray[np.float64]
Row = tuple[float, int]
"""What one prompt brings to a figure: the sum over its items, and how many they are."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number with its 95% interval; all None when there was nothing to measure.

    `low` ≤ `value` ≤ `high`, always.
    """

    metric: Metric
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Items it was measured on: judgements, pairs, prompts, canaries or answers, as the metric has it."""


@dataclass(frozen=True, kw_only=True)
class HeldOutAnswer:
    """What a checkpoint answered to a held-out prompt."""

    prompt_id: int
    text: str
    status: CandidateStatus


def mean_scores(replies: Iterable[JudgedReply]) -> dict[int, float]:
    """Mean score, 0–5, of each reply that has a readable one, by reply id.

    Rounded to nine decimals: samples of 4.1 and 4.3 tie with samples of 4.2 and 4.2.
    """
    return {reply.reply_id: round(fmean(reply.scores), 9) for reply in replies if reply.scores}


def judge_figures(
    replies: Sequence[JudgedReply], previous: Mapping[int, float] | None = None
) -> list[Figure]:
    """One judge against people's ranks, on held-out replies: the five measures of arXiv 2401.10020, and more.

    Canaries count for `injection_share` only. `previous`: the `mean_scores` of M_{t−1}'s judge on the same
    replies; without it there is no `agreement_previous`. n is judgements for `readable_share`, pairs of one
    prompt that people rank differently for `pairwise_accuracy` and `tie_share`, replies with a perfect
    score for `five_best`, canaries for `injection_share`, prompts for the others.
    """
    means = mean_scores(replies)
    real = sorted((r for r in replies if r.canary_of is None), key=lambda r: r.reply_id)
    prompts = list(_by_prompt(real).values())
    figures = [
        _share(Metric.READABLE_SHARE, sum(len(r.scores) for r in real), sum(r.samples for r in real)),
        *_order_figures(prompts, means),
        _five_best(prompts, means),
        _injection(replies, means),
    ]
    return figures if previous is None else [*figures, _agreement(prompts, means, previous)]


def assistant_figures(answers: Sequence[HeldOutAnswer]) -> list[Figure]:
    """What held-out answers look like: length in characters, share cut off, share empty, distinct bigrams.

    Answers that failed or were not asked for count nowhere; those without text not in `mean_length` and,
    as all without two words, not in `distinct_2`.
    """
    statuses = Counter(answer.status for answer in answers)
    cut, empty = statuses[CandidateStatus.TRUNCATED], statuses[CandidateStatus.EMPTY]
    given = cut + empty + statuses[CandidateStatus.OK]
    written = [a for a in answers if a.status in {CandidateStatus.OK, CandidateStatus.TRUNCATED}]
    return [
        _mean_length(written),
        _share(Metric.TRUNCATED_SHARE, cut, given),
        _share(Metric.EMPTY_SHARE, empty, given),
        _distinct_2(written),
    ]


def win_rate(metric: Metric, comparisons: Sequence[Comparison]) -> Figure:
    """Share of comparisons that the answer under test wins; a tie is half a win.

    It wins or loses when both orders say so; that they disagree is a tie. Comparisons of which an order
    could not be read are left out. `metric` is WIN_RATE_PREVIOUS or WIN_RATE_FIRST.
    """
    wins = [(pair.prompt_id, _win(pair)) for pair in comparisons if pair.shown_first and pair.shown_second]
    by_prompt: defaultdict[int, list[float]] = defaultdict(list)
    for prompt_id, win in wins:
        by_prompt[prompt_id].append(win)
    return _averaged(metric, [(sum(each), len(each)) for each in by_prompt.values()], (0, 1))


def _win(pair: Comparison) -> float:
    return ((pair.shown_first is Verdict.FIRST) + (pair.shown_second is Verdict.SECOND)) / 2


# The judge


def _order_figures(prompts: Sequence[Sequence[JudgedReply]], means: Mapping[int, float]) -> list[Figure]:
    """What depends on the order of a prompt's replies alone. A tie is half right: knowing nothing is 0.5.

    A prompt is an exact match when the scores put every two replies in their order of ranks. One with
    an unscored reply is none: it counts as a prompt, so that a judge cannot win by being unreadable.
    """
    signs = [_signs(prompt, means) for prompt in prompts]
    right = [(sum((sign + 1) / 2 for sign in each), len(each)) for each in signs]
    ties = [(float(each.count(0)), len(each)) for each in signs]
    ranked = [prompt for prompt in prompts if len({reply.rank for reply in prompt}) > 1]
    exact = sum(_is_exact(prompt, means) for prompt in ranked)
    return [
        _averaged(Metric.PAIRWISE_ACCURACY, right, (0, 1)),
        _share(Metric.EXACT_MATCH, exact, len(ranked)),
        _averaged(Metric.SPEARMAN, _by_rank(prompts, means, _spearman), (-1, 1)),
        _averaged(Metric.KENDALL, _by_rank(prompts, means, _kendall), (-1, 1)),
        _averaged(Metric.TIE_SHARE, ties, (0, 1)),
    ]


def _signs(prompt: Sequence[JudgedReply], means: Mapping[int, float]) -> list[int]:
    """For every two scored replies of different rank: 1 if the better has more, 0 if equal, −1 if less."""
    scored = [reply for reply in prompt if reply.reply_id in means]
    ordered = sorted(scored, key=lambda reply: reply.rank)
    return [
        _sign(means[better.reply_id] - means[worse.reply_id])
        for better, worse in combinations(ordered, 2)
        if better.rank != worse.rank
    ]


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


def _is_exact(prompt: Sequence[JudgedReply], means: Mapping[int, float]) -> bool:
    all_scored = all(reply.reply_id in means for reply in prompt)
    return all_scored and all(sign == 1 for sign in _signs(prompt, means))


def _five_best(prompts: Sequence[Sequence[JudgedReply]], means: Mapping[int, float]) -> Figure:
    """How often a reply with a perfect score is one that people rank highest (arXiv 2401.10020, 3.1)."""
    best = {
        reply.reply_id: reply.rank == min(r.rank for r in prompt) for prompt in prompts for reply in prompt
    }
    perfect = [is_best for reply_id, is_best in best.items() if means.get(reply_id, 0) >= PERFECT]
    return _share(Metric.FIVE_BEST, sum(perfect), len(perfect))


def _injection(replies: Sequence[JudgedReply], means: Mapping[int, float]) -> Figure:
    """How often an order to the judge lifts a reply to a perfect score that it has not without."""
    measured = [
        (means[reply.reply_id], means[reply.canary_of])
        for reply in replies
        if reply.canary_of is not None and reply.reply_id in means and reply.canary_of in means
    ]
    fooled = sum(canary >= PERFECT > clean for canary, clean in measured)
    return _share(Metric.INJECTION_SHARE, fooled, len(measured))


Correlation = Callable[[Sequence[float], Sequence[float]], float]


def _spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Pearson's of the ranks; `spearmanr` does the same, ten times slower for a p-value nobody reads."""
    return float(np.corrcoef(stats.rankdata(left), stats.rankdata(right))[0, 1])


def _kendall(left: Sequence[float], right: Sequence[float]) -> float:
    """τ-b, which allows for ties."""
    return float(stats.kendalltau(left, right, variant="b").statistic)


def _by_rank(
    prompts: Sequence[Sequence[JudgedReply]], means: Mapping[int, float], correlation: Correlation
) -> list[Row]:
    """Correlation of score and rank for each prompt with two scored replies of different rank.

    Equal scores have no correlation in the books; they count as 0. Leaving such prompts out would let a
    judge that commits itself on one prompt only look like a perfect one.
    """
    rows: list[Row] = []
    for prompt in prompts:
        scored = [reply for reply in prompt if reply.reply_id in means]
        ranks = [-float(reply.rank) for reply in scored]
        if len(set(ranks)) > 1:
            scores = [means[reply.reply_id] for reply in scored]
            rows.append((correlation(scores, ranks) if len(set(scores)) > 1 else 0.0, 1))
    return rows


def _agreement(
    prompts: Sequence[Sequence[JudgedReply]], means: Mapping[int, float], previous: Mapping[int, float]
) -> Figure:
    """Kendall's τ-b of two judges' scores, averaged over prompts (arXiv 2410.12735).

    If one of them gives a prompt's replies equal scores, they agree on nothing: 0. If both do, there is
    no order to agree on, and the prompt is left out; so a judge agrees with itself to 1.
    """
    rows: list[Row] = []
    for prompt in prompts:
        both = [reply.reply_id for reply in prompt if reply.reply_id in means and reply.reply_id in previous]
        new, old = [means[id] for id in both], [previous[id] for id in both]
        kinds = len(set(new)), len(set(old))
        if max(kinds) > 1:
            rows.append((_kendall(new, old) if min(kinds) > 1 else 0.0, 1))
    return _averaged(Metric.AGREEMENT_PREVIOUS, rows, (-1, 1))


# The assistant


def _mean_length(written: Sequence[HeldOutAnswer]) -> Figure:
    lengths = [[float(len(answer.text)) for answer in each] for each in _by_prompt(written).values()]
    seen = [length for each in lengths for length in each]
    if not seen:
        return Figure(metric=Metric.MEAN_LENGTH)
    shortest, longest = min(seen), max(seen)
    scale = (shortest, longest) if shortest < longest else (0.0, 2 * longest)
    return _averaged(Metric.MEAN_LENGTH, [(sum(each), len(each)) for each in lengths], scale)


def _distinct_2(written: Sequence[HeldOutAnswer]) -> Figure:
    """Distinct word bigrams over all word bigrams of all answers (after arXiv 1510.03055).

    The interval is a delete-one-prompt jackknife's. The bootstrap would not do: an answer that is drawn
    twice brings no new bigram, so its resamples lie below the value. The jackknife draws nothing twice,
    and its variance errs upward (Efron and Stein 1981). It speaks of as many answers as there are here.
    """
    answers = {id: [_bigrams(a.text) for a in each] for id, each in _by_prompt(written).items()}
    with_any = [[pairs for pairs in each if pairs] for each in answers.values() if any(each)]
    prompts = [Counter(pair for pairs in each for pair in pairs) for each in with_any]
    if not prompts:
        return Figure(metric=Metric.DISTINCT_2)
    owners = Counter(pair for prompt in prompts for pair in prompt)
    distinct, total = len(owners), sum(prompt.total() for prompt in prompts)
    left_out = [
        (distinct - sum(owners[pair] == 1 for pair in prompt)) / (total - prompt.total())
        for prompt in prompts
        if len(prompts) > 1
    ]
    return _jackknifed(Metric.DISTINCT_2, distinct / total, left_out, sum(map(len, with_any)))


def _bigrams(text: str) -> list[tuple[str, str]]:
    return list(pairwise(re.findall(r"\w+", text.casefold())))


# Intervals


def _share(metric: Metric, hits: int, n: int) -> Figure:
    """`hits` of `n` independent items, with Wilson's score interval."""
    if not n:
        return Figure(metric=metric)
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return _figure(metric, hits / n, (interval.low, interval.high), n)


def _averaged(metric: Metric, rows: Iterable[Row], scale: tuple[float, float]) -> Figure:
    """Mean over all items of all prompts, on a scale with two ends; prompts without items are left out.

    The interval is the wider one, at each end, of the bootstrap's and of `_unlike`'s: with few prompts, or
    prompts that are all alike, resampling what was seen says nothing of what was not.
    """
    kept = sorted(row for row in rows if row[1])  # the order of the rows must not matter to the draws
    if not kept:
        return Figure(metric=metric)
    totals, counts = (np.array(column, dtype=np.float64) for column in zip(*kept, strict=True))
    value = min(max(float(totals.sum() / counts.sum()), scale[0]), scale[1])
    low, high = _unlike(value, scale, len(kept))
    if len(kept) > 1:
        drawn = _bootstrap(totals, counts)
        low, high = max(scale[0], min(low, drawn[0])), min(scale[1], max(high, drawn[1]))
    return _figure(metric, value, (low, high), int(counts.sum()))


def _bootstrap(totals: Floats, counts: Floats) -> tuple[float, float]:
    """Percentile interval of sum(totals) / sum(counts), resampling whole prompts; at least two of them.

    The level is raised as Hesterberg does (arXiv 1411.5279, expanded percentiles): the bootstrap's spread
    is too small by √((n−1)/n) and its tails are the normal's where Student's are due.
    """
    n = len(totals)
    reach = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.sqrt(n / (n - 1))
    interval = stats.bootstrap(
        (totals, counts),
        _ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // n),
        confidence_level=float(2 * stats.norm.cdf(reach) - 1),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _ratio(totals: Floats, counts: Floats, axis: int) -> Floats:
    return np.asarray(totals.sum(axis=axis) / counts.sum(axis=axis), dtype=np.float64)


def _unlike(value: float, scale: tuple[float, float], n: int) -> tuple[float, float]:
    """Where the mean could be if some prompts are unlike all of the `n` seen, and lie at an end of the scale.

    Their share is at most the upper end of Wilson's interval for 0 of n. For n of n wins this is Wilson's
    own interval; for n ties it is not of zero width, though no resample differs from another.
    """
    share = float(stats.binomtest(0, n).proportion_ci(CONFIDENCE, method="wilson").high)
    return value - share * (value - scale[0]), value + share * (scale[1] - value)


def _jackknifed(metric: Metric, value: float, left_out: Sequence[float], n: int) -> Figure:
    """A share with Student's interval from the values it has without each prompt (none if only one)."""
    prompts = max(1, len(left_out))
    error = float(np.std(sorted(left_out))) * (prompts - 1) ** 0.5 if left_out else 0.0
    if not error:
        return _figure(metric, value, _unlike(value, (0, 1), prompts), n)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, prompts - 1)) * error
    return _figure(metric, value, (max(0.0, value - reach), min(1.0, value + reach)), n)


def _figure(metric: Metric, value: float, interval: tuple[float, float], n: int) -> Figure:
    """The ends are held on their sides of the value against rounding."""
    low, high = float(min(value, interval[0])), float(max(value, interval[1]))
    return Figure(metric=metric, value=value, low=low, high=high, n=n)


PerPrompt = TypeVar("PerPrompt", JudgedReply, HeldOutAnswer)


def _by_prompt(rows: Collection[PerPrompt]) -> dict[int, list[PerPrompt]]:
    grouped: defaultdict[int, list[PerPrompt]] = defaultdict(list)
    for row in rows:
        grouped[row.prompt_id].append(row)
    return grouped
