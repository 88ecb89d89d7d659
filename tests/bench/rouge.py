"""Is the search for a prompt's nearest neighbour exact and fast? `RougePool` against `rouge_score`.

1,000 new prompts are held against a pool of 10,000. `rouge_score`, called pair by pair, would take most
of an hour for these 10 million pairs, so its time is that of a random sample, extrapolated. Decisions
are checked with `rouge_score` itself: on every pair of some new prompts, and for all new prompts on
every pair anywhere near the threshold, which a search of its own finds.
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from rapidfuzz.distance import Indel
from rapidfuzz.process import cdist
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped]

from selfreward.config import SelfInstructSettings
from selfreward.dedupe import Nearest, RougePool
from selfreward.resources import seeds_dir
from tests.bench.figures import Figure, Options

POOL, NEW = 10_000, 1_000
WANTED_SPEEDUP = 50
TIMED_PAIRS = 5_000
FULLY_CHECKED = 12
NEAR = 0.1
"""Pairs whose ROUGE-L F is above the threshold less this are all scored with `rouge_score`."""
NEAR_DUPLICATES = 0.3
SEED = 20_24


@dataclass(frozen=True, kw_only=True)
class Search:
    """What `RougePool` found for each new prompt."""

    nearest: tuple[Nearest, ...]
    similar: tuple[bool, ...]
    build_s: float
    search_s: float


def measure(_: Options) -> list[Figure]:
    """Time both, and compare their decisions."""
    pool, new = prompts()
    search = _search(pool, new)
    pair_s = _seconds_a_pair(pool, new)
    extrapolated = pair_s * len(pool) * len(new)
    ours = search.build_s + search.search_s
    return [
        Figure(
            name=f"{len(new):,} new prompts against {len(pool):,}",
            reached=f"{ours:.2f} s",
            note=f"{search.build_s:.2f} s to fill the pool, {search.search_s:.2f} s to decide "
            f"({sum(search.similar)} turned away as too similar)",
        ),
        Figure(
            name="speed against rouge_score",
            reached=f"{extrapolated / ours:.0f} ×",
            wanted=f">= {WANTED_SPEEDUP} ×",
            reached_it=extrapolated >= WANTED_SPEEDUP * ours,
            note=f"rouge_score took {1e6 * pair_s:.0f} µs a pair on {TIMED_PAIRS:,} random pairs; "
            f"extrapolated to {len(pool) * len(new):,} pairs that is {extrapolated / 60:.0f} minutes, which "
            "were not spent",
            data={"ours_s": ours, "rouge_score_s_extrapolated": extrapolated},
        ),
        _identical(pool, new, search),
    ]


def prompts() -> tuple[list[str], list[str]]:
    """(pool, new prompts): phrases of the seeds put together anew; some new ones nearly repeat the pool."""
    draw = random.Random(SEED)
    seeds = [text.split() for text in _seed_texts()]
    pool = [_recombined(seeds, draw) for _ in range(POOL)]
    new = [
        _altered(draw.choice(pool), seeds, draw)
        if draw.random() < NEAR_DUPLICATES
        else _recombined(seeds, draw)
        for _ in range(NEW)
    ]
    return pool, new


def _seed_texts() -> list[str]:
    lines = (seeds_dir() / "instructions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["instruction"] for line in lines]


def _recombined(seeds: Sequence[list[str]], draw: random.Random) -> str:
    """As long as some seed, from runs of 1–4 words of any seeds: shares words and phrases as real ones do."""
    length = len(draw.choice(seeds))
    words: list[str] = []
    while len(words) < length:
        source = draw.choice(seeds)
        start = draw.randrange(len(source))
        words += source[start : start + draw.randint(1, 4)]
    return " ".join(words[:length])


def _altered(text: str, seeds: Sequence[list[str]], draw: random.Random) -> str:
    """`text` with up to half of its words replaced, dropped or moved: on both sides of the threshold."""
    words = text.split()
    for _ in range(draw.randint(0, max(1, len(words) // 2))):
        place = draw.randrange(len(words))
        words[place : place + 1] = draw.choice(([], [draw.choice(draw.choice(seeds))], [draw.choice(words)]))
        words = words or ["nothing"]
    return " ".join(words)


def _search(pool: Sequence[str], new: Sequence[str]) -> Search:
    begin = time.perf_counter()
    index = RougePool(SelfInstructSettings().max_rouge_l)
    for key, text in enumerate(pool):
        index.add(key, text)
    filled = time.perf_counter()
    found = [index.nearest(text) for text in new]
    similar = tuple(index.too_similar(nearest) for nearest in found)
    end = time.perf_counter()
    nearest = tuple(hit for hit in found if hit is not None)
    return Search(nearest=nearest, similar=similar, build_s=filled - begin, search_s=end - filled)


def _seconds_a_pair(pool: Sequence[str], new: Sequence[str]) -> float:
    """Mean time that `rouge_score` takes for a pair, over a random sample."""
    draw = random.Random(SEED + 1)
    pairs = [(draw.choice(pool), draw.choice(new)) for _ in range(TIMED_PAIRS)]
    scorer = RougeScorer(["rougeL"])
    began = time.perf_counter()
    for target, prediction in pairs:
        scorer.score(target, prediction)
    return (time.perf_counter() - began) / len(pairs)


def _identical(pool: Sequence[str], new: Sequence[str], search: Search) -> Figure:
    """Decisions and nearest scores that differ from those of `rouge_score` where it was asked."""
    scorer = RougeScorer(["rougeL"])
    limit = SelfInstructSettings().max_rouge_l
    fully = _evenly(search.similar, FULLY_CHECKED)
    wrong = asked = compared = 0
    for number, near in enumerate(_near_pairs(pool, new, limit)):
        places = range(len(pool)) if number in fully else near
        scores = [float(scorer.score(pool[p], new[number])["rougeL"].fmeasure) for p in places]
        asked += len(scores)
        best = max(scores, default=0.0)
        compared += bool(scores)
        # Without a near pair the best of all is below the threshold, and rouge_score would say no.
        wrong += search.similar[number] != (best > limit)
        wrong += bool(scores) and search.nearest[number].rouge_l != best
    return Figure(
        name="decisions identical to rouge_score",
        reached=f"{wrong} differ" if wrong else "all",
        wanted="all",
        reached_it=not wrong,
        note=f"checked on {asked:,} pairs: all {len(pool):,} of {len(fully)} new prompts, and for all "
        f"{len(new):,} every pair with F above {limit - NEAR:.1f}; the nearest F was compared bit by bit for "
        f"the {compared} that have one",
        data={"different": wrong, "pairs": asked},
    )


def _evenly(similar: Sequence[bool], count: int) -> set[int]:
    """Numbers of new prompts: half of them turned away, half kept."""
    groups = [[i for i, was in enumerate(similar) if was is kind] for kind in (True, False)]
    return set(chain.from_iterable(group[: count // 2] for group in groups))


def _near_pairs(pool: Sequence[str], new: Sequence[str], limit: float) -> list[list[int]]:
    """For each new prompt the places in the pool with F above `limit` − NEAR.

    F is the normalised Indel similarity of the token lists. Done on `rouge_score`'s own tokens, with
    nothing of `RougePool` in it: an error there would show.
    """
    tokenise = DefaultTokenizer(use_stemmer=False).tokenize
    there, here = [tokenise(text) for text in pool], [tokenise(text) for text in new]
    matrix = cdist(here, there, scorer=Indel.normalized_similarity, score_cutoff=limit - NEAR, workers=-1)
    return [row.nonzero()[0].tolist() for row in matrix]
