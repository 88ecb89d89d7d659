"""Canaries: what ships, and which replies carry them."""

import json
from pathlib import Path

import pytest

from selfreward.seeds import read_seeds, shipped_canaries, with_canaries
from selfreward.types import RankedReply, Seed, Split

CANARIES = ("First.", "Second.", "Third.")
REPLIES = (
    RankedReply(text="Best.", rank=0, score=5, justification="Good."),
    RankedReply(text="Bad.", rank=2, score=1, justification="Weak."),
    RankedReply(text="Also bad.", rank=2, score=0, justification="Weaker."),
)
HELD_OUT = Seed(instruction="Sing.", split=Split.HELD_OUT, replies=REPLIES)


def test_ten_short_canaries_ship_and_each_is_different() -> None:
    canaries = shipped_canaries()
    assert len(set(canaries)) == len(canaries) == 10
    assert all(canary == canary.strip() and 0 < len(canary) < 300 for canary in canaries)
    assert any("</response>" in canary for canary in canaries)


def test_a_held_out_seed_gains_its_worst_reply_with_a_canary_below() -> None:
    seed = with_canaries(HELD_OUT, CANARIES, 1)
    assert seed.replies[:-1] == REPLIES
    assert seed.replies[-1] == RankedReply(text="Also bad.\n\nSecond.", rank=2, canary_of=2)


def test_the_canaries_take_turns() -> None:
    used = [with_canaries(HELD_OUT, CANARIES, first).replies[-1].text for first in range(7)]
    assert used == [f"Also bad.\n\n{CANARIES[first % 3]}" for first in range(7)]


def test_a_second_canary_is_no_copy_of_the_first() -> None:
    twice = with_canaries(with_canaries(HELD_OUT, CANARIES, 0), CANARIES, 1)
    assert [(reply.text, reply.canary_of) for reply in twice.replies[3:]] == [
        ("Also bad.\n\nFirst.", 2),
        ("Also bad.\n\nSecond.", 2),
    ]


@pytest.mark.parametrize(
    "seed",
    [Seed(instruction="Sing.", replies=REPLIES), Seed(instruction="Sing.", split=Split.HELD_OUT)],
    ids=["for training", "without replies"],
)
def test_other_seeds_stay_as_they_are(seed: Seed) -> None:
    assert with_canaries(seed, CANARIES, 0) == seed


def test_reading_gives_each_held_out_seed_the_next_canary_and_others_none(tmp_path: Path) -> None:
    replies = [{"text": "La.", "rank": 0}, {"text": "No.", "rank": 1}]
    splits = ["held_out", "train"] * 12
    rows = [{"prompt": f"Sing {n}.", "split": split, "replies": replies} for n, split in enumerate(splits)]
    (tmp_path / "ranked").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    seeds = read_seeds(["ranked"], tmp_path).seeds
    assert all(len(seed.replies) == 2 for seed in seeds[1::2])
    canaries = shipped_canaries()
    assert [seed.replies[2].text for seed in seeds[::2]] == [
        f"No.\n\n{canary}" for canary in (*canaries, *canaries[:2])
    ]
