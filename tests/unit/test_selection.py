"""What the bootstrap keeps of a judge's tries: agreement with people, thinning, whole groups, last lines."""

from collections import Counter
from itertools import pairwise, permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.selection import agreement, score_line, thin, up_to
from selfreward.types import RankedPrompt, StoredReading, StoredReply

Tries = list[list[float | None]]
SCORES = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])


def prompt_of(ranks: list[int]) -> RankedPrompt:
    """A prompt with replies of these ranks; their ids are 10, 11, 12, …"""
    replies = tuple(
        StoredReply(id=10 + place, position=place, text="r", rank=rank, score=None, justification=None)
        for place, rank in enumerate(ranks)
    )
    return RankedPrompt(id=1, text="p", reference=None, replies=replies)


def readings_of(tries: Tries) -> dict[int, list[StoredReading]]:
    """By reply, what each try gave it; None was unreadable and is not stored as a reading."""
    found: dict[int, list[StoredReading]] = {}
    for sample, scores in enumerate(tries):
        for place, score in enumerate(scores):
            if score is not None:
                reading = StoredReading(id=100 * sample + place, sample=sample, raw_text="t", score=score)
                found.setdefault(10 + place, []).append(reading)
    return found


def chosen_try(ranks: list[int], tries: Tries, asked: int | None = None) -> int | None:
    """Which try was taken; None when none was."""
    found = agreement(prompt_of(ranks), readings_of(tries), len(tries) if asked is None else asked)
    if found.readings is None:
        return None
    assert list(found.readings) == [10 + place for place in range(len(ranks))]
    [sample] = {reading.sample for reading in found.readings.values()}
    return sample


def test_the_first_try_in_the_human_order_is_taken() -> None:
    assert chosen_try([0, 1, 2], [[1.0, 2.0, 3.0], [5.0, 3.0, 1.0], [4.0, 2.0, 0.0]]) == 1


def test_tries_are_not_mixed() -> None:
    assert chosen_try([0, 1], [[5.0, None], [None, 1.0]]) is None


def test_a_try_with_an_unreadable_judgement_is_passed_over() -> None:
    assert chosen_try([0, 1, 2], [[5.0, None, 1.0], [4.0, 3.0, 2.0]]) == 1


def test_readable_is_told_apart_from_disagreeing() -> None:
    prompt = prompt_of([0, 1])
    assert not agreement(prompt, {}, 3).readable
    assert not agreement(prompt, readings_of([[5.0, None], [None, 1.0]]), 2).readable
    disagreeing = agreement(prompt, readings_of([[1.0, 5.0]]), 1)
    assert disagreeing.readable and disagreeing.readings is None


def test_a_try_beyond_those_asked_for_does_not_count() -> None:
    assert chosen_try([0, 1], [[1.0, 5.0], [5.0, 1.0]], asked=1) is None


@pytest.mark.parametrize(
    ("ranks", "scores", "agrees"),
    [
        ([0, 1, 2], [5.0, 5.0, 1.0], True),  # a tie between neighbours
        ([0, 1, 2], [5.0, 1.0, 1.0], True),
        ([0, 1, 2, 3], [4.0, 4.0, 4.0, 3.0], True),
        ([0, 1, 2], [3.0, 3.0, 3.0], False),  # nothing was told apart
        ([0, 1, 2], [5.0, 1.0, 2.0], False),
        ([0, 1, 2], [3.0, 4.0, 1.0], False),
        ([0, 0, 1], [4.0, 5.0, 2.0], True),  # people gave the first two one rank
        ([0, 0, 1], [5.0, 4.0, 2.0], True),
        ([0, 1, 1], [5.0, 1.0, 2.0], True),
        ([0, 0, 1], [4.0, 2.0, 3.0], False),
        ([1, 0], [1.0, 5.0], True),  # ranks count, not places
        ([0, 1], [2.5, 2.25], True),
    ],
)
def test_agreement_with_people(ranks: list[int], scores: list[float], agrees: bool) -> None:
    assert (chosen_try(ranks, [[*scores]]) == 0) is agrees


@given(st.lists(st.tuples(st.integers(0, 3), SCORES), min_size=2, max_size=5))
def test_agreement_does_not_depend_on_the_order_of_the_replies(replies: list[tuple[int, float]]) -> None:
    verdicts = {
        chosen_try([rank for rank, _ in order], [[score for _, score in order]])
        for order in permutations(replies)
    }
    assert len(verdicts) == 1


@given(st.lists(st.tuples(st.integers(0, 3), SCORES), min_size=2, max_size=6))
def test_what_agrees_has_falling_scores(replies: list[tuple[int, float]]) -> None:
    by_rank: dict[int, list[float]] = {}
    for rank, score in replies:
        by_rank.setdefault(rank, []).append(score)
    levels = [by_rank[rank] for rank in sorted(by_rank)]
    falls = all(min(better) >= max(worse) for better, worse in pairwise(levels))
    agrees = chosen_try([rank for rank, _ in replies], [[score for _, score in replies]]) == 0
    assert agrees is (falls and min(levels[0]) > max(levels[-1]))


@given(st.dictionaries(st.integers(0, 10_000), SCORES, max_size=60), st.floats(0.05, 1.0))
def test_thinning_reaches_the_share_or_leaves_one_of_each_score(
    scores: dict[int, float], most: float
) -> None:
    dropped = thin(scores, most)
    assert dropped <= scores.keys()
    left = Counter(score for key, score in scores.items() if key not in dropped)
    assert set(left) == set(scores.values())
    commonest = max(left.values(), default=0)
    assert commonest <= most * left.total() or commonest <= 1


@given(st.dictionaries(st.integers(0, 10_000), SCORES, max_size=60), st.floats(0.05, 1.0), st.randoms())
def test_thinning_is_the_same_for_the_same_keys(
    scores: dict[int, float], most: float, random: Random
) -> None:
    shuffled = list(scores.items())
    random.shuffle(shuffled)
    assert thin(dict(shuffled), most) == thin(scores, most)


@given(st.dictionaries(st.integers(0, 10_000), SCORES, max_size=60), st.floats(0.05, 1.0))
def test_thinning_drops_no_more_than_it_must(scores: dict[int, float], most: float) -> None:
    """Nothing but what was at some point the commonest score goes: what is thinned stays the commonest."""
    dropped = thin(scores, most)
    left = Counter(score for key, score in scores.items() if key not in dropped)
    thinned = {scores[key] for key in dropped}
    assert all(left[score] + 1 >= max(left.values()) for score in thinned)
    assert thin({key: score for key, score in scores.items() if key not in dropped}, most) == set()


def test_the_commonest_score_is_thinned_and_the_others_stay() -> None:
    scores = {key: 4.0 if key < 8 else 1.0 + key % 2 for key in range(12)}
    dropped = thin(scores, 0.5)
    assert len(dropped) == 4 and all(scores[key] == 4.0 for key in dropped)


def test_fractional_scores_are_thinned_with_the_whole_one_they_are_nearest_to() -> None:
    assert len(thin({1: 3.6, 2: 4.0, 3: 4.4, 4: 1.0}, 0.5)) == 2
    assert thin({1: 3.4, 2: 4.0, 3: 4.6}, 0.34) == set()


def test_which_examples_go_is_spread_over_the_keys() -> None:
    dropped = thin({key: 5.0 for key in range(100)} | {key: 1.0 for key in range(100, 120)}, 0.5)
    assert len(dropped) == 80
    assert 20 < sum(key < 50 for key in dropped) < 60


@pytest.mark.parametrize(
    ("sizes", "most", "groups"),
    [([3, 3, 3], 6, 2), ([3, 3, 3], 8, 2), ([3, 3, 3], 9, 3), ([4, 1], 3, 0), ([], 5, 0), ([2, 2], 0, 0)],
)
def test_whole_groups_fit_or_do_not(sizes: list[int], most: int, groups: int) -> None:
    assert up_to(sizes, most) == groups


@given(st.lists(st.integers(1, 9)), st.integers(0, 60))
def test_one_group_more_would_not_fit(sizes: list[int], most: int) -> None:
    groups = up_to(sizes, most)
    assert sum(sizes[:groups]) <= most
    assert groups == len(sizes) or sum(sizes[: groups + 1]) > most


@pytest.mark.parametrize(("score", "line"), [(5.0, "Score: 5"), (0.0, "Score: 0"), (2.5, "Score: 2.5")])
def test_whole_scores_have_no_decimal_point(score: float, line: str) -> None:
    assert score_line(score) == line
