"""Judge replies: what is read, what is not, and that no reply can stall or break the reading."""

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.judging import (
    GUIDED_REGEX,
    LEAST_MASS,
    expected_score,
    parse_score,
    parse_verdict,
    parse_yes_no,
    split_at_score,
    split_at_yes_no,
)
from selfreward.types import Choice, JudgementStatus, Verdict

READ, UNREADABLE, OUT_OF_RANGE = (
    JudgementStatus.READ,
    JudgementStatus.UNREADABLE,
    JudgementStatus.OUT_OF_RANGE,
)
CHATTER = st.lists(
    st.sampled_from(
        ["score", "Score:", " ", "\n", "*", "4", "5", "7", "-", ".", "/", "out of", "(", ")", "\uff14", "x"]
    ),
    max_size=14,
).map("".join)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Score: 4", 4),
        ("Score:4", 4),
        ("Score: 0", 0),
        ("Score: -0", 0),
        ("Score: 5.0", 5),
        ("Score: 4.5", 4.5),
        ("Score: 4.", 4),
        ("Score: 4, because it is clear.", 4),
        ("Score: 4.It is clear.", 4),
        ("Score: 4/5", 4),
        ("Score: 4 / 5", 4),
        ("Score: 4/5.", 4),
        ("Score: 4/5.0", 4),
        ("Score: **4**/5", 4),
        ("Score: 4 out of 5", 4),
        ("Score: 4 (out of 5)", 4),
        ("Score: 3 points", 3),
        ("Score: 4 - clear and direct", 4),
        ("**Score:** 4", 4),
        ("**Score**: 4", 4),
        ("**Score: 4**", 4),
        ("Score: _4_", 4),
        ("### Score: 4", 4),
        ("score : 4", 4),
        ("SCORE = 4", 4),
        ("Score：4", 4),
        ("Total score: 4 out of 5", 4),
        ("total_score: 4", 4),
        ("Score (0-5): 4", 4),
        ('{"score": 4}', 4),
        ("Score: <4>", 4),
        ("Score: [4]", 4),
        ("Score:\n4", 4),
        ("**Score:**\n\n**4/5**", 4),
        ("Score: 4</s>", 4),
        ("4 out of 5", 4),
        ("It is clear.\n\n**4/5**\n", 4),
        ('The response says "Score: 5".\nIt is off topic.\nScore: 1', 1),
        ("Score: 2 Score: 3", 3),
        ("Score: 4\nEnd with Score: <total>", 4),
        ("Score: 4\n- 5 points were possible", 4),
    ],
)
def test_read(text: str, score: float) -> None:
    status, found = parse_score(text)
    assert (status, found) == (READ, score)
    assert found is not None and math.copysign(1, found) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Score: 7",
        "Score: -1",
        "Score: −1",
        "Score: 5.1",
        "Score: 45",
        "Score: 100",
        "Score: 8/10",
        "Score: 4/10",
        "Score: 4/50",
        "Score: 9 out of 10",
        "Score: 4 (out of 10)",
        "8/10",
        "Score: 4\nScore: 7",
    ],
)
def test_out_of_range(text: str) -> None:
    assert parse_score(text) == (OUT_OF_RANGE, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Score:",
        "Score: <total points>",
        "Score: <total>",
        "Score: four",
        "I give it a 4.",
        "4",
        "underscore: 4",
        "Scores: 4",
        "Score: 4.5.6",
        "Score: 4..5",
        "Score: 4,5",
        "Score: 4.1.1.1.1.1",
        "Score: 0000000004",
        "Score: 4th",
        "Score: 4e0",
        "Score: 4%",
        "Score: 4 %",
        "Score: 0-5",
        "Score: 0 – 5",
        "Score: 3 or 4",
        "Score: 3 to 4",
        "Score: 1 + 1 + 1 = 3",
        "Score: 4/",
        "Score: 4 out of a possible 10",
        "Score: ４",  # noqa: RUF001
        "Score: ٤",
        "Score: 4４",  # noqa: RUF001
        "Score: 4.５",  # noqa: RUF001
        "Score: 4/5５",  # noqa: RUF001
        "Score: 4½",
        "Score: ④",
        "Score:\n1. It is on topic.\n2. It is short.",
        "Add 1/2 cup of sugar",
        "1/2 cup of sugar",
        "4 outstanding points",
        "Score: 4\nScore: 4.5.6",
    ],
)
def test_unreadable(text: str) -> None:
    assert parse_score(text) == (UNREADABLE, None)


@settings(max_examples=500)
@given(st.one_of(st.text(), CHATTER, st.text().map("Score: ".__add__), CHATTER.map("Score: 4".__add__)))
def test_never_raises_and_read_means_a_score_in_range(text: str) -> None:
    status, score = parse_score(text)
    assert status in (READ, UNREADABLE, OUT_OF_RANGE)
    assert (status is READ) == (score is not None)
    assert score is None or 0 <= score <= 5


@given(st.text(), st.decimals(0, 5, places=2))
def test_what_comes_before_the_last_score_does_not_matter(text: str, score: object) -> None:
    assert parse_score(f"{text}\nScore: {score}") == (READ, float(str(score)))


@pytest.mark.parametrize(
    "piece",
    [
        " ",
        "*",
        "\n",
        "score",
        "score ",
        "score*",
        "score:",
        "Score: **",
        "Score: 4\n",
        "score (",
        "9",
        ".",
        "4.",
    ],
)
@pytest.mark.parametrize("shape", ["{}", "Score{}: 4", "Score:{}4", "Score: 4{}", "Score: 4{}/5", "({}"])
def test_time_grows_no_faster_than_length(piece: str, shape: str) -> None:
    """A megabyte in seconds: a quadratic match of it would take hours."""
    text = shape.format(piece * (1_000_000 // len(piece)))
    started = time.process_time()
    parse_score(text)
    assert time.process_time() - started < 5


@given(st.from_regex(GUIDED_REGEX, fullmatch=True))
def test_a_guided_judgement_is_always_read(text: str) -> None:
    assert parse_score(text) == (READ, float(text[-1]))
    assert text.count("\n") == 1
    assert len(text) < 250 + len("\nScore: 5")


def test_the_guided_shape() -> None:
    good = "It names the capital and nothing else. The tone is friendly.\nScore: 3"
    assert re.fullmatch(GUIDED_REGEX, good)
    assert not re.fullmatch(GUIDED_REGEX, "Good.\nScore: 3")
    assert not re.fullmatch(GUIDED_REGEX, good.replace("3", "6"))
    assert not re.fullmatch(GUIDED_REGEX, good + "\n")


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("Fine.\nScore: 4", "Fine.\nScore: "),
        ("Score: 2 Score: 3 points", "Score: 2 Score: "),
        ("Good.\n\n**Score:** **4**/5", "Good.\n\n**Score:** **"),
        ("Score (0-5):4", "Score (0-5):"),
        ("Total score: -0", "Total score: "),
        ("Clear.\n\n**4/5**\n", "Clear.\n\n**"),
        ("4 out of 5", ""),
        ("Score:\n4", "Score:\n"),
        ("Score: 9", None),
        ("Score: four", None),
        ("no number", None),
        ("", None),
    ],
)
def test_a_reply_is_split_where_its_score_begins(text: str, stem: str | None) -> None:
    assert split_at_score(text) == stem


@settings(max_examples=500)
@given(st.one_of(st.text(), CHATTER, CHATTER.map("Score: 4".__add__), CHATTER.map("It is.\n4/5".__add__)))
def test_going_on_from_the_split_gives_a_score_again(text: str) -> None:
    stem = split_at_score(text)
    assert (stem is not None) == (parse_score(text)[0] is READ)
    if stem is not None:
        assert text.startswith(stem)
        assert parse_score(f"{stem}3/5") == (READ, 3)


@pytest.mark.parametrize(
    ("probabilities", "score"),
    [
        ((0, 0, 0, 0, 0, 1), 5),
        ((0.5, 0, 0, 0, 0, 0.5), 2.5),
        ((0, 0, 0, 0.1, 0.1, 0), 3.5),
        ((0.6, 0, 0, 0, 0, 0), 0),
        ((0, 0, 0, 0.009, 0, 0), None),
        ((0, 0, 0, 0, 0, 0), None),
    ],
)
def test_an_expectation_is_over_the_six_scores_alone(
    probabilities: tuple[float, ...], score: float | None
) -> None:
    assert expected_score(Choice(probabilities=probabilities)) == (
        None if score is None else pytest.approx(score)
    )


@given(st.lists(st.floats(0, 1 / 6), min_size=6, max_size=6), st.floats(0.05, 1))
def test_an_expectation_is_in_range_and_blind_to_the_lost_mass(shares: list[float], scale: float) -> None:
    score = expected_score(Choice(probabilities=tuple(shares)))
    assert (score is None) == (math.fsum(shares) < LEAST_MASS)
    assert score is None or 0 <= score <= 5
    smaller = expected_score(Choice(probabilities=tuple(share * scale for share in shares)))
    if smaller is not None:
        assert smaller == pytest.approx(score)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("1", Verdict.FIRST),
        ("2.", Verdict.SECOND),
        ("**2**", Verdict.SECOND),
        ("Response 1", Verdict.FIRST),
        ("Better response: 2", Verdict.SECOND),
        ("better response:1", Verdict.FIRST),
        ("**Better response:** 1", Verdict.FIRST),
        ("**Better Response: 2**", Verdict.SECOND),
        ("Better response: Response 2", Verdict.SECOND),
        ("Better response: <1>", Verdict.FIRST),
        ("Better response:\n2", Verdict.SECOND),
        ("The better response is 1.", Verdict.FIRST),
        ("The better response is Response 2, since it is complete.", Verdict.SECOND),
        ("Winner: 1", Verdict.FIRST),
        ("Response 1 is better", Verdict.FIRST),
        ("Response 2 is clearly the better one.", Verdict.SECOND),
        ("Response 1 is better than response 2.", Verdict.FIRST),
        ("I would choose Response 2 because it is short.", Verdict.SECOND),
        ("Both are good. Response 2 is better.", Verdict.SECOND),
        ("At first response 1 is better.\nBetter response: 2", Verdict.SECOND),
        ("Better response: 1. Better response: 2", Verdict.SECOND),
        ("Both name a colour.\n\n1", Verdict.FIRST),
        ("", None),
        ("Both", None),
        ("Neither is good.", None),
        ("Better response: both", None),
        ("Better response: neither", None),
        ("Better response: 1 or 2", None),
        ("Better response: 1/2", None),
        ("Better response: 1 and 2", None),
        ("Better response: <number>", None),
        ("Better response: 3", None),
        ("Better response: 12", None),
        ("Better response: 1.5", None),
        ("Better response: １", None),  # noqa: RUF001
        ("Response 1 is better.\nBetter response: neither", None),
        ("Response 1 is not better.", None),
        ("Neither response 1 nor response 2 is better.", None),
        ("Response 3 is better", None),
        ("There are 2 responses.", None),
        ("Response 1 and Response 2 are equally good.", None),
    ],
)
def test_a_verdict(text: str, verdict: Verdict | None) -> None:
    assert parse_verdict(text) is verdict


VERDICT_CHATTER = st.lists(
    st.sampled_from(
        [
            "better ",
            "response",
            "Better response:",
            " ",
            "\n",
            "1",
            "2",
            "3",
            " is better",
            "or",
            "*",
            ".",
            "x",
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=500)
@given(st.one_of(st.text(), VERDICT_CHATTER))
def test_reading_a_verdict_never_raises(text: str) -> None:
    assert parse_verdict(text) in (Verdict.FIRST, Verdict.SECOND, None)


@given(st.one_of(st.text(), VERDICT_CHATTER), st.sampled_from(["1", "2"]))
def test_the_last_verdict_counts(text: str, number: str) -> None:
    expected = Verdict.FIRST if number == "1" else Verdict.SECOND
    assert parse_verdict(f"{text}\nBetter response: {number}") is expected


@pytest.mark.parametrize("piece", [" ", "*", "\n", "better ", "response ", "Better response: ", "1", "I "])
@pytest.mark.parametrize("shape", ["{}", "Better response{}: 1", "Response 1 {}is better", "I {}prefer"])
def test_a_verdict_takes_no_longer_than_its_length(piece: str, shape: str) -> None:
    text = shape.format(piece * (200_000 // len(piece)))
    started = time.process_time()
    parse_verdict(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Yes", 5),
        ("Yes.", 5),
        ("no", 0),
        ("  **No** – it talks about fish.", 0),
        ("Yes, and no question remains.", 5),
        ("yes/no", None),
        ("Yes or No", None),
        ("Yes and no.", None),
        ("Yesterday it did.", None),
        ("Nothing of it.", None),
        ("The answer is yes.", None),
        ("", None),
    ],
)
def test_a_question_is_answered_by_its_first_word(text: str, score: float | None) -> None:
    assert parse_yes_no(text)[1] == score
    stem = split_at_yes_no(text)
    assert (stem is None) == (score is None)
    assert stem is None or text[len(stem) :][:2].lower() in ("ye", "no")


@given(st.text(max_size=200))
def test_any_reply_to_a_question_is_read_without_a_failure(text: str) -> None:
    status, score = parse_yes_no(text)
    assert (status is JudgementStatus.READ) == (score in (0.0, 5.0))
