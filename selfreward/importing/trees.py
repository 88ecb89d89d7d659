"""Ranked replies, OpenAssistant's trees (arXiv 2304.07327) above all: every two of different rank are a pair.

Only replies to the first turn of a tree are ranked replies to a prompt as we have it. Reading, and what is
unusable (another language, deleted, synthetic, …), is that of `selfreward seeds import`.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from selfreward.importing.dialogues import checked
from selfreward.importing.reasons import LeftOut, NotUnderstood
from selfreward.seeds.records import UnknownShape, seeds_of
from selfreward.types import Preference, RankedReply, Seed, Split

ALL_TO_TRAIN = 0.0
"""Nothing is held out of preferences but what is a held-out seed: the run's own, or by the record's word."""


def is_tree(record: Mapping[str, Any]) -> bool:
    """Whether the record is a tree, or a prompt with ranked replies in our own form."""
    return isinstance(record.get("prompt"), dict) or "replies" in record


def from_tree(record: Mapping[str, Any]) -> Iterator[Preference | str]:
    """The preferences of a record, and why parts of it give none. Raises NotUnderstood."""
    if not is_tree(record):
        raise NotUnderstood('no tree: there is neither a "prompt" with "replies" nor "replies" beside it')
    try:
        for found in seeds_of(record, "", ALL_TO_TRAIN):
            yield from _pairs(found) if isinstance(found, Seed) else (found,)
    except UnknownShape as error:
        raise NotUnderstood(str(error)) from None


def _pairs(seed: Seed) -> Iterator[Preference | str]:
    if seed.split is Split.HELD_OUT:
        yield LeftOut.HELD_OUT
        return
    for better, worse in combinations(seed.replies, 2):  # best first
        if better.rank != worse.rank:
            yield checked(_preference(seed.instruction, better, worse))


def _preference(prompt: str, better: RankedReply, worse: RankedReply) -> Preference:
    return Preference(
        prompt=prompt,
        chosen=better.text,
        rejected=worse.text,
        chosen_score=better.score,
        rejected_score=worse.score,
    )
