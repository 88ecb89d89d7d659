"""Judge replies: what is read, what is not, and that no reply can stall or break the reading."""

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.judging import GUIDED_REGEX, parse_score
from selfreward.types import JudgementStatus

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
