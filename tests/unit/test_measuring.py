"""Figures of judges and assistants: worked out by hand, in bounds, with intervals that hold what they say."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.measuring import (
    Figure,
    HeldOutAnswer,
    assistant_figures,
    judge_figures,
    mean_scores,
    win_rate,
)
from selfreward.types import CandidateStatus, Comparison, JudgedReply, Metric, Verdict

Z2 = 1.959963984540054**2
JUDGE = [
    Metric.READABLE_SHARE,
    Metric.PAIRWISE_ACCURACY,
    Metric.EXACT_MATCH,
    Metric.SPEARMAN,
    Metric.KENDALL,
    Metric.TIE_SHARE,
    Metric.FIVE_BEST,
    Metric.INJECTION_SHARE,
]
ASSISTANT = [Metric.MEAN_LENGTH, Metric.TRUNCATED_SHARE, Metric.EMPTY_SHARE, Metric.DISTINCT_2]


def judged(*prompts: Sequence[tuple[int, Sequence[float]]], samples: int = 1) -> list[JudgedReply]:
    """Replies of these prompts, each by rank and scores."""
    return [
        JudgedReply(
            reply_id=10 * prompt_id + index,
            prompt_id=prompt_id,
            rank=rank,
            length=100,
            scores=tuple(scores),
            samples=max(samples, len(scores)),
        )
        for prompt_id, replies in enumerate(prompts)
        for index, (rank, scores) in enumerate(replies)
    ]


def answer(prompt_id: int, text: str, status: CandidateStatus = CandidateStatus.OK) -> HeldOutAnswer:
    return HeldOutAnswer(prompt_id=prompt_id, text=text, status=status)


def compared(*outcomes: float | None) -> list[Comparison]:
    """Comparisons by outcome: 1 won, 0 lost, 0.5 undecided, None unreadable."""
    first, second = Verdict.FIRST, Verdict.SECOND
    verdicts = {1: (first, second), 0: (second, first), 0.5: (first, first), None: (None, second)}
    return [
        Comparison(prompt_id=id, shown_first=verdicts[outcome][0], shown_second=verdicts[outcome][1])
        for id, outcome in enumerate(outcomes)
    ]


def named(figures: Sequence[Figure]) -> dict[Metric, Figure]:
    assert len({figure.metric for figure in figures}) == len(figures)
    return {figure.metric: figure for figure in figures}


def ends(figure: Figure) -> tuple[float, float, float]:
    assert figure.low is not None and figure.value is not None and figure.high is not None
    return figure.low, figure.value, figure.high


def wilson(hits: float, n: int) -> tuple[float, float]:
    """Both ends, by the formula (Wilson 1927)."""
    share = hits / n
    middle, half = share + Z2 / (2 * n), sqrt(Z2 * share * (1 - share) / n + Z2**2 / (4 * n * n))
    return (middle - half) / (1 + Z2 / n), (middle + half) / (1 + Z2 / n)


# By hand

WORKED = judged(
    [(0, [5.0, 4.0]), (1, [3.0]), (2, [1.0, 1.0])],  # in people's order
    [(0, [2.0]), (1, [5.0]), (2, [2.0])],  # one pair reversed, one tied, one right
    [(0, [4.0]), (1, [])],  # the second could not be read: no pair
    [(0, [3.0]), (0, [1.0])],  # people had no preference: no pair
)


def test_judge_figures_worked_out_by_hand() -> None:
    figures = named(judge_figures(WORKED))
    assert list(figures) == [Metric.READABLE_SHARE, *JUDGE[1:]]
    found = {metric: (figure.value, figure.n) for metric, figure in figures.items()}
    assert found[Metric.READABLE_SHARE] == (11 / 12, 12)
    assert found[Metric.PAIRWISE_ACCURACY] == ((3 + 1 + 0.5) / 6, 6)
    assert found[Metric.TIE_SHARE] == (1 / 6, 6)
    assert found[Metric.EXACT_MATCH] == (1 / 3, 3)
    assert found[Metric.FIVE_BEST] == (1 / 2, 2)  # 4.5 of the best, 5 of a second
    # second prompt: scores 2 5 2 are of ranks 1½ 3 1½ against 3 2 1
    assert found[Metric.SPEARMAN] == (pytest.approx((1 + 0) / 2), 2)
    # one pair right, one reversed, one tied: τ-b is 0 as well
    assert found[Metric.KENDALL] == (pytest.approx((1 + 0) / 2), 2)
    assert found[Metric.INJECTION_SHARE] == (None, 0)


def test_correlations_with_ties_worked_out_by_hand() -> None:
    figures = named(judge_figures(judged([(0, [4.0]), (1, [4.0]), (2, [1.0]), (3, [3.0])])))
    # by rank: 3½ 3½ 1 2 against 4 3 2 1 → covariance 3½, squares 4½ and 5
    assert figures[Metric.SPEARMAN].value == pytest.approx(3.5 / sqrt(4.5 * 5))
    # of six pairs four right, one reversed, one tied
    assert figures[Metric.KENDALL].value == pytest.approx((4 - 1) / sqrt(5 * 6))


def test_shares_of_the_judge_have_wilsons_interval() -> None:
    figures = named(judge_figures(WORKED))
    for metric, hits, n in (
        (Metric.READABLE_SHARE, 11, 12),
        (Metric.EXACT_MATCH, 1, 3),
        (Metric.FIVE_BEST, 1, 2),
    ):
        low, _, high = ends(figures[metric])
        assert (low, high) == pytest.approx(wilson(hits, n))


def canary(of: JudgedReply, *scores: float) -> JudgedReply:
    return replace(of, reply_id=1000 + of.reply_id, scores=scores, canary_of=of.reply_id)


def test_canaries_count_for_injection_alone() -> None:
    clean = judged(
        [(0, [5.0]), (1, [3.0]), (2, [2.0])],
        [(0, [4.0]), (1, [])],
    )
    canaries = [
        canary(clean[0], 5.0),  # the twin is perfect itself: not fooled
        canary(clean[1], 4.0, 5.0),  # fooled
        canary(clean[2], 4.0),  # better, not perfect
        canary(clean[3]),  # unreadable
        canary(clean[4], 5.0),  # the twin is unreadable
        replace(canary(clean[0], 5.0), reply_id=99, canary_of=98),  # there is no twin
    ]
    with_canaries, without = named(judge_figures([*clean, *canaries])), named(judge_figures(clean))
    fooled = with_canaries.pop(Metric.INJECTION_SHARE)
    assert (fooled.value, fooled.n) == (1 / 3, 3)
    assert without.pop(Metric.INJECTION_SHARE) == Figure(metric=Metric.INJECTION_SHARE)
    assert with_canaries == without


def test_agreement_with_the_previous_judge() -> None:
    replies = judged(
        [(0, [5.0]), (1, [3.0]), (2, [1.0])],  # the same order: 1
        [(0, [5.0]), (1, [3.0])],  # reversed: −1
        [(0, [5.0]), (1, [3.0])],  # the previous one had no preference: 0
        [(0, [2.0]), (1, [2.0])],  # neither has: left out
        [(0, [5.0]), (1, [3.0])],  # the previous one scored one reply only: left out
    )
    previous = {
        0: 4.0,
        1: 3.5,
        2: 0.0,
        10: 1.0,
        11: 2.0,
        20: 3.0,
        21: 3.0,
        30: 5.0,
        31: 5.0,
        40: 5.0,
        77: 1.0,
    }
    figure = named(judge_figures(replies, previous))[Metric.AGREEMENT_PREVIOUS]
    assert (figure.value, figure.n) == (pytest.approx(0), 3)
    itself = named(judge_figures(replies, mean_scores(replies)))[Metric.AGREEMENT_PREVIOUS]
    assert (itself.value, itself.n) == (pytest.approx(1), 4)
    assert Metric.AGREEMENT_PREVIOUS not in named(judge_figures(replies))


def test_means_tie_as_the_decimals_they_were_written_as() -> None:
    assert set(mean_scores(judged([(0, [4.1, 4.3]), (1, [4.2, 4.2]), (2, [])])).values()) == {4.2}


def test_assistant_figures_worked_out_by_hand() -> None:
    figures = named(
        assistant_figures(
            [
                answer(1, "the cat sat on the cat"),  # 5 bigrams
                answer(2, "The cat, on the mat", CandidateStatus.TRUNCATED),  # 4: the-cat, on-the again
                answer(3, "alone"),  # none
                answer(4, "", CandidateStatus.EMPTY),
                answer(5, "", CandidateStatus.FAILED),
                answer(6, "", CandidateStatus.TOO_LONG),
            ]
        )
    )
    assert list(figures) == ASSISTANT
    assert (figures[Metric.MEAN_LENGTH].value, figures[Metric.MEAN_LENGTH].n) == ((22 + 19 + 5) / 3, 3)
    assert (figures[Metric.TRUNCATED_SHARE].value, figures[Metric.TRUNCATED_SHARE].n) == (1 / 4, 4)
    assert (figures[Metric.EMPTY_SHARE].value, figures[Metric.EMPTY_SHARE].n) == (1 / 4, 4)
    # the-cat ×3, cat-sat, sat-on, on-the ×2, cat-on, the-mat
    assert (figures[Metric.DISTINCT_2].value, figures[Metric.DISTINCT_2].n) == (6 / 9, 2)
    # without the first 4 of 4 are distinct, without the second 4 of 5: half a range of 0.1, one degree of
    # freedom, whose quantile is tan(0.475 π)
    low, value, high = ends(figures[Metric.DISTINCT_2])
    assert (low, high) == (pytest.approx(max(0, value - 0.1 * 12.7062047)), 1)


def test_win_rate_worked_out_by_hand() -> None:
    figure = win_rate(Metric.WIN_RATE_FIRST, compared(1, 1, 0.5, 0, None, 1))
    assert (figure.metric, figure.value, figure.n) == (Metric.WIN_RATE_FIRST, 3.5 / 5, 5)
    always_second = Comparison(prompt_id=1, shown_first=Verdict.SECOND, shown_second=Verdict.SECOND)
    half = Comparison(prompt_id=2, shown_first=Verdict.FIRST, shown_second=None)
    assert win_rate(Metric.WIN_RATE_FIRST, [always_second, half]).value == 0.5


# What cannot be measured, and what can hardly be


def test_nothing_to_measure_is_no_value() -> None:
    nothing = [
        *judge_figures([], {}),
        *assistant_figures([]),
        win_rate(Metric.WIN_RATE_FIRST, compared(None)),
    ]
    assert {figure.metric for figure in nothing} == {
        *JUDGE, *ASSISTANT, Metric.AGREEMENT_PREVIOUS, Metric.WIN_RATE_FIRST
    }  # fmt: skip
    assert all(figure == Figure(metric=figure.metric) for figure in nothing)


def test_an_unreadable_judge_is_measured_as_such() -> None:
    figures = named(judge_figures(judged([(0, []), (1, [])], samples=3)))
    assert (figures[Metric.READABLE_SHARE].value, figures[Metric.READABLE_SHARE].n) == (0, 6)
    assert (figures[Metric.EXACT_MATCH].value, figures[Metric.EXACT_MATCH].n) == (0, 1)
    assert figures[Metric.PAIRWISE_ACCURACY] == Figure(metric=Metric.PAIRWISE_ACCURACY)


@pytest.mark.parametrize("n", [1, 2, 20])
def test_all_won_or_all_lost_has_wilsons_interval(n: int) -> None:
    for outcome in (1, 0):
        low, value, high = ends(win_rate(Metric.WIN_RATE_PREVIOUS, compared(*[outcome] * n)))
        assert value == outcome
        assert (low, high) == pytest.approx(wilson(outcome * n, n))


@pytest.mark.parametrize("n", [1, 2, 20])
def test_ties_alone_do_not_pretend_to_certainty(n: int) -> None:
    low, value, high = ends(win_rate(Metric.WIN_RATE_PREVIOUS, compared(*[0.5] * n)))
    assert value == 0.5
    assert (low, high) == pytest.approx((0.5 - wilson(0, n)[1] / 2, 0.5 + wilson(0, n)[1] / 2))


def test_one_answer_says_little_of_lengths_and_words() -> None:
    figures = named(assistant_figures([answer(1, "one two three")]))
    for metric, top in ((Metric.MEAN_LENGTH, 26), (Metric.DISTINCT_2, 1)):
        low, value, high = ends(figures[metric])
        assert low < value * 0.3 and high == pytest.approx(value + wilson(0, 1)[1] * (top - value))


# Judges that are known


def all_orders(scores: Sequence[float | None], prompts: int = 6) -> list[JudgedReply]:
    return judged(*[[(rank, [] if s is None else [s]) for rank, s in enumerate(scores)]] * prompts)


@pytest.mark.parametrize(
    ("scores", "accuracy", "correlation", "exact", "ties"),
    [
        ((5.0, 3.0, 2.0, 0.0), 1, 1, 1, 0),
        ((0.0, 1.0, 2.0, 4.0), 0, -1, 0, 0),
        ((4.0, 4.0, 4.0, 4.0), 0.5, 0, 0, 1),
    ],
    ids=["perfect", "reversed", "constant"],
)
def test_known_judges(
    scores: tuple[float, ...], accuracy: float, correlation: float, exact: float, ties: float
) -> None:
    replies = all_orders(scores)
    figures = named(judge_figures(replies))
    assert figures[Metric.PAIRWISE_ACCURACY].value == accuracy
    assert figures[Metric.SPEARMAN].value == pytest.approx(correlation)
    assert figures[Metric.KENDALL].value == pytest.approx(correlation)
    assert figures[Metric.EXACT_MATCH].value == exact
    assert figures[Metric.TIE_SHARE].value == ties
    assert all(f.low != f.high for f in figures.values() if f.n), "six prompts leave room for doubt"


# Whatever comes

SCORES = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.1, 4.2, 4.3, 5.0]), max_size=3)
REPLIES = st.lists(
    st.lists(st.tuples(st.integers(0, 3), SCORES), max_size=5), max_size=8
).map(lambda prompts: judged(*prompts, samples=3))  # fmt: skip
SCALES = {Metric.SPEARMAN: (-1, 1), Metric.KENDALL: (-1, 1), Metric.AGREEMENT_PREVIOUS: (-1, 1)}


def assert_sound(figure: Figure) -> None:
    if figure.n == 0:
        assert figure == Figure(metric=figure.metric)
        return
    low, value, high = ends(figure)
    least, most = SCALES.get(figure.metric, (0, float("inf") if figure.metric is Metric.MEAN_LENGTH else 1))
    assert least - 1e-12 <= low <= value <= high <= most + 1e-12
    assert [type(number) for number in (low, value, high)] == [float] * 3, "no numpy types in rows"


@settings(max_examples=60, deadline=None)
@given(REPLIES, st.dictionaries(st.integers(0, 60), st.sampled_from([0.0, 1.5, 3.0])), st.data())
def test_judge_figures_are_sound_and_deaf_to_order(
    replies: list[JudgedReply], previous: dict[int, float], data: st.DataObject
) -> None:
    figures = judge_figures(replies, previous)
    assert judge_figures(data.draw(st.permutations(replies)), previous) == figures
    for figure in figures:
        assert_sound(figure)


ANSWERS = st.lists(
    st.builds(
        answer,
        st.integers(0, 5),
        st.lists(st.sampled_from(["a", "b", "c", "ö,"]), max_size=8).map(" ".join),
        st.sampled_from(CandidateStatus),
    ),
    max_size=10,
)


@settings(max_examples=60, deadline=None)
@given(ANSWERS, st.data())
def test_assistant_figures_are_sound_and_deaf_to_order(
    answers: list[HeldOutAnswer], data: st.DataObject
) -> None:
    figures = assistant_figures(answers)
    assert assistant_figures(data.draw(st.permutations(answers))) == figures
    for figure in figures:
        assert_sound(figure)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 0.5, 1, None]), max_size=30))
def test_win_rate_is_sound_and_the_mirror_of_the_others(outcomes: list[float | None]) -> None:
    figure = win_rate(Metric.WIN_RATE_FIRST, compared(*outcomes))
    mirror = win_rate(Metric.WIN_RATE_FIRST, compared(*[None if o is None else 1 - o for o in outcomes]))
    assert_sound(figure)
    assert figure.n == mirror.n
    if figure.value is not None:
        assert mirror.value == pytest.approx(1 - figure.value)


# Coverage: how often 95% intervals hold the truth


def share_that_hold(figures: Sequence[Figure], truth: float) -> float:
    held = [low <= truth <= high for low, _, high in map(ends, figures)]
    return sum(held) / len(held)


def simulated(random: np.random.Generator, prompts: int) -> list[JudgedReply]:
    """A middling judge that is better on some prompts than on others: pairs of a prompt are dependent."""
    skill = random.normal(0.5, 0.5, size=(prompts, 1))
    noisy = 2.5 + skill * (1.5 - np.arange(4)) + random.normal(0, 1, size=(prompts, 4))
    scores = np.clip(np.round(noisy), 0, 5)
    return judged(*[[(rank, [float(score)]) for rank, score in enumerate(row)] for row in scores])


Sets = tuple[dict[Metric, float], list[dict[Metric, Figure]]]


@pytest.fixture(scope="module")
def truth_and_sets() -> Sets:
    """What a large set of prompts says of the simulated judge, and 150 small ones."""
    random = np.random.default_rng(11)
    large = named(judge_figures(simulated(random, 1500)))
    sets = [named(judge_figures(simulated(random, 25))) for _ in range(150)]
    return {metric: ends(figure)[1] for metric, figure in large.items() if figure.n}, sets


def test_judge_intervals_hold_the_truth_as_often_as_they_say(truth_and_sets: Sets) -> None:
    truth, sets = truth_and_sets
    for metric in (
        Metric.PAIRWISE_ACCURACY,
        Metric.EXACT_MATCH,
        Metric.SPEARMAN,
        Metric.KENDALL,
        Metric.TIE_SHARE,
    ):
        assert 0.9 <= share_that_hold([figures[metric] for figures in sets], truth[metric]) <= 0.99


def test_pairs_taken_for_independent_would_claim_too_much(truth_and_sets: Sets) -> None:
    truth, sets = truth_and_sets
    accuracies = [figures[Metric.PAIRWISE_ACCURACY] for figures in sets]
    naive = [wilson(ends(figure)[1] * figure.n, figure.n) for figure in accuracies]
    covered = sum(low <= truth[Metric.PAIRWISE_ACCURACY] <= high for low, high in naive) / len(naive)
    assert covered < share_that_hold(accuracies, truth[Metric.PAIRWISE_ACCURACY]) - 0.03


@pytest.mark.parametrize("chances", [(0.3, 0.3, 0.4), (0.1, 0.75, 0.15)])
def test_win_rate_intervals_hold_the_truth_as_often_as_they_say(chances: tuple[float, ...]) -> None:
    random = np.random.default_rng(7)
    drawn = random.choice([0, 0.5, 1], p=chances, size=(300, 30))
    figures = [win_rate(Metric.WIN_RATE_FIRST, compared(*row.tolist())) for row in drawn]
    assert 0.9 <= share_that_hold(figures, chances[1] / 2 + chances[2]) <= 0.99


def test_assistant_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """The truth of distinct-2 is its mean over sets of as many answers."""
    random = np.random.default_rng(8)
    words, weights = [f"w{i}" for i in range(200)], 1 / np.arange(1, 201)

    def answers() -> list[HeldOutAnswer]:
        lengths = random.lognormal(3, 0.5, size=20).astype(int) + 2
        texts = [" ".join(random.choice(words, size, p=weights / weights.sum())) for size in lengths]
        cut = random.random(20) < 0.3
        statuses = [CandidateStatus.TRUNCATED if each else CandidateStatus.OK for each in cut]
        return [
            answer(id, text, status) for id, (text, status) in enumerate(zip(texts, statuses, strict=True))
        ]

    sets = [named(assistant_figures(answers())) for _ in range(300)]
    for metric in (Metric.MEAN_LENGTH, Metric.DISTINCT_2, Metric.TRUNCATED_SHARE):
        figures = [each[metric] for each in sets]
        truth = 0.3 if metric is Metric.TRUNCATED_SHARE else sum(ends(f)[1] for f in figures) / len(figures)
        assert 0.88 <= share_that_hold(figures, truth) <= 0.99


def test_intervals_shrink_with_more_prompts() -> None:
    random = np.random.default_rng(9)
    widths = []
    for prompts in (10, 40, 160):
        figures = named(judge_figures(simulated(random, prompts)))
        low, _, high = ends(figures[Metric.PAIRWISE_ACCURACY])
        widths.append(high - low)
    assert widths[0] > 1.4 * widths[1] > 1.4 * 1.4 * widths[2]
