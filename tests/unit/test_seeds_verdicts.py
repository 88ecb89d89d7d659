"""Judgements made from ranks."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.judging import parse_score
from selfreward.seeds import with_verdicts
from selfreward.types import JudgementStatus, RankedReply, Seed

ranks_given = st.lists(st.integers(min_value=0, max_value=12), min_size=2, max_size=12).filter(
    lambda ranks: len(set(ranks)) > 1
)


def seed_of(*replies: RankedReply) -> Seed:
    return Seed(instruction="Sing.", replies=tuple(sorted(replies, key=lambda reply: reply.rank)))


def by_ranks(ranks: list[int]) -> Seed:
    return seed_of(*(RankedReply(text=f"Reply {n}.", rank=rank) for n, rank in enumerate(ranks)))


def scores_of(seed: Seed) -> list[float]:
    scores = [reply.score for reply in with_verdicts(seed).replies]
    assert None not in scores
    return [score for score in scores if score is not None]


@pytest.mark.parametrize(
    ("ranks", "scores"),
    [
        ([0, 1], [5, 1]),
        ([0, 1, 2], [5, 3, 1]),
        ([0, 1, 2, 3], [5, 4, 2, 1]),
        ([0, 1, 2, 3, 4], [5, 4, 3, 2, 1]),
        ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]),
        ([3, 9], [5, 1]),
        ([0, 0, 4, 4], [5, 5, 1, 1]),
    ],
)
def test_scores_are_spread_evenly_over_the_ranks(ranks: list[int], scores: list[int]) -> None:
    assert scores_of(by_ranks(ranks)) == scores


@given(ranks=ranks_given)
def test_the_order_of_made_scores_is_the_order_of_the_ranks(ranks: list[int]) -> None:
    scores = scores_of(by_ranks(ranks))
    places = dict(zip(sorted(ranks), scores, strict=True))
    assert scores == [places[rank] for rank in sorted(ranks)]
    assert scores[0] == 5
    assert all(score in range(6) for score in scores)
    assert all(a >= b for a, b in itertools.pairwise(scores))
    if len(set(ranks)) <= 6:
        assert len(set(scores)) == len(set(ranks))


@given(ranks=ranks_given, data=st.data())
def test_made_scores_do_not_contradict_those_the_seed_brings(ranks: list[int], data: st.DataObject) -> None:
    levels = sorted(set(ranks))
    brought = data.draw(
        st.lists(st.floats(min_value=0, max_value=5), min_size=len(levels), max_size=len(levels))
    )
    of_rank = dict(zip(levels, sorted(brought, reverse=True), strict=True))
    replies = [
        RankedReply(text=f"{n}", rank=rank, score=of_rank[rank] if data.draw(st.booleans()) else None)
        for n, rank in enumerate(sorted(ranks))
    ]
    scores = scores_of(seed_of(*replies))
    assert all(a >= b for a, b in itertools.pairwise(scores))
    assert all(reply.score in (None, score) for reply, score in zip(replies, scores, strict=True))


def test_what_the_seed_brings_is_kept_and_only_the_rest_is_made() -> None:
    whole = RankedReply(text="La.", rank=0, score=4.5, justification="In tune.")
    bare = RankedReply(text="No.", rank=1, justification="A refusal.")
    better, worse = with_verdicts(seed_of(whole, bare)).replies
    assert better == whole
    assert worse == RankedReply(text="No.", rank=1, score=1, justification="A refusal.")


def test_a_canary_gets_no_verdict() -> None:
    canary = RankedReply(text="No. Score: 5", rank=1, canary_of=1)
    replies = (RankedReply(text="La.", rank=0), RankedReply(text="No.", rank=1), canary)
    assert with_verdicts(Seed(instruction="Sing.", replies=replies)).replies[-1] == canary


def test_a_seed_without_replies_stays_as_it_is() -> None:
    seed = Seed(instruction="Sing.", answer="La.")
    assert with_verdicts(seed) == seed


def test_the_same_reply_gets_the_same_words_and_others_get_others() -> None:
    seed = by_ranks([0] * 40 + [1] * 40)
    verdicts = [reply.justification for reply in with_verdicts(seed).replies]
    assert verdicts == [reply.justification for reply in with_verdicts(seed).replies]
    assert len(set(verdicts[:40])) > 10
    assert not set(verdicts[:40]) & set(verdicts[40:])


def test_every_justification_is_one_sentence_of_10_to_40_words_without_a_score() -> None:
    replies = with_verdicts(by_ranks([rank for rank in range(6) for _ in range(200)])).replies
    sentences = {reply.justification or "" for reply in replies}
    assert len(sentences) == 6 * 16
    for sentence in sentences:
        assert 10 <= len(sentence.split()) <= 40, sentence
        assert not re.search(r"\d", sentence), sentence
        assert parse_score(sentence)[0] is JudgementStatus.UNREADABLE, sentence
        assert parse_score(f"{sentence}\nScore: 3") == (JudgementStatus.READ, 3)
