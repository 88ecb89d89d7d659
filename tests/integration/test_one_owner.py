"""One daemon per run: the second is sent away, a dead one replaced at once, a stalled one fenced off."""

import os
import signal
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from selfreward.errors import StoreUnavailable
from selfreward.store import Store
from selfreward.types import LeaseRow
from tests.forked import Forked
from tests.integration.conftest import MakeRun
from tests.integration.daemon_driver import Run

LATENCY_S = 1.0
"""Of every request, made one at a time: the run is at work for longer than any test here takes."""
SHORTEST_TIMEOUT_S = 5.0


class Contested:
    """A run that several daemons want, on either database."""

    def __init__(self, run: Run, url: str, timeout_s: float) -> None:
        self.run, self.timeout_s = run, timeout_s
        self._options = ("--set", f"database.url={url}", "--set", "engine.concurrency=1")
        self._options += ("--set", f"daemon.lease_timeout_s={timeout_s}")
        self.store = Store(url, run.directory)
        self.store.database.be_patient(0, lambda _: None)

    def start(self) -> Forked:
        """A daemon in the background."""
        return self.run.start(*self._options)

    def start_and_wait(self, *options: str) -> CompletedProcess[str]:
        """A daemon until it has ended."""
        return self.run.command("start", *self._options, *options)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store.database.read() as connection:
            return [tuple(row) for row in connection.execute(text(sql))]

    def number(self, sql: str) -> int:
        return int(self.rows(sql)[0][0])

    def change(self, sql: str) -> None:
        with self.store.database.write() as connection:
            connection.execute(text(sql))

    def lease(self) -> LeaseRow | None:
        run = self.store.runs.find("main")
        return None if run is None else self.store.leases.find(run.id)

    def owned_by(self, daemon: Forked) -> bool:
        lease = self.lease()
        return lease is not None and not lease.released and lease.owner.endswith(f":{daemon.pid}")

    def abandoned(self) -> bool:
        """Whether anybody may take it."""
        lease = self.lease()
        return lease is not None and not self.store.leases.running(lease.run_id, self.timeout_s)

    def answers_of(self, session: int) -> int:
        return self.number(f"SELECT count(*) FROM candidate WHERE session_id = {session}")

    def stall(self, daemon: Forked) -> None:
        """Stop a daemon while it is not in the middle of a transaction: there it would keep the lock."""
        while True:
            daemon.send_signal(signal.SIGSTOP)
            try:
                return self.change("UPDATE lease SET heartbeat_at = heartbeat_at")
            except StoreUnavailable:
                daemon.send_signal(signal.SIGCONT)


Contest = Callable[[float], Contested]


@pytest.fixture
def contest(make_run: MakeRun, database_url: str) -> Iterator[Contest]:
    """Makes a run that is at work for a while."""
    made: list[Contested] = []

    def make(timeout_s: float) -> Contested:
        made.append(Contested(make_run(latency=LATENCY_S), database_url, timeout_s))
        return made[-1]

    yield make
    for contested in made:
        contested.store.close()


def children_of(daemon: Forked) -> list[psutil.Process]:
    found = psutil.Process(daemon.pid).children(recursive=True)
    assert found, "it has an engine"
    return found


def test_a_living_owner_keeps_its_run_and_a_dead_one_loses_it_at_once(contest: Contest) -> None:
    contested = contest(3600)
    run, first = contested.run, contested.start()
    run.wait_for(lambda: contested.number("SELECT count(*) FROM candidate") >= 1, "an answer")
    for year in (2001, 2101):
        contested.change(f"UPDATE lease SET heartbeat_at = '{year}-01-01 00:00:00+00'")
        second = contested.start_and_wait()
        assert second.returncode == 4, second.stderr
        assert f"{os.uname().nodename}:{first.pid}" in second.stderr and "Traceback" not in second.stderr
    assert first.poll() is None and contested.owned_by(first)
    first.kill()
    first.wait()
    run.processes.remove(first)
    third = contested.start()
    run.wait_for(lambda: contested.owned_by(third), "the new owner")
    third.send_signal(signal.SIGTERM)
    assert third.wait(30) == 0
    lease = contested.lease()
    assert lease is not None and (lease.fence, lease.released) == (2, True)
    run.wait_until_nobody_is_left()


def test_a_stalled_owner_that_wakes_up_writes_nothing_and_leaves(contest: Contest) -> None:
    contested = contest(SHORTEST_TIMEOUT_S)
    run, first = contested.run, contested.start()
    run.wait_for(lambda: contested.number("SELECT count(*) FROM candidate") >= 1, "an answer")
    engine = children_of(first)
    contested.stall(first)
    # Patient, however long it takes to start on a busy machine.
    refused = contested.start_and_wait("--set", "daemon.lease_timeout_s=3600")
    assert refused.returncode == 4 and f":{first.pid}" in refused.stderr, refused.stderr
    run.wait_for(contested.abandoned, "the timeout")
    second = contested.start()
    run.wait_for(lambda: contested.owned_by(second), "the new owner")
    [(session,)] = contested.rows("SELECT min(id) FROM engine_session")
    before = contested.answers_of(session)
    run.processes.remove(first)
    first.send_signal(signal.SIGCONT)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 4, told
    assert f"{os.uname().nodename}:{second.pid}" in told and "Traceback" not in told
    assert psutil.wait_procs(engine, timeout=20)[1] == [], "its engine is gone"
    run.wait_for(
        lambda: contested.number(f"SELECT count(*) FROM candidate WHERE session_id > {session}") >= 1,
        "an answer to the new owner",
    )
    assert contested.answers_of(session) == before, "nothing was written by the old owner"
    assert contested.rows("SELECT kind FROM event WHERE kind IN ('failed', 'halted', 'stopped')") == []
    assert second.poll() is None
    second.send_signal(signal.SIGTERM)
    assert second.wait(30) == 0
    run.wait_until_nobody_is_left()
