"""The pump: asks the store what is missing, asks the engine for it, commits what comes back.

The database is the queue. A pump pages by key over what its stage lacks, keeps a bounded number of
requests in flight and commits results in small batches, each together with the stage's cursor: the
greatest id up to which nothing is missing. A resume runs the same query again from that cursor, and a
unique key makes a repeat harmless. A pump ends when nothing is missing and the pump before it has ended.

While the database is away what is finished is kept, up to a bound, and nothing new is asked for.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

from selfreward.crash import crash_point
from selfreward.engines.base import RequestFailed
from selfreward.errors import StoreUnavailable
from selfreward.stages.workplace import Drained, Workplace
from selfreward.types import StageName, StageRow, Status
from selfreward.whereabouts import enter_stage

Result = TypeVar("Result")
Answer = TypeVar("Answer")


class Item(Protocol):
    """A unit of work with a place in the order of keys."""

    @property
    def id(self) -> int:
        """Key in the database."""


AnyItem = TypeVar("AnyItem", bound=Item)


class Work(Protocol, Generic[AnyItem, Result]):
    """What a stage tells its pump. `done`, `fetch` and `commit` block: they are called in a thread."""

    name: StageName

    def total(self) -> int | None:
        """Rows in the end, as far as is known."""

    def done(self) -> int:
        """Rows that are there already; asked once, at the start."""

    def fetch(self, after: int, room: int) -> Sequence[AnyItem]:
        """At most `room` missing items with a key above `after`."""

    def exhausted(self) -> bool:
        """Whether an empty fetch means the end. A stage that is fed by another always says yes."""

    async def perform(self, item: AnyItem) -> Sequence[Result]:
        """One request. Raises RequestFailed when this item, and only this one, could not be done."""

    def give_up(self, item: AnyItem, error: str) -> Sequence[Result]:
        """What stands in the database for an item whose tries have run out."""

    def commit(self, results: Sequence[Result], cursor: int) -> int:
        """Store results and the cursor; returns how many rows it adds to `done`.

        Called again with the same results when it raised StoreUnavailable, whatever of it took place.
        """

    def detail(self) -> str:
        """How it ended, in words."""


class Pump(Generic[AnyItem, Result]):
    """Runs one stage's work to its end, beside the pumps before and after it."""

    def __init__(
        self,
        place: Workplace,
        stage: StageRow,
        work: Work[AnyItem, Result],
        upstream: "Pump[Any, Any] | None" = None,
    ) -> None:
        self._place, self._stage, self._work, self._upstream = place, stage, work, upstream
        self._concurrency = place.engine.concurrency
        self._slots = asyncio.Semaphore(self._concurrency)
        self._in_flight: set[int] = set()
        self._fetched = stage.cursor
        self._finished: list[tuple[int, Sequence[Result]]] = []
        """Kept until they are committed: a commit that the database refused is made again."""
        self._most_finished = place.settings.daemon.commit_rows + self._concurrency
        self._committed = asyncio.Event()
        self._gave_up = False
        self._arrived = asyncio.Event()
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._listeners = [self._wake]
        self._all_asked = False
        self._done = 0
        self.ended = stage.status is Status.DONE
        if upstream is not None:
            upstream._listeners.append(self._wake)

    async def run(self) -> None:
        """Until nothing is missing, or until the stop event; what is finished is committed either way."""
        if self.ended:
            return
        place, work = self._place, self._work
        enter_stage(work.name)  # this is a task of its own
        self._done = await self._patiently(work.done)
        place.reporter.begin(work.name, self._done, work.total())
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write())
                await self._settle(await self._feed(group))
                writer.cancel()
        finally:
            await self._commit()
        if self._all_asked and not self._in_flight:
            detail = await self._patiently(work.detail)
            await self._patiently(place.store.runs.finish_stage, self._stage.id, detail)
            place.reporter.end(work.name, detail)
            self.ended = True
            self._tell_listeners()

    async def _feed(self, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        """Start requests for what is missing until there is no more, or until the stop event."""
        requests: set[asyncio.Task[None]] = set()
        while not self._place.stop.is_set():
            self._wake.clear()
            # Asked before the fetch, which then sees whatever the pump before wrote last.
            last_look = self._work.exhausted() and (self._upstream is None or self._upstream.ended)
            items = await asyncio.to_thread(self._work.fetch, self._fetched, self._concurrency)
            for item in items:
                await self._slots.acquire()
                await self._room_for_results()
                if self._place.stop.is_set():
                    return requests
                task = group.create_task(self._request(item))
                requests.add(task)
                task.add_done_callback(requests.discard)
            if not items and last_look:
                self._all_asked = True
                break
            if not items:
                await first_of(self._wake.wait(), self._place.stop.wait())
        return requests

    async def _room_for_results(self) -> None:
        """Wait while too much is finished that could not be committed yet, or until the stop event."""
        while len(self._finished) >= self._most_finished and not self._place.stop.is_set():
            self._committed.clear()
            await first_of(self._committed.wait(), self._place.stop.wait())

    def _request(self, item: AnyItem) -> Coroutine[Any, Any, None]:
        """The request for an item, which counts as in flight from now on until it is committed."""
        self._fetched = item.id
        self._in_flight.add(item.id)

        async def request() -> None:
            try:
                results = await self._try(item)
            finally:
                self._slots.release()
            crash_point(f"{self._work.name}:asked")
            self._finished.append((item.id, results))
            self._arrived.set()

        return request()

    async def _try(self, item: AnyItem) -> Sequence[Result]:
        """The item's results; after `daemon.max_attempts` failed tries, what `give_up` says."""
        while True:
            try:
                return await self._work.perform(item)
            except RequestFailed as error:
                tries = await self._patiently(
                    self._place.store.candidates.record_failure, self._stage.id, item.id, str(error)
                )
                if tries >= self._place.settings.daemon.max_attempts:
                    return self._work.give_up(item, str(error))

    async def _settle(self, requests: set[asyncio.Task[None]]) -> None:
        """Wait for the requests in flight; after a stop only for `daemon.grace_s`, then give them up."""
        if requests:
            await first_of(asyncio.wait(set(requests)), self._place.stop.wait())
        if requests:
            _, late = await asyncio.wait(set(requests), timeout=self._place.settings.daemon.grace_s)
            for task in late:
                task.cancel()

    async def _write(self) -> None:
        """Commit results after so many rows or so much time, whichever is first."""
        limits = self._place.settings.daemon
        while True:
            await self._arrived.wait()
            deadline = time.monotonic() + limits.commit_seconds
            while sum(len(results) for _, results in self._finished) < limits.commit_rows:
                self._arrived.clear()
                try:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await self._arrived.wait()
                except TimeoutError:
                    break
            self._arrived.clear()
            await self._commit()

    async def _commit(self) -> None:
        """Write down what is finished, after whatever commit is under way.

        Shielded: a thread cannot be cancelled, and who comes next must find its rows in the database.
        """
        turn = asyncio.ensure_future(self._commit_in_turn())
        turn.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be left to ask
        await asyncio.shield(turn)

    async def _commit_in_turn(self) -> None:
        async with self._turn:
            await self._commit_batch()

    async def _commit_batch(self) -> None:
        """Raises StoreUnavailable when the patience is over; what comes later has none left."""
        batch = self._finished[:]
        if not batch:
            return
        keys = {key for key, _ in batch}
        missing = self._in_flight - keys
        cursor = min(missing) - 1 if missing else self._fetched
        rows = [row for _, results in batch for row in results]
        try:
            added = await self._patiently(self._work.commit, rows, cursor)
        except StoreUnavailable:
            self._gave_up = True
            raise
        crash_point(f"{self._work.name}:stored")
        del self._finished[: len(batch)]
        self._in_flight -= keys
        self._done += added
        self._place.load.rows += added
        self._committed.set()
        self._place.reporter.progress(self._work.name, self._done)
        self._tell_listeners()

    async def _patiently(self, call: Callable[..., Answer], *arguments: Any) -> Answer:
        """What `call` returns in a thread, called again while the database is away: it must bear that."""
        if self._gave_up:
            return await asyncio.to_thread(call, *arguments)
        return await asyncio.to_thread(self._place.store.database.patience.wait_for, call, *arguments)

    def _tell_listeners(self) -> None:
        for listener in self._listeners:
            listener.set()


async def run_together(pumps: Sequence[Pump[Any, Any]]) -> None:
    """All pumps at once, each fed by the one before it.

    The first error stops the others and is raised. Raises Drained when the stop event came first.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for pump in pumps:
                group.create_task(pump.run())
    except BaseExceptionGroup as errors:
        raise first_cause(errors) from errors
    if not all(pump.ended for pump in pumps):
        raise Drained


def first_cause(error: BaseException) -> BaseException:
    """The first single error in a group of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when one of them is done; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
