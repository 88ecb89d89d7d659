"""The ranked replies that ship: what training a judge, and measuring one, rely on."""

import json
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import combinations, product
from statistics import correlation
from typing import Any

import pytest
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from selfreward.config import SelfInstructSettings
from selfreward.dedupe import first_objection
from selfreward.judging import parse_score
from selfreward.resources import seeds_dir
from selfreward.types import JudgementStatus

Row = dict[str, Any]
SPLITS = {"train": 80, "held_out": 40}


def read(name: str) -> list[Row]:
    lines = (seeds_dir() / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


ROWS = read("ranked.jsonl")
REPLIES: list[Row] = [reply for row in ROWS for reply in row["replies"]]


def replies_of(split: str) -> list[Row]:
    return [reply for row in ROWS if row["split"] == split for reply in row["replies"]]


def words(text: str) -> int:
    return len(text.split())


def midranks(values: list[int]) -> list[float]:
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value)) / 2 for value in values]


def spearman(left: list[int], right: list[int]) -> float:
    return correlation(midranks(left), midranks(right))


def nearest_pair(prompts: list[str], others: list[str] | None = None) -> tuple[float, str, str]:
    """The two most similar texts by ROUGE-L F, among `prompts` or across to `others`."""
    scorer = RougeScorer(["rougeL"])
    pairs = combinations(prompts, 2) if others is None else product(prompts, others)
    return max((float(scorer.score(a, b)["rougeL"].fmeasure), a, b) for a, b in pairs)


def test_every_row_has_the_declared_keys_and_text() -> None:
    for row in ROWS:
        assert row.keys() == {"prompt", "split", "replies"}
        for reply in row["replies"]:
            assert reply.keys() == {"text", "rank", "score", "justification"}
        for text in (row["prompt"], *(r["text"] for r in row["replies"])):
            assert text and text == text.strip()


def test_splits_have_their_fixed_sizes() -> None:
    assert Counter(row["split"] for row in ROWS) == SPLITS


def test_every_subject_is_in_both_splits() -> None:
    """Lines come in threes, one subject each: two to train on, one held out."""
    triples = [ROWS[start : start + 3] for start in range(0, len(ROWS), 3)]
    for triple in triples:
        assert sorted(row["split"] for row in triple) == ["held_out", "train", "train"], triple[0]["prompt"]


def test_replies_are_ranked_0_to_3_and_scores_fall_with_rank() -> None:
    allowed = ({4, 5}, {2, 3, 4}, {1, 2}, {0, 1})
    for row in ROWS:
        assert [reply["rank"] for reply in row["replies"]] == [0, 1, 2, 3], row["prompt"]
        scores = [reply["score"] for reply in row["replies"]]
        assert scores == sorted(set(scores), reverse=True), row["prompt"]
        assert all(score in band for score, band in zip(scores, allowed, strict=True)), row["prompt"]


@pytest.mark.parametrize(("split", "least"), [("train", 30), ("held_out", 10)])
def test_every_score_occurs_a_fair_number_of_times(split: str, least: int) -> None:
    counts = Counter(reply["score"] for reply in replies_of(split))
    assert counts.keys() == set(range(6))
    assert min(counts.values()) >= least, counts


def test_replies_are_short_and_differ_within_a_prompt() -> None:
    assert all(words(reply["text"]) < 120 for reply in REPLIES)
    assert len({reply["text"] for reply in REPLIES}) == len(REPLIES)


@pytest.mark.parametrize("split", SPLITS)
def test_length_says_little_about_quality(split: str) -> None:
    replies = replies_of(split)
    lengths = [words(reply["text"]) for reply in replies]
    assert abs(spearman(lengths, [reply["score"] for reply in replies])) < 0.35
    assert abs(spearman(lengths, [reply["rank"] for reply in replies])) < 0.35


def test_the_longest_reply_is_often_not_the_best() -> None:
    longest = Counter(max(row["replies"], key=lambda r: words(r["text"]))["rank"] for row in ROWS)
    assert all(10 <= longest[rank] <= 50 for rank in range(4)), longest


def test_spearman_follows_its_definition() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 90]) == pytest.approx(1)
    assert spearman([1, 2, 2, 3], [3, 2, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_justifications_have_10_to_40_words_and_are_all_different() -> None:
    for reply in REPLIES:
        assert 10 <= words(reply["justification"]) <= 40, reply["justification"]
    assert len({reply["justification"] for reply in REPLIES}) == len(REPLIES)


def test_a_justification_holds_no_score_until_the_score_line_is_added() -> None:
    for reply in REPLIES:
        assert not re.search(r"score\s*:", reply["justification"], re.IGNORECASE)
        assert parse_score(reply["justification"])[0] is JudgementStatus.UNREADABLE, reply["justification"]
        judgement = f"{reply['justification']}\nScore: {reply['score']}"
        assert parse_score(judgement) == (JudgementStatus.READ, reply["score"])


def test_prompts_pass_the_filters_that_new_prompts_must_pass() -> None:
    settings = SelfInstructSettings()
    for row in ROWS:
        assert first_objection(row["prompt"], False, settings) is None, row["prompt"]


def test_no_prompt_is_near_another_in_either_split() -> None:
    similarity, left, right = nearest_pair([row["prompt"] for row in ROWS])
    assert similarity <= 0.7, (left, right)


def test_no_prompt_is_near_a_seed_instruction() -> None:
    seeds = [row["instruction"] for row in read("instructions.jsonl")]
    similarity, left, right = nearest_pair([row["prompt"] for row in ROWS], seeds)
    assert similarity <= 0.7, (left, right)
