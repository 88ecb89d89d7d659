"""Fixtures of the crash tests, shared by the processes that run them, and the table in which they end."""

import fcntl
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import URL

from tests.conftest import new_database
from tests.crash.harness import Outcome, Trial, undisturbed
from tests.crash.rows import Content
from tests.crash.scenarios import SCENARIOS, make_model, prepare

TOLD, TOLD_STORY = "crash", "story"
"""Names of the properties by which tests hand what they have seen to the summary."""
COLUMNS = ("point", "signal", "database", "tries", "survived", "rows lost", "duplicates", "processes left")

NewTrial = Callable[[str, str], Trial]


class Workshop:
    """What all processes of a test session use and one of them makes."""

    def __init__(self, directory: Path, sqlite_template: Path) -> None:
        self._directory, self._template = directory, sqlite_template
        directory.mkdir(exist_ok=True)

    def model(self) -> Path:
        """A checkpoint."""
        return self._once("model", make_model)

    def undisturbed(self, name: str) -> Content:
        """What a scenario comes to on SQLite."""
        found = self._once(f"{name.replace(' ', '_')}.json", lambda path: self._run(name, path))
        content: Content = json.loads(found.read_text())
        return {name: [tuple(row) for row in rows] for name, rows in content.items()}

    def database(self, directory: Path, from_nothing: bool) -> str:
        """The URL of an SQLite database in `directory`: at the head revision, or not there at all."""
        directory.mkdir(parents=True, exist_ok=True)
        if not from_nothing:
            shutil.copy(self._template, directory / "selfreward.db")
        return "sqlite:///selfreward.db"

    def _run(self, name: str, path: Path) -> None:
        directory, scenario = path.with_suffix(""), SCENARIOS[name]
        shutil.rmtree(directory, ignore_errors=True)  # of an attempt that failed
        url = self.database(directory, scenario.from_nothing)
        run = prepare(scenario, directory, self.model_of(name), url)
        path.write_text(json.dumps(undisturbed(name, run, url)))

    def model_of(self, name: str) -> Path:
        """The model that a scenario starts from: a real one where it is converted."""
        if not SCENARIOS[name].converts:
            return self.model()
        from tests.tiny_model import make_tiny_model

        return self._once("tiny", make_tiny_model)

    def _once(self, name: str, make: Callable[[Path], Any]) -> Path:
        path = self._directory / name
        with (self._directory / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                make(path)
        return path


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, worker_id: str, sqlite_template: Path) -> Workshop:
    """One for all processes of this test session."""
    base = tmp_path_factory.getbasetemp()
    return Workshop((base if worker_id == "master" else base.parent) / "workshop", sqlite_template)


@pytest.fixture
def new_trial(request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path) -> Iterator[NewTrial]:
    """Makes the run of a scenario on a kind of database; what comes of it goes to the table in any case."""
    trials: list[Trial] = []

    def make(name: str, database: str) -> Trial:
        scenario, directory = SCENARIOS[name], tmp_path / "run"
        if database == "sqlite":
            url = workshop.database(directory, scenario.from_nothing)
        else:
            uri = request.getfixturevalue("postgres_uri")
            template = "template1" if scenario.from_nothing else request.getfixturevalue("postgres_template")
            url = new_database(uri, template)
        trials.append(Trial(name, prepare(scenario, directory, workshop.model_of(name), url), url))
        return trials[-1]

    yield make
    for trial in trials:
        trial.run.close()
        if trial.database == "postgresql":
            _drop(request.getfixturevalue("postgres_uri"), trial.url)
        request.node.user_properties += [(TOLD, outcome.as_json()) for outcome in trial.outcomes]


def _drop(uri: str, url: URL) -> None:
    """What is dropped now need not be removed in the end, file by file."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {url.database} WITH (FORCE)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes far longer than most, so it is begun first")
    config.addinivalue_line("markers", "longest: takes longest of all, so it is begun before")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests first, beside which the many short ones are run."""
    items.sort(key=lambda item: (not item.get_closest_marker("longest"), not item.get_closest_marker("long")))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table: for each place and database how often it was tried, and what came of it."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    ends = [report for report in reports if getattr(report, "when", "") == "teardown"]
    told = [pair for report in ends for pair in report.user_properties]
    outcomes = [Outcome(**value) for name, value in told if name == TOLD]
    stories = [value for name, value in told if name == TOLD_STORY]
    if outcomes or stories:
        terminalreporter.section("crash points")
    for line in _table(outcomes) if outcomes else ():
        terminalreporter.write_line(line)
    for story in stories:
        terminalreporter.write_line("state machine: " + ", ".join(f"{name} {n}" for name, n in story.items()))


def _table(told: list[Outcome]) -> list[str]:
    groups: dict[tuple[str, str, str], list[Outcome]] = defaultdict(list)
    for outcome in told:
        groups[outcome.point, outcome.signal, outcome.database].append(outcome)
    lines = [[*key, *map(str, _sums(group))] for key, group in sorted(groups.items())]
    lines.append(["all", "", "", *map(str, _sums(told))])
    widths = [max(map(len, column)) for column in zip(COLUMNS, *lines, strict=True)]
    shown = [COLUMNS, ["-" * width for width in widths], *lines]
    return [
        "  ".join(cell.ljust(width) if place < 3 else cell.rjust(width) for place, (cell, width) in cells)
        for cells in (list(enumerate(zip(line, widths, strict=True))) for line in shown)
    ]


def _sums(group: list[Outcome]) -> tuple[int, ...]:
    return (
        len(group),
        sum(outcome.survived for outcome in group),
        sum(outcome.rows_lost for outcome in group),
        sum(outcome.duplicates for outcome in group),
        sum(outcome.processes_left for outcome in group),
    )
