"""The pump without a server or a database: order, batches, cursors, ends and drains."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from selfreward.config import Settings
from selfreward.engines.base import RequestFailed
from selfreward.errors import StoreUnavailable
from selfreward.stages.pump import Pump, run_together
from selfreward.stages.workplace import Drained, Workplace
from selfreward.store.patience import Patience
from selfreward.types import StageName, StageRow, Status


@dataclass(frozen=True)
class Thing:
    id: int


class Silent:
    """A reporter that nobody reads."""

    def begin(self, *_: Any) -> None: ...
    def progress(self, *_: Any, **__: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def say(self, *_: Any, **__: Any) -> None: ...


@dataclass
class Things:
    """A stage that copies what is in `source` to `stored`, one request each."""

    name: StageName
    source: list[int]
    stored: list[int] = field(default_factory=list)
    cursors: list[int] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    finishing: bool = True
    ask: Any = None
    before_commit: Any = None
    given_up: list[int] = field(default_factory=list)

    def total(self) -> int:
        return len(self.source)

    def done(self) -> int:
        return len(self.stored)

    def fetch(self, after: int, room: int) -> list[Thing]:
        found = sorted(key for key in self.source if key > after and key not in self.stored)
        return [Thing(key) for key in found[:room]]

    def exhausted(self) -> bool:
        return self.finishing

    async def perform(self, item: Thing) -> list[int]:
        if self.ask is not None:
            await self.ask(item)
        return [item.id]

    def give_up(self, item: Thing, error: str) -> list[int]:
        self.given_up.append(item.id)
        return [item.id]

    def commit(self, results: Sequence[int], cursor: int) -> int:
        if self.before_commit is not None:
            self.before_commit()
        self.stored.extend(results)
        self.cursors.append(cursor)
        self.batches.append(len(results))
        return len(results)

    def detail(self) -> str:
        return f"{len(self.stored)} things"


class Failures:
    """Counts tries as the store does."""

    def __init__(self) -> None:
        self.tries: dict[int, int] = {}

    def record_failure(self, _stage: int, item: int, _error: str) -> int:
        self.tries[item] = self.tries.get(item, 0) + 1
        return self.tries[item]


def workplace(**daemon: Any) -> Workplace:
    limits = {"commit_seconds": 0.02, "grace_s": 0.2, **daemon}
    database = SimpleNamespace(patience=Patience(limits.get("database_patience_s", 0)))
    store = SimpleNamespace(
        runs=SimpleNamespace(finish_stage=lambda *_: None), candidates=Failures(), database=database
    )
    settings = Settings.model_validate({"engine": {"concurrency": 4}, "daemon": limits})
    parts: dict[str, Any] = {"store": store, "run": None, "iteration": None, "checkpoint": None}
    return Workplace(
        directory=Path(), settings=settings, fence=1, reporter=Silent(), stop=asyncio.Event(), **parts
    )


def stage(name: StageName, cursor: int = 0, status: Status = Status.RUNNING) -> StageRow:
    return StageRow(
        id=1, iteration_id=1, name=name, status=status, attempts=1, cursor=cursor, detail="", error=None
    )


def test_everything_is_asked_once_with_bounded_concurrency() -> None:
    flying = most = 0

    async def ask(_: Thing) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1

    async def scenario() -> Things:
        work = Things(StageName.SAMPLE, list(range(1, 101)), ask=ask)
        await run_together([Pump(workplace(), stage(StageName.SAMPLE), work)])
        return work

    work = asyncio.run(scenario())
    assert sorted(work.stored) == list(range(1, 101))
    assert most == 4


def test_the_cursor_never_passes_what_is_missing() -> None:
    async def scenario() -> tuple[Things, list[int]]:
        held, hopeful = asyncio.Event(), []

        async def ask(item: Thing) -> None:
            if item.id == 3:
                await held.wait()
            if item.id == 20:
                held.set()

        work = Things(StageName.SAMPLE, list(range(1, 21)), ask=ask)
        work.before_commit = lambda: hopeful.append(min(set(work.source) - set(work.stored)))
        await run_together([Pump(workplace(), stage(StageName.SAMPLE), work)])
        return work, hopeful

    work, first_missing = asyncio.run(scenario())
    held_back = [cursor for cursor, batch in zip(work.cursors, work.batches, strict=True) if batch][:-1]
    assert all(cursor <= 2 for cursor in held_back) and work.cursors[-1] == 20
    assert first_missing


def test_commits_come_in_batches_of_the_set_size() -> None:
    async def scenario() -> Things:
        work = Things(StageName.SAMPLE, list(range(1, 65)))
        await run_together(
            [Pump(workplace(commit_rows=16, commit_seconds=30), stage(StageName.SAMPLE), work)]
        )
        return work

    batches = asyncio.run(scenario()).batches
    assert sum(batches) == 64 and max(batches) <= 16 + 4


def test_a_follower_sees_the_last_rows_of_a_slow_commit() -> None:
    """A stage has ended only when all its commits are in the database, however slow one of them is."""

    async def scenario() -> Things:
        place, never = workplace(commit_rows=4), threading.Event()

        async def ask(item: Thing) -> None:
            await asyncio.sleep(0.05 if item.id > 4 else 0)

        first = Things(StageName.SELF_INSTRUCT, list(range(1, 9)), ask=ask)
        second = Things(StageName.SAMPLE, first.stored)
        first.before_commit = lambda: first.cursors or never.wait(0.3)  # only the first commit is slow
        feeding = Pump(place, stage(StageName.SELF_INSTRUCT), first)
        fed = Pump(place, stage(StageName.SAMPLE), second, upstream=feeding)
        await run_together([feeding, fed])
        return second

    # The two share a list: what the first stores is what the second has to do.
    work = asyncio.run(scenario())
    assert set(range(1, 9)) <= set(work.stored)


def test_a_resume_begins_at_the_cursor() -> None:
    async def scenario() -> Things:
        work = Things(StageName.SAMPLE, list(range(1, 11)), stored=[1, 2, 3, 5])
        await run_together([Pump(workplace(), stage(StageName.SAMPLE, cursor=3), work)])
        return work

    assert asyncio.run(scenario()).stored == [1, 2, 3, 5, 4, 6, 7, 8, 9, 10]


def test_a_done_stage_is_not_run_again() -> None:
    async def scenario() -> Things:
        work = Things(StageName.SAMPLE, [1])
        await run_together([Pump(workplace(), stage(StageName.SAMPLE, status=Status.DONE), work)])
        return work

    assert asyncio.run(scenario()).stored == []


def test_an_item_that_always_fails_is_given_up_and_the_rest_goes_on() -> None:
    async def ask(item: Thing) -> None:
        if item.id == 5:
            raise RequestFailed("poison")

    async def scenario() -> tuple[Things, dict[int, int]]:
        place = workplace(max_attempts=3)
        work = Things(StageName.SAMPLE, list(range(1, 11)), ask=ask)
        await run_together([Pump(place, stage(StageName.SAMPLE), work)])
        return work, place.store.candidates.tries  # type: ignore[attr-defined]

    work, tries = asyncio.run(scenario())
    assert work.given_up == [5] and tries == {5: 3} and len(work.stored) == 10


def test_another_error_is_raised_and_what_was_finished_is_committed() -> None:
    async def scenario() -> Things:
        release = asyncio.Event()

        async def ask(item: Thing) -> None:
            if item.id == 4:
                await release.wait()
                raise OSError("the engine is gone")
            if item.id == 3:
                asyncio.get_running_loop().call_soon(release.set)

        work = Things(StageName.SAMPLE, list(range(1, 11)), ask=ask)
        with pytest.raises(OSError, match="the engine is gone"):
            await run_together([Pump(workplace(commit_seconds=30), stage(StageName.SAMPLE), work)])
        return work

    assert {1, 2, 3} <= set(asyncio.run(scenario()).stored)


def test_a_drain_finishes_what_is_in_flight_and_says_so() -> None:
    async def scenario() -> Things:
        place = workplace()

        async def ask(item: Thing) -> None:
            if item.id == 4:
                place.stop.set()
            await asyncio.sleep(0.01)

        work = Things(StageName.SAMPLE, list(range(1, 101)), ask=ask)
        with pytest.raises(Drained):
            await run_together([Pump(place, stage(StageName.SAMPLE), work)])
        return work

    stored = asyncio.run(scenario()).stored
    assert {1, 2, 3, 4} <= set(stored) and len(stored) < 20


def test_a_drain_gives_up_on_what_takes_longer_than_the_grace() -> None:
    async def scenario() -> Things:
        place = workplace(grace_s=0.1)

        async def ask(item: Thing) -> None:
            if item.id == 2:
                place.stop.set()
                await asyncio.Event().wait()

        work = Things(StageName.SAMPLE, [1, 2], ask=ask)
        with pytest.raises(Drained):
            await run_together([Pump(place, stage(StageName.SAMPLE), work)])
        return work

    work = asyncio.run(scenario())
    assert work.stored == [1] and max(work.cursors) < 2


def away(times: int) -> Any:
    """A database that refuses the first `times` commits."""
    left = [times]

    def refuse() -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise StoreUnavailable("locked")

    return refuse


def test_results_that_could_not_be_committed_are_kept_and_not_asked_again() -> None:
    asked: list[int] = []

    async def ask(item: Thing) -> None:
        asked.append(item.id)

    async def scenario() -> Things:
        place = workplace(database_patience_s=60, commit_rows=8)
        work = Things(StageName.SAMPLE, list(range(1, 41)), ask=ask, before_commit=away(3))
        await run_together([Pump(place, stage(StageName.SAMPLE), work)])
        assert place.load.rows == 40, "what is committed counts as progress"
        return work

    work = asyncio.run(scenario())
    assert sorted(work.stored) == sorted(asked) == list(range(1, 41)) and work.cursors[-1] == 40


def test_while_nothing_can_be_committed_only_so_much_is_asked() -> None:
    asked: list[int] = []
    back = threading.Event()

    async def ask(item: Thing) -> None:
        asked.append(item.id)

    async def scenario() -> Things:
        place = workplace(commit_rows=8)
        work = Things(StageName.SAMPLE, list(range(1, 101)), ask=ask, before_commit=lambda: back.wait(30))
        running = asyncio.create_task(run_together([Pump(place, stage(StageName.SAMPLE), work)]))
        seen = -1
        while seen != len(asked) or seen < 8:  # until a while has passed in which nothing was asked
            seen = len(asked)
            await asyncio.sleep(0.2)
        back.set()
        await running
        return work

    bound = 8 + 4 + 4
    work = asyncio.run(scenario())
    assert max(work.batches) <= bound and sorted(work.stored) == list(range(1, 101))


def test_when_patience_is_over_the_pump_says_so_and_a_new_one_goes_on() -> None:
    async def scenario() -> Things:
        place = workplace(database_patience_s=0.2)
        work = Things(StageName.SAMPLE, list(range(1, 21)), before_commit=away(10**6))
        pump = Pump(place, stage(StageName.SAMPLE), work)
        with pytest.raises(StoreUnavailable):
            async with asyncio.timeout(10):
                await run_together([pump])
        assert work.stored == [] and not pump.ended
        work.before_commit = None
        await run_together([Pump(workplace(), stage(StageName.SAMPLE), work)])
        return work

    assert sorted(asyncio.run(scenario()).stored) == list(range(1, 21))


def test_with_less_at_once_less_is_asked_at_once() -> None:
    flying = most = 0

    async def ask(_: Thing) -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1

    async def scenario() -> None:
        place = workplace()
        place.load.halve()
        await run_together(
            [Pump(place, stage(StageName.SAMPLE), Things(StageName.SAMPLE, [*range(20)], ask=ask))]
        )

    asyncio.run(scenario())
    assert most == 2
