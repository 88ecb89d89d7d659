"""Judging candidates two by two, each couple in both orders, as the work of a pump (arXiv 2309.00267)."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from statistics import fmean

from selfreward.engines.base import Engine, RequestFailed
from selfreward.errors import StoreError
from selfreward.ranking import Couple, averaged, readable, scores, wanted
from selfreward.stages.comparing import PairwiseJudge, Preference
from selfreward.stages.judge import judge_id
from selfreward.stages.workplace import Workplace
from selfreward.types import (
    Contest,
    JudgementStatus,
    NewCandidateComparison,
    NewJudgement,
    Shown,
    StageName,
    StageRow,
    Status,
)

COMPARED = "comparison"
"""Finish reason of a judgement that follows from comparisons."""

Orders = dict[tuple[int, int], Shown]


class PairwiseWork:
    """Scores the candidates of each prompt by comparing them with each other.

    An item is a prompt with all its candidates. Comparisons are stored in small batches as they come, and
    the last of a prompt's together with the judgements that follow. What was compared is not asked again.
    In the stage of the anchors those are compared with all of M_t's candidates.
    """

    def __init__(self, place: Workplace, stage: StageRow, engine: Engine, session_id: int | None) -> None:
        self.name = stage.name
        self._place, self._stage, self._session_id = place, stage, session_id
        self._settings = place.settings.judge
        self._judge = PairwiseJudge(place.directory, self._settings, engine)
        self._anchors = stage.name is StageName.JUDGE_ANCHOR
        self._slots = asyncio.Semaphore(place.engine.concurrency)
        """A prompt has many comparisons: it is these of which so many are under way at once."""
        self._orders: dict[int, Orders] = {}
        """What is known of the prompts under way, by item."""
        self._fresh: list[NewCandidateComparison] = []
        """Comparisons that are not stored yet."""
        self._turn = asyncio.Lock()
        self._writing = threading.Lock()
        self._written_at = time.monotonic()
        self.id = judge_id(place)

    def total(self) -> int:
        """Judgements of all the candidates that are wanted."""
        settings = self._place.settings
        each = settings.pair.anchors if self._anchors else settings.sample.candidates
        return settings.self_instruct.target * each

    def done(self) -> int:
        """Judgements that are there."""
        return self._place.store.candidates.judgement_count(self._place.data_iteration, self.id)

    def exhausted(self) -> bool:
        """Candidates come from the stage before."""
        return True

    def fetch(self, after: int, room: int) -> list[Contest]:
        """Prompts whose candidates are all in, and not all judged."""
        place, least = self._place, self._place.settings.sample.candidates
        if self._all_are_in():
            least = 2
        return place.store.comparisons.unsettled(
            place.data_iteration, self.id, least, after, room, self._anchors
        )

    async def perform(self, item: Contest) -> list[NewJudgement]:
        """Judgements of the prompt's candidates, once they are compared."""
        orders = self._orders.setdefault(item.id, dict(item.orders))
        try:
            while couples := self._wanted(item, orders):
                await self._compare(item, orders, couples)
        except BaseException:
            with suppress(StoreError):  # the failure is what counts; what cannot be stored is asked again
                await self._store_fresh()
            raise
        return self._judgements(item, self._orders.pop(item.id))

    def give_up(self, item: Contest, error: str) -> list[NewJudgement]:
        """Judgements without the comparisons that could not be had."""
        orders = self._orders.pop(item.id, dict(item.orders))
        while couples := self._wanted(item, orders):
            for first, second in _both(couples):
                if (first, second) not in orders:
                    self._keep(orders, first, second, Preference(status=JudgementStatus.FAILED))
        return self._judgements(item, orders)

    def commit(self, results: Sequence[NewJudgement], cursor: int) -> int:
        """Store judgements with the comparisons from which they follow, and any others that have come."""
        self._store(results, (self._stage.id, cursor))
        return len(results)

    def detail(self) -> str:
        """How it ended."""
        candidates, comparisons = self._place.store.candidates, self._place.store.comparisons
        judgements, _, mean = candidates.judged(self._place.data_iteration, self.id)
        asked, couples, flipped = comparisons.position_bias(self._place.data_iteration, self.id)
        average = "" if mean is None else f", mean score {mean:.2f}"
        bias = f"; {flipped / couples:.0%} of the verdicts change with the order" if couples else ""
        return f"{judgements} judgements from {asked} comparisons{average}{bias}"

    def _wanted(self, item: Contest, orders: Orders) -> list[Couple]:
        """What to compare now."""
        averages = averaged(_probabilities(orders))
        if not self._anchors:
            return wanted(list(item.texts), averages, self._settings.pairwise.opponents)
        own = [key for key in item.texts if key not in item.anchors]
        met = [(min(a, b), max(a, b)) for a in own for b in sorted(item.anchors)]
        return [key for key in met if key not in averages]

    async def _compare(self, item: Contest, orders: Orders, couples: Sequence[Couple]) -> None:
        """Ask both orders of these at once, as far as they are missing. Raises the worst that happened."""
        missing = [order for order in _both(couples) if order not in orders]
        asked = (self._compare_one(item, orders, *order) for order in missing)
        failed = [result for result in await asyncio.gather(*asked, return_exceptions=True) if result]
        if failed:
            raise min(failed, key=lambda error: isinstance(error, RequestFailed))

    async def _compare_one(self, item: Contest, orders: Orders, first: int, second: int) -> None:
        async with self._slots:
            found = await self._judge.compare(item.prompt_text, item.texts[first], item.texts[second])
        self._keep(orders, first, second, found)
        limits = self._place.settings.daemon
        late = time.monotonic() - self._written_at > limits.commit_seconds
        if late or len(self._fresh) >= limits.commit_rows:
            await self._store_fresh()

    def _keep(self, orders: Orders, first: int, second: int, found: Preference) -> None:
        orders[first, second] = Shown(status=found.status, probability_first=found.probability_first)
        self._fresh.append(NewCandidateComparison(first_id=first, second_id=second, **asdict(found)))

    async def _store_fresh(self) -> None:
        """Store comparisons, waiting for a database that is away as the pump does, one thread at a time."""
        async with self._turn:
            if self._fresh:
                patience = self._place.store.database.patience
                await asyncio.to_thread(patience.wait_for, self._store)

    def _store(self, judgements: Sequence[NewJudgement] = (), cursor: tuple[int, int] | None = None) -> None:
        """Those that are not stored yet, and with them what follows: one transaction at a time.

        In turn with the pump's own commits, so that judgements never come before their comparisons.
        """
        with self._writing:
            self._written_at = time.monotonic()
            rows = self._fresh[:]
            self._place.store.comparisons.add(
                self._place.iteration.id, self.id, self._session_id, rows, judgements, cursor
            )
            del self._fresh[: len(rows)]
            self._place.load.rows += len(rows)  # an engine that dies later has got something done

    def _judgements(self, item: Contest, orders: Orders) -> list[NewJudgement]:
        """One for each candidate, or for each anchor: M_t's own have theirs."""
        preferences = readable(averaged(_probabilities(orders)))
        found = scores(list(item.texts), preferences, self._settings.pairwise.strength)
        return [
            NewJudgement(
                candidate_id=candidate,
                sample=0,
                raw_text=_summary(candidate, preferences),
                status=JudgementStatus.READ if score is not None else _why_unread(candidate, orders),
                score=score,
                token_count=0,  # they are counted where they were written: with the comparisons
                finish_reason=COMPARED,
            )
            for candidate, score in found.items()
            if not self._anchors or candidate in item.anchors
        ]

    def _all_are_in(self) -> bool:
        """Whether no more candidates come, be there as many as are wanted now or not."""
        if self._anchors:
            return True
        stages = self._place.store.runs.stages(self._place.iteration.id)
        return any(row.name is StageName.SAMPLE and row.status is Status.DONE for row in stages)


def _both(couples: Sequence[Couple]) -> list[tuple[int, int]]:
    return [order for a, b in couples for order in ((a, b), (b, a))]


def _probabilities(orders: Orders) -> dict[tuple[int, int], float | None]:
    return {order: shown.probability_first for order, shown in orders.items()}


def _summary(candidate: int, preferences: Mapping[Couple, float]) -> str:
    """What a reader sees in the place of a justification; empty for one that was compared with nobody."""
    wins = [p if key[0] == candidate else 1 - p for key, p in preferences.items() if candidate in key]
    if not wins:
        return ""
    others = "1 other response" if len(wins) == 1 else f"{len(wins)} other responses"
    return f"Compared with {others}: better with a probability of {fmean(wins):.2f} on average."


def _why_unread(candidate: int, orders: Orders) -> JudgementStatus:
    """The gravest reason of those for which its comparisons could not be read."""
    theirs = {shown.status for order, shown in orders.items() if candidate in order}
    grave = (JudgementStatus.FAILED, JudgementStatus.TOO_LONG)
    return next((status for status in grave if status in theirs), JudgementStatus.UNREADABLE)
