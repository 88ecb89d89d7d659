"""What the child tells the daemon: JSON objects, one a line, in `events.jsonl` beside the job.

{"event": "start", "first_step": 1, "total_steps": 12, "versions": {…}, "device": "cpu", …}
{"event": "too_long", "pair_ids": [3, 8]}, or "example_ids" from SFT
{"event": "note", "message": "…"}
{"event": "metric", "step": 1, "values": {"loss": 0.69, …}}
{"event": "done", "digest": "…", "path": "…"}
{"event": "error", "kind": "out_of_memory", "message": "…", "hint": "…"}
"""

import json
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"


class EventWriter:
    """The child's end: each event is on its way to the daemon when `emit` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def emit(self, event: str, **fields: Any) -> None:
        """Append one event."""
        self._file.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
        self._file.flush()


class EventReader:
    """The daemon's end: yields each complete line once, in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """The events that came since the last call; a line still being written waits for the next."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(complete) + len(newline)
        return [json.loads(line) for line in complete.splitlines()]
