"""Judgements made from ranks: what a judge is first taught with where people only put replies in order."""

from collections.abc import Sequence
from dataclasses import replace

from selfreward.text import digest
from selfreward.types import RankedReply, Seed

BEST, WORST = 5, 0

_OPENINGS: tuple[tuple[str, ...], ...] = (
    (
        "Does not deal with what the user asked for",
        "Passes the request by and gives nothing that bears on it",
        "Of no use for this request: its subject is another one",
        "Nothing here helps with what was asked",
    ),
    (
        "Stays on the subject, yet hardly anything of the request is dealt with",
        "Touches the request here and there without getting far",
        "Relevant in part, but most of what was wanted is absent or mistaken",
        "Has some bearing on the request and little substance",
    ),
    (
        "Deals with a good part of the request and leaves the rest open",
        "Relevant throughout, although the coverage has clear gaps",
        "Handles some of what was asked well and skips over the remainder",
        "Goes a fair way towards an answer without arriving there",
    ),
    (
        "Answers the basic parts of the request in a usable way",
        "Gives the user something to work with on each main point",
        "Covers the essentials of what was asked",
        "A sound basic answer that meets the main need",
    ),
    (
        "Addresses the request directly and covers it well",
        "Takes up every part of the request with helpful detail",
        "A complete and relevant answer to what was asked",
        "Serves the user well on all points that matter",
    ),
    (
        "Answers exactly what was asked and leaves nothing of it open",
        "Meets the whole request with accurate, well chosen detail",
        "Covers every part of the request in just the right depth",
        "Shows real command of the subject and settles the request fully",
    ),
)
_CLOSINGS: tuple[tuple[str, ...], ...] = (
    (
        "however it is worded, no point can be given.",
        "there is no relevant information to credit.",
        "even the first point is out of reach.",
        "the user would have to ask all over again.",
    ),
    (
        "it earns the point for relevance and none beyond it.",
        "vague wording makes it weaker still.",
        "a reader would need to look elsewhere for nearly everything.",
        "too thin and too loose to be credited with more.",
    ),
    (
        "the gaps keep it from being a usable answer.",
        "it is readable, but the user is left with open questions.",
        "more completeness and a clearer line would be needed.",
        "what is there helps, what is lacking weighs as much.",
    ),
    (
        "depth and organisation could be better.",
        "it remains general and could be put more clearly.",
        "useful as it stands, though neither thorough nor polished.",
        "a fuller and better ordered text would earn more.",
    ),
    (
        "it is clear and well ordered, with a little room for more focus.",
        "only small gains in precision or brevity remain.",
        "the text is easy to follow, if not quite flawless.",
        "well organised and helpful, just short of excellent.",
    ),
    (
        "it is clear, well ordered and free of padding.",
        "the wording is precise and nothing is beside the point.",
        "hard to improve in content, order or tone.",
        "engaging to read and fitted to this user's need.",
    ),
)
"""By score. Any opening goes with any closing of its score; each pair is one sentence of a grader."""


def with_verdicts(seed: Seed) -> Seed:
    """`seed` with a score and a justification for each reply that lacks one; canaries stay as they are.

    Scores follow the ranks: replies of one rank share a score, the best rank gets 5, and up to six
    ranks get scores of their own. A score that the seed brings is kept, and the made ones do not
    contradict it. The same reply always gets the same words.
    """
    spread = _spread({reply.rank for reply in seed.replies})
    known = [(reply.rank, reply.score) for reply in seed.replies if reply.score is not None]
    return replace(seed, replies=tuple(_judged(reply, spread, known) for reply in seed.replies))


def _judged(reply: RankedReply, spread: dict[int, int], known: Sequence[tuple[int, float]]) -> RankedReply:
    if reply.canary_of is not None:
        return reply
    score = reply.score if reply.score is not None else _between(reply.rank, spread[reply.rank], known)
    return replace(reply, score=score, justification=reply.justification or _justification(reply, score))


def _spread(ranks: set[int]) -> dict[int, int]:
    """Whole scores from 5 down, even steps. With fewer than six ranks the worst gets 1: people who
    answered a request seldom wrote past it altogether, which is what 0 stands for.
    """
    steps = max(1, len(ranks) - 1)
    depth = min(BEST - WORST, max(BEST - WORST - 1, steps))
    return {rank: BEST - round(index * depth / steps) for index, rank in enumerate(sorted(ranks))}


def _between(rank: int, score: float, known: Sequence[tuple[int, float]]) -> float:
    """`score`, moved so far that scores already given to other replies stay in the order of the ranks."""
    lowest = max((given for other, given in known if other >= rank), default=float(WORST))
    highest = min((given for other, given in known if other <= rank), default=float(BEST))
    return min(max(float(score), lowest), highest)


def _justification(reply: RankedReply, score: float) -> str:
    level = int(score + 0.5)
    number = int(digest(reply.text)[:8], 16)
    openings, closings = _OPENINGS[level], _CLOSINGS[level]
    closing, opening = divmod(number, len(openings))
    return f"{openings[opening]}; {closings[closing % len(closings)]}"
