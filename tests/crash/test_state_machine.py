"""Whatever users, other programs and the clock do to a run, in any order: one owner, and nothing lost."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, create_engine

from tests.crash import rows
from tests.crash.conftest import TOLD_STORY, Workshop
from tests.crash.rows import Content
from tests.crash.scenarios import SCENARIOS, prepare
from tests.forked import Forked

SCENARIO = "unhurried"
EXAMPLES, STEPS = 5, 14
LONGEST_LOCK_S = 1.0
PROMPTLY_S = 15.0
"""By when something must have happened that happens at once, on a machine that has a lot to do."""


class Story(RuleBasedStateMachine):
    """A run's directory and at most one daemon on it."""

    workshop: ClassVar[Workshop]
    wanted: ClassVar[Content]
    directory: ClassVar[Path]
    told: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        directory = self.directory / f"run_{self.told['stories']}"
        self._count("stories")
        url = self.workshop.database(directory, from_nothing=False)
        self.run = prepare(SCENARIOS[SCENARIO], directory, self.workshop.model(), url)
        self.engine: Engine = create_engine(f"sqlite:///{directory / 'selfreward.db'}")
        self.daemon: Forked | None = None
        self.paused = False
        self.kept = rows.committed(self.engine)
        self.fence = 0

    # ---- what can happen

    @precondition(lambda self: not self.living)
    @rule()
    def start(self) -> None:
        """A daemon owns the run at once, however the last one ended and whatever the clock says."""
        self._count("start")
        daemon = self.daemon = self.run.start()
        self.paused = False
        self._until(lambda: self._owns(daemon) or daemon.poll() == 0, "the daemon owns the run")

    @precondition(lambda self: self.living)
    @rule(some=st.integers(1, 12))
    def work(self, some: int) -> None:
        """More rows, or the end, or a rest."""
        self._count("work")
        before = self._made()
        self._until(lambda: self.paused or not self.living or self._made() >= before + some, "rows")

    @precondition(lambda self: self.living)
    @rule()
    def kill(self) -> None:
        self._count("kill")
        self._daemon().kill()
        self.run.wait_until_nobody_is_left()

    @precondition(lambda self: self.living)
    @rule()
    def terminate(self) -> None:
        self._count("terminate")
        daemon = self._daemon()
        daemon.send_signal(15)
        assert daemon.wait(PROMPTLY_S) == 0, daemon.said()
        self.run.wait_until_nobody_is_left()

    @precondition(lambda self: self.living)
    @rule()
    def start_another(self) -> None:
        """It is told who owns the run, and leaves that one alone."""
        self._count("start another")
        daemon, second = self._daemon(), self.run.command("start")
        if daemon.poll() is None:
            assert second.returncode == 4, second.stderr
            assert f":{daemon.pid}" in second.stderr and "Traceback" not in second.stderr
        else:
            assert daemon.poll() == 0 and second.returncode in (0, 4)

    @precondition(lambda self: self.living and not self.paused)
    @rule()
    def pause(self) -> None:
        self._count("pause")
        asked = self.run.command("pause")
        if asked.returncode == 3:
            return self._until(lambda: not self.living, "the end")
        self._until(lambda: not self.living or self._rests(), "the rest")
        self.paused = self.living

    @precondition(lambda self: self.living and self.paused)
    @rule()
    def resume(self) -> None:
        self._count("resume")
        assert self.run.command("resume").returncode == 0
        self.paused = False

    @precondition(lambda self: self.living)
    @rule()
    def lock(self) -> None:
        """Another program holds the database for a while: the daemon waits."""
        self._count("lock")
        daemon = self._daemon()
        before = daemon.said()[1].count("waiting for the database")
        with closing(self._connection()) as other:
            other.execute("BEGIN IMMEDIATE")
            deadline = time.monotonic() + LONGEST_LOCK_S
            while time.monotonic() < deadline:
                if daemon.said()[1].count("waiting for the database") > before:
                    break
                time.sleep(0.05)
            other.rollback()

    @rule(hours=st.sampled_from([-30_000, -2, 2, 30_000]))
    def turn_the_clock(self, hours: int) -> None:
        """The lease's time of day is off by hours: what it says is nobody's right to the run."""
        self._count("turn the clock")
        with closing(self._connection()) as other:
            other.execute("UPDATE lease SET heartbeat_at = datetime(heartbeat_at, ?)", [f"{hours} hours"])

    @precondition(lambda self: self.living)
    @rule()
    def back_up(self) -> None:
        """A copy of one moment: sound, and with all that had been committed."""
        self._count("back up")
        copy = self.run.directory / "copies" / f"{self.told['back up']}.db"
        done = self.run.command("backup", str(copy))
        assert done.returncode == 0, done.stderr
        engine = create_engine(f"sqlite:///{copy}")
        assert_kept(self.kept, rows.committed(engine))
        assert rows.duplicates(engine) == 0
        engine.dispose()

    # ---- what holds all the time

    @invariant()
    def there_is_at_most_one_daemon(self) -> None:
        assert sum(process.poll() is None for process in self.run.processes) <= 1

    @invariant()
    def nothing_is_lost_or_twice_or_broken(self) -> None:
        found = rows.committed(self.engine)
        assert_kept(self.kept, found)
        self.kept = found
        assert rows.duplicates(self.engine) == 0
        with self.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
            assert connection.exec_driver_sql("PRAGMA quick_check").all() == [("ok",)]

    @invariant()
    def the_fence_never_falls(self) -> None:
        fence = self.run.number("SELECT max(fence) FROM lease")
        assert fence >= self.fence
        self.fence = fence

    def teardown(self) -> None:
        """In the end the run comes to what it comes to undisturbed."""
        if not hasattr(self, "run"):
            return
        try:
            if self.living and self.paused:
                self.resume()
            if self.living:
                assert self._daemon().wait(60) == 0, self._daemon().said()
            done = self.run.command("start")
            assert done.returncode == 0, done.stderr
            self.nothing_is_lost_or_twice_or_broken()
            found = rows.content(self.engine)
            assert rows.missing(self.wanted, found) == rows.missing(found, self.wanted) == []
            assert rows.left_over(self.engine) == {}
            self.run.wait_until_nobody_is_left()
        finally:
            self.engine.dispose()
            self.run.close()

    # ---- how it is seen

    @property
    def living(self) -> bool:
        """Whether the daemon has not ended."""
        return self.daemon is not None and self.daemon.poll() is None

    def _daemon(self) -> Forked:
        assert self.daemon is not None
        return self.daemon

    def _owns(self, daemon: Forked) -> bool:
        return self.run.rows("SELECT pid FROM lease WHERE released_at IS NULL") == [(daemon.pid,)]

    def _rests(self) -> bool:
        """A pause that follows a resume at once is no new rest."""
        last = "SELECT kind FROM event WHERE kind IN ('paused', 'resumed') ORDER BY id DESC LIMIT 1"
        return not self.run.count("control_request WHERE handled_at IS NULL") and self.run.rows(last) == [
            ("paused",)
        ]

    def _made(self) -> int:
        return sum(self.run.count(table) for table in ("prompt", "candidate", "judgement", "training_metric"))

    def _connection(self) -> sqlite3.Connection:
        path = self.run.directory / "selfreward.db"
        return sqlite3.connect(path, timeout=PROMPTLY_S, isolation_level=None)

    def _until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PROMPTLY_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {what}; {self._daemon().said()[1]}"
            time.sleep(0.02)

    def _count(self, what: str) -> None:
        type(self).told[what] += 1


def assert_kept(before: dict[str, set[rows.Row]], after: dict[str, set[rows.Row]]) -> None:
    gone = {table: kept - after[table] for table, kept in before.items() if kept - after[table]}
    assert not gone, gone


@pytest.fixture
def story(workshop: Workshop, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[type[Story]]:
    """The state machine, with places for its runs; how often what happened goes to the summary."""
    made = {"workshop": workshop, "wanted": workshop.undisturbed(SCENARIO), "directory": tmp_path}
    machine = type("ThisStory", (Story,), {**made, "told": Counter()})
    yield machine
    request.node.user_properties.append((TOLD_STORY, dict(machine.told)))


def test_one_thing_after_the_other(story: type[Story]) -> None:
    """Each thing that can happen does happen once, whatever is drawn below."""
    machine = story()
    happenings: list[Callable[[], None]] = [
        machine.start,
        machine.lock,
        machine.start_another,
        machine.pause,
        partial(machine.turn_the_clock, hours=-30_000),
        machine.start_another,
        machine.resume,
        partial(machine.work, some=2),
        machine.kill,
        partial(machine.turn_the_clock, hours=30_000),
        machine.start,
        machine.back_up,
        machine.terminate,
    ]
    machine.begin()
    try:
        for happens in happenings:
            happens()
            machine.there_is_at_most_one_daemon()
            machine.nothing_is_lost_or_twice_or_broken()
            machine.the_fence_never_falls()
    finally:
        machine.teardown()


@pytest.mark.longest
def test_whatever_happens_nothing_is_lost(story: type[Story]) -> None:
    bounds = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(story, settings=bounds)
