"""`selfreward start --detach`: the same daemon in a session of its own, its output in logs/daemon.log."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from selfreward.children import tail
from selfreward.config import Settings
from selfreward.errors import ExitCode, SelfRewardError
from selfreward.store import Store

START_S = 60.0


def detach(directory: Path, settings: Settings, arguments: Sequence[str]) -> None:
    """Start the daemon in the background, with `arguments` of `start`, and return once it owns the run.

    Raises SelfRewardError with the daemon's own words when it does not come up.
    """
    store = Store.open_or_create(settings.database.url, directory)
    log = directory / "logs" / "daemon.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        written = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "selfreward", "start", "--dir", str(directory), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what it would say to a person in the end
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            process.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            run = store.runs.find(settings.name)
            lease = None if run is None else store.leases.find(run.id)
            if lease is not None and not lease.released and lease.owner.endswith(f":{process.pid}"):
                print(f"started daemon {process.pid}; its log is {log}")
                return
    if process.poll() == ExitCode.OK:
        print(f"daemon {process.pid} had nothing to do; its log is {log}")
        return
    raise SelfRewardError(f"the daemon did not start:\n{_last_words(log, written)}", f"Its log is {log}.")


def _last_words(log: Path, start: int) -> str:
    """Why it left: the last error logged behind `start`, or the last lines of what is no log line.

    A daemon that owns the run writes into the same file meanwhile.
    """
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    for text in reversed(lines):
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            if line["level"] in ("error", "critical"):
                return "\n".join(filter(None, (line["event"], line.get("hint"))))
    return tail(log, 5)
