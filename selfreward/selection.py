"""Which judgements of ranked replies are worth learning from (arXiv 2401.10020, section 2.1). Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from selfreward.text import digest
from selfreward.types import RankedPrompt, StoredReading


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What was found among a judge's tries at one prompt's replies."""

    readable: bool
    """Whether at least one try gave every reply a readable score."""
    readings: Mapping[int, StoredReading] | None
    """By reply id, those of the first try in the human order; None when no try was."""


def agreement(prompt: RankedPrompt, readings: Mapping[int, Sequence[StoredReading]], tries: int) -> Agreement:
    """The first of a judge's tries that puts all the replies of a prompt in the order people gave them."""
    complete = [
        chosen
        for sample in range(tries)
        if len(chosen := _of_sample(prompt, readings, sample)) == len(prompt.replies)
    ]
    agreeing = (chosen for chosen in complete if _in_order(prompt, chosen))
    return Agreement(readable=bool(complete), readings=next(agreeing, None))


def thin(scores: Mapping[int, float], most: float) -> set[int]:
    """Keys to leave out so that no score is more than a share `most` of what stays, where that can be.

    `scores` are by key. Which ones of a score go is settled by a hash: the same keys, the same choice.
    At least one example of each score stays, so a share below 1 / (number of scores) is not reached.
    """
    by_score: dict[int, list[int]] = defaultdict(list)
    for key in sorted(scores, key=lambda key: digest(str(key))):
        by_score[int(scores[key] + 0.5)].append(key)
    dropped: set[int] = set()
    while (excess := _excess(by_score, most)) is not None:
        dropped.add(by_score[excess].pop())
    return dropped


def up_to(sizes: Iterable[int], most: int) -> int:
    """How many of the first groups fit into `most` items, whole groups only."""
    total = count = 0
    for size in sizes:
        total += size
        if total > most:
            break
        count += 1
    return count


def score_line(score: float) -> str:
    """The last line of a judgement: whole scores without a decimal point."""
    return f"Score: {score:g}"


def _of_sample(
    prompt: RankedPrompt, readings: Mapping[int, Sequence[StoredReading]], sample: int
) -> dict[int, StoredReading]:
    return {
        reply.id: reading
        for reply in prompt.replies
        for reading in readings.get(reply.id, ())
        if reading.sample == sample
    }


def _in_order(prompt: RankedPrompt, chosen: Mapping[int, StoredReading]) -> bool:
    """No worse reply has the higher score, and every best one has a higher score than every worst one.

    Six whole scores for up to a dozen replies: ties between neighbours are no disagreement.
    """
    scored = [(reply.rank, chosen[reply.id].score) for reply in prompt.replies]
    inverted = any(
        rank < other_rank and score < other_score
        for (rank, score), (other_rank, other_score) in permutations(scored, 2)
    )
    return not inverted and min(scored)[1] > max(scored)[1]


def _excess(by_score: Mapping[int, Sequence[int]], most: float) -> int | None:
    """The commonest score, if it is more than its share and can spare one."""
    counts = Counter({score: len(keys) for score, keys in by_score.items()})
    if not counts:
        return None
    score, count = counts.most_common(1)[0]
    return score if count > max(1.0, most * counts.total()) else None
