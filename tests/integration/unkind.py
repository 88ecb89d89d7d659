"""A run whose parts misbehave, and a daemon whose words are read as they come."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.forked import Forked
from tests.integration.daemon_driver import DEADLINE_S, POLL_S, Run


def behaving(run: Run, **sections: str) -> Run:
    """Settings of a run's sections, line by line; `fake` are arguments of the fake server."""
    headers = {"fake": "engine.extra_args"}
    for section, lines in sections.items():
        head, header, rest = run.settings.read_text().partition(f"[{headers.get(section, section)}]\n")
        assert header
        body, bracket, tail = rest.partition("\n[")
        keys = {line.partition(" = ")[0] for line in lines.splitlines()}
        kept = [line for line in body.splitlines() if line.partition(" = ")[0] not in keys]
        run.settings.write_text(head + header + "\n".join([*kept, lines]) + "\n" + bracket + tail)
    return run


class Spoken:
    """A daemon's own words, read as they come."""

    def __init__(self, process: Forked) -> None:
        self.process = process
        self.lines: Iterator[dict[str, Any]] = self._lines()

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next line that is wanted."""
        found = next(filter(wanted, self.lines), None)
        assert found is not None, f"it ended with {self.process.wait()}: {self.process.said()}"
        return found

    def until_rest(self, reason: str) -> None:
        self.until(lambda line: line["event"] == "resting" and reason in line["reasons"])

    def _lines(self) -> Iterator[dict[str, Any]]:
        seen, deadline = 0, time.monotonic() + DEADLINE_S
        while True:
            ended = self.process.poll() is not None  # looked at before the words are
            lines = self.process.said()[1].splitlines(keepends=True)
            for line in lines[seen:]:
                if line.endswith("\n"):
                    seen += 1
                    if line.startswith("{"):
                        yield json.loads(line)
            if ended:
                return
            assert time.monotonic() < deadline, lines[-3:]
            time.sleep(POLL_S)  # a file has no event to wait for


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    rows = run.rows(f"SELECT message, data FROM event WHERE kind = '{kind}' ORDER BY id")
    return [{"message": message, **json.loads(data)} for message, data in rows]
