"""How good a checkpoint is as a judge and as an assistant: from stored rows to figures with 95% intervals."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean
from typing import TypeVar

import numpy as np
from scipy import stats

from selfreward.intervals import Figure, Row, averaged, jackknifed, share
from selfreward.types import CandidateStatus, Comparison, JudgedReply, Metric, Verdict

PERFECT = 4.5
"""A reply has a perfect score when the mean of its samples rounds to 5."""


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
        share(Metric.READABLE_SHARE, sum(len(r.scores) for r in real), sum(r.samples for r in real)),
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
        share(Metric.TRUNCATED_SHARE, cut, given),
        share(Metric.EMPTY_SHARE, empty, given),
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
    return averaged(metric, [(sum(each), len(each)) for each in by_prompt.values()], (0, 1))


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
        averaged(Metric.PAIRWISE_ACCURACY, right, (0, 1)),
        share(Metric.EXACT_MATCH, exact, len(ranked)),
        averaged(Metric.SPEARMAN, _by_rank(prompts, means, _spearman), (-1, 1)),
        averaged(Metric.KENDALL, _by_rank(prompts, means, _kendall), (-1, 1)),
        averaged(Metric.TIE_SHARE, ties, (0, 1)),
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
    return share(Metric.FIVE_BEST, sum(perfect), len(perfect))


def _injection(replies: Sequence[JudgedReply], means: Mapping[int, float]) -> Figure:
    """How often an order to the judge lifts a reply to a perfect score that it has not without."""
    measured = [
        (means[reply.reply_id], means[reply.canary_of])
        for reply in replies
        if reply.canary_of is not None and reply.reply_id in means and reply.canary_of in means
    ]
    fooled = sum(canary >= PERFECT > clean for canary, clean in measured)
    return share(Metric.INJECTION_SHARE, fooled, len(measured))


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
    return averaged(Metric.AGREEMENT_PREVIOUS, rows, (-1, 1))


# The assistant


def _mean_length(written: Sequence[HeldOutAnswer]) -> Figure:
    lengths = [[float(len(answer.text)) for answer in each] for each in _by_prompt(written).values()]
    seen = [length for each in lengths for length in each]
    if not seen:
        return Figure(metric=Metric.MEAN_LENGTH)
    shortest, longest = min(seen), max(seen)
    scale = (shortest, longest) if shortest < longest else (0.0, 2 * longest)
    return averaged(Metric.MEAN_LENGTH, [(sum(each), len(each)) for each in lengths], scale)


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
    return jackknifed(Metric.DISTINCT_2, distinct / total, left_out, sum(map(len, with_any)))


def _bigrams(text: str) -> list[tuple[str, str]]:
    return list(pairwise(re.findall(r"\w+", text.casefold())))


PerPrompt = TypeVar("PerPrompt", JudgedReply, HeldOutAnswer)


def _by_prompt(rows: Collection[PerPrompt]) -> dict[int, list[PerPrompt]]:
    grouped: defaultdict[int, list[PerPrompt]] = defaultdict(list)
    for row in rows:
        grouped[row.prompt_id].append(row)
    return grouped
