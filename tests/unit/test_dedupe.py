"""The filters of Self-Instruct, and a ROUGE-L pool that decides exactly as rouge_score does."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from selfreward.config import SelfInstructSettings
from selfreward.dedupe import Nearest, RougePool, _code_point, first_objection
from selfreward.types import RejectReason

SETTINGS = SelfInstructSettings()
SCORER = RougeScorer(["rougeL"])
WORDS = st.sampled_from(["a", "b", "c", "d", "e", "Ab", "é", "7x", "!?", "漢"])
TEXTS = st.lists(WORDS, max_size=24).map(" ".join)


def rouge_l(target: str, prediction: str) -> float:
    return float(SCORER.score(target, prediction)["rougeL"].fmeasure)


def pool_of(texts: list[str], max_rouge_l: float = 0.7) -> RougePool:
    pool = RougePool(max_rouge_l)
    for key, text in enumerate(texts):
        pool.add(key, text)
    return pool


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", RejectReason.EMPTY),
        (" \n\t", RejectReason.EMPTY),
        ("Name three rivers", RejectReason.TOO_SHORT),
        ("Name three long rivers", None),
        ("word " * 150, None),
        ("word " * 151, RejectReason.TOO_LONG),
        ("Describe the IMAGE in words", RejectReason.KEYWORD),
        ("Describe this image-based captcha now", RejectReason.KEYWORD),
        ("Imagine a profile of graphite mapping", None),
        ("Tell me to go\n to the shop", RejectReason.KEYWORD),
        ("Tell me to ergo to shops", None),
        ("Write a program that adds numbers", RejectReason.BAD_START),
        ("write a Program that adds numbers", RejectReason.BAD_START),
        ("  Write a programme for a concert", RejectReason.BAD_START),
        ("Explain how to write a program", None),
        ('"To be" is from which play?', RejectReason.BAD_START),
        ("- list four large rivers", RejectReason.BAD_START),
        ("Évaluez la phrase que voici", RejectReason.BAD_START),
        ("写 一 首 诗", RejectReason.BAD_START),
        ("5 ways to save water", None),
    ],
)
def test_first_objection(text: str, reason: RejectReason | None) -> None:
    assert first_objection(text, False, SETTINGS) == reason


def test_cut_off_comes_before_length_but_after_empty() -> None:
    assert first_objection("Name", True, SETTINGS) == RejectReason.CUT_OFF
    assert first_objection(" ", True, SETTINGS) == RejectReason.EMPTY


def test_forbidden_words_are_text_not_patterns() -> None:
    only = SelfInstructSettings(forbidden_words=("c++", " ", ""))
    assert first_objection("Explain what C++ is for", False, only) == RejectReason.KEYWORD
    assert first_objection("Explain what ccc is for", False, only) is None
    nothing = SelfInstructSettings(forbidden_words=())
    assert first_objection("Draw me an image now", False, nothing) is None


def test_an_empty_pool_has_no_neighbour() -> None:
    pool = RougePool(0.7)
    assert pool.nearest("anything") is None
    assert not pool.too_similar(None)
    assert len(pool) == 0


def test_the_first_added_of_equals_is_nearest() -> None:
    pool = RougePool(0.7)
    for key, text in ((30, "x y"), (20, "a b c"), (10, "A, b; c!")):
        pool.add(key, text)
    assert pool.nearest("a b c") == Nearest(key=20, rouge_l=1.0)
    assert pool.nearest("nothing shared") == Nearest(key=30, rouge_l=0.0)
    assert len(pool) == 3


def test_texts_without_tokens_are_like_nothing() -> None:
    """Indel calls two empty sequences equal; rouge_score gives 0."""
    pool = pool_of(["漢字", "?!"])
    assert pool.nearest("漢字") == Nearest(key=0, rouge_l=0.0)
    assert pool.nearest("") == Nearest(key=0, rouge_l=0.0)
    assert pool.nearest("words") == Nearest(key=0, rouge_l=0.0)


def test_unknown_tokens_are_not_taken_for_each_other() -> None:
    pool = pool_of(["a"])
    assert pool.nearest("z z z a") == Nearest(key=0, rouge_l=rouge_l("a", "z z z a"))
    assert pool.nearest("q r s") == Nearest(key=0, rouge_l=0.0)
    pool.add(1, "q r s")
    assert pool.nearest("q r s") == Nearest(key=1, rouge_l=1.0)


def test_every_token_has_a_character_of_its_own_and_none_is_a_surrogate() -> None:
    characters = {_code_point(number) for number in range(0xE800)}
    assert len(characters) == 0xE800
    assert "\0" not in characters
    assert "".join(sorted(characters)).encode("utf-8")


@pytest.mark.parametrize("total", [20, 40, 60, 80, 100, 140, 200])
def test_decisions_at_the_threshold(total: int) -> None:
    """2·LCS / (m + n) is exactly 0.7 for every split of `total` here; the float F may miss it by a bit."""
    common = total * 7 // 20
    above = 0
    for m in range(common, total - common + 1):
        n = total - m
        target = " ".join(f"w{i}" for i in range(m))
        prediction = " ".join([f"w{i}" for i in range(common)] + [f"x{i}" for i in range(n - common)])
        pool = pool_of([target])
        nearest = pool.nearest(prediction)
        assert nearest is not None and nearest.rouge_l == rouge_l(target, prediction)
        assert pool.too_similar(nearest) == (rouge_l(target, prediction) > 0.7)
        above += pool.too_similar(nearest)
    assert above < total - 2 * common + 1


def overlap(common: int, total: int) -> str:
    """A text of `total` words, the first `common` of which are w0, w1, …"""
    return " ".join([f"w{i}" for i in range(common)] + [f"y{i}" for i in range(total - common)])


@pytest.mark.parametrize("size", [13, 20, 33])
def test_a_neighbour_that_is_greater_only_in_the_last_bit_is_found(size: int) -> None:
    """Pool texts at one ratio can have float F that differ: the greatest must not hide behind the first."""
    query = " ".join(f"w{i}" for i in range(size))
    by_ratio: dict[Fraction, list[str]] = {}
    for common in range(1, size + 1):
        for total in range(common, 3 * size):
            by_ratio.setdefault(Fraction(common, total + size), []).append(overlap(common, total))
    hidden = 0
    for texts in by_ratio.values():
        values = [rouge_l(text, query) for text in texts]
        assert pool_of(texts).nearest(query) == Nearest(key=values.index(max(values)), rouge_l=max(values))
        hidden += values[0] < max(values)
    assert hidden, "no such texts: this shows nothing"


def test_close_ratios_of_long_texts_are_told_apart() -> None:
    """6000/6001 and 6002/6003: rapidfuzz's cutoffs take ratios so close for one, and keep the first."""
    pool = pool_of([overlap(3000, 3000), overlap(3001, 3002)])
    nearest = pool.nearest(overlap(3001, 3001))
    assert nearest is not None and nearest.key == 1
    assert nearest.rouge_l == pytest.approx(6002 / 6003, abs=1e-12)


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=12), TEXTS, st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.8, 1.0]))
def test_equals_rouge_score(texts: list[str], new: str, limit: float) -> None:
    pool = pool_of(texts, limit)
    values = [rouge_l(text, new) for text in texts]
    nearest = pool.nearest(new)
    assert nearest == Nearest(key=values.index(max(values)), rouge_l=max(values))
    assert pool.too_similar(nearest) == any(value > limit for value in values)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_equals_rouge_score_on_any_text_either_way_round(one: str, other: str) -> None:
    nearest = pool_of([one]).nearest(other)
    assert nearest == Nearest(key=0, rouge_l=rouge_l(one, other))
    assert rouge_l(one, other) == rouge_l(other, one)


def test_tokens_are_rouge_scores_tokens() -> None:
    """Lower case first, then ASCII letters and digits only: the Kelvin sign becomes a k."""
    assert pool_of(["300 K"]).nearest("300 \u212a") == Nearest(key=0, rouge_l=1.0)
    assert re.fullmatch("k", "\u212a".lower())
