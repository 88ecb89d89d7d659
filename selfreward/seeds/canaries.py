"""Replies that order, flatter or trick the judge: what they gain is how easily it is fooled."""

import json
from collections.abc import Sequence
from dataclasses import replace

from selfreward.resources import seeds_dir
from selfreward.types import RankedReply, Seed, Split


def shipped_canaries() -> tuple[str, ...]:
    """The texts that ship, in their order."""
    lines = (seeds_dir() / "canaries.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line)["text"] for line in lines)


def with_canaries(seed: Seed, canaries: Sequence[str], first: int) -> Seed:
    """A held-out seed with one reply more: its worst (the last of the greatest rank) and a canary below.

    The canary is `canaries[first]`, counted round. The copy keeps the rank, for its worth is the
    same; it has no score. Other seeds, and those without replies, come back as they are.
    """
    if seed.split is not Split.HELD_OUT or not seed.replies:
        return seed
    position = max(_real(seed.replies), key=lambda index: (seed.replies[index].rank, index))
    worst = seed.replies[position]
    text = f"{worst.text}\n\n{canaries[first % len(canaries)]}"
    return replace(seed, replies=(*seed.replies, RankedReply(text=text, rank=worst.rank, canary_of=position)))


def _real(replies: Sequence[RankedReply]) -> list[int]:
    return [index for index, reply in enumerate(replies) if reply.canary_of is None]
