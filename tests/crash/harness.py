"""Disturbs a run at a place, lets it go on, and compares what has become of it with an undisturbed one."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL

from selfreward.crash import VARIABLE
from selfreward.store.database import resolve_url
from tests.commands import selfreward
from tests.crash import rows
from tests.crash.rows import Content
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.integration.daemon_driver import Run

IN_CHILD = frozenset(
    {"train:step", "train:saved", "model:assembled", "model:summed", "model:synced", "model:renamed"}
)
"""Places in the child that trains or converts: it dies there, and the daemon says so and ends."""
KILLED_CHILD = "was killed (SIGKILL)"
NOBODY_LEFT_S = 10.0


@dataclass(frozen=True)
class Case:
    """Where a run is disturbed: the n-th time that a process comes to this place."""

    point: str
    n: int = 1
    signal: str = "KILL"

    @classmethod
    def read(cls, text: str, signal: str = "KILL") -> "Case":
        """From "stage:point" or "stage:point:n"."""
        stage, point, *n = text.split(":")
        return cls(f"{stage}:{point}", int(n[0]) if n else 1, signal)

    @property
    def value(self) -> str:
        """Of the environment variable."""
        return f"{self.point}:{self.n}:{self.signal}"


@dataclass(kw_only=True)
class Outcome:
    """What came of a disturbance: one try in the table."""

    point: str
    signal: str
    database: str
    survived: bool = False
    rows_lost: int = 0
    duplicates: int = 0
    processes_left: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the way to the table."""
        return asdict(self)


class Trial:
    """A run that is disturbed, once or again and again, and then left to itself."""

    def __init__(self, scenario: str, run: Run, url: str) -> None:
        self.run = run
        self.scenario: Scenario = SCENARIOS[scenario]
        self.url = resolve_url(url, run.directory)
        self.database = self.url.get_backend_name()
        self.outcomes: list[Outcome] = []
        self.problems: list[str] = []
        self._kept: dict[str, set[rows.Row]] = {}

    def disturb(self, case: Case) -> None:
        """Start the run, let it come to the place, and look whether all that was committed is there."""
        self.outcomes.append(Outcome(point=case.point, signal=case.signal, database=self.database))
        daemon = self.run.start(**{VARIABLE: case.value})
        status = daemon.wait(60)
        _, told = daemon.said()
        if case.signal == "TERM":
            died = status == 0 and "SIGTERM" in told
        elif case.point in IN_CHILD:
            died = status == 1 and KILLED_CHILD in told
        else:
            died = status == -signal.SIGKILL
        self._require(died, f"it did not come to {case.value}: status {status}\n{told}")
        self._look_for_processes()
        with _connected(self.url) as engine:
            self._look_for_lost_rows(engine)

    def go_on(self, wanted: Content) -> None:
        """Start the run again, and compare."""
        done = self.run.command("start")
        self._require(done.returncode == 0, f"it did not go on: status {done.returncode}\n{done.stderr}")
        with _connected(self.url) as engine:
            self._look_for_lost_rows(engine)
            self.outcomes[-1].duplicates += rows.duplicates(engine)
            self._note("left over", rows.left_over(engine).items())
            self._compare(wanted, rows.content(engine))
        self._look_for_processes()
        self._look_at_files()
        self._verify()
        for outcome in self.outcomes:
            outcome.survived = not self.problems

    def _look_for_lost_rows(self, engine: Engine) -> None:
        found = rows.committed(engine)
        gone = [row for table, kept in self._kept.items() for row in kept - found[table]]
        self._note("a row was lost or changed", gone)
        self.outcomes[-1].rows_lost += len(gone)
        self._kept = found

    def _compare(self, wanted: Content, found: Content) -> None:
        if not self.scenario.deterministic:
            few = {name: count for name, count in rows.counts(found).items() if name not in VARYING}
            expected = {name: count for name, count in rows.counts(wanted).items() if name not in VARYING}
            self._require(few == expected, f"other counts: {few}, not {expected}")
            return
        lost, surplus = rows.missing(wanted, found), rows.missing(found, wanted)
        self._note("not as undisturbed, missing", lost)
        self._note("not as undisturbed, too much", surplus)
        self.outcomes[-1].rows_lost += len(lost)
        self.outcomes[-1].duplicates += len(surplus)

    def _look_at_files(self) -> None:
        directory = self.run.directory
        models = sorted(path.name for path in (directory / "models").iterdir())
        self._require(models == sorted(self.scenario.models), f"models/ holds {models}")
        patterns = (
            "jobs/*/resume-*",
            "jobs/*/*/scratch",
            "jobs/**/*.new",
            "models/*/*.new",
            "backups/*.part",
        )
        self._note("left behind", [path for pattern in patterns for path in directory.glob(pattern)])

    def _verify(self) -> None:
        done = selfreward("verify", "--dir", str(self.run.directory))
        self._require(done.returncode == 0, f"selfreward verify: {done.stdout}{done.stderr}")

    def _look_for_processes(self) -> None:
        """Nobody of this run lives on, after a while."""
        deadline = time.monotonic() + NOBODY_LEFT_S
        while (left := self.run.descendants()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._note("a process lives on", left)
        self.outcomes[-1].processes_left += len(left)

    def _require(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.problems.append(otherwise)

    def _note(self, what: str, found: Any) -> None:
        self.problems += [f"{what}: {each}" for each in found]


VARYING = frozenset(
    {
        "prompts",
        "demonstrations",
        "judgements",
        "decisions",
        "pairs",
        "curve",
        "reward curve",
        "gates",
        "stages",
    }
)
"""What depends on what was sampled; how many prompts are accepted does not, nor what follows from that."""


def undisturbed(name: str, run: Run, url: str) -> Content:
    """What a scenario comes to when nothing happens."""
    done = run.command("start")
    assert done.returncode == 0, done.stderr
    with _connected(resolve_url(url, run.directory)) as engine:
        found = rows.content(engine)
        assert not rows.left_over(engine), rows.left_over(engine)
        assert not rows.duplicates(engine)
    learnt = found["curve"] or found["reward curve"]
    assert found["candidates"] and found["pairs"] and learnt, f"{name} shows nothing: {found}"
    return found


@contextmanager
def _connected(url: URL) -> Iterator[Engine]:
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
